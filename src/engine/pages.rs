//! Which sequence holds which pages of the cache, and which pages hold the start of a text that is known.
//!
//! A full page is known by the arm that wrote it and by all tokens up to its end ([`Name`]). A later sequence that
//! begins with the same tokens takes it as it is, also while the first one is still using it: nobody writes to it
//! again. A known page that nobody holds is kept until its room is needed, the longest unused first.

use crate::kernels::attention::PAGE;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};

/// Who wrote a page: an arm by its number, or [`ALL`] arms, each in its own cache.
pub type Writer = usize;

/// A comparison, in which every arm writes.
pub const ALL: Writer = usize::MAX;

/// What a full page is known by: a hash of its writer, the name of the page before it, and its own tokens. A few bytes
/// however long the text is, and no two texts can be found that share one.
type Name = [u8; 32];

/// The names of the full pages of a text, one after the other.
fn names(writer: Writer, text: &[u32]) -> impl Iterator<Item = Name> {
    text.chunks_exact(PAGE).scan(Name::default(), move |name, tokens| {
        let hash = Sha256::new().chain_update(writer.to_le_bytes()).chain_update(*name);
        *name = hash.chain_update(bytemuck::cast_slice(tokens)).finalize().into();
        Some(*name)
    })
}

/// The pages of the cache. Page 0 belongs to nobody: steps that were queued past the last token that a
/// sequence may have write there.
pub struct Pages {
    /// Pages that nobody holds, to be taken from the front.
    free: VecDeque<u32>,
    held: Vec<Vec<u32>>,
    /// By page, how many sequences hold it.
    holders: Vec<u32>,
    known: HashMap<Name, u32>,
    /// By page, under what it is known.
    names: Vec<Option<Name>>,
}

/// What a sequence asks for.
pub struct Claim<'a> {
    /// Who will write.
    pub writer: Writer,
    /// The text as far as it is given. Its full pages become known: the caller must queue their rows before those
    /// of any sequence that claims later.
    pub text: &'a [u32],
    /// Tokens of it that need not be computed if their keys and values are there.
    pub given: usize,
    /// Tokens that there must be room for.
    pub tokens: usize,
}

impl Pages {
    /// A cache of so many tokens for so many sequences.
    pub fn new(tokens: usize, sequences: usize) -> Self {
        let count = tokens / PAGE;
        Pages {
            free: (1..count as u32).collect(),
            held: vec![Vec::new(); sequences],
            holders: vec![0; count],
            known: HashMap::new(),
            names: vec![None; count],
        }
    }

    /// Gives `sequence` pages in place of those it had: its row of the page table, `max_pages` long, and how many
    /// tokens are there already. None, and the sequence without pages, where too few are free.
    pub fn claim(
        &mut self,
        sequence: usize,
        claim: &Claim<'_>,
        max_pages: usize,
    ) -> Option<(Vec<u32>, usize)> {
        self.release(sequence);
        let count = claim.tokens.div_ceil(PAGE);
        let given = &claim.text[..claim.given.min(claim.text.len())];
        let known = names(claim.writer, given).map_while(|name| self.known.get(&name).copied());
        let mut pages: Vec<u32> = known.take(count).collect();
        let shared = pages.len();
        let unheld = pages.iter().filter(|&&page| self.holders[page as usize] == 0).count();
        if count > max_pages || count - shared > self.free.len() - unheld {
            return None;
        }
        self.free.retain(|page| !pages.contains(page));
        pages.extend(self.free.drain(..count - shared));
        for (i, &page) in pages.iter().enumerate() {
            self.holders[page as usize] += 1;
            if i >= shared {
                self.unname(page);
            }
        }
        self.held[sequence] = pages;
        self.learn(sequence, claim.writer, claim.text);
        let mut table = self.held[sequence].clone();
        table.resize(max_pages, 0);
        Some((table, shared * PAGE))
    }

    /// Makes the full pages of a sequence known that hold this text.
    pub fn learn(&mut self, sequence: usize, writer: Writer, text: &[u32]) {
        for (&page, name) in self.held[sequence].iter().zip(names(writer, text)) {
            if self.names[page as usize].is_none() && !self.known.contains_key(&name) {
                self.known.insert(name, page);
                self.names[page as usize] = Some(name);
            }
        }
    }

    /// The pages of a sequence, in order.
    pub fn held(&self, sequence: usize) -> &[u32] {
        &self.held[sequence]
    }

