//! Chat templates: the Jinja source that a model comes with, rendered over a conversation.
//!
//! A template is a program from outside. It runs with a budget of steps, time, memory and output, on a
//! stack of its own that is deep enough for whatever it can build within that budget.

mod limits;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error as JinjaError, ErrorKind, context};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use crate::error::{Error, Result};

/// Template sources in use have less than 50 KB.
const MAX_SOURCE: usize = 128 << 10;
const MAX_OUTPUT: usize = 16 << 20;
/// A template in use takes some 20 to 100 steps per message.
const MAX_STEPS: u64 = 250_000;
const MAX_RECURSION: usize = 100;
const MAX_INDENT: usize = 32;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`, as far as the model knows them.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into() }
    }
}

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    specials: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// Compiles `source`. `specials` are the variables for special tokens: `bos_token` and the like.
    pub fn new(source: &str, specials: BTreeMap<String, String>) -> Result<Self> {
        if source.len() > MAX_SOURCE {
            return Err(Error::Model(format!(
                "the chat template has {} bytes, expected at most {MAX_SOURCE}",
                source.len()
            )));
        }
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_recursion_limit(MAX_RECURSION);
        environment.set_fuel(Some(MAX_STEPS));
        limits::bound(&mut environment);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", tojson);
        let source = without_generation_tags(source);
        let environment = limits::run(move || {
            let added = environment.add_template_owned("chat", source);
            added
                .map(|()| Arc::new(environment))
                .map_err(|e| format!("the chat template is not valid: {}", line(&e)))
        })?;
        Ok(ChatTemplate { environment: environment.map_err(Error::Model)?, specials })
    }

    /// The prompt for `messages`; with `add_generation_prompt`, up to where the model's answer begins.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let environment = Arc::clone(&self.environment);
        let context = context! {
            messages, add_generation_prompt, tools => (), documents => (),
            ..Value::from_serialize(&self.specials)
        };
        limits::run(move || {
            let mut output = Bounded(Vec::new());
            let template = environment.get_template("chat");
            // Errors hold values of the template: they too have to be dropped on the deep stack.
            template
                .and_then(|t| t.render_captured_to(context, &mut output).map(|_| ()))
                .map_err(|e| Error::Model(format!("the chat template {}", failure(&e))))?;
            String::from_utf8(output.0).map_err(|_| Error::Model("the chat template wrote no UTF-8".into()))
        })?
    }
}

/// What a failed rendering says after "the chat template".
fn failure(e: &JinjaError) -> String {
    const TOO_LONG: &str = "it loops, or the conversation is too long";
    match (refusal(e), e.kind()) {
        (Some(message), _) => format!("refused the conversation: {message}"),
        (_, ErrorKind::OutOfFuel) => format!("does not end within {MAX_STEPS} steps: {TOO_LONG}"),
        (_, ErrorKind::WriteFailure) => format!("writes more than {MAX_OUTPUT} bytes: {TOO_LONG}"),
        _ => format!("failed: {}", line(e)),
    }
}

/// An engine error in one line.
fn line(e: &JinjaError) -> String {
    let cause = e.source().map(|c| format!(": {c}")).unwrap_or_default();
    format!("{e}{cause}").replace('\n', " ")
}

/// A writer that refuses to grow beyond the limit.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > MAX_OUTPUT - self.0.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a template says by `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// The message of the `raise_exception` behind an error, if one is: macros wrap it.
fn refusal(e: &JinjaError) -> Option<&str> {
    let mut cause = e.source();
    while let Some(e) = cause {
        if let Some(Refused(message)) = e.downcast_ref() {
            return Some(message);
        }
        cause = e.source();
    }
    None
}

fn raise_exception(message: String) -> Result<Value, JinjaError> {
    let error = JinjaError::new(ErrorKind::InvalidOperation, "raise_exception");
    Err(error.with_source(Refused(message.replace('\n', " "))))
}

