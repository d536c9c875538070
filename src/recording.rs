//! A forward pass as plain data: buffers by number, kernels by name, and nothing of any GPU API.
//!
//! A model records once through a [`Recorder`]; [`Recorder::finish`] gives temporaries their places; an
//! [`Executor`] replays the [`Recording`] as often as there are steps.

use crate::capabilities::Capabilities;
use crate::error::Result;
use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::time::Duration;

/// Multiplications and additions of one submission, and of one dispatch where it can be cut up. Windows resets a device on which a
/// submission takes two seconds, and macOS gives it up; by reckoning, the slowest GPUs make some 0.3 TFLOP/s.
pub const OPERATIONS: u64 = 200_000_000_000;

/// Set in the id of a buffer that lives only inside one recording.
const TEMPORARY: u32 = 1 << 31;

/// A handle to device memory: who records never sees a GPU object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Buffer {
    /// Unique within an executor, or within a recording for a temporary.
    pub id: u32,
    /// Length in bytes, a multiple of 4.
    pub len: u64,
    /// What it holds, for errors and profiles.
    pub name: &'static str,
}

impl Buffer {
    /// The whole buffer as a binding.
    pub fn whole(self) -> Window {
        Window { buffer: self, offset: 0, len: self.len }
    }

    /// `len` bytes from `offset`, a multiple of [`Capabilities::window_alignment`].
    pub fn window(self, offset: u64, len: u64) -> Window {
        debug_assert!(offset + len <= self.len, "{self:?} {offset} {len}");
        Window { buffer: self, offset, len }
    }

    /// `n` of `capacity` rows of `words` 32-bit words, from row `first` on; the whole buffer if those are all.
    pub fn rows(self, words: usize, first: usize, n: usize, capacity: usize) -> Window {
        match n == capacity {
            true => self.whole(),
            false => self.window((first * words * 4) as u64, (n * words * 4) as u64),
        }
    }

    /// The slot of a temporary in [`Recording::temporaries`]; nothing for a buffer of the executor.
    pub fn slot(self) -> Option<usize> {
        (self.id & TEMPORARY != 0).then_some((self.id & !TEMPORARY) as usize)
    }
}

impl From<Buffer> for Window {
    fn from(buffer: Buffer) -> Self {
        buffer.whole()
    }
}

/// A contiguous part of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// The buffer.
    pub buffer: Buffer,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// A constant baked into a kernel's source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Const {
    /// `const NAME: u32`
    U32(u32),
    /// `const NAME: f32`
    F32(f32),
    /// `const NAME: bool`
    Bool(bool),
}

/// The constants of one dispatch, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Consts(pub Vec<(&'static str, Const)>);

impl Consts {
    /// No constants yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an unsigned constant. Shapes are checked to fit `u32` when a model loads.
    pub fn u32(mut self, name: &'static str, value: usize) -> Self {
        self.0
            .push((name, Const::U32(u32::try_from(value).expect("shapes fit u32 once a model has loaded"))));
        self
    }

    /// Adds a float constant.
    pub fn f32(mut self, name: &'static str, value: f32) -> Self {
        self.0.push((name, Const::F32(value)));
        self
    }

    /// Adds a boolean constant.
    pub fn bool(mut self, name: &'static str, value: bool) -> Self {
        self.0.push((name, Const::Bool(value)));
        self
    }

    fn find(&self, name: &str) -> Const {
        let found = self.0.iter().find(|(n, _)| *n == name);
        found.unwrap_or_else(|| panic!("kernel constant {name} is not set")).1
    }

    /// The unsigned constant `name`, if there is one.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.0.iter().find_map(|(n, value)| match value {
            Const::U32(value) if *n == name => Some(*value as usize),
            _ => None,
        })
    }

    /// The unsigned constant `name`, for twins.
    pub fn get(&self, name: &str) -> usize {
        match self.find(name) {
            Const::U32(v) => v as usize,
            other => panic!("kernel constant {name} is {other:?}, not u32"),
        }
    }

    /// The float constant `name`, for twins.
    pub fn float(&self, name: &str) -> f32 {
        match self.find(name) {
            Const::F32(v) => v,
            other => panic!("kernel constant {name} is {other:?}, not f32"),
        }
    }

    /// The boolean constant `name`, for twins.
    pub fn flag(&self, name: &str) -> bool {
        match self.find(name) {
            Const::Bool(v) => v,
            other => panic!("kernel constant {name} is {other:?}, not bool"),
        }
    }
}

