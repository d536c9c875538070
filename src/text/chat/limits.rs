//! What a template may build and how long it may take: the engine counts steps, and no more than that.
//!
//! What one step can make much of is refused; what grows step by step, such as a text that is twice itself over and over, is
//! noticed in time.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use minijinja::value::{Kwargs, Object, ObjectRepr, Rest, StringInput, Value};
use minijinja::{Environment, Error as JinjaError, ErrorKind, State, filters, functions};
use minijinja_contrib::pycompat;

use super::{Bounded, MAX_INDENT, MAX_OUTPUT, MAX_STEPS};
use crate::error::{Error, Result};

/// Tests run without optimization, all at once.
const MAX_TIME: Duration = Duration::from_secs(if cfg!(test) { 120 } else { 10 });
const MAX_GROWTH: usize = 1 << 30;
const POLL: Duration = Duration::from_millis(10);
/// How deep in its stack a thread may look into a namespace.
const MAX_DEPTH: usize = 4 << 20;
/// The deepest value has a level for each step: a list in a list in a list. To print, sort, compare, serialize
/// or drop one takes at most 1751 bytes of stack per level (sort does) without optimization, and 390 with it. A
/// map, a namespace or a pair takes twice that, but two steps or more. A source of `MAX_SOURCE` has half as many
/// levels, which take up to some 4 KiB.
const STACK_PER_STEP: usize = 2 << 10;
/// Only the addresses are taken: memory it takes as it grows.
const STACK: usize = MAX_STEPS as usize * STACK_PER_STEP + 2 * MAX_DEPTH;

thread_local! {
    /// Where the stack of a thread for templates begins.
    static STACK_START: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Runs `work` where nesting that a template can cause (in its source, its macros, or the values it
/// builds) cannot run out of stack, for as long as it takes neither too much time nor too much memory.
pub(super) fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    run_within(MAX_TIME, MAX_GROWTH, work)
}

/// A thread cannot be ended from outside: one that takes too much is left behind, and the program, which
/// has nothing to go on with, ends soon after.
pub(super) fn run_within<T: Send + 'static>(
    time: Duration,
    growth: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (start, held) = (Instant::now(), held_memory());
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new().name("chat template".into()).stack_size(STACK);
    let work = move || {
        STACK_START.set(Some(stack_address()));
        // Where nobody waits any more, nobody wants the result.
        let _ = sender.send(work());
    };
    thread
        .spawn(work)
        .map_err(|e| Error::Model(format!("cannot start a thread for the chat template: {e}")))?;
    loop {
        match receiver.recv_timeout(POLL) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::Model("the chat template broke the template engine".into()));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if start.elapsed() > time {
            return Err(Error::Model(format!("the chat template takes more than {time:?}")));
        }
        if held_memory().saturating_sub(held) > growth {
            return Err(Error::Model(format!("the chat template takes more than {} MiB", growth >> 20)));
        }
    }
}

/// The memory that this process holds beside what it maps from files, where the system tells: on Linux.
fn held_memory() -> usize {
    let status =
        if cfg!(target_os = "linux") { std::fs::read_to_string("/proc/self/status") } else { return 0 };
    let status = status.unwrap_or_default();
    let held =
        status.lines().find_map(|l| l.strip_prefix("RssAnon:")?.strip_suffix("kB")?.trim().parse().ok());
    held.unwrap_or(0_usize) << 10
}

fn stack_address() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

/// Takes the place of what the engine comes with and what makes much of little. What only templates for
/// web pages use is not there at all.
pub(super) fn bound(environment: &mut Environment<'static>) {
    for name in ["batch", "chain", "groupby", "pprint", "slice", "zip"] {
        environment.remove_filter(name);
    }
    environment.remove_global("debug");
    environment.add_function("namespace", namespace);
    environment.add_filter("format", format);
    environment.add_filter("indent", indent);
    environment.add_filter("join", join);
    environment.add_filter("replace", replace);
    environment.add_filter("string", string);
    environment.set_unknown_method_callback(method);
}

fn refuse<T>(problem: String) -> Result<T, JinjaError> {
    Err(JinjaError::new(ErrorKind::InvalidOperation, problem))
}

fn check_length(bytes: Option<usize>) -> Result<(), JinjaError> {
    match bytes {
        Some(n) if n <= MAX_OUTPUT => Ok(()),
        _ => refuse(format!("a text of more than {MAX_OUTPUT} bytes")),
    }
}

fn check_width(width: usize) -> Result<(), JinjaError> {
    if width <= MAX_INDENT {
        Ok(())
    } else {
        refuse(format!("{width} spaces, expected at most {MAX_INDENT}"))
    }
}

