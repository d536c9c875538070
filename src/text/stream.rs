//! Text as it comes: ids to whole characters, one at a time, and stop strings.

use super::Tokenizer;
use crate::error::Result;

const UNKNOWN: char = char::REPLACEMENT_CHARACTER;

/// A character has at most four bytes, so at most three of them wait for the rest.
const MAX_WAITING: usize = 3;

/// After so many tokens that never end with a whole character, what there is is shown as it is.
const MAX_HELD: usize = 64;

/// Turns token ids into text one at a time, without ever showing a part of a character.
///
/// A token's text depends on its neighbours (a leading space, bytes of one character), so a short
/// window of ids is decoded again for each new one: the last that were shown whole, and all since.
pub struct TokenStream<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    /// How many of `ids` are there only as neighbours, all of their text shown before.
    context: usize,
    /// The text of `ids` that needs no showing.
    shown: String,
}

impl<'a> TokenStream<'a> {
    /// A stream of the tokens that follow `before` (the prompt; empty where the text is to start
    /// as if nothing preceded it).
    pub fn new(tokenizer: &'a Tokenizer, before: &[u32]) -> Result<Self> {
        let mut ids: Vec<u32> =
            before.iter().rev().copied().filter(|&id| !tokenizer.is_silent(id)).take(8).collect();
        ids.reverse();
        let shown = tokenizer.decode(&ids)?;
        Ok(TokenStream { tokenizer, context: ids.len(), ids, shown })
    }

    /// Takes the next token and gives the text that it completes, if any.
    pub fn push(&mut self, id: u32) -> Result<Option<String>> {
        if self.tokenizer.is_silent(id) {
            return Ok(None);
        }
        self.ids.push(id);
        let held = self.ids.len() - self.context;
        let mut text = self.tokenizer.decode(&self.ids)?;
        if !text.starts_with(&self.shown) {
            // Byte tokens right after the bytes of a shown character read as unknown, all of
            // them, until they are a character themselves.
            if held <= MAX_WAITING && text.ends_with(UNKNOWN) {
                return Ok(None);
            }
            self.ids.drain(..self.context);
            self.context = 0;
            self.shown.clear();
            text = self.tokenizer.decode(&self.ids)?;
        }
        let new = text.get(self.shown.len()..).unwrap_or_default();
        let whole = if held > MAX_HELD { new } else { whole(new) };
        let ended = whole.len() == new.len();
        let piece = whole.to_owned();
        self.shown.push_str(&piece);
        if ended {
            // Where the last tokens alone have no text (a lone space marker), they are no use as
            // neighbours: keep the ones before them too.
            let tail = self.tokenizer.decode(&self.ids[self.context..])?;
            if !tail.is_empty() {
                self.ids.drain(..self.context);
                self.context = self.ids.len();
                self.shown = tail;
            }
        }
        Ok((!piece.is_empty()).then_some(piece))
    }

    /// Ends the stream and gives what was held back; bytes of an incomplete character become U+FFFD.
    pub fn finish(self) -> Result<String> {
        let text = self.tokenizer.decode(&self.ids)?;
        match text.strip_prefix(&self.shown) {
            Some(rest) => Ok(rest.to_owned()),
            None => self.tokenizer.decode(&self.ids[self.context..]),
        }
    }
}

/// `text` without the U+FFFD at its end that may be the beginning of a character.
fn whole(text: &str) -> &str {
    let mut text = text;
    for _ in 0..MAX_WAITING {
        text = text.strip_suffix(UNKNOWN).unwrap_or(text);
    }
    text
}

/// Finds stop strings in a text that comes in pieces.
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopMatcher {
    /// A matcher for `stops`; empty ones are ignored.
    pub fn new(stops: impl IntoIterator<Item = String>) -> Self {
        let stops = stops.into_iter().filter(|s| !s.is_empty()).collect();
        StopMatcher { stops, held: String::new(), stopped: false }
    }

    /// Takes the next piece. Gives the text that can be shown, never any part of a stop string, and
    /// whether one has been found: then there is nothing more to show.
    pub fn push(&mut self, piece: &str) -> (String, bool) {
        if self.stopped {
            return (String::new(), true);
        }
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.stopped = true;
            let mut shown = std::mem::take(&mut self.held);
            shown.truncate(at);
            return (shown, true);
        }
        let longest = self.stops.iter().map(|stop| stop.len() - 1).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let at = (from..self.held.len())
            .filter(|&at| self.held.is_char_boundary(at))
            .find(|&at| self.stops.iter().any(|stop| stop.starts_with(&self.held[at..])))
            .unwrap_or(self.held.len());
        let held = self.held.split_off(at);
        (std::mem::replace(&mut self.held, held), false)
    }

    /// Ends the text and gives what was held back: the beginning of a stop string that did not come.
    pub fn finish(self) -> String {
        self.held
    }
}

#[cfg(test)]
mod tests;
