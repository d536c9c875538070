//! Statistics of activations, matrix by matrix, within a bound of memory.
//!
//! The text goes through the model once for as many matrices as there is room for; the Hessians of a small model come to
//! one pass, those of a large one to a pass a layer or so.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::quantize::Statistics;
use crate::recording::Input;
use pollster::block_on;
use std::collections::{BTreeMap, HashMap};

/// Most bytes of Hessians that are held at once, however much memory is free.
const MOST: u64 = 1 << 30;

/// What matrices are multiplied with on a text.
pub struct Calibration<'a> {
    engine: &'a mut Engine,
    /// Texts, each from its own beginning.
    texts: Vec<Vec<u32>>,
    /// Is told of tokens as they go through.
    progress: &'a mut dyn FnMut(usize),
    inputs: Vec<Input>,
    by_tensor: HashMap<String, usize>,
    /// Inputs that will be asked for, in that order.
    order: Vec<usize>,
    held: BTreeMap<usize, Statistics>,
    /// Those that need no pass any more.
    known: BTreeMap<usize, Statistics>,
    room: u64,
}

impl<'a> Calibration<'a> {
    /// Calibration on texts, by the engine's selected arm.
    ///
    /// # Errors
    /// When there is nothing in the texts, or a kernel is refused.
    pub fn new(
        engine: &'a mut Engine,
        texts: Vec<Vec<u32>>,
        progress: &'a mut dyn FnMut(usize),
    ) -> Result<Self> {
        if texts.iter().all(Vec::is_empty) {
            return Err(Error::Usage("the text to calibrate on has no tokens".to_owned()));
        }
        let inputs = engine.inputs()?;
        let named = |(i, input): (usize, &Input)| {
            input.tensors.iter().map(move |name| (name.clone(), i)).collect::<Vec<_>>()
        };
        let by_tensor = inputs.iter().enumerate().flat_map(named).collect();
        let room = crate::memory::available().map_or(MOST, |free| (free / 4).min(MOST));
        Ok(Calibration {
            engine,
            texts,
            progress,
            inputs,
            by_tensor,
            order: Vec::new(),
            held: BTreeMap::new(),
            known: BTreeMap::new(),
            room,
        })
    }

    /// The engine.
    pub fn engine(&mut self) -> &mut Engine {
        self.engine
    }

    /// The texts.
    pub fn texts(&self) -> &[Vec<u32>] {
        &self.texts
    }

    /// Tokens of all texts.
    pub fn tokens(&self) -> usize {
        self.texts.iter().map(Vec::len).sum()
    }

    /// What the model's matrices read, in the model's order.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The number of the input that a matrix reads, if it can be observed.
    pub fn input(&self, tensor: &str) -> Option<usize> {
        self.by_tensor.get(tensor).copied()
    }

    /// Says which matrices will be asked for, in which order; gives how many passes that takes.
    pub fn plan<'n>(&mut self, tensors: impl Iterator<Item = &'n str>) -> usize {
        self.order.clear();
        for tensor in tensors {
            let Some(input) = self.input(tensor).filter(|input| !self.known.contains_key(input)) else {
                continue;
            };
            if !self.order.contains(&input) {
                self.order.push(input);
            }
        }
        let (mut passes, mut at) = (0, 0);
        while at < self.order.len() {
            at += self.fitting(at).len();
            passes += 1;
        }
        passes
    }

    /// The inputs from place `at` of the order on whose Hessians fit, one at least.
    fn fitting(&self, at: usize) -> &[usize] {
        let mut bytes = 0;
        let fits = |&&input: &&usize| {
            bytes += Statistics::bytes(Engine::input_cols(&self.inputs[input]));
            bytes <= self.room
        };
        let count = self.order[at..].iter().take_while(fits).count().max(1);
        &self.order[at..(at + count).min(self.order.len())]
    }

    /// Statistics of what a matrix is multiplied with; none where that cannot be observed.
    ///
    /// # Errors
    /// When a text does not fit the context, the device fails, activations are not finite, or the user interrupts.
    pub fn statistics(
        &mut self,
        tensor: &str,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Option<&Statistics>> {
        let Some(input) = self.input(tensor) else { return Ok(None) };
        if !self.held.contains_key(&input) && !self.known.contains_key(&input) {
            self.pass(input, interrupted)?;
        }
        Ok(self.known.get(&input).or(self.held.get(&input)))
    }

    /// From here on, `statistics` are those of the input.
    pub fn know(&mut self, input: usize, statistics: Statistics) {
        self.known.insert(input, statistics);
    }

    fn pass(&mut self, input: usize, interrupted: &dyn Fn() -> bool) -> Result<()> {
        self.held.clear();
        let wanted = match self.order.iter().position(|&i| i == input) {
            Some(at) => self.fitting(at).to_vec(),
            None => vec![input],
        };
        let cols = |input: usize| Engine::input_cols(&self.inputs[input]);
        let mut held: BTreeMap<usize, Statistics> =
            wanted.iter().map(|&input| (input, Statistics::new(cols(input), true))).collect();
        let mut step = |tokens: usize| {
            (self.progress)(tokens);
            match interrupted() {
                true => Err(super::interrupted()),
                false => Ok(()),
            }
        };
        let mut see = |seen: crate::engine::Seen<'_>| {
            if let Some(statistics) = held.get_mut(&seen.input) {
                statistics.add(seen.values);
            }
        };
        block_on(self.engine.observe(&self.texts, &wanted, &mut see, &mut step))?;
        self.held = held.into_iter().map(|(input, statistics)| (input, statistics.symmetric())).collect();
        Ok(())
    }
}
