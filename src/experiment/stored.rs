//! Arms whose weights are codes of a file: the model's own, or those of another checkpoint of the same model.

use crate::checkpoint::{Checkpoint, Config, Encoding, locate};
use crate::error::{Error, Result};
use crate::quantize::Loss;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Where an arm's weights are.
#[derive(Clone, Debug)]
pub enum Stored {
    /// In the model that is asked about, which holds codes.
    Model,
    /// In another checkpoint.
    Other(Rc<Other>),
}

/// Another checkpoint.
#[derive(Debug)]
pub struct Other {
    name: String,
    config: Config,
    checkpoint: Checkpoint,
}

impl Stored {
    /// The name of the arm whose weights are the model's own codes.
    pub const FILE: &str = "file";

    /// The weights that an arm's name stands for, if it is [`FILE`](Self::FILE), or a model directory or a file of
    /// weights that is there.
    ///
    /// # Errors
    /// When there is something of that name that cannot be read.
    pub fn named(name: &str) -> Result<Option<Stored>> {
        if name == Stored::FILE {
            return Ok(Some(Stored::Model));
        }
        if !std::path::Path::new(name).exists() {
            return Ok(None);
        }
        let source = locate(name)?;
        let config = Config::open(&source.directory)?;
        let checkpoint = Checkpoint::of(&source)?;
        Ok(Some(Stored::Other(Rc::new(Other { name: name.to_owned(), config, checkpoint }))))
    }

    /// The weights, `model` being those of the model that is asked about.
    pub fn checkpoint<'a>(&'a self, model: &'a Checkpoint) -> &'a Checkpoint {
        match self {
            Stored::Model => model,
            Stored::Other(other) => &other.checkpoint,
        }
    }

    /// Checks that the weights are those of the same model, stored in another way.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, config: &Config, model: &Checkpoint) -> Result<()> {
        match self {
            Stored::Model if model.has_codes() => Ok(()),
            Stored::Model => {
                let problem =
                    "the model's file holds no codes, only floats; expected the directory of another one";
                Err(Error::Usage(format!("arm {:?}: {problem}", Stored::FILE)))
            }
            Stored::Other(other) => other.check(config, model),
        }
    }

    /// In words.
    pub fn description(&self, model: &Checkpoint) -> String {
        let kinds: BTreeSet<String> = (self.checkpoint(model).tensors())
            .filter(|info| info.shape.len() == 2)
            .map(|info| match &info.encoding {
                Encoding::Plain(_) => "16-bit floats".to_owned(),
                coded => coded.to_string(),
            })
            .collect();
        let kinds = kinds.into_iter().collect::<Vec<_>>().join(" and ");
        match self {
            Stored::Model => format!("the model's own file, as it is: {kinds}"),
            Stored::Other(other) => format!("the weights of {}, as they are: {kinds}", other.name),
        }
    }

    /// Bits of a weight of the matrices, as they are stored.
    pub fn bits(&self, model: &Checkpoint) -> f64 {
        let (mut bits, mut weights) = (0.0, 0.0);
        for info in self.checkpoint(model).tensors().filter(|info| info.shape.len() == 2) {
            let each = match info.encoding {
                Encoding::Plain(_) => 16.0,
                _ => info.stored_bytes() as f64 * 8.0 / info.elements.max(1) as f64,
            };
            bits += each * info.elements as f64;
            weights += info.elements as f64;
        }
        bits / f64::max(weights, 1.0)
    }

    /// How many states the codes have, where all have as many.
    pub fn states(&self, model: &Checkpoint) -> Option<usize> {
        let coded = self.checkpoint(model).tensors().filter(|info| info.encoding.has_codes());
        let bits: BTreeSet<Option<u32>> =
            coded.map(|info| info.encoding.packing().map(|packing| packing.format.bits)).collect();
        match bits.into_iter().collect::<Vec<_>>()[..] {
            [Some(bits)] => Some(1 << bits.min(16)),
            _ => None,
        }
    }

    /// How far the matrices are from those of the model.
    ///
    /// # Errors
    /// When one of them is missing in the model.
    pub fn loss(&self, model: &Checkpoint) -> Result<Loss> {
        let mut loss = Loss::default();
        let Stored::Other(other) = self else { return Ok(loss) };
        for info in other.checkpoint.tensors().filter(|info| info.shape.len() == 2) {
            let Some(mine) = model.get(&info.name).filter(|mine| mine.shape == info.shape) else { continue };
            let pair =
                [model.tensor(&mine.name, &mine.shape)?, other.checkpoint.tensor(&info.name, &info.shape)?];
            let cols = info.shape[1];
            let (mut before, mut after) = (vec![0.0; cols], vec![0.0; cols]);
            for row in 0..info.shape[0] {
                let range = row * cols..(row + 1) * cols;
                pair[0].read_f32(range.clone(), &mut before);
                pair[1].read_f32(range, &mut after);
                let off = before.iter().zip(&after).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
                loss.error += off.sum::<f64>();
                loss.power += before.iter().map(|&a| f64::from(a).powi(2)).sum::<f64>();
            }
            loss.weights += info.elements as u64;
        }
        Ok(loss)
    }

    /// What tells these weights from others of the same name.
    pub fn hash(&self) -> Option<String> {
        match self {
            Stored::Model => None,
            Stored::Other(other) => Some(other.checkpoint.hash()),
        }
    }
}

impl Other {
    fn check(&self, config: &Config, model: &Checkpoint) -> Result<()> {
        let differs = |what: &str, found: String, expected: String| {
            let name = &self.name;
            let problem = format!("its {what} is {found}, expected the model's, {expected}");
            Err(Error::Usage(format!("arm {name:?} is not another version of the model: {problem}")))
        };
        let ours = &self.config;
        if ours.architecture != config.architecture {
            return differs("architecture", ours.architecture.clone(), config.architecture.clone());
        }
        for (what, found, expected) in [
            ("hidden_size", ours.hidden_size, config.hidden_size),
            ("intermediate_size", ours.intermediate_size, config.intermediate_size),
            ("number of layers", ours.num_hidden_layers, config.num_hidden_layers),
            ("number of heads", ours.num_attention_heads, config.num_attention_heads),
            ("number of key-value heads", ours.num_key_value_heads, config.num_key_value_heads),
            ("head_dim", ours.head_dim, config.head_dim),
            ("vocabulary", ours.vocab_size, config.vocab_size),
        ] {
            if found != expected {
                return differs(what, found.to_string(), expected.to_string());
            }
        }
        // A GGUF file has Llama 3's stretch of positions as a tensor, which the loader would apply once more.
        let (found, expected) = (ours.rope.rope_scaling, config.rope.rope_scaling);
        if found != expected {
            return differs("stretch of positions", format!("{found:?}"), format!("{expected:?}"));
        }
        // Files hold these in 32 bits.
        for (what, found, expected) in [
            ("rope_theta", ours.rope.rope_theta, config.rope.rope_theta),
            ("norm's epsilon", ours.norm_eps.into(), config.norm_eps.into()),
        ] {
            if (found - expected).abs() > expected.abs() * 1e-6 {
                return differs(what, found.to_string(), expected.to_string());
            }
        }
        for info in self.checkpoint.tensors() {
            if let Some(mine) = model.get(&info.name).filter(|mine| mine.shape != info.shape) {
                let what = format!("tensor {:?} of shape", info.name);
                return differs(&what, format!("{:?}", info.shape), format!("{:?}", mine.shape));
            }
        }
        Ok(())
    }
}
