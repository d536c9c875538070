//! Every kernel against its twin, on every device at hand, with its optional features and without.

use sixteen_states::engine::check::check;
use sixteen_states::gpu::{self, Gpu, Options};
use sixteen_states::kernels::KERNELS;

/// With all features, the driver checks every access; without, the kernels run as they do in use.
fn run(baseline: bool) {
    let adapters = pollster::block_on(gpu::adapters());
    assert!(!adapters.is_empty(), "no GPU adapter: install a Vulkan driver, e.g. mesa-vulkan-drivers");
    for adapter in adapters {
        let name = format!("{}{}", adapter.capabilities.device, if baseline { ", baseline" } else { "" });
        let mut gpu =
            pollster::block_on(Gpu::open(adapter, Options { baseline, checked: !baseline })).unwrap();
        let (mut count, mut wrong) = (0, Vec::new());
        for kernel in KERNELS {
            let outcomes = pollster::block_on(check(&mut gpu, kernel)).unwrap();
            let worst = outcomes.iter().map(|o| o.error).fold(0.0, f64::max);
            println!("{name}: {} {} cases, worst error {worst:.1e}", kernel.name, outcomes.len());
            assert!(!outcomes.is_empty(), "{name}: {} was not run at all", kernel.name);
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
