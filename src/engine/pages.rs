//! Which sequence owns which pages of the cache.

use crate::kernels::attention::PAGE;

/// The pages of the cache. Page 0 belongs to nobody: steps that were queued past the last token that a
/// sequence may have write there.
pub struct Pages {
    free: Vec<u32>,
    owned: Vec<Vec<u32>>,
}

impl Pages {
    /// A cache of so many tokens for so many sequences.
    pub fn new(tokens: usize, sequences: usize) -> Self {
        Pages { free: (1..(tokens / PAGE) as u32).rev().collect(), owned: vec![Vec::new(); sequences] }
    }

    /// Gives `sequence` pages for `tokens` tokens in place of those it had; its row of the page table,
    /// `max_pages` long. None, and nothing changed, where too few are free.
    pub fn assign(&mut self, sequence: usize, tokens: usize, max_pages: usize) -> Option<Vec<u32>> {
        let count = tokens.div_ceil(PAGE);
        if count > self.free.len() + self.owned[sequence].len() || count > max_pages {
            return None;
        }
        self.release(sequence);
        self.owned[sequence] = self.free.split_off(self.free.len() - count);
        let mut table = self.owned[sequence].clone();
        table.resize(max_pages, 0);
        Some(table)
    }

    /// The pages of a sequence, in order.
    pub fn owned(&self, sequence: usize) -> &[u32] {
        &self.owned[sequence]
    }

    /// Takes a sequence's pages back.
    pub fn release(&mut self, sequence: usize) {
        self.free.append(&mut self.owned[sequence]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_never_shared_and_come_back() {
        let mut pages = Pages::new(9 * PAGE, 3);
        let a = pages.assign(0, 3 * PAGE, 8).unwrap();
        let b = pages.assign(1, 4 * PAGE + 1, 8).unwrap();
        let mut used: Vec<u32> = a.iter().chain(&b).copied().filter(|&p| p != 0).collect();
        used.sort_unstable();
        assert_eq!(used, (1..=8).collect::<Vec<_>>());
        assert!(pages.assign(2, 1, 8).is_none());
        pages.release(0);
        assert!(pages.assign(2, 4 * PAGE, 8).is_none());
        assert_eq!(pages.assign(2, 3 * PAGE, 8).unwrap().iter().filter(|&&p| p != 0).count(), 3);
        assert!(pages.assign(1, 9 * PAGE, 8).is_none());
    }
}
