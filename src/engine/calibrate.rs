//! What a model's matrices are multiplied with on a text: what quantizers that look at activations need.
//!
//! The forward pass is that of the loaded weights, 16-bit floats as a rule: what a layer reads is not yet changed by the
//! rounding of the layers before it.

use super::diagnose::Suspect;
use super::pages::Claim;
use super::{Engine, Head, NONE, PREFILL, Row};
use crate::error::Result;
use crate::recording::Input;

/// Activations of a step, `[rows, cols]`.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Which of [`Engine::inputs`] they are.
    pub input: usize,
    /// Numbers of a row.
    pub cols: usize,
    /// The numbers.
    pub values: &'a [f32],
}

impl Engine {
    /// The activations that can be observed, in the order in which the selected arm makes them. Experts' are not among
    /// them: which rows an expert sees is the router's choice.
    ///
    /// # Errors
    /// When a kernel is refused or memory is short.
    pub fn inputs(&mut self) -> Result<Vec<Input>> {
        let ready = self.ready(PREFILL, Head::Score)?;
        Ok(self.executor.recording(ready.prepared).inputs.clone())
    }

    /// Numbers of a row of an input.
    pub fn input_cols(input: &Input) -> usize {
        input.bytes as usize / 4 / PREFILL
    }

    /// Runs texts through the selected arm, each from its own beginning, and shows the inputs `wanted`, numbers of
    /// [`inputs`](Self::inputs), step by step. The forward pass ends with the last of them. `step` is told of tokens as
    /// they are done; its error ends the run.
    ///
    /// # Errors
    /// When a text does not fit the context, the device fails, or activations are not finite.
    pub async fn observe(
        &mut self,
        texts: &[Vec<u32>],
        wanted: &[usize],
        see: &mut dyn FnMut(Seen<'_>),
        step: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        for text in texts {
            self.check_text(text)?;
        }
        let inputs = self.inputs()?;
        // In the order of dispatches: what an MLP reads may be made before attention is done.
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable_by_key(|&input| inputs[input].after);
        let sequences = self.sequences();
        for batch in texts.chunks(sequences) {
            let mut rows = Vec::new();
            for (slot, text) in batch.iter().enumerate() {
                let claim = Claim { writer: self.selected, text: &[], given: 0, tokens: text.len().max(1) };
                self.claim_for_text(slot, &claim)?;
                rows.extend(text.iter().enumerate().map(|(i, &token)| Row::new(token, i, slot)));
            }
            let result = self.observe_rows(&rows, (&inputs, &wanted), see, step).await;
            (0..batch.len()).for_each(|slot| self.pages.release(slot));
            result?;
        }
        Ok(())
    }

    async fn observe_rows(
        &mut self,
        rows: &[Row],
        (inputs, wanted): (&[Input], &[usize]),
        see: &mut dyn FnMut(Seen<'_>),
        step: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let ready = self.ready(PREFILL, Head::Score)?;
        self.executor.upload(ready.outputs, 0, bytemuck::cast_slice(&[NONE; PREFILL]))?;
        for rows in rows.chunks(PREFILL) {
            self.set_rows(ready, rows)?;
            let mut next = 0;
            let mut values: Vec<f32> = Vec::new();
            for &input in wanted {
                let Input { after, .. } = inputs[input];
                // Two matrices may read the same activations.
                if after >= next {
                    values = bytemuck::pod_collect_to_vec(
                        &self.executor.probe(ready.prepared, next..=after).await?,
                    );
                    next = after + 1;
                }
                let cols = Engine::input_cols(&inputs[input]);
                let values = &values[..rows.len() * cols];
                if values.iter().any(|value| !value.is_finite()) {
                    let suspect = Suspect { ready, outputs: 0..0, used: 0..rows.len(), rows: rows.to_vec() };
                    return Err(self.diagnose(suspect).await?);
                }
                see(Seen { input, cols, values });
            }
            step(rows.len())?;
        }
        Ok(())
    }
}
