//! A conversation on a terminal.

use super::answer::{Figures, answer};
use super::args::Common;
use super::console::{Console, Output};
use super::generate::TextArgs;
use super::session::{Description, Session};
use crate::engine::{Generation, Request, Sampling};
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
        room: args.most().min(context / ANSWER_SHARE).max(1),
        messages: args.system.iter().map(|text| Message::new("system", text)).collect(),
    };
    // A template that refuses everything should do so before the weights are loaded.
    let hello = [&chat.messages[..], &[Message::new("user", "Hello")]].concat();
    chat.template.render(&hello, true)?;

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
    generation: Generation,
}

impl Chat {
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
        let mut messages = self.messages.clone();
        messages.push(Message::new("user", line));
        let tokenizer = &session.description.tokenizer;
        let encode = |messages: &[Message]| tokenizer.encode(&self.template.render(messages, true)?, false);
        let (prompt, forgotten) = fit(&mut messages, self.context, self.room, encode)?;
        if prompt.len() >= self.context {
            return Err(Error::Usage(format!(
                "this message makes a prompt of {} tokens, the context is {}: say less, or start with a larger \
                 --ctx (the model allows {})",
                prompt.len(),
                self.context,
                session.description.config.max_position_embeddings
            )));
        }
        if forgotten > 0 {
            let what = match forgotten {
                1 => "oldest exchange is".to_owned(),
                n => format!("{n} oldest exchanges are"),
            };
            console.note(format_args!(
                "the context of {} tokens is full: the {what} forgotten; a longer one: --ctx",
                self.context
            ));
        }
        let prompt_tokens = prompt.len();
        let request = Request { prompt, max_tokens: args.most(), sampling, end: session.description.end() };
        let answered = answer(session, request, &args.stop, &mut |piece| out.write(piece));
        out.end_line()?;
        let answered = answered?;
        if args.cut(&answered.generation) && !out.closed {
            console.note("the answer ends here because the context is full");
        }
        if console.verbose() {
            let mut figures = Figures::default();
            figures.add(prompt_tokens, &answered.generation);
            console.say(figures.line(&session.engine.memory()));
        }
        messages.push(Message::new("assistant", answered.text));
        self.messages = messages;
        Ok(Spoken { prompt_tokens, generation: answered.generation })
    }
}

/// The prompt of a conversation, after its oldest exchanges were dropped until there is `room` for an answer,
/// and how many were. What is left may still be too long.
fn fit(
    messages: &mut Vec<Message>,
    context: usize,
    room: usize,
    encode: impl Fn(&[Message]) -> Result<Vec<u32>>,
) -> Result<(Vec<u32>, usize)> {
    let mut forgotten = 0;
    loop {
        let prompt = encode(messages)?;
        if prompt.len() + room <= context || !forget(messages) {
            return Ok((prompt, forgotten));
        }
        forgotten += 1;
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
    fn a_conversation_is_made_to_fit_if_it_can_be() {
        let conversation: Vec<Message> = (0..7)
            .map(|i| Message::new(if i % 2 == 0 { "user" } else { "assistant" }, i.to_string()))
            .collect();
        let encode = |messages: &[Message]| Ok(vec![0; 10 * messages.len()]);
        for (context, room, left, forgotten) in
            [(100, 30, 7, 0), (100, 31, 5, 1), (60, 20, 3, 2), (30, 20, 1, 3), (5, 1, 1, 3)]
        {
            let mut messages = conversation.clone();
            let (prompt, found) = fit(&mut messages, context, room, encode).unwrap();
            assert_eq!(
                (messages.len(), prompt.len(), found),
                (left, 10 * left, forgotten),
                "{context} {room}"
            );
            assert_eq!(messages.last(), conversation.last());
        }
    }

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
