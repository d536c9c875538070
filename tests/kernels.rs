//! Every kernel against its twin, on every device at hand, with its optional features and without.

use sixteen_states::capabilities::{Capabilities, Matrices};
use sixteen_states::engine::check::check;
use sixteen_states::gpu::{self, Gpu, Options};
use sixteen_states::kernels::{Case, KERNELS, Kernel, Needs};
use sixteen_states::recording::{Dispatch, Executor, Recorder};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Instant;

/// What a device is given for a dispatch of a case.
#[derive(PartialEq)]
struct Program {
    kernel: &'static str,
    format: Option<&'static str>,
    dispatch: String,
    text: String,
}

fn programs(case: &Case, device: &Capabilities) -> Vec<Program> {
    let program = |d: &Dispatch| Program {
        kernel: d.kernel,
        format: d.format,
        dispatch: format!("{d:?}"),
        text: Kernel::named(d.kernel).unwrap().source(d, device).text,
    };
    case.recording(device).dispatches.iter().map(program).collect()
}

/// Whether a case is of the formats that are enough where it is run for something else. Words of formats are loaded by functions
/// of their own, which `embed` tells of in all formats; of other kernels those two are enough that have loops of their own.
fn enough(programs: &[Program]) -> bool {
    programs.iter().all(|p| p.kernel == "embed" || matches!(p.format, None | Some("f16" | "q4")))
}

/// Whether a case is worth running with features masked off: where it is different then.
fn differs(case: &Case, masked: &Capabilities, all: &Capabilities) -> bool {
    let without = programs(case, masked);
    enough(&without) && without != programs(case, all)
}

/// Products for GPUs, and of experts. A processor takes a second to compile each case: where there are several adapters, that of the
/// fewest lanes, which compiles them fastest, has all formats of them.
const OF_GPUS: [&str; 7] = [
    "matmul_split",
    "matmul_tile",
    "matmul_tile_half",
    "matmul_dot",
    "matmul_dot_tile",
    "matmul_experts",
    "matmul_experts_tile",
];

/// A device with all features, as kernels are used, or without them, the driver checking every access.
struct Opened {
    name: String,
    baseline: bool,
    /// Whether another adapter has all formats of what is for GPUs.
    few: bool,
    all: Capabilities,
    gpu: Gpu,
}

fn open(number: usize, baseline: bool) -> Opened {
    let mut adapters = pollster::block_on(gpu::adapters());
    let lanes = |&i: &usize| adapters[i].capabilities.subgroups.map_or(u32::MAX, |(_, most)| most);
    let few = Some(number) != (0..adapters.len()).min_by_key(lanes);
    let adapter = adapters.swap_remove(number);
    let name = format!("{}{}", adapter.capabilities.device, if baseline { ", baseline" } else { "" });
    let all = adapter.capabilities.clone();
    let options = Options { baseline, checked: baseline, ..Options::default() };
    Opened { name, baseline, few, all, gpu: pollster::block_on(Gpu::open(adapter, options)).unwrap() }
}

/// A kernel's cases, of a device without features those where it is different then; what is wrong.
fn run(on: &mut Opened, kernel: &Kernel) -> Vec<String> {
    let device = on.gpu.capabilities().clone();
    let mut cases = (kernel.cases)();
    let possible = cases.iter().any(|case| !programs(case, &device).is_empty());
    assert_eq!(possible, kernel.possible(&device), "{}: {} has no case", on.name, kernel.name);
    let for_gpus = device.software && OF_GPUS.contains(&kernel.name);
    // With features masked off, products differ in how numbers are loaded, which is the same in all formats.
    let product = for_gpus || kernel.name == "matmul_uniform";
    cases.retain(|case| match on.baseline {
        true => (!product || case.name.contains("q4/32")) && differs(case, &device, &on.all),
        false => !(for_gpus && on.few) || enough(&programs(case, &device)),
    });
    let start = Instant::now();
    let outcomes = pollster::block_on(check(&mut on.gpu, kernel, cases)).unwrap();
    let worst = outcomes.iter().map(|o| o.error).fold(0.0, f64::max);
    let (n, took) = (outcomes.len(), start.elapsed().as_secs_f32());
    println!("{}: {} {n} cases, worst error {worst:.1e}, {took:.1} s", on.name, kernel.name);
    let wrong = outcomes.iter().filter(|o| o.problem.is_some());
    wrong.map(|o| format!("{}, {}: {o:?}", on.name, kernel.name)).collect()
}

