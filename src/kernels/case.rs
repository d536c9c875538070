//! What kernels are checked on: inputs, a recording of them, and what to compare.

use super::NONE;
use crate::capabilities::Capabilities;
use crate::recording::{Buffer, Recorder, Recording};

/// A buffer of a case with what it holds at first.
pub struct Input {
    /// Its name.
    pub name: &'static str,
    /// Its words.
    pub words: Vec<u32>,
}

/// How an output is compared with the twin's.
#[derive(Clone, Copy, Debug)]
pub enum Compare {
    /// As floats: `Σ (a − b)² / Σ b²` is at most this.
    Floats(f64),
    /// As pairs of halves, likewise.
    Halves(f64),
    /// As bytes with a sign, likewise.
    Bytes(f64),
    /// Word for word.
    Exact,
}

/// Records a case's dispatches over its buffers.
pub type Record = Box<dyn Fn(&mut Recorder<'_>, &[Buffer]) + Send + Sync>;

/// One check of a kernel.
pub struct Case {
    /// What is special about it.
    pub name: String,
    /// The buffers.
    pub inputs: Vec<Input>,
    /// What is run.
    pub record: Record,
    /// Indices of `inputs` that are compared afterwards.
    pub outputs: Vec<(usize, Compare)>,
}

impl Case {
    /// The same with its dispatches cut up, those that can be.
    pub(super) fn in_parts(self) -> Case {
        let record = self.record;
        let record: Record = Box::new(move |recorder, buffers| {
            recorder.operations = 1;
            record(recorder, buffers);
        });
        Case { name: self.name + ", in parts", record, ..self }
    }

    /// What a device with these capabilities is given for it, over buffers that are not there.
    pub fn recording(&self, device: &Capabilities) -> Recording {
        let buffer = |(id, input): (usize, &Input)| Buffer {
            id: id as u32,
            len: input.words.len() as u64 * 4,
            name: input.name,
        };
        let buffers: Vec<Buffer> = self.inputs.iter().enumerate().map(buffer).collect();
        let mut recorder = Recorder::new(device);
        (self.record)(&mut recorder, &buffers);
        recorder.finish()
    }
}

/// Tolerance for 32-bit inputs: devices at hand are within 1e-11, and WGSL promises less of `exp`.
pub const F32: Compare = Compare::Floats(1e-9);

/// Collects the buffers of a case.
pub struct Builder {
    inputs: Vec<Input>,
    outputs: Vec<(usize, Compare)>,
    state: u64,
}

impl Builder {
    /// No buffers yet. The random numbers of a case depend on its name alone.
    pub fn new(name: &str) -> Self {
        let state =
            name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        Builder { inputs: Vec::new(), outputs: Vec::new(), state }
    }

    /// The next random word (splitmix64).
    pub fn random(&mut self) -> u32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }

    /// A random float, bell-shaped with standard deviation 1.
    pub fn normal(&mut self) -> f32 {
        let sum: f64 = (0..12).map(|_| f64::from(self.random()) / 4_294_967_296.0).sum();
        (sum - 6.0) as f32
    }

    /// Adds a buffer of words; gives its index.
    pub fn words(&mut self, name: &'static str, words: Vec<u32>) -> usize {
        self.inputs.push(Input { name, words });
        self.inputs.len() - 1
    }

    /// Adds a buffer of floats.
    pub fn floats(&mut self, name: &'static str, floats: &[f32]) -> usize {
        self.words(name, bytemuck::cast_slice(floats).to_vec())
    }

    /// Adds a buffer of `n` random floats.
    pub fn normals(&mut self, name: &'static str, n: usize) -> usize {
        let floats: Vec<f32> = (0..n).map(|_| self.normal()).collect();
        self.floats(name, &floats)
    }

    /// Adds a buffer of `n` floats that the kernel writes, filled so that what it leaves out shows.
    pub fn output(&mut self, name: &'static str, n: usize, compare: Compare) -> usize {
        let i = self.floats(name, &vec![-7.5; n]);
        self.compare(i, compare);
        i
    }

    /// Compares a buffer afterwards.
    pub fn compare(&mut self, index: usize, compare: Compare) {
        self.outputs.push((index, compare));
    }

    /// Adds a row table of `capacity` rows, those given in use: `(token, position, sequence, expected)`.
    pub fn rows(&mut self, capacity: usize, rows: &[(u32, u32, u32, u32)]) -> usize {
        let mut words = Vec::new();
        for i in 0..capacity {
            let (token, position, sequence, expected) = rows.get(i).copied().unwrap_or((0, 0, NONE, NONE));
            words.extend([token, position, sequence, expected, i as u32, 0, 0, 0]);
        }
        self.words("rows", words)
    }

    /// Adds a row table of `capacity` rows with the first `used` in use.
    pub fn used_rows(&mut self, capacity: usize, used: usize) -> usize {
        let rows: Vec<_> = (0..used as u32).map(|i| (i, i, 0, NONE)).collect();
        self.rows(capacity, &rows)
    }

    /// Adds a row table of `capacity` rows with the last `used` in use, so that tiles are there whose first row is not.
    pub fn last_rows(&mut self, capacity: usize, used: usize) -> usize {
        let sequence = |row: usize| if row < capacity - used { NONE } else { 0 };
        let rows: Vec<_> = (0..capacity).map(|row| (0, 0, sequence(row), NONE)).collect();
        self.rows(capacity, &rows)
    }

    /// Adds a row table, whose second row is not in use, and as many rows of `k` random floats, of these magnitudes.
    pub fn rows_of_magnitudes(&mut self, k: usize, magnitudes: &[f32]) -> [usize; 2] {
        let table: Vec<_> =
            (0..magnitudes.len() as u32).map(|r| (0, r, if r == 1 { NONE } else { 0 }, NONE)).collect();
        let rows = self.rows(magnitudes.len(), &table);
        let row = |m: &f32| (0..k).map(|_| self.normal() / 6.0 * m).collect::<Vec<_>>();
        let values: Vec<f32> = magnitudes.iter().flat_map(row).collect();
        [rows, self.floats("x", &values)]
    }

    /// The finished case.
    pub fn case(
        self,
        name: impl Into<String>,
        record: impl Fn(&mut Recorder<'_>, &[Buffer]) + Send + Sync + 'static,
    ) -> Case {
        Case { name: name.into(), inputs: self.inputs, record: Box::new(record), outputs: self.outputs }
    }
}
