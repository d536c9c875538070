//! What several test files share: the devices at hand, and models opened on them.
#![allow(dead_code, reason = "each test file uses its own part of this")]

use sixteen_states::checkpoint::{Checkpoint, locate};
use sixteen_states::cpu::Cpu;
use sixteen_states::engine::{Engine, OpenOptions};
use sixteen_states::format::{Format, Packing};
use sixteen_states::gpu::{self, Gpu, Options};
use sixteen_states::model::{Treat, Weights};
use sixteen_states::quantize::Treatment;
use sixteen_states::recording::Executor;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

/// A device to test on.
#[derive(Clone, Debug)]
pub struct Device {
    pub name: String,
    index: Option<usize>,
    /// How many adapters there are.
    adapters: usize,
    baseline: bool,
    /// Whether kernels are chosen, and workgroups sized, as for a real GPU.
    hardware: bool,
}

/// Every adapter with its optional features and without, and the CPU. No adapter at all is a failure, not
/// a reason to skip.
pub fn devices() -> Vec<Device> {
    let mut devices = gpus();
    devices.push(cpu());
    devices
}

/// Every adapter as a user has it, and the CPU: for what whole models do that other kernels do not change. tests/kernels.rs and
/// tests/golden.rs tell of those that masked features ask for.
pub fn usual_devices() -> Vec<Device> {
    devices().into_iter().filter(Device::usual).collect()
}

/// The CPU alone: for what is the same on every device, or checked on them elsewhere.
pub fn cpu() -> Device {
    Device { name: "cpu".to_owned(), index: None, adapters: 0, baseline: false, hardware: false }
}

/// The adapters alone.
pub fn gpus() -> Vec<Device> {
    let adapters = pollster::block_on(gpu::adapters());
    assert!(!adapters.is_empty(), "no GPU adapter: install a Vulkan driver, e.g. mesa-vulkan-drivers");
    let device = |(index, adapter): (usize, &gpu::Adapter)| {
        [false, true].map(|baseline| Device {
            name: format!("{}{}", adapter.capabilities.device, if baseline { ", baseline" } else { "" }),
            index: Some(index),
            adapters: adapters.len(),
            baseline,
            hardware: false,
        })
    };
    adapters.iter().enumerate().flat_map(device).collect()
}

/// The first adapter that is a processor, used as if it were a real GPU; where all are GPUs, none.
pub fn as_hardware() -> Option<Device> {
    let index = pollster::block_on(gpu::adapters()).iter().position(|a| a.capabilities.software)?;
    let device = gpus().into_iter().find(|device| device.index == Some(index))?;
    Some(Device { name: device.name.clone() + ", as hardware", hardware: true, ..device })
}

impl Device {
    /// Whether it is used as a user would use it.
    pub fn usual(&self) -> bool {
        !self.baseline && !self.hardware
    }

    /// Whether part `i` of what is shared out among the adapters is its. The CPU has all parts.
    pub fn takes(&self, i: usize) -> bool {
        self.index.is_none_or(|index| i % self.adapters == index)
    }

    /// Opens it. Where it is not used as a user would, the driver checks every access. A device is opened once: models have many
    /// kernels in common, and a processor takes long to compile them.
    pub fn open(&self) -> Box<dyn Executor> {
        static OPEN: Mutex<BTreeMap<(usize, bool, bool), gpu::Device>> = Mutex::new(BTreeMap::new());
        let Some(index) = self.index else { return Box::new(Cpu::new()) };
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let device = open.entry((index, self.baseline, self.hardware)).or_insert_with(|| {
            let mut adapter = pollster::block_on(gpu::adapters()).into_iter().nth(index).unwrap();
            adapter.capabilities.software &= !self.hardware;
            adapter.capabilities.textures &= !self.hardware;
            let options = Options { baseline: self.baseline, checked: !self.usual(), ..Options::default() };
            pollster::block_on(gpu::Device::open(adapter, options)).unwrap()
        });
        Box::new(Gpu::on(device))
    }
}