    /// Takes a sequence's pages back.
    pub fn release(&mut self, sequence: usize) {
        // Of a text that is kept its end is given up first: without the start it is of no use.
        for page in std::mem::take(&mut self.held[sequence]).into_iter().rev() {
            self.holders[page as usize] -= 1;
            match (self.holders[page as usize], &self.names[page as usize]) {
                (0, None) => self.free.push_front(page),
                (0, Some(_)) => self.free.push_back(page),
                _ => {}
            }
        }
    }

    /// From here on no page is known.
    pub fn forget(&mut self) {
        self.known.clear();
        self.names.fill(None);
    }

    fn unname(&mut self, page: u32) {
        if let Some(name) = self.names[page as usize].take() {
            self.known.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim<'a>(text: &'a [u32], given: usize, tokens: usize) -> Claim<'a> {
        Claim { writer: 0, text, given, tokens }
    }

    #[test]
    fn pages_of_unlike_texts_are_apart_and_come_back() {
        let mut pages = Pages::new(9 * PAGE, 3);
        let (a, _) = pages.claim(0, &claim(&[], 0, 3 * PAGE), 8).unwrap();
        let (b, _) = pages.claim(1, &claim(&[], 0, 4 * PAGE + 1), 8).unwrap();
        let mut used: Vec<u32> = a.iter().chain(&b).copied().filter(|&p| p != 0).collect();
        used.sort_unstable();
        assert_eq!(used, (1..=8).collect::<Vec<_>>());
        assert!(pages.claim(2, &claim(&[], 0, 1), 8).is_none());
        pages.release(0);
        assert!(pages.claim(2, &claim(&[], 0, 4 * PAGE), 8).is_none());
        let (c, _) = pages.claim(2, &claim(&[], 0, 3 * PAGE), 8).unwrap();
        assert_eq!(c.iter().filter(|&&p| p != 0).count(), 3);
        assert!(pages.claim(1, &claim(&[], 0, 9 * PAGE), 8).is_none());
    }

    #[test]
    fn a_known_start_is_shared() {
        let text: Vec<u32> = (0..3 * PAGE as u32 + 5).collect();
        let mut other = text.clone();
        other[PAGE + 1] = 7;
        let mut pages = Pages::new(12 * PAGE, 3);
        let (a, had) = pages.claim(0, &claim(&text, text.len() - 1, 4 * PAGE), 8).unwrap();
        assert_eq!(had, 0);
        // The same start, in use or not.
        let (b, had) = pages.claim(1, &claim(&text, text.len() - 1, 4 * PAGE), 8).unwrap();
        assert_eq!((had, &b[..3]), (3 * PAGE, &a[..3]));
        assert_ne!(a[3], b[3], "what is written is each one's own");
        // No more than what is given, and nothing from the first other token on.
        assert_eq!(pages.claim(2, &claim(&text, 2 * PAGE - 1, 4 * PAGE), 8).unwrap().1, PAGE);
        let (c, had) = pages.claim(2, &claim(&other, other.len() - 1, 4 * PAGE), 8).unwrap();
        assert_eq!((had, c[0]), (PAGE, a[0]));
        assert!(!a.contains(&c[1]) && !b.contains(&c[1]));
        // Nor for another writer, nor once forgotten.
        let of_all = Claim { writer: ALL, ..claim(&text, text.len(), 3 * PAGE) };
        pages.release(2);
        assert_eq!(pages.claim(2, &of_all, 8).unwrap().1, 0);
        pages.forget();
        assert_eq!(pages.claim(1, &claim(&text, text.len(), 4 * PAGE), 8).unwrap().1, 0);
    }

    #[test]
    fn pages_that_nobody_holds_are_known_until_their_room_is_needed() {
        let texts: Vec<Vec<u32>> = (0..3).map(|i| vec![i; 2 * PAGE + 1]).collect();
        let mut pages = Pages::new(7 * PAGE, 1);
        let mut had = |i: usize| pages.claim(0, &claim(&texts[i], 2 * PAGE, 2 * PAGE + 1), 6).unwrap().1;
        assert_eq!([had(0), had(1), had(0)], [0, 0, 2 * PAGE]);
        // There is room for the third in what was free and the end of the second, the longest unused.
        assert_eq!(had(2), 0);
        assert_eq!(had(0), 2 * PAGE);
        // Whatever is given away is held by one only.
        for round in 0..50 {
            had(round % 3);
        }
        assert_eq!(pages.holders.iter().sum::<u32>(), 3);
        pages.release(0);
        let mut free: Vec<u32> = pages.free.iter().copied().collect();
        free.sort_unstable();
        assert_eq!(free, (1..7).collect::<Vec<_>>());
    }
}