/// One kernel launch.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// The kernel's name in its registry.
    pub kernel: &'static str,
    /// The name of the weight format whose WGSL joins in and owns `planes`, if the kernel reads a weight.
    pub format: Option<&'static str>,
    /// Every shape, baked in.
    pub consts: Consts,
    /// Group 0, in the order that the kernel declares.
    pub bindings: Vec<Window>,
    /// Group 1: the planes of the weight.
    pub planes: Vec<Window>,
    /// Size of the grid.
    pub workgroups: [u32; 3],
    /// Index into [`Recording::labels`]: where in the model this happens.
    pub label: usize,
}

impl Dispatch {
    /// Of a product with a weight `[n, k]`: n, k, and rows of activations.
    pub fn product(&self) -> Option<[usize; 3]> {
        let [n, k, stride] = ["N", "K", "STRIDE"].map(|name| self.consts.number(name));
        let out = self.bindings.last().filter(|_| self.format.is_some())?;
        Some([n?, k?, out.len as usize / 4 / stride.filter(|&stride| stride > 0)?])
    }

    /// Of a product with experts' matrices `[n, k]`: n, k, and slots of rows, each of which goes through one of them.
    pub fn product_of_experts(&self) -> Option<[usize; 3]> {
        // No other kernel has slots and a part of all rows.
        let [n, k, slots, count] = ["N", "K", "SLOTS", "COUNT"].map(|name| self.consts.number(name));
        let (rows, chosen) = (self.workgroups[1] as usize, self.bindings.first()?.len as usize / 4);
        let of_rows = rows * slots?;
        let slots = self.consts.number("T").map_or(of_rows, |t| chosen.min(rows * t));
        count.and(Some([n?, k?, slots]))
    }

    /// Multiplications and additions, of those that grow without bound: products with weights, and attention where a row sees
    /// all the keys that there is room for.
    pub fn operations(&self) -> u64 {
        if let Some(product) = self.product() {
            return 2 * product.map(|n| n as u64).iter().product::<u64>();
        }
        if let Some([n, k, slots]) = self.product_of_experts() {
            // Each tile may end in up to 31 slots that nobody has and lanes of a subgroup make all the same.
            let tiles = self.workgroups[1] as usize;
            let made = self.consts.number("T").map_or(slots, |t| (slots + 31 * tiles).min(tiles * t));
            return 2 * [n, k, made].map(|n| n as u64).iter().product::<u64>();
        }
        // Of all kernels, only attention has teams of heads.
        let sizes = ["TEAM", "MAX_PAGES", "PAGE", "WINDOW", "SPLITS"].map(|name| self.consts.number(name));
        let ([Some(_), Some(pages), Some(page), Some(window), Some(slices)], Some(out)) =
            (sizes, self.bindings.last())
        else {
            return 0;
        };
        let keys = if window > 0 { window.min(pages * page) } else { pages * page };
        // Two for each number of a head and key, for scores and again for values; slices have a part of the keys each.
        4 * keys as u64 * (out.len / 4) / slices.max(1) as u64
    }
}

/// Collects dispatches. Shapes were checked when the weights loaded, so recording cannot fail.
pub struct Recorder<'a> {
    /// What the device can do; kernels choose their variant by it.
    pub capabilities: &'a Capabilities,
    /// What was measured to be fastest, by the names that kernels have for their work, where anything was.
    pub choices: Option<&'a BTreeMap<String, String>>,
    /// Whether products with weights of integer codes round activations to 8 bits.
    pub dots: bool,
    /// Multiplications and additions of one dispatch, where it can be cut up.
    pub operations: u64,
    /// Work for which nothing was measured, as the kernel that it is for describes it.
    pub unmeasured: Vec<Box<dyn Any>>,
    dispatches: Vec<Dispatch>,
    temporaries: Vec<u64>,
    pinned: Vec<Buffer>,
    labels: Vec<String>,
    inputs: Vec<Input>,
}

impl<'a> Recorder<'a> {
    /// An empty recording for a device.
    pub fn new(capabilities: &'a Capabilities) -> Self {
        Recorder {
            capabilities,
            choices: None,
            dots: false,
            operations: OPERATIONS,
            unmeasured: Vec::new(),
            dispatches: Vec::new(),
            temporaries: Vec::new(),
            pinned: Vec::new(),
            labels: vec![String::new()],
            inputs: Vec::new(),
        }
    }

    /// From here on, the temporary that is called what `buffer` is called lives in `buffer`, where it can be
    /// read after a run.
    pub fn pin(&mut self, buffer: Buffer) {
        self.pinned.push(buffer);
    }

