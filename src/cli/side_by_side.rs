//! `infer ab --prompt`: two arms write side by side, and where they part is marked.

use super::args::Common;
use super::console::{Console, Interruptible, Output};
use super::subject::{Subject, open_for};
use crate::engine::{Engine, Request, Sampling, Stop};
use crate::error::{Error, Result};
use crate::experiment::arms::Arm;
use crate::text::{Message, TokenStream};
use pollster::block_on;
use serde_json::json;
use std::io::IsTerminal;
use std::ops::ControlFlow;

/// Tokens that an arm writes before the other goes on.
const TURN: usize = 8;

/// Width of a column.
const COLUMN: usize = 46;

/// Most tokens when nothing is said.
const MAX_TOKENS: usize = 200;

/// What one arm has written.
struct Side {
    tokens: Vec<u32>,
    text: String,
    done: bool,
    /// Lines of the text that are shown already.
    shown: usize,
}

/// Has two arms continue a prompt, greedily.
pub fn run(
    subject: &Subject,
    arms: &[Arm],
    prompt: &str,
    max_tokens: Option<usize>,
    common: &Common,
    console: &Console,
) -> Result<()> {
    if prompt.is_empty() {
        return Err(Error::Usage("the prompt is empty".to_owned()));
    }
    let tokens = match subject.tokenizer.chat_template()? {
        Some(template) => {
            subject.tokenizer.encode(&template.render(&[Message::new("user", prompt)], true)?, false)?
        }
        None => subject.tokenizer.encode(prompt, true)?,
    };
    let limit = subject.config.max_position_embeddings;
    let room = limit.saturating_sub(tokens.len() + 1);
    if room == 0 {
        return Err(Error::Usage(format!(
            "the prompt has {} tokens, the model allows {limit}",
            tokens.len()
        )));
    }
    let most = match max_tokens {
        Some(n) if n > room => {
            return Err(Error::Usage(format!(
                "--max-tokens is {n}, the model allows {room} after a prompt of {} tokens",
                tokens.len()
            )));
        }
        given => given.unwrap_or(MAX_TOKENS).min(room),
    };
    let context = tokens.len() + most + 1;
    let executor = open_for(subject.checkpoint.parameters(), common, console)?;
    let bytes = subject.checkpoint.total_bytes() * arms.len() as u64;
    let bar = console.bar(bytes, "loading", "{bytes} of {total_bytes}");
    let engine = subject.load(arms, (context, 1), executor, &bar);
    bar.finish_and_clear();
    let mut engine = engine?;

    let mut out = Output::default();
    let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let new = || Side { tokens: Vec::new(), text: String::new(), done: false, shown: 0 };
    let mut sides = [new(), new()];
    if !common.json {
        let _ = out.line(&format!("{:COLUMN$}   {}", arms[0].name, arms[1].name))?;
        let _ = out.line(&format!("{}   {}", "-".repeat(COLUMN), "-".repeat(COLUMN)))?;
    }
    let interruptible = Interruptible::new();
    while sides.iter().any(|side| !side.done) && !interruptible.interrupted() && !out.closed {
        for (arm, side) in sides.iter_mut().enumerate().filter(|(_, side)| !side.done) {
            engine.select(arm);
            write(&mut engine, subject, &tokens, side, most)?;
        }
        if !common.json {
            show(&mut sides, &mut out, color, false)?;
        }
    }
    let parted = parted(&sides);
    if common.json {
        let side = |i: usize| json!({"arm": arms[i].name, "text": sides[i].text, "tokens": sides[i].tokens});
        return out
            .json(&json!({"prompt_tokens": tokens, "arms": [side(0), side(1)], "diverged_at": parted}));
    }
    show(&mut sides, &mut out, color, true)?;
    let n = sides[0].tokens.len();
    console.say(match parted {
        Some(at) => format!("[the texts part after {at} tokens]"),
        None => format!("[both wrote the same {n} tokens]"),
    });
    Ok(())
}

