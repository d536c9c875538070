//! Granite 3 (IBM): Llama with multipliers on embeddings, on attention's scores, on what layers add, and on logits
//! (after muP, arXiv:2203.03466).
//!
//! The residual stream is kept divided by `residual_multiplier` m. Then layers add what they make as it is, the
//! embedding starts it off at 1/m, and an RMS norm does not see the difference if its eps is divided by m².

use super::Architecture;
use super::design::Design;
use crate::checkpoint::Config;
use crate::kernels::Scale;

pub const GRANITE: Architecture = Architecture {
    name: "GraniteForCausalLM",
    caches: |c| granite(c).caches(c),
    load: |c, loader| granite(c).load(c, loader),
};

fn granite(c: &Config) -> Design {
    let llama = Design::llama(c);
    Design {
        embedding_scale: (c.embedding_multiplier / c.residual_multiplier) as f32,
        eps: (f64::from(c.norm_eps) / c.residual_multiplier.powi(2)) as f32,
        scores: c.attention_multiplier.map_or(llama.scores, |scale| Scale::by(scale as f32)),
        logits: Scale::by(c.logits_scaling.recip() as f32),
        ..llama
    }
}