    /// A buffer of `words` 32-bit words that lives from its first to its last use in this recording.
    pub fn temporary(&mut self, words: usize, name: &'static str) -> Buffer {
        let len = (words.max(1) * 4) as u64;
        if let Some(&pinned) = self.pinned.iter().find(|b| b.name == name) {
            assert_eq!(pinned.len, len, "the buffer pinned for {name} has its length");
            return pinned;
        }
        let id = TEMPORARY | self.temporaries.len() as u32;
        self.temporaries.push(len);
        Buffer { id, len, name }
    }

    /// Notes that the matrices `tensors` are multiplied with `values` as they are now, so that [`Executor::probe`] finds
    /// them there. `origin`: see [`Input::origin`].
    pub fn reads(&mut self, values: Buffer, tensors: &[String], origin: &[Origin]) {
        let wrote = |d: &Dispatch| d.bindings.last().is_some_and(|window| window.buffer == values);
        if let Some(after) = self.dispatches.iter().rposition(wrote) {
            let (tensors, origin) = (tensors.to_vec(), origin.to_vec());
            self.inputs.push(Input { after, bytes: values.len, tensors, origin });
        }
    }

    /// Rows of each part of work on `capacity` rows that takes so many operations for each of them: as many as one dispatch should have,
    /// in whole `unit`s, so that each part starts where windows may in buffers of such rows of `widths` words. All of them where
    /// there is no such part.
    pub fn rows_of_a_part(&self, capacity: usize, operations: u64, unit: usize, widths: &[usize]) -> usize {
        let starts = |rows: &usize| {
            let bytes = widths.iter().map(|words| (rows * words * 4) as u64);
            bytes.into_iter().all(|bytes| bytes.is_multiple_of(self.capabilities.window_alignment))
        };
        let least = (unit..capacity).step_by(unit).find(starts).unwrap_or(capacity);
        let most = usize::try_from(self.operations / operations.max(1)).unwrap_or(usize::MAX);
        (most / least * least).clamp(least, capacity)
    }

    /// Names the part of the model that the following dispatches belong to.
    pub fn label(&mut self, label: impl Into<String>) {
        self.labels.push(label.into());
    }

    /// Adds a dispatch.
    pub fn dispatch(
        &mut self,
        kernel: &'static str,
        consts: Consts,
        bindings: impl IntoIterator<Item = Window>,
        workgroups: [usize; 3],
    ) {
        self.dispatch_weight(kernel, None, consts, bindings, Vec::new(), workgroups);
    }

    /// Adds a dispatch that reads a weight in `format` from `planes`.
    pub fn dispatch_weight(
        &mut self,
        kernel: &'static str,
        format: Option<&'static str>,
        consts: Consts,
        bindings: impl IntoIterator<Item = Window>,
        planes: Vec<Window>,
        workgroups: [usize; 3],
    ) {
        debug_assert!(workgroups.iter().all(|&n| (1..=65_535).contains(&n)), "{kernel}: {workgroups:?}");
        self.dispatches.push(Dispatch {
            kernel,
            format,
            consts,
            bindings: bindings.into_iter().collect(),
            planes,
            workgroups: workgroups.map(|n| n as u32),
            label: self.labels.len() - 1,
        });
    }

    /// Freezes the recording: temporaries whose lives do not overlap share memory.
    pub fn finish(mut self) -> Recording {
        // First and last dispatch that touches each temporary.
        let mut lives = vec![None::<(usize, usize)>; self.temporaries.len()];
        for (i, dispatch) in self.dispatches.iter().enumerate() {
            for t in dispatch.bindings.iter().filter_map(|w| w.buffer.slot()) {
                lives[t].get_or_insert((i, i)).1 = i;
            }
        }
        // Greedy by first use: the smallest free slot that is large enough, else the largest free one grows.
        let mut slots: Vec<(u64, usize)> = Vec::new(); // (bytes, last use)
        let mut place = vec![0usize; lives.len()];
        let mut order: Vec<usize> = (0..lives.len()).filter(|&t| lives[t].is_some()).collect();
        order.sort_by_key(|&t| lives[t].map(|l| l.0));
        for t in order {
            let (Some((first, last)), bytes) = (lives[t], self.temporaries[t]) else { continue };
            let free = || slots.iter().enumerate().filter(|(_, s)| s.1 < first);
            let fit = free().filter(|(_, s)| s.0 >= bytes).min_by_key(|(_, s)| s.0).map(|(i, _)| i);
            let fit = fit.or_else(|| free().max_by_key(|(_, s)| s.0).map(|(i, _)| i));
            let slot = fit.unwrap_or_else(|| {
                slots.push((0, 0));
                slots.len() - 1
            });
            slots[slot] = (slots[slot].0.max(bytes), last);
            place[t] = slot;
        }
        for window in self.dispatches.iter_mut().flat_map(|d| d.bindings.iter_mut()) {
            if let Some(t) = window.buffer.slot() {
                window.buffer.id = TEMPORARY | place[t] as u32;
            }
        }
        Recording {
            dispatches: self.dispatches,
            temporaries: slots.into_iter().map(|s| s.0).collect(),
            labels: self.labels,
            inputs: self.inputs,
        }
    }
}

