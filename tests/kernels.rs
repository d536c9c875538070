//! Every kernel against its twin, on every device at hand, with its optional features and without.

use sixteen_states::capabilities::{Capabilities, Matrices};
use sixteen_states::engine::check::check;
use sixteen_states::gpu::{self, Gpu, Options};
use sixteen_states::kernels::{Input, KERNELS, Needs};
use sixteen_states::recording::{Buffer, Executor, Recorder};
use std::collections::BTreeSet;

/// With all features, the driver checks every access; without, the kernels run as they do in use.
fn run(baseline: bool) {
    let adapters = pollster::block_on(gpu::adapters());
    assert!(!adapters.is_empty(), "no GPU adapter: install a Vulkan driver, e.g. mesa-vulkan-drivers");
    for adapter in adapters {
        let name = format!("{}{}", adapter.capabilities.device, if baseline { ", baseline" } else { "" });
        let mut gpu = pollster::block_on(Gpu::open(
            adapter,
            Options { baseline, checked: !baseline, ..Options::default() },
        ))
        .unwrap();
        let (mut count, mut wrong) = (0, Vec::new());
        for kernel in KERNELS {
            let outcomes = pollster::block_on(check(&mut gpu, kernel)).unwrap();
            let worst = outcomes.iter().map(|o| o.error).fold(0.0, f64::max);
            println!("{name}: {} {} cases, worst error {worst:.1e}", kernel.name, outcomes.len());
            let possible = kernel.needs.met(gpu.capabilities());
            assert_eq!(!outcomes.is_empty(), possible, "{name}: {} was not run at all", kernel.name);
            count += outcomes.len();
            wrong.extend(outcomes.into_iter().filter(|o| o.problem.is_some()));
        }
        assert!(wrong.is_empty(), "{name}: {} of {count} cases are wrong: {wrong:#?}", wrong.len());
    }
}

#[test]
fn every_kernel_matches_its_twin() {
    run(false);
}

#[test]
fn every_kernel_matches_its_twin_without_optional_features() {
    run(true);
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
                let buffer = |(id, input): (usize, &Input)| Buffer {
                    id: id as u32,
                    len: input.words.len() as u64 * 4,
                    name: input.name,
                };
                let buffers: Vec<Buffer> = case.inputs.iter().enumerate().map(buffer).collect();
                let mut r = Recorder::new(&device);
                (case.record)(&mut r, &buffers);
                let recording = r.finish();
                let own = recording.dispatches.iter().filter(|d| d.kernel == kernel.name);
                sources.extend(own.map(|dispatch| kernel.source(dispatch, &device).text));
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