/// The `generation` tags mark what to train on and mean nothing here: a condition that always holds
/// takes their place, so that the whitespace control beside them keeps working.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        rest = tag;
        let inner = tag.trim_start_matches(['-', '+']).trim_start();
        for (name, replacement) in [("generation", "if true"), ("endgeneration", "endif")] {
            if let Some(after) = inner.strip_prefix(name)
                && after.trim_start().trim_start_matches(['-', '+']).starts_with("%}")
            {
                out.push_str(&tag[..tag.len() - inner.len()]);
                out.push_str(replacement);
                rest = after;
            }
        }
    }
    out + rest
}

/// JSON as Python's `json.dumps(value, ensure_ascii=False)` spells it, which models were trained on.
fn tojson(value: Value, options: Kwargs) -> Result<Value, JinjaError> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    if ascii == Some(true) {
        let problem = "tojson(ensure_ascii=true) is not supported, only false";
        return Err(JinjaError::new(ErrorKind::InvalidOperation, problem));
    }
    let mut out = Bounded(Vec::new());
    let done = match indent {
        Some(n) if n > MAX_INDENT => {
            let problem = format!("tojson with an indent of {n}, expected at most {MAX_INDENT}");
            return Err(JinjaError::new(ErrorKind::InvalidOperation, problem));
        }
        Some(n) => {
            let spaces = " ".repeat(n);
            let formatter = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, formatter))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut out, Spaced(CompactFormatter))),
    };
    let bad = |e: String| JinjaError::new(ErrorKind::BadSerialization, e);
    done.map_err(|e| bad(e.to_string()))?;
    String::from_utf8(out.0).map(Value::from_safe_string).map_err(|e| bad(e.to_string()))
}

/// One line, with a space after each comma and colon.
struct Spaced(CompactFormatter);

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

fn strftime_now(format: &str) -> Result<String, JinjaError> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    strftime(format, seconds)
}

/// `strftime` for a time in seconds since 1970, in UTC.
fn strftime(format: &str, seconds: u64) -> Result<String, JinjaError> {
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    const MONTHS: [(&str, u64); 12] = [
        ("January", 31),
        ("February", 28),
        ("March", 31),
        ("April", 30),
        ("May", 31),
        ("June", 30),
        ("July", 31),
        ("August", 31),
        ("September", 30),
        ("October", 31),
        ("November", 30),
        ("December", 31),
    ];
    let leap = |y: u64| u64::from(y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400)));
    let weekday = DAYS[(seconds / 86_400 % 7) as usize];
    let (mut year, mut day) = (1970, seconds / 86_400);
    while day >= 365 + leap(year) {
        day -= 365 + leap(year);
        year += 1;
    }
    let day_of_year = day + 1;
    let mut month = 0;
    while day >= MONTHS[month].1 + u64::from(month == 1) * leap(year) {
        day -= MONTHS[month].1 + u64::from(month == 1) * leap(year);
        month += 1;
    }
    let (day, name) = (day + 1, MONTHS[month].0);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let hour12 = (hour + 11) % 12 + 1;

    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut code = chars.next();
        let padded = code != Some('-');
        if !padded {
            code = chars.next();
        }
        let number = |n: u64, width: usize| format!("{n:0width$}", width = if padded { width } else { 0 });
        out += &match code {
            Some('Y') => year.to_string(),
            Some('y') => number(year % 100, 2),
            Some('m') => number(month as u64 + 1, 2),
            Some('d') => number(day, 2),
            Some('e') => format!("{day:2}"),
            Some('j') => number(day_of_year, 3),
            Some('H') => number(hour, 2),
            Some('I') => number(hour12, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('B') => name.to_owned(),
            Some('b' | 'h') => name[..3].to_owned(),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('F') => format!("{year}-{:02}-{day:02}", month + 1),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => "UTC".to_owned(),
            Some('z') => "+0000".to_owned(),
            Some('%') => "%".to_owned(),
            other => {
                let found = other.map(String::from).unwrap_or_default();
                let problem = format!("strftime_now does not know \"%{found}\" in {format:?}");
                return Err(JinjaError::new(ErrorKind::InvalidOperation, problem));
            }
        };
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