/// The first token in which the texts differ, as far as both are written.
fn parted(sides: &[Side; 2]) -> Option<usize> {
    let [a, b] = sides;
    let common = a.tokens.iter().zip(&b.tokens).take_while(|(a, b)| a == b).count();
    let ended = |side: &Side| side.done && common == side.tokens.len();
    let differs = common < a.tokens.len().min(b.tokens.len());
    (differs || (ended(a) != ended(b) && a.done && b.done)).then_some(common)
}

/// One turn of one arm.
fn write(engine: &mut Engine, subject: &Subject, prompt: &[u32], side: &mut Side, most: usize) -> Result<()> {
    let mut before = prompt.to_vec();
    before.extend(&side.tokens);
    let count = TURN.min(most - side.tokens.len());
    let request =
        Request { prompt: before, max_tokens: count, sampling: Sampling::GREEDY, end: subject.end() };
    let generations = block_on(engine.generate(&[request], &mut |_, _| ControlFlow::Continue(())))?;
    for generation in generations {
        side.tokens.extend(&generation.tokens);
        side.done = generation.stop == Stop::Eos || side.tokens.len() >= most;
    }
    // Again from the beginning: a character may have come in two turns.
    let mut stream = TokenStream::new(&subject.tokenizer, prompt)?;
    side.text.clear();
    for &token in &side.tokens {
        side.text.push_str(&stream.push(token)?.unwrap_or_default());
    }
    if side.done {
        side.text.push_str(&stream.finish()?);
    }
    Ok(())
}

/// Shows the lines that are full in both columns, or all.
fn show(sides: &mut [Side; 2], out: &mut Output, color: bool, all: bool) -> Result<()> {
    let lines = [0, 1].map(|i| wrap(&sides[i].text));
    let common = sides[0].text.chars().zip(sides[1].text.chars()).take_while(|(a, b)| a == b).count();
    let ready = |i: usize| match all || sides[i].done {
        true => lines[i].len(),
        false => lines[i].len().saturating_sub(1),
    };
    let end = match (all, sides[0].done, sides[1].done) {
        (true, ..) | (_, true, true) => ready(0).max(ready(1)),
        (_, true, false) => ready(1),
        (_, false, true) => ready(0),
        _ => ready(0).min(ready(1)),
    };
    for i in sides[0].shown..end {
        let cell = |side: usize| {
            let (text, first) = lines[side].get(i).cloned().unwrap_or_default();
            let pad = " ".repeat(COLUMN.saturating_sub(text.chars().count()));
            let at = common.saturating_sub(first).min(text.chars().count());
            let (same, other): (String, String) =
                (text.chars().take(at).collect(), text.chars().skip(at).collect());
            match (color, other.is_empty()) {
                (true, false) => format!("{same}\x1b[1;33m{other}\x1b[0m{pad}"),
                _ => format!("{text}{pad}"),
            }
        };
        // The line where the texts part.
        let here = |side: usize| {
            lines[side]
                .get(i)
                .is_some_and(|(text, first)| (*first..=first + text.chars().count()).contains(&common))
        };
        let differ = lines[0].get(i).map(|l| &l.0) != lines[1].get(i).map(|l| &l.0);
        let earlier = i > 0 && lines[0].get(i - 1).map(|l| &l.0) != lines[1].get(i - 1).map(|l| &l.0);
        let mark = match (differ, earlier || !(here(0) || here(1))) {
            (true, false) => " ≠ ",
            (true, true) => " | ",
            _ => "   ",
        };
        if out.line(format!("{}{mark}{}", cell(0), cell(1)).trim_end())?.is_break() {
            break;
        }
    }
    let end = end.max(sides[0].shown);
    sides.iter_mut().for_each(|side| side.shown = end);
    Ok(())
}

/// Lines of at most a column, each with the number of characters before it; control characters are shown as �.
fn wrap(text: &str) -> Vec<(String, usize)> {
    let mut lines = vec![(String::new(), 0)];
    for (i, c) in text.chars().enumerate() {
        let last = lines.len() - 1;
        if c == '\n' {
            lines.push((String::new(), i + 1));
        } else {
            if lines[last].0.chars().count() == COLUMN {
                lines.push((String::new(), i));
            }
            let last = lines.len() - 1;
            lines[last].0.push(if c.is_control() { '\u{fffd}' } else { c });
        }
    }
    lines
}
