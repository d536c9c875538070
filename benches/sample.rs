//! Time to choose one token on the first device, by the size of the vocabulary: `cargo bench --bench sample`.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pollster::block_on;
use sixteen_states::engine::{DeviceChoice, Sampling, open_device};
use sixteen_states::kernels::sample::SampleState;
use sixteen_states::recording::Recorder;

/// As a model's are: most between −10 and 10, and a few far above. Those of Irwin and Hall, by a linear congruence.
fn logits(vocab: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut logits: Vec<f32> = (0..vocab).map(|_| 3.0 * (0..12).map(|_| uniform()).sum::<f32>()).collect();
    (0..20).for_each(|i| logits[i * vocab / 20] += 20.0 - 0.5 * i as f32);
    logits
}

fn bench(c: &mut Criterion) {
    let mut executor = block_on(open_device(&DeviceChoice::default())).unwrap().executor;
    let capabilities = executor.capabilities().clone();
    println!("on {} ({})", capabilities.device, capabilities.driver);
    let warm = Sampling { temperature: 0.8, ..Sampling::GREEDY };
    let kinds = [
        ("greedy", Sampling::GREEDY),
        ("top-k 40, top-p 0.95", Sampling { top_k: 40, top_p: 0.95, ..warm }),
        ("top-p 0.95", Sampling { top_p: 0.95, ..warm }),
        ("all", warm),
    ];
    let mut group = c.benchmark_group("sample");
    group.sample_size(10);
    for vocab in [49_152, 262_144] {
        for (name, sampling) in kinds {
            let mut buffer = |name, bytes: &[u8]| {
                let buffer = executor.create(bytes.len() as u64, name).unwrap();
                executor.upload(buffer, 0, bytes).unwrap();
                buffer
            };
            let values = buffer("logits", bytemuck::cast_slice(&logits(vocab)));
            // Token, position, sequence, expected, slot.
            let row = [0, 5, 0, u32::MAX, 0, 0, 0, 0];
            let state = SampleState {
                settings: buffer("settings", bytemuck::bytes_of(&sampling.settings())),
                history: buffer("history", &[0; 64]),
                rows: buffer("table", bytemuck::cast_slice(&row)),
            };
            let rows = buffer("rows", bytemuck::cast_slice(&row));
            let mut r = Recorder::new(&capabilities);
            r.sample(rows, values, (vocab, vocab), 1, 16, state);
            let prepared = executor.prepare(r.finish()).unwrap();
            group.bench_function(BenchmarkId::new(name, vocab), |b| {
                b.iter(|| {
                    executor.run(prepared).unwrap();
                    let ticket = executor.read(state.history.window(0, 64)).unwrap();
                    block_on(executor.finish(ticket)).unwrap()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
