//! What is said beside the text: notes and progress on standard error, and the text itself on a standard
//! output that may be closed. Nothing here panics when nobody listens.

use super::args::Common;
use crate::error::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code where Ctrl-C ended what was under way, as shells have it.
pub const CODE_INTERRUPTED: u8 = 130;

/// Whether Ctrl-C is to end a text rather than the program.
static ENDS_TEXT: AtomicBool = AtomicBool::new(false);
/// Whether Ctrl-C came since.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Who is told what.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    quiet: bool,
    verbose: bool,
    progress: bool,
}

impl Console {
    /// A console as the options want it. From here on Ctrl-C ends a text first.
    pub fn new(common: &Common) -> Result<Self> {
        ctrlc::set_handler(|| {
            if !ENDS_TEXT.swap(false, Ordering::SeqCst) {
                std::process::exit(CODE_INTERRUPTED.into());
            }
            INTERRUPTED.store(true, Ordering::SeqCst);
        })
        .map_err(|e| Error::Model(format!("cannot listen for Ctrl-C: {e}")))?;
        let progress = !common.quiet && std::io::stderr().is_terminal();
        Ok(Console { quiet: common.quiet, verbose: common.verbose, progress })
    }

    /// Whether more is to be said than what matters to everyone.
    pub fn verbose(&self) -> bool {
        self.verbose
    }

    /// Says something on standard error, unless that is not wanted.
    pub fn say(&self, text: impl Display) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// Tells of something that may matter.
    pub fn note(&self, text: impl Display) {
        self.say(format_args!("note: {text}"));
    }

    /// Says something to those who want to know more.
    pub fn detail(&self, text: impl Display) {
        if self.verbose {
            self.say(text);
        }
    }

    /// A progress bar over `total` of something; `figures` is what to write beside the bar, in the language
    /// of `indicatif`. It shows only on a terminal.
    pub fn bar(&self, total: u64, what: &'static str, figures: &str) -> ProgressBar {
        if !self.progress {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let template = format!("{{msg}} [{{bar:24}}] {figures}");
        match ProgressStyle::with_template(&template) {
            Ok(style) => bar.with_style(style.progress_chars("=> ")).with_message(what),
            Err(_) => bar.with_message(what),
        }
    }
}

/// While this lives, the first Ctrl-C only raises a flag.
pub struct Interruptible(());

impl Interruptible {
    /// From here on.
    pub fn new() -> Self {
        INTERRUPTED.store(false, Ordering::SeqCst);
        ENDS_TEXT.store(true, Ordering::SeqCst);
        Interruptible(())
    }

    /// Whether Ctrl-C came.
    pub fn interrupted(&self) -> bool {
        INTERRUPTED.load(Ordering::SeqCst)
    }
}

impl Drop for Interruptible {
    fn drop(&mut self) {
        ENDS_TEXT.store(false, Ordering::SeqCst);
    }
}

/// Standard output, written piece by piece.
#[derive(Debug, Default)]
pub struct Output {
    /// Whether the reader went away: then there is nothing more to do, and nothing wrong.
    pub closed: bool,
    /// Whether the last line has no end yet.
    open_line: bool,
}

impl Output {
    /// Writes `text` and hands it out at once; breaks once nobody reads any more.
    pub fn write(&mut self, text: &str) -> Result<ControlFlow<()>> {
        let mut out = std::io::stdout();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::BrokenPipe => self.closed = true,
            Err(e) => return Err(Error::io("standard output", e)),
        }
        if let Some(last) = text.chars().last() {
            self.open_line = last != '\n';
        }
        Ok(if self.closed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Writes a whole line.
    pub fn line(&mut self, text: &str) -> Result<ControlFlow<()>> {
        self.write(&format!("{text}\n"))
    }

    /// Ends the last line if it is open.
    pub fn end_line(&mut self) -> Result<()> {
        if self.open_line && !self.closed {
            let _ = self.write("\n")?;
        }
        Ok(())
    }

    /// Writes a value as JSON, on one line.
    pub fn json(&mut self, value: &serde_json::Value) -> Result<()> {
        self.line(&value.to_string()).map(|_| ())
    }
}
