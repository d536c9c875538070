//! Every kernel against its twin, on every device at hand, with its optional features and without.

use sixteen_states::capabilities::{Capabilities, Matrices};
use sixteen_states::engine::check::check;
use sixteen_states::gpu::{self, Gpu, Options};
use sixteen_states::kernels::{Case, Input, KERNELS, Kernel, Needs};
use sixteen_states::recording::{Buffer, Executor, Recorder};
use std::collections::BTreeSet;
use std::time::Instant;

/// What a device is given for a case: each dispatch, and the text of its kernel.
fn programs(case: &Case, device: &Capabilities) -> Vec<(&'static str, String, String)> {
    let buffer = |(id, input): (usize, &Input)| Buffer {
        id: id as u32,
        len: input.words.len() as u64 * 4,
        name: input.name,
    };
    let buffers: Vec<Buffer> = case.inputs.iter().enumerate().map(buffer).collect();
    let mut r = Recorder::new(device);
    (case.record)(&mut r, &buffers);
    r.finish()
        .dispatches
        .iter()
        .map(|d| (d.kernel, format!("{d:?}"), Kernel::named(d.kernel).unwrap().source(d, device).text))
        .collect()
}

/// Every kernel with all features, and without them those that are different then. On the first device with all features they
/// run as they do in use, otherwise the driver checks every access.
fn run(number: usize, baseline: bool) {
    let adapter = pollster::block_on(gpu::adapters()).swap_remove(number);
    let name = format!("{}{}", adapter.capabilities.device, if baseline { ", baseline" } else { "" });
    let all = adapter.capabilities.clone();
    let options = Options { baseline, checked: baseline || number > 0, ..Options::default() };
    let mut gpu = pollster::block_on(Gpu::open(adapter, options)).unwrap();
    let device = gpu.capabilities().clone();
    let (mut count, mut wrong) = (0, Vec::new());
    for kernel in KERNELS {
        let mut cases = (kernel.cases)();
        let possible = cases.iter().any(|case| !programs(case, &device).is_empty());
        assert_eq!(possible, kernel.needs.met(&device), "{name}: {} has no case", kernel.name);
        cases.retain(|case| !baseline || programs(case, &device) != programs(case, &all));
        let start = Instant::now();
        let outcomes = pollster::block_on(check(&mut gpu, kernel, cases)).unwrap();
        let worst = outcomes.iter().map(|o| o.error).fold(0.0, f64::max);
        let (n, took) = (outcomes.len(), start.elapsed().as_secs_f32());
        println!("{name}: {} {n} cases, worst error {worst:.1e}, {took:.1} s", kernel.name);
        count += n;
        wrong.extend(outcomes.into_iter().filter(|o| o.problem.is_some()));
    }
    assert!(wrong.is_empty(), "{name}: {} of {count} cases are wrong: {wrong:#?}", wrong.len());
}

#[test]
fn every_kernel_matches_its_twin_with_optional_features_and_without() {
    let adapters = pollster::block_on(gpu::adapters()).len();
    assert!(adapters > 0, "no GPU adapter: install a Vulkan driver, e.g. mesa-vulkan-drivers");
    // Compilers of software devices use one thread each.
    std::thread::scope(|scope| {
        for (number, baseline) in (0..adapters).flat_map(|number| [(number, false), (number, true)]) {
            scope.spawn(move || run(number, baseline));
        }
    });
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
                let own = programs(&case, &device).into_iter().filter(|(name, ..)| *name == kernel.name);
                sources.extend(own.map(|(_, _, text)| text));
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
