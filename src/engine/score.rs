//! How likely a text is under a model.

use super::diagnose::Suspect;
use super::pages::{ALL, Claim, Writer};
use super::{Divergence, Engine, Head, PREFILL, Ready, Row};
use crate::error::{Error, Result};
use crate::kernels::NONE;
use crate::recording::Buffer;
use serde::Serialize;

/// What results are before a step: a NaN that no kernel makes.
const UNSET: u32 = 0x7fed_face;

/// The likelihood of a text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Perplexity {
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Mean of −ln p, in nats.
    pub mean_nll: f64,
    /// exp of it.
    pub ppl: f64,
}

/// A text whose tokens are predicted, each from all those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The text.
    pub tokens: Vec<u32>,
    /// The first token that counts, at least 1: what comes before it is given.
    pub from: usize,
}

/// Windows of a text of `len` tokens for perplexity: `ctx` targets each, not overlapping, the last one
/// shorter, `most` targets in all. Window `i` reads tokens `i·ctx ..` and is scored on those one further.
pub fn windows(len: usize, ctx: usize, most: usize) -> Vec<std::ops::Range<usize>> {
    let targets = len.saturating_sub(1).min(most);
    (0..targets).step_by(ctx.max(1)).map(|start| start..(start + ctx).min(targets)).collect()
}

impl Engine {
    /// `ln p` of each token after the first, given all those before it.
    ///
    /// # Errors
    /// When the text does not fit the context, the device fails, or a step makes numbers that are not finite.
    pub async fn score(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let mut scores = self.score_all(&[Text { tokens: tokens.to_vec(), from: 1 }]).await?;
        Ok(scores.pop().unwrap_or_default())
    }

    /// `ln p` of the tokens of each text from its `from` on, given all those before; many texts at once.
    ///
    /// # Errors
    /// As [`score`](Self::score).
    pub async fn score_all(&mut self, texts: &[Text]) -> Result<Vec<Vec<f32>>> {
        let results = self.forward_all(texts, Head::Score, 1).await?;
        Ok(results.into_iter().flatten().collect())
    }

    /// How every arm predicts the tokens of each text from its `from` on, beside the selected arm: by arm, by
    /// text, by token.
    ///
    /// # Errors
    /// As [`score`](Self::score).
    pub async fn compare(&mut self, texts: &[Text]) -> Result<Vec<Vec<Vec<Divergence>>>> {
        let words = size_of::<Divergence>() / 4;
        let results = self.forward_all(texts, Head::Compare, words).await?;
        let typed = |text: Vec<f32>| bytemuck::pod_collect_to_vec(bytemuck::cast_slice::<f32, u8>(&text));
        Ok(results.into_iter().map(|arm| arm.into_iter().map(typed).collect()).collect())
    }

