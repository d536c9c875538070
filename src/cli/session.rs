//! A model, from its name to an open engine: first what costs nothing and can be wrong, then the weights.

use super::args::{Activations, Common, ModelArgs};
use super::console::Console;
use crate::capabilities::Capabilities;
use crate::checkpoint::shapes::Shape;
use crate::checkpoint::{Checkpoint, Config, Encoding, RopeScaling, Source, locate};
use crate::engine::{Engine, OpenOptions, Plan, Tuner, open_device};
use crate::error::{Error, Result};
use crate::format::Packing;
use crate::model::{self, Weights};
use crate::text::Tokenizer;
use pollster::block_on;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Names that are listed where there may be thousands.
const LISTED: usize = 3;

/// A model of which everything is read but the weights.
pub struct Description {
    /// Where it lies.
    pub source: Source,
    /// What it says of itself.
    pub config: Config,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its name, as the user wrote it.
    pub name: String,
    /// Its weights' files.
    pub checkpoint: Checkpoint,
    weights: Weights,
    /// What activations are multiplied as.
    activations: Activations,
}

impl Description {
    /// Finds the model and reads its configuration and tokenizer.
    pub fn open(args: &ModelArgs) -> Result<Self> {
        let mut description = Description::named(args.name())?;
        description.weights = args.weights(description.checkpoint.has_codes())?;
        description.multiplying(args.activations)
    }

    /// The same, with 16-bit weights.
    pub fn named(name: &str) -> Result<Self> {
        let source = locate(name)?;
        let config = Config::open(&source.directory)?;
        model::architecture(&config)?;
        let tokenizer = Tokenizer::open(&source.directory, config.vocab_size)?;
        let checkpoint = Checkpoint::of(&source)?;
        let weights = Weights::F16;
        let (name, activations) = (name.to_owned(), Activations::F32);
        Ok(Description { source, config, tokenizer, name, checkpoint, weights, activations })
    }

    /// A model of a known shape, its weights drawn at random.
    pub fn shaped(shape: &Shape, weights: Weights) -> Result<Self> {
        let source = Source { directory: shape.directory()?, weights: shape.name.into() };
        let config = Config::open(&source.directory)?;
        let tokenizer = Tokenizer::open(&source.directory, config.vocab_size)?;
        let name = format!("{} (random)", shape.name);
        let (checkpoint, activations) = (shape.checkpoint(), Activations::F32);
        Ok(Description { source, config, tokenizer, name, checkpoint, weights, activations })
    }

    /// The same, with activations multiplied so.
    ///
    /// # Errors
    /// Where that needs integer codes, and none of the weights has any.
    pub fn multiplying(self, activations: Activations) -> Result<Self> {
        let coded = |description: &Description| {
            let mut matrices = description.checkpoint.tensors().filter(|info| info.shape.len() == 2);
            matrices.any(|info| {
                let embedding = info.shape[0] == description.config.vocab_size;
                description.packing(&info.encoding, embedding).format.dots.is_some()
            })
        };
        if activations == Activations::Q8 && !coded(&self) {
            let (format, _) = self.formats();
            return Err(Error::Usage(format!(
                "--activations q8 is for weights that are integer codes; these are {format}: give --bits 4 or 8, or leave \
                 --activations away"
            )));
        }
        Ok(Description { activations, ..self })
    }

    /// How a tensor of that encoding is packed, the embedding or another.
    fn packing(&self, encoding: &Encoding, embedding: bool) -> Packing {
        let own = encoding.packing().filter(|_| self.weights.stored);
        own.unwrap_or(if embedding { self.weights.embedding } else { self.weights.linear })
    }

    /// Bytes of the packed embedding.
    pub fn embedding_bytes(&self) -> u64 {
        let (rows, cols) = (self.config.vocab_size, self.config.hidden_size);
        let found = self.checkpoint.tensors().find(|info| info.shape == [rows, cols]);
        found.map_or(0, |info| self.packing(&info.encoding, true).bytes(rows, cols))
    }

    /// The formats of the layers' matrices and of the embedding, in a word each.
    fn formats(&self) -> (String, String) {
        let mut layers = BTreeSet::new();
        let mut embedding = self.weights.embedding.name();
        for info in self.checkpoint.tensors().filter(|info| info.shape.len() == 2) {
            let of_embedding = info.shape[0] == self.config.vocab_size;
            let name = self.packing(&info.encoding, of_embedding).name();
            if of_embedding {
                embedding = name;
            } else {
                layers.insert(name);
            }
        }
        (layers.into_iter().collect::<Vec<_>>().join("+"), embedding)
    }