/// Widths and precisions of fields are numbers in the format; nothing tells them from other numbers more simply
/// than their length.
fn check_format(format: &str) -> Result<(), JinjaError> {
    match format.split(|c: char| !c.is_ascii_digit()).find(|number| number.len() > 4) {
        Some(number) => refuse(format!("a format with the number {number}, expected at most 4 digits")),
        None => Ok(()),
    }
}

fn check_replaced(text: &str, from: &str, to: &str) -> Result<(), JinjaError> {
    let times = if to.len() > from.len() { text.matches(from).count() } else { 0 };
    check_length(times.checked_mul(to.len()).and_then(|n| n.checked_add(text.len())))
}

fn check_joined(items: &Value, joiner: &str) -> Result<(), JinjaError> {
    let mut bytes = 0_usize;
    for item in items.try_iter().into_iter().flatten() {
        bytes = bytes.saturating_add(joiner.len() + item.as_str().map_or(1, str::len));
        check_length(Some(bytes))?;
    }
    Ok(())
}

fn format(state: &State, format: &Value, values: Rest<Value>) -> Result<Value, JinjaError> {
    check_format(format.as_str().unwrap_or_default())?;
    filters::format(state, format, values)
}

fn indent(
    text: StringInput<'_>,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    options: Kwargs,
) -> Result<Value, JinjaError> {
    check_width(width.or(options.peek("width").ok()).unwrap_or(0))?;
    check_length(Some(text.as_str().len() + text.as_str().matches('\n').count() * MAX_INDENT))?;
    filters::indent(text, width, first, blank, options)
}

fn join(state: &State, items: &Value, joiner: Option<StringInput<'_>>) -> Result<Value, JinjaError> {
    check_joined(items, joiner.as_ref().map_or("", |j| j.as_str()))?;
    filters::join(state, items, joiner)
}

fn replace(
    state: &State,
    text: StringInput<'_>,
    from: StringInput<'_>,
    to: StringInput<'_>,
) -> Result<Value, JinjaError> {
    check_replaced(text.as_str(), from.as_str(), to.as_str())?;
    filters::replace(state, text, from, to)
}

fn string(value: &Value) -> Result<Value, JinjaError> {
    if value.as_str().is_some() {
        return Ok(value.clone());
    }
    let mut text = Bounded(Vec::new());
    match write!(text, "{value}").map(|()| String::from_utf8(text.0)) {
        Ok(Ok(text)) => Ok(Value::from(text)),
        _ => refuse(format!("a text of more than {MAX_OUTPUT} bytes")),
    }
}

/// The methods of Python's strings, lists and dictionaries.
fn method(state: &State, value: &Value, name: &str, args: &[Value]) -> Result<Value, JinjaError> {
    let text = value.as_str();
    match (text, name, args) {
        (Some(text), "format", _) => check_format(text)?,
        (Some(text), "join", [items, ..]) => check_joined(items, text)?,
        (Some(text), "replace", [from, to, ..]) => {
            check_replaced(text, from.as_str().unwrap_or_default(), to.as_str().unwrap_or_default())?;
        }
        // The engine would look for the next one where it found the last one, for ever.
        (Some(_), "count", [what, ..]) if what.as_str() == Some("") => {
            return refuse("counts what is empty".to_owned());
        }
        _ => {}
    }
    pycompat::unknown_method_callback(state, value, name, args)
}

/// A namespace is the only value that can hold itself, and then whoever prints it or compares it goes down for
/// ever. This is a member that each one has, and is asked for what it is each time that somebody comes by.
#[derive(Debug)]
struct Sentry;

impl Object for Sentry {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if STACK_START.get().is_some_and(|start| start.abs_diff(stack_address()) > MAX_DEPTH) {
            // There is nobody on the way up who passes an error on. This says nothing, and ends the thread.
            std::panic::resume_unwind(Box::new("a namespace that holds itself"));
        }
        ObjectRepr::Plain
    }
}

fn namespace(members: Option<Value>) -> Result<Value, JinjaError> {
    // This also tells whether they are what members can be.
    functions::namespace(members.clone())?;
    let mut all = BTreeMap::new();
    for name in members.iter().flat_map(|m| m.try_iter()).flatten() {
        if let (Some(key), Some(members)) = (name.as_str(), &members) {
            all.insert(key.to_owned(), members.get_item(&name)?);
        }
    }
    // No template can set this name.
    all.insert(String::new(), Value::from_object(Sentry));
    functions::namespace(Some(Value::from_iter(all)))
}
