//! `infer perplexity`: how likely a model finds a text.

use super::answer::rate;
use super::args::{Common, ModelArgs};
use super::console::{Console, Output};
use super::generate::at_least_one;
use super::session::Description;
use crate::error::{Error, Result};
use pollster::block_on;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Longest text that is read, in bytes.
const MAX_TEXT: u64 = 64 << 20;

/// Tokens of a window.
const DEFAULT_WINDOW: usize = 512;

const EXAMPLES: &str = "\
Examples:
  infer perplexity -m DIR -b 16 --file text.txt
  infer perplexity -m DIR -b 4 --group 64 --file text.txt --ctx 512 --max-tokens 2048 --json";

/// Measure how well a model predicts a text, to compare formats of its weights
///
/// The text is cut into windows of --ctx tokens that do not overlap, each predicted from its own beginning.
/// Perplexity is e to the mean of -ln p over all tokens but the first: lower is better, and the difference
/// from --bits 16 is what the rounding costs.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The text, UTF-8
    #[arg(short, long, value_name = "PATH", help_heading = "Text")]
    file: PathBuf,
    /// Tokens of a window [default: 512, or what the model allows]
    #[arg(long, env = "INFER_CTX", value_name = "N", help_heading = "Text")]
    ctx: Option<usize>,
    /// Most tokens to predict [default: all]
    #[arg(short = 'n', long, env = "INFER_MAX_TOKENS", value_name = "N", help_heading = "Text")]
    #[arg(value_parser = at_least_one)]
    max_tokens: Option<usize>,
}

/// Measures.
pub fn run(args: &Args, common: &Common, console: &Console) -> Result<()> {
    let text = read(&args.file)?;
    let description = Description::open(&args.model)?;
    let most = description.config.max_position_embeddings;
    let ctx = description.context(Some(args.ctx.unwrap_or(DEFAULT_WINDOW.min(most))))?;
    let tokens = description.tokenizer.encode(&text, true)?;
    if tokens.len() < 2 {
        return Err(Error::file(
            &args.file,
            format!("the text has {} tokens, expected at least 2", tokens.len()),
        ));
    }
    let limit = args.max_tokens.unwrap_or(usize::MAX);
    let mut session = description.load(ctx, common, console)?;
    let bar = console.bar(
        (tokens.len() - 1).min(limit) as u64,
        "scoring",
        "{pos} of {len} tokens, {per_sec}, {eta} left",
    );
    let started = Instant::now();
    let found = block_on(session.engine.perplexity(&tokens, ctx, limit, &mut |n| bar.inc(n as u64)));
    bar.finish_and_clear();
    let found = found?;

    let mut out = Output::default();
    if common.json {
        let mut object = session.json();
        object.insert("ctx".to_owned(), json!(ctx));
        object.insert("tokens".to_owned(), json!(found.tokens));
        object.insert("mean_nll".to_owned(), json!(found.mean_nll));
        object.insert("ppl".to_owned(), json!(found.ppl));
        object.insert("memory".to_owned(), json!(session.engine.memory()));
        return out.json(&Value::Object(object));
    }
    let _ = out.line(&format!(
        "perplexity {:.4} (mean NLL {:.5} over {} tokens, windows of {ctx}, {} on {})",
        found.ppl,
        found.mean_nll,
        found.tokens,
        session.formats(),
        session.device()
    ))?;
    if let Some(rate) = rate(found.tokens, started.elapsed()).filter(|_| !out.closed) {
        console.say(format_args!("[{rate:.1} tok/s]"));
    }
    Ok(())
}

/// A text file, unless it is too long to be tokenized in one piece.
pub fn read(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    file.take(MAX_TEXT + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > MAX_TEXT {
        return Err(Error::file(path, format!("is longer than {MAX_TEXT} bytes, expected a shorter text")));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::file(path, format!("is not UTF-8 text: byte {at} is no character"))
    })
}
