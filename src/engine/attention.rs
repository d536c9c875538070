//! What attention looks at: its weights, which the kernels never write down, computed again from queries
//! and keys.

use super::pages::Claim;
use super::{Engine, Head, NONE, PREFILL, Row};
use crate::error::Result;
use crate::format::unpair;
use crate::kernels::attention::{PAGE, place_of_key};

/// The attention of one layer to a text: `[heads][rows]`, of each row the weights of keys `0..=row`.
pub type Attention = Vec<Vec<Vec<f32>>>;

impl Engine {
    /// Attention of the selected arm in every layer, to a text that fits the context.
    ///
    /// # Errors
    /// As [`score`](Self::score).
    pub async fn attention(&mut self, tokens: &[u32]) -> Result<Vec<Attention>> {
        self.check_text(tokens)?;
        self.claim_for_text(0, &Claim { writer: self.selected, text: &[], given: 0, tokens: tokens.len() })?;
        let ready = self.ready(PREFILL, Head::Score)?;
        let recording = self.executor.recording(ready.prepared);
        let stores: Vec<usize> = (0..recording.dispatches.len())
            .filter(|&i| recording.dispatches[i].kernel.starts_with("rope_store"))
            .collect();
        let mut queries: Vec<Vec<f32>> = vec![Vec::new(); stores.len()];
        let shapes = self.shapes.clone();
        for (chunk, tokens) in tokens.chunks(PREFILL).enumerate() {
            let rows: Vec<Row> =
                tokens.iter().enumerate().map(|(i, &t)| Row::new(t, chunk * PREFILL + i, 0)).collect();
            self.set_rows(ready, &rows)?;
            let none = vec![NONE; PREFILL];
            self.executor.upload(ready.outputs, 0, bytemuck::cast_slice(&none))?;
            let mut next = 0;
            for (layer, &store) in stores.iter().enumerate() {
                // The dispatch's last binding is the queries.
                let bytes = self.executor.probe(ready.prepared, next..=store).await?;
                next = store + 1;
                let q: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
                let width = shapes[layer].heads * shapes[layer].head_dim;
                queries[layer].extend(&q[..rows.len() * width]);
            }
        }
        let pages = self.pages.held(0).to_vec();
        let mut layers = Vec::with_capacity(stores.len());
        for (layer, q) in queries.iter().enumerate() {
            let cache = self.arms[self.selected].caches[layer];
            let ticket = self.executor.read(cache.keys.whole())?;
            let bytes = self.executor.finish(ticket).await?;
            let keys: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
            let shape = shapes[layer];
            let (half, group) = (shape.head_dim / 2, shape.heads / shape.kv_heads);
            let weights = |head: usize, row: usize| -> Vec<f32> {
                let q = &q[(row * shape.heads + head) * 2 * half..][..2 * half];
                let score = |key: usize| -> f64 {
                    let part = pages[key / PAGE] as usize * shape.kv_heads + head / group;
                    let place = |i| place_of_key(cache.by_token(), half, part, key % PAGE, i);
                    let dot = |i: usize| {
                        let [a, b] = unpair(keys[place(i)]).map(f64::from);
                        f64::from(q[i]) * a + f64::from(q[half + i]) * b
                    };
                    shape.scores.apply((0..half).map(dot).sum())
                };
                let seen = |key: usize| shape.window == 0 || row - key < shape.window;
                let scores: Vec<f64> =
                    (0..=row).map(|key| if seen(key) { score(key) } else { f64::NEG_INFINITY }).collect();
                let greatest = scores.iter().copied().fold(f64::MIN, f64::max);
                let total: f64 = scores.iter().map(|s| (s - greatest).exp()).sum();
                scores.iter().map(|s| ((s - greatest).exp() / total) as f32).collect()
            };
            layers.push(
                (0..shape.heads).map(|h| (0..tokens.len()).map(|row| weights(h, row)).collect()).collect(),
            );
        }
        self.pages.release(0);
        Ok(layers)
    }
}
