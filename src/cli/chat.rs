//! A conversation on a terminal.

use super::answer::{Figures, answer};
use super::args::Common;
use super::console::{Console, Output};
use super::generate::TextArgs;
use super::session::{Description, Session};
use crate::engine::{Request, Sampling, Stop};
use crate::error::{Error, Result};
use crate::text::{ChatTemplate, Message};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

/// The part of the context that an answer can count on.
const ANSWER_SHARE: usize = 4;

/// Chats until the user leaves.
pub fn run(
    description: Description,
    args: &TextArgs,
    sampling: Sampling,
    common: &Common,
    console: &Console,
) -> Result<()> {
    let context = description.context(args.ctx)?;
    let Some(template) = description.tokenizer.chat_template()? else {
        return Err(Error::Usage(
            "the model has no chat template, so it cannot chat; --raw \"…\" continues a text".to_owned(),
        ));
    };
    let mut chat = Chat {
        template,
        context,
        room: args.max_tokens.unwrap_or(usize::MAX).min(context / ANSWER_SHARE).max(1),
        messages: args.system.iter().map(|text| Message::new("system", text)).collect(),
    };
    // A template that refuses everything should do so before the weights are loaded.
    chat.messages.push(Message::new("user", "Hello"));
    chat.render()?;
    chat.messages.pop();

    console.detail(format_args!("seed: {}", sampling.seed));
    let mut session = description.load(context, common, console)?;
    console.say("A chat: Ctrl-C stops an answer, Ctrl-D leaves.");
    let mut editor = DefaultEditor::new().map_err(terminal)?;
    let mut figures = Figures::default();
    let mut out = Output::default();
    let mut turn = 0;
    while !out.closed {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                console.say("(Ctrl-D leaves)");
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(e) => return Err(terminal(e)),
        };
        if line.trim().is_empty() {
            continue;
        }
        let _ = editor.add_history_entry(&line);
        // Each answer has random numbers of its own.
        let sampling = Sampling { seed: sampling.seed.wrapping_add(turn), ..sampling };
        match chat.say(&line, &mut session, args, sampling, console, &mut out) {
            Ok(spoken) => figures.add(spoken.prompt_tokens, &spoken.generation),
            // The conversation can go on without this message; without the device it cannot.
            Err(e @ (Error::Usage(_) | Error::Model(_))) => super::report(&e),
            Err(e) => return Err(e),
        }
        turn += 1;
    }
    if turn > 0 && !out.closed {
        console.say(figures.line(&session.engine.memory()));
    }
    Ok(())
}

/// What went wrong with the line editor.
fn terminal(e: ReadlineError) -> Error {
    Error::Model(format!("cannot read from the terminal: {e}"))
}

/// A conversation so far.
struct Chat {
    template: ChatTemplate,
    context: usize,
    /// Tokens that are left for an answer.
    room: usize,
    messages: Vec<Message>,
}

/// An answer's figures.
struct Spoken {
    prompt_tokens: usize,
    generation: crate::engine::Generation,
}

impl Chat {
    fn render(&self) -> Result<String> {
        self.template.render(&self.messages, true)
    }

    /// Takes what the user says and streams the answer. Where that fails, it was not said.
    fn say(
        &mut self,
        line: &str,
        session: &mut Session,
        args: &TextArgs,
        sampling: Sampling,
        console: &Console,
        out: &mut Output,
    ) -> Result<Spoken> {
        let before = self.messages.len();
        self.messages.push(Message::new("user", line));
        let spoken = self.reply(session, args, sampling, console, out);
        if spoken.is_err() {
            // What was forgotten for want of room stays so.
            self.messages.truncate(before.min(self.messages.len() - 1));
        }
        spoken
    }

    fn reply(
        &mut self,
        session: &mut Session,
        args: &TextArgs,
        sampling: Sampling,
        console: &Console,
        out: &mut Output,
    ) -> Result<Spoken> {
        let tokenizer = &session.description.tokenizer;
        let encode = |chat: &Chat| tokenizer.encode(&chat.render()?, false);
        let mut prompt = encode(self)?;
        let mut forgotten = 0;
        while prompt.len() + self.room > self.context && forget(&mut self.messages) {
            forgotten += 1;
            prompt = encode(self)?;
        }
        if forgotten > 0 {
            let what = if forgotten == 1 { "exchange is" } else { "exchanges are" };
            console.note(format_args!(
                "the context of {} tokens is full: the oldest {forgotten} {what} forgotten; a longer one: --ctx",
                self.context
            ));
        }
        if prompt.len() >= self.context {
            return Err(Error::Usage(format!(
                "this message makes a prompt of {} tokens, the context is {}: say less, or start with a larger \
                 --ctx (the model allows {})",
                prompt.len(),
                self.context,
                session.description.config.max_position_embeddings
            )));
        }
        let prompt_tokens = prompt.len();
        let request = Request {
            prompt,
            max_tokens: args.max_tokens.unwrap_or(usize::MAX),
            sampling,
            end: session.description.end(),
        };
        let answered = answer(session, request, &args.stop, &mut |piece| out.write(piece));
        out.end_line()?;
        let answered = answered?;
        if answered.generation.stop == Stop::Length && args.max_tokens.is_none() && !out.closed {
            console.note("the answer ends here because the context is full");
        }
        if console.verbose() {
            let mut figures = Figures::default();
            figures.add(prompt_tokens, &answered.generation);
            console.say(figures.line(&session.engine.memory()));
        }
        self.messages.push(Message::new("assistant", answered.text));
        Ok(Spoken { prompt_tokens, generation: answered.generation })
    }
}

/// Drops the oldest exchange, but neither what the system says nor the last message. False where there is
/// none.
fn forget(messages: &mut Vec<Message>) -> bool {
    let first = messages.iter().take_while(|m| m.role == "system").count();
    let exchange = messages.iter().skip(first + 1).position(|m| m.role == "user").map(|n| n + 1);
    match exchange {
        Some(len) => {
            messages.drain(first..first + len);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_exchange_is_forgotten_first() {
        let texts =
            |messages: &[Message]| -> Vec<String> { messages.iter().map(|m| m.content.clone()).collect() };
        for system in [0, 1] {
            let mut messages = vec![Message::new("system", "s"); system];
            for (question, answer) in [("a", "A"), ("b", "B")] {
                messages.push(Message::new("user", question));
                messages.push(Message::new("assistant", answer));
            }
            messages.push(Message::new("user", "c"));
            assert!(forget(&mut messages));
            assert_eq!(texts(&messages[system..]), ["b", "B", "c"]);
            assert!(forget(&mut messages));
            assert_eq!(texts(&messages[system..]), ["c"]);
            assert!(!forget(&mut messages));
            assert_eq!(messages.len(), system + 1);
        }
    }
}