/// 16-bit floats, or the format `q4` or `q8` in groups.
pub fn packing(bits: u32, group: usize) -> Packing {
    match bits {
        16 => Packing::F16,
        bits => Packing { format: Format::named(&format!("q{bits}")).unwrap(), group },
    }
}

/// Opens a model.
pub fn open(executor: Box<dyn Executor>, model: &str, packing: Packing, sequences: usize) -> Engine {
    open_rounded(executor, model, packing, None, sequences)
}

/// Opens a model with the codes that its file has.
pub fn open_stored(executor: Box<dyn Executor>, model: &str, sequences: usize) -> Engine {
    open_as(executor, model, Weights { stored: true, ..Weights::F16 }, sequences)
}

/// Opens a model whose matrices are first rounded as `rounded` would.
pub fn open_rounded(
    executor: Box<dyn Executor>,
    model: &str,
    packing: Packing,
    rounded: Option<Packing>,
    sequences: usize,
) -> Engine {
    let rounded = rounded.map(|packing| packing.name().replace('/', ":"));
    let treatment = rounded.map(|name| -> Treat {
        let treatment = Treatment::parse(&name).unwrap();
        Rc::new(move |_| treatment)
    });
    let weights = Weights { linear: packing, embedding: packing, treatment, ..Weights::F16 };
    open_as(executor, model, weights, sequences)
}

/// Opens a model with its weights stored so.
pub fn open_as(executor: Box<dyn Executor>, model: &str, weights: Weights, sequences: usize) -> Engine {
    let source = locate(model).unwrap();
    let checkpoint = Checkpoint::of(&source).unwrap();
    let options = OpenOptions { weights, context: None, sequences, progress: &mut |_| {} };
    let engine = Engine::open(&source, &checkpoint, executor, options).unwrap();
    assert_eq!(engine.unread(), &[] as &[String], "{model}");
    engine
}

/// A JSON file under `tests/data/`.
pub fn json(path: &str) -> serde_json::Value {
    let path = format!("{}/tests/data/{path}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A list of token ids.
pub fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

/// A list of numbers.
pub fn numbers(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// `Σ (a − b)² / Σ (b − mean b)²`.
pub fn relative_error(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let mean = b.iter().sum::<f64>() / b.len() as f64;
    let off: f64 = a.iter().zip(b).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum();
    off / b.iter().map(|b| (b - mean).powi(2)).sum::<f64>()
}

/// Greedy tokens equal the reference's, unless the reference itself was nearly undecided at that step.
pub fn assert_greedy(found: &[u32], expected: &[u32], margins: &[f64], what: &str) {
    for (i, (&f, &e)) in found.iter().zip(expected).enumerate() {
        if f != e {
            assert!(margins[i] < 1e-3, "{what}: token {i} is {f}, the reference has {e} by {}", margins[i]);
            return; // from here on the texts may differ
        }
    }
    assert!(found.len() >= expected.len(), "{what}: {} tokens, expected {}", found.len(), expected.len());
}

/// The worst difference of two lists of logits, over the spread (standard deviation) of the second.
pub fn worst_over_spread(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let mean = b.iter().map(|&b| f64::from(b)).sum::<f64>() / b.len() as f64;
    let spread = (b.iter().map(|&b| (f64::from(b) - mean).powi(2)).sum::<f64>() / b.len() as f64).sqrt();
    a.iter().zip(b).map(|(&a, &b)| f64::from((a - b).abs())).fold(0.0, f64::max) / spread
}

/// Root mean square of the difference, over the spread of the second.
pub fn rms_over_spread(a: &[f32], b: &[f32]) -> f64 {
    let b: Vec<f64> = b.iter().map(|&b| f64::from(b)).collect();
    relative_error(a, &b).sqrt()
}