#[test]
fn every_kernel_matches_its_twin_with_optional_features_and_without() {
    let adapters = pollster::block_on(gpu::adapters()).len();
    assert!(adapters > 0, "no GPU adapter: install a Vulkan driver, e.g. mesa-vulkan-drivers");
    let devices = (0..adapters).flat_map(|number| [(number, false), (number, true)]);
    let work = KERNELS.iter().flat_map(|kernel| devices.clone().map(move |device| (kernel, device)));
    // Compilers of software devices use one thread each, and most of the time.
    let (work, wrong) = (Mutex::new(work), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let mut opened = BTreeMap::new();
                loop {
                    let next = work.lock().unwrap().next();
                    let Some((kernel, device)) = next else { break };
                    let on = opened.entry(device).or_insert_with(|| open(device.0, device.1));
                    let found = run(on, kernel);
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} cases are wrong: {wrong:#?}", wrong.len());
}

/// Planes of a weight may move to where a device reads them fastest. Every recording finds them there, they can be written, also
/// from the middle of a row of texels on, and read.
#[test]
fn planes_that_have_moved_are_found_written_and_read() {
    for number in 0..pollster::block_on(gpu::adapters()).len() {
        let mut on = open(number, false);
        // Of a texture, two rows and 25 texels of the next.
        let mut words: Vec<u32> = (0..8292).collect();
        let plane = on.gpu.create(4 * 8292, "codes").unwrap();
        on.gpu.upload(plane, 0, bytemuck::cast_slice(&words)).unwrap();
        for _ in 0..2 {
            let out = on.gpu.create(4 * 8292, "out").unwrap();
            let mut r = Recorder::new(&on.all);
            r.copy(plane, out, 8292);
            let prepared = on.gpu.prepare(r.finish()).unwrap();
            on.gpu.run(prepared).unwrap();
            let ticket = on.gpu.read(out.whole()).unwrap();
            let bytes = pollster::block_on(on.gpu.finish(ticket)).unwrap();
            assert_eq!(bytes, bytemuck::cast_slice::<u32, u8>(&words), "{}", on.name);
            words[40..8288].iter_mut().for_each(|word| *word += 1_000_000);
            on.gpu.upload(plane, 160, bytemuck::cast_slice(&words[40..8288])).unwrap();
        }
        for window in [plane.whole(), plane.window(4096 * 4 + 16, 4096 * 4)] {
            let ticket = on.gpu.read(window).unwrap();
            let bytes = pollster::block_on(on.gpu.finish(ticket)).unwrap();
            let (first, last) = (window.offset as usize / 4, (window.offset + window.len) as usize / 4);
            assert_eq!(bytes, bytemuck::cast_slice::<u32, u8>(&words[first..last]), "{}", on.name);
        }
    }
}

/// Kernels for matrix units are valid WGSL, whether or not a device at hand has such units.
#[test]
fn kernels_for_matrix_units_are_valid() {
    use wgpu::naga::front::wgsl::parse_str;
    use wgpu::naga::valid::{Capabilities as Allowed, ValidationFlags, Validator};
    let matrices = |size, lanes| Some(Matrices { size, lanes });
    for matrices in [matrices(16, 32), matrices(8, 8)] {
        let device =
            Capabilities { matrices, max_workgroup_memory: 32 << 10, ..Capabilities::promised("", "") };
        let mut sources = BTreeSet::new();
        for kernel in KERNELS.iter().filter(|kernel| kernel.needs == Needs::Matrices) {
            for case in (kernel.cases)() {
                let own = programs(&case, &device).into_iter().filter(|p| p.kernel == kernel.name);
                sources.extend(own.map(|p| p.text));
            }
        }
        assert!(sources.len() > 40, "{}", sources.len());
        for text in sources {
            let module = parse_str(&text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
            let allowed =
                Allowed::COOPERATIVE_MATRIX | Allowed::SHADER_FLOAT16 | Allowed::SHADER_FLOAT16_IN_FLOAT32;
            let valid = Validator::new(ValidationFlags::all(), allowed).validate(&module);
            valid.unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
        }
    }
}