    /// The logits after each token, `[tokens, vocab]`.
    ///
    /// # Errors
    /// As [`score`](Self::score).
    pub async fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let stride = self.arms[self.selected].model.logits_stride();
        // Every row's, also the last one's, which predicts a token that the text does not have.
        let mut tokens = tokens.to_vec();
        tokens.push(0);
        let all = self.forward_all(&[Text { tokens, from: 1 }], Head::Logits, stride).await?;
        let vocab = self.config.vocab_size;
        let rows = all.into_iter().flatten().flatten().collect::<Vec<f32>>();
        Ok(rows.chunks_exact(stride).flat_map(|row| &row[..vocab]).copied().collect())
    }

    /// Whether a text can be run.
    pub(super) fn check_text(&self, tokens: &[u32]) -> Result<()> {
        if tokens.len() > self.context() {
            let (len, context) = (tokens.len(), self.context());
            return Err(Error::Usage(format!(
                "the text has {len} tokens, the context {context}: raise --ctx"
            )));
        }
        self.check_tokens(tokens)
    }

    /// Gives a sequence pages or says why not.
    pub(super) fn claim_for_text(&mut self, sequence: usize, claim: &Claim<'_>) -> Result<usize> {
        let none = || Error::Model(format!("no room in the cache for {} tokens", claim.tokens));
        self.claim_pages(sequence, claim)?.ok_or_else(none)
    }

    /// Runs texts through as many sequences as there are, and collects `per_row` results for each token from
    /// `from` on: by what the head leaves, by text.
    async fn forward_all(
        &mut self,
        texts: &[Text],
        head: Head,
        per_row: usize,
    ) -> Result<Vec<Vec<Vec<f32>>>> {
        for text in texts {
            // The last token is only predicted.
            let inputs = text.tokens.len().saturating_sub(1);
            self.check_text(&text.tokens[..inputs])?;
            self.check_tokens(&text.tokens[inputs..])?;
        }
        let ready = self.ready(PREFILL, head)?;
        let buffers = self.results[&(self.selected, PREFILL, head)].clone();
        let mut results = vec![vec![Vec::new(); texts.len()]; buffers.len()];
        let sequences = self.sequences();
        let writer = if head == Head::Compare { ALL } else { self.selected };
        for first in (0..texts.len()).step_by(sequences) {
            let batch = &texts[first..(first + sequences).min(texts.len())];
            let mut found = |buffer: usize, text: usize, values: &[f32]| {
                results[buffer][first + text].extend(values);
            };
            let result = self.forward_batch(batch, (writer, ready), &buffers, per_row, &mut found).await;
            (0..batch.len()).for_each(|slot| self.pages.release(slot));
            if result.is_err() {
                self.pages.forget();
            }
            result?;
        }
        Ok(results)
    }

    /// Runs texts, each in its own sequence. A step takes rows from as many of them as fit.
    async fn forward_batch(
        &mut self,
        texts: &[Text],
        (writer, ready): (Writer, Ready),
        buffers: &[Buffer],
        per_row: usize,
        found: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<()> {
        let mut all = Vec::new();
        for (slot, text) in texts.iter().enumerate() {
            let inputs = text.tokens.len().saturating_sub(1);
            let claim = Claim {
                writer,
                text: &text.tokens[..inputs],
                given: text.from.saturating_sub(1).min(inputs),
                tokens: inputs.max(1),
            };
            for position in self.claim_for_text(slot, &claim)?..inputs {
                let scored = position + 1 >= text.from;
                let expected = if scored { text.tokens[position + 1] } else { NONE };
                all.push(Row { expected, ..Row::new(text.tokens[position], position, slot) });
            }
        }
        for rows in all.chunks(PREFILL) {
            self.set_rows(ready, rows)?;
            let scored: Vec<u32> =
                (0..rows.len() as u32).filter(|&i| rows[i as usize].expected != NONE).collect();
            let mut outputs = scored.clone();
            outputs.resize(PREFILL, NONE);
            self.executor.upload(ready.outputs, 0, bytemuck::cast_slice(&outputs))?;
            // Where a driver gives a step up and tells nobody, what is there from before must not pass for its results.
            let unset = vec![UNSET; scored.len()];
            for buffer in buffers {
                self.executor.upload(*buffer, 0, bytemuck::cast_slice(&unset))?;
            }
            self.executor.run(ready.prepared)?;
            if scored.is_empty() {
                continue;
            }
            for (i, buffer) in buffers.iter().enumerate() {
                let ticket = self.executor.read(buffer.window(0, (scored.len() * per_row * 4) as u64))?;
                let bytes = self.executor.finish(ticket).await?;
                let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
                if values[..scored.len()].iter().all(|v| v.to_bits() == UNSET) {
                    return Err(self.gave_up());
                }
                if values.iter().any(|v| !v.is_finite()) {
                    let suspect =
                        Suspect { ready, outputs: 0..scored.len(), used: 0..rows.len(), rows: rows.to_vec() };
                    return Err(match writer {
                        ALL => self.diagnose_arm(i, suspect, &outputs).await?,
                        _ => self.diagnose(suspect).await?,
                    });
                }
                for (values, &row) in values.chunks_exact(per_row).zip(&scored) {
                    found(i, rows[row as usize].sequence as usize, values);
                }
            }
        }
        Ok(())
    }

    /// The perplexity of a text in [`windows`] of `ctx`; `progress` is told of tokens as they are scored.
    ///
    /// # Errors
    /// When there is nothing to predict, and as [`score`](Self::score).
    pub async fn perplexity(
        &mut self,
        tokens: &[u32],
        ctx: usize,
        most: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Perplexity> {
        let windows = windows(tokens.len(), ctx, most);
        if windows.is_empty() {
            return Err(Error::Usage(format!("the text has {} tokens, expected at least 2", tokens.len())));
        }
        let (mut sum, mut count) = (0.0f64, 0);
        for window in windows {
            let scores = self.score(&tokens[window.start..=window.end]).await?;
            sum -= scores.iter().map(|&s| f64::from(s)).sum::<f64>();
            count += scores.len();
            progress(scores.len());
        }
        let mean_nll = sum / count as f64;
        Ok(Perplexity { tokens: count, mean_nll, ppl: mean_nll.exp() })
    }
}

#[cfg(test)]
mod tests {
    use super::windows;

    #[test]
    fn windows_cover_every_target_once() {
        assert_eq!(windows(10, 4, usize::MAX), [0..4, 4..8, 8..9]);
        assert_eq!(windows(9, 4, usize::MAX), [0..4, 4..8]);
        assert_eq!(windows(10, 4, 6), [0..4, 4..6]);
        assert_eq!(windows(2, 512, 100), vec![0..1]);
        assert!(windows(1, 4, 100).is_empty());
        assert!(windows(0, 4, 100).is_empty());
    }
}
