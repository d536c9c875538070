//! One model with its weights stored in several ways, side by side on one device.

use super::{Engine, Head};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::kernels::Cache;
use crate::model::{self, Loader, Model, Packer, Weights};
use crate::quantize::Loss;
use crate::recording::Buffer;

/// The model with its weights stored in one way, and its own keys and values. Everything else is shared.
pub struct Arm {
    pub(super) model: Box<dyn Model>,
    pub(super) caches: Vec<Cache>,
    /// What the weights lie in, in the order of loading.
    buffers: Vec<Buffer>,
    /// What treatment did to each tensor, where there was one.
    pub losses: Vec<(String, Loss)>,
    /// Weights that were rounded to codes on the device.
    pub packed_on_device: u64,
}

/// Weights in device memory.
struct Loaded {
    model: Box<dyn Model>,
    buffers: Vec<Buffer>,
    losses: Vec<(String, Loss)>,
    packed_on_device: u64,
}

impl Engine {
    /// Loads the model's weights once more; gives the number of the new arm.
    ///
    /// # Errors
    /// When a weight cannot be stored in the way that is asked for, or memory is short.
    pub fn add_arm(
        &mut self,
        checkpoint: &Checkpoint,
        weights: &Weights,
        progress: &mut dyn FnMut(u64),
    ) -> Result<usize> {
        let Loaded { model, buffers, losses, packed_on_device } =
            self.load(checkpoint, weights, Vec::new(), progress)?;
        let mut caches = Vec::with_capacity(self.shapes.len());
        for shape in &self.shapes {
            let bytes = Cache::bytes(shape.kv_heads, shape.head_dim, self.plan.cached_tokens);
            caches.push(Cache {
                heads: shape.heads,
                kv_heads: shape.kv_heads,
                head_dim: shape.head_dim,
                window: shape.window,
                max_pages: self.plan.max_pages,
                pages: self.page_table,
                way: Cache::way(shape.head_dim, self.executor.capabilities()),
                keys: self.executor.create(bytes, "keys")?,
                values: self.executor.create(bytes, "values")?,
            });
        }
        self.arms.push(Arm { model, caches, buffers, losses, packed_on_device });
        // A comparison is of all arms.
        self.pages.forget();
        self.ready.retain(|(_, _, head), _| *head != Head::Compare);
        self.results.retain(|(_, _, head), _| *head != Head::Compare);
        Ok(self.arms.len() - 1)
    }

    /// Loads the weights of an arm again, treated in another way but packed in the same, into the same memory:
    /// nothing needs to be compiled or allocated.
    ///
    /// # Errors
    /// As [`add_arm`](Self::add_arm); the arm must not be used after one.
    pub fn replace_arm(
        &mut self,
        arm: usize,
        checkpoint: &Checkpoint,
        weights: &Weights,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        self.pages.forget();
        let buffers = self.arms[arm].buffers.clone();
        let Loaded { model, buffers, losses, packed_on_device } =
            self.load(checkpoint, weights, buffers, progress)?;
        let old = &mut self.arms[arm];
        if buffers != old.buffers {
            return Err(Error::Model("an arm can only be replaced by one that is packed alike".to_owned()));
        }
        (old.model, old.losses, old.packed_on_device) = (model, losses, packed_on_device);
        Ok(())
    }

    /// Arms in order of loading.
    pub fn arms(&self) -> &[Arm] {
        &self.arms
    }

    /// From here on, arm `arm` generates and scores, and is the reference of comparisons.
    pub fn select(&mut self, arm: usize) {
        assert!(arm < self.arms.len(), "there is no arm {arm}");
        self.selected = arm;
    }

    fn load(
        &mut self,
        checkpoint: &Checkpoint,
        weights: &Weights,
        reuse: Vec<Buffer>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Loaded> {
        let packer = Packer::new(weights.packed_on, self.executor.capabilities(), checkpoint.parameters());
        let mut loader = Loader {
            checkpoint,
            executor: &mut *self.executor,
            weights,
            context: self.plan.context,
            positions: self.plan.positions,
            progress,
            reuse: reuse.into(),
            buffers: Vec::new(),
            losses: Vec::new(),
            packer,
        };
        let model = (model::architecture(&self.config)?.load)(&self.config, &mut loader);
        let Loader { buffers, losses, packer, executor, .. } = loader;
        let packed_on_device = packer.close(executor);
        Ok(Loaded { model: model?, buffers, losses, packed_on_device: packed_on_device? })
    }
}
