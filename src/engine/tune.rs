//! Kernels chosen by measurement: what was fastest on a device is written to a file and used from then on.
//!
//! The choice changes how long a product takes, and the order in which it is added up: last bits may differ. So comparisons of
//! arms do not use it.

use super::limits::seconds_of_each;
use super::{Engine, Row};
use crate::capabilities::Capabilities;
use crate::error::{Error, Result};
use crate::kernels::matmul::Activations;
use crate::kernels::{Product, Variant};
use crate::recording::{Buffer, Executor, Recorder};
use pollster::block_on;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A measurement goes on for at least this long, three times.
const LONG_ENOUGH: Duration = Duration::from_millis(15);

/// Matrices of different layers are multiplied with in turn, so that caches hold none: so many at least, where there are.
const LAYERS: usize = 8;

/// And on GPUs, the largest of which have caches of some 50 MB, as many as have so many bytes.
const GPU_BYTES: u64 = 256 << 20;

/// What is usual is given up only for what takes this much of its time, or less.
const WORTH_IT: f64 = 0.95;

/// How far what a variant makes may be from what is usual: `Σ (a − b)² / Σ b²`. Activations rounded to 16 bits make 1e-7.
const ALIKE: f64 = 1e-5;

/// Longest file that is read.
const MOST_BYTES: u64 = 1 << 20;

/// How kernels are chosen for an engine.
pub struct Tuner {
    choices: BTreeMap<String, String>,
    measured: BTreeMap<String, Entry>,
    header: Header,
    path: PathBuf,
    /// Whether what is not known is measured.
    measure: bool,
    /// Is told of each product before it is measured.
    progress: Box<dyn FnMut(&str)>,
    /// Rows, activations and outputs for measuring, as large as was needed.
    buffers: Option<[Buffer; 3]>,
}

/// What was measured of a product.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    /// The variant that is used.
    variant: String,
    /// What each of them took.
    microseconds: BTreeMap<String, f64>,
}

/// What a measurement holds for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    device: String,
    backend: String,
    driver: String,
    version: String,
}

#[derive(Serialize, Deserialize)]
struct File {
    #[serde(flatten)]
    header: Header,
    products: BTreeMap<String, Entry>,
}

