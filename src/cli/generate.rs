//! `infer PROMPT`: one prompt, one text. Without a prompt on a terminal: a chat.

use super::answer::{Figures, answer};
use super::args::{Common, ModelArgs, SamplingArgs};
use super::chat;
use super::console::{CODE_INTERRUPTED, Console, Output};
use super::session::Description;
use crate::engine::{Generation, Request, Stop};
use crate::error::{Error, Result};
use crate::text::Message;
use pollster::block_on;
use serde_json::{Value, json};
use std::io::{IsTerminal, Read};
use std::ops::ControlFlow;
use std::process::ExitCode;

/// Longest prompt that is read, in bytes. No context holds as much.
const MAX_PROMPT: u64 = 64 << 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The prompt; "-" reads it from standard input, and so does no prompt where that is not a terminal. No
    /// prompt on a terminal starts a chat
    pub prompt: Option<String>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub text: TextArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// What goes in beside the prompt, and when to stop.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Text")]
pub struct TextArgs {
    /// Most tokens to make [default: until the model ends the text or the context is full]
    #[arg(short = 'n', long, env = "INFER_MAX_TOKENS", value_name = "N", value_parser = at_least_one)]
    pub max_tokens: Option<usize>,
    /// Longest text, prompt and answer together, in tokens; memory grows with it [default: what the model
    /// allows, but at most 4096]
    #[arg(long, env = "INFER_CTX", value_name = "N")]
    pub ctx: Option<usize>,
    /// End the text before this string; may be given several times
    #[arg(long, value_name = "STRING")]
    pub stop: Vec<String>,
    /// What a chat model is told before the conversation
    #[arg(long, env = "INFER_SYSTEM", value_name = "TEXT")]
    pub system: Option<String>,
    /// Continue the prompt as it is, without the model's chat template
    #[arg(long)]
    pub raw: bool,
}

impl TextArgs {
    /// Most tokens to make.
    pub fn most(&self) -> usize {
        self.max_tokens.unwrap_or(usize::MAX)
    }

    /// Whether a text ended before that because the context was full.
    pub fn cut(&self, generation: &Generation) -> bool {
        generation.stop == Stop::Length && generation.tokens.len() < self.most()
    }
}

/// A count of something that there must be one of.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".to_owned()),
        Ok(n) => Ok(n),
        Err(_) => Err("expected a whole number".to_owned()),
    }
}

/// Continues a prompt, or chats.
pub fn run(args: Args, common: &Common, console: &Console) -> Result<ExitCode> {
    let sampling = args.sampling.sampling()?;
    let model = args.model.name();
    if args.text.raw && args.text.system.is_some() {
        return Err(Error::Usage(
            "--system goes through the chat template, which --raw leaves out".to_owned(),
        ));
    }
    let prompt = match args.prompt.as_deref() {
        None if std::io::stdin().is_terminal() => None,
        None | Some("-") => Some(read_prompt()?),
        Some(prompt) => Some(prompt.to_owned()),
    };
    if prompt.as_deref() == Some("") {
        let given = args.prompt.as_deref().is_some_and(|prompt| prompt != "-");
        let from = if given { "" } else { ": nothing came on standard input" };
        return Err(Error::Usage(format!("the prompt is empty{from}")));
    }
    if prompt.is_none() && (common.json || args.text.raw) {
        let option = if common.json { "--json" } else { "--raw" };
        return Err(Error::Usage(format!(
            "{option} needs a prompt: infer -m {model} {option} \"…\", or - for standard input"
        )));
    }
    let description = Description::open(&args.model)?;
    let Some(prompt) = prompt else {
        chat::run(description, &args.text, sampling, common, console)?;
        return Ok(ExitCode::SUCCESS);
    };
    let context = description.context(args.text.ctx)?;
    let prompt = encode(&description, &args.text, &prompt)?;
    if prompt.len() >= context {
        return Err(Error::Usage(format!(
            "the prompt has {} tokens, the context {context}: shorten it or raise --ctx (the model allows {})",
            prompt.len(),
            description.config.max_position_embeddings
        )));
    }
    let request =
        Request { prompt: prompt.clone(), max_tokens: args.text.most(), sampling, end: description.end() };
    console.detail(format_args!("seed: {}", sampling.seed));
    let mut session = description.load(context, common, console)?;
    let mut out = Output::default();
    let mut show = |piece: &str| match common.json {
        true => Ok(ControlFlow::Continue(())),
        false => out.write(piece),
    };
    let answered = answer(&mut session, request, &args.text.stop, &mut show);
    out.end_line()?;
    let answered = answered?;

    let memory = session.engine.memory();
    let mut figures = Figures::default();
    figures.add(prompt.len(), &answered.generation);
    if common.json {
        let mut object = session.json();
        object.insert("seed".to_owned(), json!(sampling.seed));
        object.insert("prompt_tokens".to_owned(), json!(prompt));
        object.insert("tokens".to_owned(), json!(answered.generation.tokens));
        object.insert("text".to_owned(), json!(answered.text));
        let stop = match answered.interrupted {
            true => json!("interrupted"),
            false => json!(answered.generation.stop),
        };
        object.insert("stop".to_owned(), stop);
        object.insert("timings".to_owned(), figures.json(session.load_time));
        object.insert("memory".to_owned(), json!(memory));
        out.json(&Value::Object(object))?;
    }
    if out.closed {
        return Ok(ExitCode::SUCCESS);
    }
    if args.text.cut(&answered.generation) {
        console.note(format_args!("the context of {context} tokens is full; a longer one: --ctx"));
    }
    console.say(figures.line(&memory));
    if let Some(busy) = block_on(session.engine.busy())? {
        // Steps past the end of the text, which were queued ahead and dropped, included.
        console.detail(format_args!("the device was busy for {busy:.2?}"));
    }
    Ok(if answered.interrupted { ExitCode::from(CODE_INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// The prompt's tokens: through the chat template, where there is one and it is wanted.
fn encode(description: &Description, args: &TextArgs, prompt: &str) -> Result<Vec<u32>> {
    let template = if args.raw { None } else { description.tokenizer.chat_template()? };
    let Some(template) = template else {
        if args.system.is_some() {
            return Err(Error::Usage("--system needs a chat template, and the model has none".to_owned()));
        }
        return description.tokenizer.encode(prompt, true);
    };
    let system = args.system.iter().map(|text| Message::new("system", text));
    let messages: Vec<Message> = system.chain([Message::new("user", prompt)]).collect();
    description.tokenizer.encode(&template.render(&messages, true)?, false)
}

/// The prompt on standard input, without the end of its last line.
fn read_prompt() -> Result<String> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MAX_PROMPT + 1).read_to_end(&mut bytes);
    read.map_err(|e| Error::io("standard input", e))?;
    if bytes.len() as u64 > MAX_PROMPT {
        return Err(Error::Usage(format!("the prompt on standard input is longer than {MAX_PROMPT} bytes")));
    }
    let mut text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::Usage(format!("the prompt on standard input is not UTF-8 text: byte {at} is no character"))
    })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