/// Activations that matrices are multiplied with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The dispatch after which they are whole, in the buffer behind its last binding.
    pub after: usize,
    /// Bytes of that buffer.
    pub bytes: u64,
    /// The matrices, by the names of their tensors.
    pub tensors: Vec<String>,
    /// Where a factor for each column could go: all of what makes the column, and nothing else, is proportional to these.
    /// Empty where there is no such place.
    pub origin: Vec<Origin>,
}

/// A tensor whose rows, or numbers if it is a vector, become columns of activations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its name.
    pub tensor: String,
    /// The row that becomes column 0.
    pub first: usize,
    /// Whether it is stored as what it differs from 1.
    pub one_plus: bool,
}

/// A frozen forward pass.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The launches, in order.
    pub dispatches: Vec<Dispatch>,
    /// Bytes of each temporary's slot; see [`Buffer::slot`].
    pub temporaries: Vec<u64>,
    /// Names of the model's parts; see [`Dispatch::label`].
    pub labels: Vec<String>,
    /// What the layers' matrices are multiplied with, in order.
    pub inputs: Vec<Input>,
}

/// A recording that an executor has made ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared(pub usize);

/// A read-back under way; see [`Executor::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// A future that needs no thread: the only asynchronous thing here is waiting for a device.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Something that replays recordings: a GPU, or the twins on the CPU.
pub trait Executor {
    /// What this device can do.
    fn capabilities(&self) -> &Capabilities;

    /// Zeroed device memory of `len` bytes (rounded up to 4).
    ///
    /// # Errors
    /// When the buffer is larger than the device allows, or memory is short.
    fn create(&mut self, len: u64, name: &'static str) -> Result<Buffer>;

    /// Writes `bytes` (a multiple of 4) at `offset`, before whatever is run next.
    ///
    /// # Errors
    /// When the device was lost.
    fn upload(&mut self, buffer: Buffer, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Compiles what [`prepare`](Self::prepare) would have to, and nothing else: all at once where many recordings come one
    /// after the other. The bindings need not be there.
    ///
    /// # Errors
    /// When a kernel is refused; what else there was may not be compiled then.
    fn compile(&mut self, _recording: &Recording) -> Result<()> {
        Ok(())
    }

    /// Compiles kernels, places temporaries and makes bindings, once. What kernels bind as a texture
    /// moves into one: from then on it is written and read by multiples of 16 bytes.
    ///
    /// # Errors
    /// When a kernel is refused or memory is short.
    fn prepare(&mut self, recording: Recording) -> Result<Prepared>;

    /// Gives back what recordings and buffers take. None of them may be used again.
    fn release(&mut self, recordings: &[Prepared], buffers: &[Buffer]);

    /// Replays a recording. Returns once it is queued, not once it is done.
    ///
    /// # Errors
    /// When the device was lost.
    fn run(&mut self, prepared: Prepared) -> Result<()>;

    /// Replays those dispatches of a recording and reads the whole buffer behind the last binding of the last of them: how
    /// a value that is not finite is traced to where it arose. What the dispatches before them left is still there, so that a
    /// recording can be replayed piece by piece.
    fn probe(
        &mut self,
        prepared: Prepared,
        dispatches: RangeInclusive<usize>,
    ) -> Pending<'_, Result<Vec<u8>>>;

    /// The recording behind a handle.
    fn recording(&self, prepared: Prepared) -> &Recording;

    /// Asks for bytes as they are after everything queued so far.
    ///
    /// # Errors
    /// When the device was lost.
    fn read(&mut self, window: Window) -> Result<Ticket>;

    /// Waits for a read-back.
    fn finish(&mut self, ticket: Ticket) -> Pending<'_, Result<Vec<u8>>>;

    /// How long the device was busy with the runs since this was last asked; none where it does not tell,
    /// or there were more of them than are counted.
    fn busy(&mut self) -> Pending<'_, Result<Option<Duration>>>;

    /// Replays a recording with every dispatch timed on its own, waits, and tells how long each took; none where the
    /// device does not tell. Slower than [`run`](Self::run), which never pays for it.
    fn time(&mut self, prepared: Prepared) -> Pending<'_, Result<Option<Vec<Duration>>>>;

    /// Bytes of device memory now held, and the most that ever were.
    fn memory(&self) -> (u64, u64);
}