impl Tuner {
    /// What was measured on a device before, from its file in `directory`; with `measure`, what is not known yet is measured
    /// and added. A file that does not fit the device or cannot be read counts as none.
    pub fn open(
        directory: &Path,
        device: &Capabilities,
        measure: bool,
        progress: Box<dyn FnMut(&str)>,
    ) -> Self {
        let header = Header {
            device: device.device.clone(),
            backend: device.backend.clone(),
            driver: device.driver.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String =
            format!("{} {}", header.device, header.backend).chars().map(plain).take(80).collect();
        let path = directory.join(format!("{name}.json"));
        let measured = read(&path, &header).unwrap_or_default();
        let choices = measured.iter().map(|(name, entry)| (name.clone(), entry.variant.clone())).collect();
        Tuner { choices, measured, header, path, measure, progress, buffers: None }
    }

    /// Measures every variant of some products, and keeps what was found.
    fn measure(&mut self, executor: &mut dyn Executor, products: Vec<Product>) -> Result<()> {
        let mut alike: BTreeMap<String, Vec<Product>> = BTreeMap::new();
        for product in products {
            alike.entry(product.name.clone()).or_default().push(product);
        }
        for (name, products) in alike {
            (self.progress)(&name);
            let bytes: Vec<u64> = products.iter().map(|product| product.weight.bytes()).collect();
            let layers = layers(&bytes, executor.capabilities().software);
            let times = self.times_of(executor, &products[..layers])?;
            let Some(variant) = best(&times) else { continue };
            self.choices.insert(name.clone(), variant.to_string());
            let microseconds = times.iter().map(|(variant, time)| (variant.to_string(), *time)).collect();
            self.measured.insert(name, Entry { variant: variant.to_string(), microseconds });
        }
        self.save()
    }

    /// What each variant takes in microseconds, the usual one first: by the matrices of all layers in turn, as in a step,
    /// where none is in any cache any more.
    fn times_of(&mut self, executor: &mut dyn Executor, products: &[Product]) -> Result<Vec<(Variant, f64)>> {
        let Some(product @ Product { capacity, weight, .. }) = products.first() else {
            return Ok(Vec::new());
        };
        let capacity = *capacity;
        let lens =
            [size_of::<Row>(), weight.cols * 4, weight.stride() * 4].map(|bytes| (capacity * bytes) as u64);
        let small = |buffers: &[Buffer; 3]| buffers.iter().zip(lens).any(|(buffer, len)| buffer.len < len);
        if self.buffers.as_ref().is_none_or(small) {
            let before = self.buffers.map_or([0; 3], |buffers| buffers.map(|buffer| buffer.len));
            let mut make = |i: usize, name| executor.create(lens[i].max(before[i]), name);
            // Zeros are rows in use, of sequence 0.
            let made = [make(0, "rows")?, make(1, "activations")?, make(2, "outputs")?];
            if let Some(outgrown) = self.buffers.replace(made) {
                executor.release(&[], &outgrown);
            }
        }
        let Some([rows, values, out]) = self.buffers else { return Ok(Vec::new()) };
        let [rows, values, out] = [(rows, lens[0]), (values, lens[1]), (out, lens[2])]
            .map(|(buffer, len)| Buffer { len, ..buffer });
        let capabilities = executor.capabilities().clone();
        let activations: Vec<f32> = (0..values.len as u32 / 4).map(activation).collect();
        executor.upload(values, 0, bytemuck::cast_slice(&activations))?;
        let (mut variants, mut prepared, mut usual) = (Vec::new(), Vec::new(), Vec::new());
        for variant in product.candidates(&capabilities) {
            let mut r = Recorder::new(&capabilities);
            for Product { weight, .. } in products {
                r.matmul_as(variant, Activations { rows, capacity, values }, weight, out, false);
            }
            let ready = match executor.prepare(r.finish()) {
                // Without what is usual nothing works; without the others, something does.
                Err(e) if !variants.is_empty() => {
                    (self.progress)(&format!("{variant}, without success: {e}"));
                    continue;
                }
                ready => ready?,
            };
            executor.run(ready)?;
            let ticket = executor.read(out.whole())?;
            let made: Vec<f32> = bytemuck::pod_collect_to_vec(&block_on(executor.finish(ticket))?);
            if variants.is_empty() {
                usual = made;
            } else if !alike(&usual, &made, weight.stride(), weight.outputs()) {
                (self.progress)(&format!("{variant}, which computes something else and is not used"));
                executor.release(&[ready], &[]);
                continue;
            }
            variants.push(variant);
            prepared.push(ready);
        }
        let times = seconds_of_each(executor, &prepared, LONG_ENOUGH)?;
        executor.release(&prepared, &[]);
        let rounded = |seconds: f64| (seconds * 1e7 / products.len() as f64).round() / 10.0;
        Ok(variants.into_iter().zip(times.into_iter().map(rounded)).collect())
    }

    fn save(&self) -> Result<()> {
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory).map_err(|e| Error::io(directory, e))?;
        }
        let file = File { header: self.header.clone(), products: self.measured.clone() };
        let text = serde_json::to_string_pretty(&file).map_err(|e| Error::file(&self.path, e.to_string()))?;
        // Whole or not at all: another process may read it.
        let temporary = self.path.with_extension(format!("{}.partial", std::process::id()));
        std::fs::write(&temporary, text + "\n").map_err(|e| Error::io(&temporary, e))?;
        std::fs::rename(&temporary, &self.path).map_err(|e| Error::io(&self.path, e))
    }
}

/// How many matrices of so many bytes are measured in turn.
fn layers(bytes: &[u64], software: bool) -> usize {
    let enough = |n: &usize| bytes[..*n].iter().sum::<u64>() >= GPU_BYTES;
    let many = if software { LAYERS } else { (0..bytes.len()).find(enough).unwrap_or(bytes.len()) };
    many.max(LAYERS).min(bytes.len())
}

/// The measurements of a file that is there, and of the same device.
fn read(path: &Path, header: &Header) -> Option<BTreeMap<String, Entry>> {
    let found = std::fs::metadata(path).ok()?;
    if !found.is_file() || found.len() > MOST_BYTES {
        return None;
    }
    let file: File = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    (file.header == *header).then_some(file.products)
}

/// What products are measured with: numbers between -1 and 1 that do not repeat soon.
fn activation(i: u32) -> f32 {
    (i.wrapping_mul(0x9e37_79b9) >> 8) as f32 / 8_388_608.0 - 1.0
}

/// Whether two variants made the same of rows `[stride]` of which `width` are numbers, but for rounding. Numbers that are
/// not finite are like no other.
fn alike(usual: &[f32], other: &[f32], stride: usize, width: usize) -> bool {
    let (mut off, mut all) = (0.0, 0.0);
    for (usual, other) in usual.chunks_exact(stride).zip(other.chunks_exact(stride)) {
        for (&usual, &other) in usual.iter().zip(other).take(width) {
            let (usual, other) = (f64::from(usual), f64::from(other));
            off += (usual - other) * (usual - other);
            all += usual * usual;
        }
    }
    off <= ALIKE * all
}

