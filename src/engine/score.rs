//! How likely a text is under a model.

use super::diagnose::Suspect;
use super::{Engine, Head, PREFILL, Row};
use crate::error::{Error, Result};
use crate::kernels::NONE;
use serde::Serialize;

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
        let expected: Vec<u32> = tokens.iter().skip(1).copied().collect();
        let inputs = &tokens[..expected.len()];
        self.forward_all(inputs, &expected, Head::Score, 1).await
    }

    /// The logits after each token, `[tokens, vocab]`.
    ///
    /// # Errors
    /// As [`score`](Self::score).
    pub async fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let stride = self.model.logits_stride();
        let all = self.forward_all(tokens, &[], Head::Logits, stride).await?;
        let vocab = self.config.vocab_size;
        Ok(all.chunks_exact(stride).flat_map(|row| &row[..vocab]).copied().collect())
    }

    /// Runs a text through sequence 0, and collects `per_row` results a row.
    async fn forward_all(
        &mut self,
        tokens: &[u32],
        expected: &[u32],
        head: Head,
        per_row: usize,
    ) -> Result<Vec<f32>> {
        if tokens.len() > self.context() {
            let (len, context) = (tokens.len(), self.context());
            return Err(Error::Usage(format!(
                "the text has {len} tokens, the context {context}: raise --ctx"
            )));
        }
        self.check_tokens(tokens)?;
        self.check_tokens(expected)?;
        if !self.assign_pages(0, tokens.len())? {
            return Err(Error::Model(format!("no room in the cache for {} tokens", tokens.len())));
        }
        let ready = self.ready(PREFILL, head)?;
        let mut results = Vec::with_capacity(tokens.len() * per_row);
        for (chunk, tokens) in tokens.chunks(PREFILL).enumerate() {
            let rows: Vec<Row> = tokens
                .iter()
                .enumerate()
                .map(|(i, &token)| {
                    let position = chunk * PREFILL + i;
                    Row {
                        expected: expected.get(position).copied().unwrap_or(NONE),
                        ..Row::new(token, position, 0)
                    }
                })
                .collect();
            self.set_rows(ready, &rows)?;
            let mut outputs: Vec<u32> = (0..rows.len() as u32).collect();
            outputs.resize(PREFILL, NONE);
            self.executor.upload(ready.outputs, 0, bytemuck::cast_slice(&outputs))?;
            self.executor.run(ready.prepared)?;
            let Some(result) = ready.result else { continue };
            let ticket = self.executor.read(result.whole())?;
            let bytes = self.executor.finish(ticket).await?;
            let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
            let values = &values[..rows.len() * per_row];
            if values.iter().any(|v| !v.is_finite()) {
                self.pages.release(0);
                let used = 0..rows.len();
                return Err(self.diagnose(Suspect { ready, outputs: used.clone(), used, rows }).await?);
            }
            results.extend(values);
        }
        self.pages.release(0);
        Ok(results)
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
