//! One text, from its prompt to its last character, and how fast it came.

use super::console::Interruptible;
use super::session::Session;
use crate::engine::{Generation, Memory, Request, Stop};
use crate::error::{Error, Result};
use crate::text::{StopMatcher, TokenStream};
use pollster::block_on;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::time::Duration;

/// A text that was made.
pub struct Answer {
    /// Its tokens, why it ended, how long it took.
    pub generation: Generation,
    /// What was shown of it.
    pub text: String,
    /// Whether Ctrl-C ended it.
    pub interrupted: bool,
}

/// Continues a prompt and shows the text as it comes, whole characters only, up to the first of `stops`.
/// `show` may break, and so may the user with Ctrl-C; what was made so far is the answer then.
pub fn answer(
    session: &mut Session,
    request: Request,
    stops: &[String],
    show: &mut dyn FnMut(&str) -> Result<ControlFlow<()>>,
) -> Result<Answer> {
    let mut stream = TokenStream::new(&session.description.tokenizer, &request.prompt)?;
    let mut stops = StopMatcher::new(stops.iter().cloned());
    let mut text = String::new();
    let mut found = false;
    let mut take = |piece: &str, stops: &mut StopMatcher| {
        let (piece, stop) = stops.push(piece);
        found |= stop;
        text.push_str(&piece);
        let shown = if piece.is_empty() { ControlFlow::Continue(()) } else { show(&piece)? };
        Ok(if stop { ControlFlow::Break(()) } else { shown })
    };
    let interruptible = Interruptible::new();
    let mut failed: Option<Error> = None;
    let (mut broken, mut interrupted) = (false, false);
    let generated = block_on(session.engine.generate(&[request], &mut |_, token| {
        let taken = match stream.push(token) {
            Ok(Some(piece)) => take(&piece, &mut stops),
            Ok(None) => Ok(ControlFlow::Continue(())),
            Err(e) => Err(e),
        };
        let flow = taken.unwrap_or_else(|e| {
            failed = Some(e);
            ControlFlow::Break(())
        });
        broken = flow.is_break();
        interrupted = !broken && interruptible.interrupted();
        if interrupted { ControlFlow::Break(()) } else { flow }
    }));
    drop(interruptible);
    let generation = generated?.pop();
    if let Some(e) = failed {
        return Err(e);
    }
    if !broken {
        let rest = stream.finish()?;
        let _ = take(&rest, &mut stops)?;
    }
    if !broken && !found {
        let rest = stops.finish();
        text.push_str(&rest);
        let _ = show(&rest)?;
    }
    let generation = generation.ok_or_else(|| Error::Model("the engine lost a prompt".to_owned()))?;
    Ok(Answer { generation, text, interrupted })
}

/// How fast texts came, one or several.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    texts: u32,
    prompt_tokens: usize,
    prompt_time: Duration,
    tokens: usize,
    steps: usize,
    decode_time: Duration,
}

impl Figures {
    /// Counts a text of a prompt of so many tokens; speed is of those that were computed.
    pub fn add(&mut self, prompt_tokens: usize, generation: &Generation) {
        self.texts += 1;
        self.prompt_tokens += prompt_tokens.saturating_sub(generation.cached_tokens);
        self.prompt_time += generation.prompt_time;
        self.tokens += generation.tokens.len();
        // The first token comes with the prompt; a token that ends the text is made, but not part of it.
        let made = generation.tokens.len() + usize::from(generation.stop == Stop::Eos);
        self.steps += made.saturating_sub(1);
        self.decode_time += generation.decode_time;
    }

    /// From a prompt to its first token.
    fn first_token(&self) -> Option<Duration> {
        (self.texts > 0).then(|| self.prompt_time / self.texts)
    }

    /// For JSON; what cannot be told is null.
    pub fn json(&self, load: Duration) -> Value {
        json!({
            "load_s": load.as_secs_f64(),
            "first_token_s": self.first_token().map(|time| time.as_secs_f64()),
            "prompt_tokens_per_s": rate(self.prompt_tokens, self.prompt_time),
            "decode_tokens_per_s": rate(self.steps, self.decode_time),
        })
    }

    /// In one line.
    pub fn line(&self, memory: &Memory) -> String {
        let rate = |count, time| match rate(count, time) {
            Some(rate) => format!("{rate:.1} tok/s"),
            None => "no rate".to_owned(),
        };
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        format!(
            "[{} tokens, {} | prompt {}, {} | first token {:.2?}{} | MiB: weights {:.1}, KV {:.1}, peak {:.1}]",
            self.tokens,
            rate(self.steps, self.decode_time),
            self.prompt_tokens,
            rate(self.prompt_tokens, self.prompt_time),
            self.first_token().unwrap_or_default(),
            if self.texts > 1 { " on average" } else { "" },
            mib(memory.weight_bytes),
            mib(memory.kv_bytes),
            mib(memory.peak_bytes),
        )
    }
}

/// So many a second, if there were any and they took any time.
pub fn rate(count: usize, time: Duration) -> Option<f64> {
    (count > 0 && !time.is_zero()).then(|| count as f64 / time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_finite_or_absent() {
        let mut figures = Figures::default();
        let none = json!({
            "load_s": 1.0, "first_token_s": null, "prompt_tokens_per_s": null, "decode_tokens_per_s": null,
        });
        assert_eq!(figures.json(Duration::from_secs(1)), none);
        let (second, half) = (Duration::from_secs(1), Duration::from_millis(500));
        let one = |tokens: usize, stop, decode_time| Generation {
            tokens: vec![7; tokens],
            stop,
            cached_tokens: 32,
            prompt_time: half,
            decode_time,
        };
        figures.add(36, &one(1, Stop::Length, Duration::ZERO));
        assert_eq!(figures.json(second)["decode_tokens_per_s"], Value::Null);
        assert_eq!(figures.json(second)["prompt_tokens_per_s"], json!(8.0));
        // The step that made the end token took time too.
        figures.add(36, &one(2, Stop::Eos, second));
        assert_eq!(figures.json(second)["decode_tokens_per_s"], json!(2.0));
        assert_eq!(figures.json(second)["first_token_s"], json!(0.5));
    }
}