    /// What is to be said of weights that cannot be as they are in the file.
    fn note(&self) -> Option<String> {
        let matrices = self.checkpoint.tensors().filter(|info| self.weights.stored && info.shape.len() == 2);
        let mut types: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for info in matrices {
            if let Some(obstacle) = info.encoding.obstacle() {
                types.entry(obstacle).or_default().insert(info.encoding.to_string());
            }
        }
        let each = types.into_iter().map(|(obstacle, types)| {
            let types = types.into_iter().collect::<Vec<_>>().join(" and ");
            format!("weights of type {types} are unpacked to 16-bit floats: {obstacle}")
        });
        Some(each.collect::<Vec<_>>().join("; ")).filter(|note| !note.is_empty())
    }

    /// How long texts may be when `asked` is what the user asked for.
    pub fn context(&self, asked: Option<usize>) -> Result<usize> {
        Plan::context(&self.config, asked)
    }

    /// The tokens that end a text.
    pub fn end(&self) -> Vec<u32> {
        let mut end = self.config.eos_token_ids.clone();
        end.extend(self.tokenizer.eos());
        end.sort_unstable();
        end.dedup();
        end
    }

    /// Opens the device and loads the weights, for texts of up to `context` tokens.
    pub fn load(self, context: usize, common: &Common, console: &Console) -> Result<Session> {
        self.load_for(context, 1, common, console)
    }

    /// The same for several texts at once.
    pub fn load_for(
        self,
        context: usize,
        sequences: usize,
        common: &Common,
        console: &Console,
    ) -> Result<Session> {
        let started = Instant::now();
        let opened = block_on(open_device(&common.choice()))?;
        if let Some(note) = &opened.note {
            console.note(note);
        }
        let capabilities = opened.executor.capabilities().clone();
        console.detail(format_args!(
            "device: {} ({}, {})",
            capabilities.device, capabilities.backend, capabilities.driver
        ));
        let bar = console.bar(
            self.checkpoint.total_bytes(),
            "loading",
            "{bytes} of {total_bytes}, {bytes_per_sec}",
        );
        let options = OpenOptions {
            weights: self.weights.clone(),
            context: Some(context),
            sequences,
            progress: &mut |bytes| bar.inc(bytes),
        };
        let engine = Engine::open(&self.source, &self.checkpoint, opened.executor, options);
        bar.finish_and_clear();
        let mut engine = engine?;
        if !common.no_tune {
            let console = *console;
            let progress = Box::new(move |name: &str| console.say(format_args!("measuring {name}")));
            engine.tune(Tuner::open(&super::cache().join("tuning"), &capabilities, common.tune, progress));
        }
        if self.activations == Activations::Q8 {
            engine.round_activations();
        }
        if let unread @ [_, ..] = engine.unread() {
            let listed: Vec<String> = unread.iter().take(LISTED).map(|name| format!("{name:?}")).collect();
            let more = if unread.len() > LISTED { ", …" } else { "" };
            console.note(format_args!(
                "the model has no use for {} of the checkpoint's tensors: {}{more}",
                unread.len(),
                listed.join(", ")
            ));
        }
        if self.checkpoint.aside() > 0 {
            console.note(format_args!(
                "the checkpoint's model of images ({} tensors) is not read: only text runs",
                self.checkpoint.aside()
            ));
        }
        if let RopeScaling::LongRope { original_max_position_embeddings: original, .. } =
            self.config.rope.rope_scaling
            && engine.context() > original
        {
            console.note(format_args!(
                "positions are stretched as for texts of more than {original} tokens, because the context is {}; \
                 shorter texts may do better with --ctx {original}",
                engine.context()
            ));
        }
        if let Some(note) = self.note() {
            console.note(note);
        }
        let load_time = started.elapsed();
        let session = Session { description: self, engine, capabilities, load_time };
        console.detail(format_args!(
            "weights: {}, loaded in {:.1} s",
            session.formats(),
            load_time.as_secs_f64()
        ));
        Ok(session)
    }
}

/// A model that is ready to run.
pub struct Session {
    /// What it was opened from.
    pub description: Description,
    /// The engine.
    pub engine: Engine,
    /// From the device's opening to here.
    pub load_time: Duration,
    capabilities: Capabilities,
}

impl Session {
    /// The formats of the weights, in one word where they are the same.
    pub fn formats(&self) -> String {
        let (linear, embedding) = self.description.formats();
        let mut formats =
            if linear == embedding { linear } else { format!("{linear}, embedding {embedding}") };
        if self.description.activations == Activations::Q8 {
            formats.push_str(", activations q8");
        }
        formats
    }

    /// The name of the device.
    pub fn device(&self) -> &str {
        &self.capabilities.device
    }

    /// Its driver.
    pub fn driver(&self) -> &str {
        &self.capabilities.driver
    }

    /// What every report in JSON begins with.
    pub fn json(&self) -> Map<String, Value> {
        let (linear, embedding) = self.description.formats();
        let fields = [
            ("model", json!(self.description.name)),
            ("format", json!(linear)),
            ("embed_format", json!(embedding)),
            ("activations", json!(self.description.activations.name())),
            ("device", json!(self.capabilities.device)),
            ("backend", json!(self.capabilities.backend)),
        ];
        fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
    }
}