/// The fastest variant, or the first, which is the usual one, if none is much faster.
fn best(times: &[(Variant, f64)]) -> Option<Variant> {
    let usual = times.first()?;
    let fastest = times.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(if fastest.1 < WORTH_IT * usual.1 { fastest.0 } else { usual.0 })
}

impl Engine {
    /// Chooses kernels by measurement from now on.
    pub fn tune(&mut self, tuner: Tuner) {
        self.tuner = Some(tuner);
        // What was recorded was recorded without.
        self.ready.clear();
        self.results.clear();
    }

    /// What was measured so far.
    pub(super) fn choices(&self) -> Option<&BTreeMap<String, String>> {
        self.tuner.as_ref().map(|tuner| &tuner.choices)
    }

    /// Whether what is not known yet is measured.
    pub(super) fn measures(&self) -> bool {
        self.tuner.as_ref().is_some_and(|tuner| tuner.measure)
    }

    /// Measures products if that is wanted; whether anything new is known.
    pub(super) fn measure(&mut self, products: Vec<Product>) -> Result<bool> {
        let Some(tuner) = self.tuner.as_mut().filter(|tuner| tuner.measure && !products.is_empty()) else {
            return Ok(false);
        };
        tuner.measure(&mut *self.executor, products)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;

    fn open(directory: &Path, device: &Capabilities) -> Tuner {
        Tuner::open(directory, device, true, Box::new(|_| {}))
    }

    #[test]
    fn what_is_usual_is_given_up_for_what_is_much_faster() {
        let [usual, other, third] = [1, 2, 3].map(|rows| Variant::Uniform { rows, quads: 1 });
        assert_eq!(best(&[(usual, 10.0), (other, 9.6), (third, 12.0)]), Some(usual));
        assert_eq!(best(&[(usual, 10.0), (other, 9.6), (third, 9.0)]), Some(third));
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn variants_that_make_something_else_are_told() {
        let usual: Vec<f32> = (0..64).map(activation).collect();
        assert!(usual.iter().all(|v| v.abs() <= 1.0) && usual.iter().any(|v| *v < -0.5), "{usual:?}");
        let with = |i: usize, value: f32| {
            let mut other = usual.clone();
            other[i] = value;
            alike(&usual, &other, 16, 12)
        };
        assert!(with(5, usual[5] * 1.0001));
        // What is between rows is nobody's.
        assert!(with(13, 1e9));
        assert!(!with(21, usual[21] + 0.5) && !with(5, f32::NAN) && !with(5, f32::INFINITY));
        let none = vec![f32::NAN; 64];
        assert!(!alike(&none, &none, 16, 12));
    }

    #[test]
    fn matrices_that_caches_hold_are_measured_in_larger_numbers() {
        // Small ones all, larger ones until they have 256 MiB, the largest eight times.
        let of = |n: usize, mib: u64, software: bool| layers(&vec![mib << 20; n], software);
        assert_eq!((of(16, 4, false), of(32, 11, false), of(32, 70, false)), (16, 24, 8));
        assert_eq!((of(16, 4, true), of(3, 4, true), of(3, 70, false), of(1, 300, false)), (8, 3, 3, 1));
    }

    #[test]
    fn what_was_measured_is_found_again_on_the_same_device_alone() {
        let directory = tempfile::tempdir().unwrap();
        let device = Cpu::new().capabilities().clone();
        let mut tuner = open(directory.path(), &device);
        let product = |variant: &str| Entry { variant: variant.to_owned(), microseconds: BTreeMap::new() };
        tuner.measured.insert("q4/32 8×8, 8 rows".to_owned(), product("uniform 8x4"));
        tuner.measured.insert("q4/32 8×8, 1 rows".to_owned(), product("tile"));
        tuner.save().unwrap();
        let again = open(directory.path(), &device).choices;
        assert_eq!(again["q4/32 8×8, 8 rows"], "uniform 8x4");
        assert_eq!(again["q4/32 8×8, 1 rows"], "tile");
        let other = Capabilities { driver: "another".to_owned(), ..device.clone() };
        assert!(open(directory.path(), &other).choices.is_empty());
        for wrong in ["", "{}", "[1]", "\u{0}", r#"{"products": {"a": {"variant": 1}}}"#] {
            std::fs::write(&tuner.path, wrong).unwrap();
            assert!(open(directory.path(), &device).choices.is_empty(), "{wrong}");
        }
    }
}
