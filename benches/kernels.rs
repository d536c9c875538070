//! Time of every kernel on the first device, on the largest of the cases that it is checked on: `cargo bench --bench kernels`.
//! Products in more sizes are in `matmul.rs`; what a model spends where tells `infer bench --profile`.

use criterion::{Criterion, criterion_group, criterion_main};
use pollster::block_on;
use sixteen_states::engine::{DeviceChoice, open_device};
use sixteen_states::kernels::{Case, Input, KERNELS};
use sixteen_states::recording::Recorder;

fn bench(c: &mut Criterion) {
    let mut executor = block_on(open_device(&DeviceChoice::default())).unwrap().executor;
    let capabilities = executor.capabilities().clone();
    println!("on {} ({})", capabilities.device, capabilities.driver);
    let mut group = c.benchmark_group("kernels");
    group.sample_size(10);
    let words = |case: &Case| case.inputs.iter().map(|input| input.words.len()).sum::<usize>();
    for kernel in KERNELS.iter().filter(|kernel| kernel.possible(&capabilities)) {
        let mut cases = (kernel.cases)();
        cases.sort_by_key(words);
        // Limits of the device may rule the largest out.
        let possible = cases.into_iter().rev().find_map(|case| {
            let create = |input: &Input| {
                let buffer = executor.create(input.words.len() as u64 * 4, input.name).unwrap();
                executor.upload(buffer, 0, bytemuck::cast_slice(&input.words)).unwrap();
                buffer
            };
            let buffers: Vec<_> = case.inputs.iter().map(create).collect();
            let mut r = Recorder::new(&capabilities);
            (case.record)(&mut r, &buffers);
            let recording = r.finish();
            (!recording.dispatches.is_empty()).then_some((case, buffers, recording))
        });
        let Some((case, buffers, recording)) = possible else { continue };
        let prepared = executor.prepare(recording).unwrap();
        let mut run = || {
            executor.run(prepared).unwrap();
            // Waits.
            let ticket = executor.read(buffers[0].window(0, 4)).unwrap();
            block_on(executor.finish(ticket)).unwrap()
        };
        // Some drivers compile when a kernel is first run.
        run();
        group.bench_function(format!("{}: {}", kernel.name, case.name), |b| b.iter(&mut run));
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
