//! Time of one matrix product on the first device, by format and rows: `cargo bench`.
//! The shapes are those of SmolLM2-135M's gate and up projection and of its output layer.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pollster::block_on;
use sixteen_states::engine::{DeviceChoice, open_device};
use sixteen_states::format::{FORMATS, Format, Kind, Packing, TILE_ROWS};
use sixteen_states::kernels::matmul::Activations;
use sixteen_states::kernels::{Matrix, Shard};
use sixteen_states::recording::{Executor, Recorder};

/// A matrix of zeros: what it holds does not change how long it takes.
fn matrix(executor: &mut dyn Executor, packing: Packing, rows: usize, cols: usize) -> Matrix {
    let tiles = rows.div_ceil(TILE_ROWS);
    let words = (packing.format.tile_words)(cols, packing.group);
    let planes = words.iter().map(|w| executor.create((w * 4 * tiles) as u64, "plane").unwrap()).collect();
    let shards = vec![Shard { first: 0, rows, packing, planes, order: None }];
    Matrix { rows, cols, shards, glu: None }
}

fn bench(c: &mut Criterion) {
    let mut executor = block_on(open_device(&DeviceChoice::default())).unwrap().executor;
    let capabilities = executor.capabilities().clone();
    println!("on {} ({})", capabilities.device, capabilities.driver);
    let mut group = c.benchmark_group("matmul");
    group.sample_size(10);
    // A wide matrix of SmolLM2-135M in every format, and its output matrix in those that it is loaded in.
    for n in [3072, 49_152] {
        let loaded = |format: &&&Format| n == 3072 || ["f16", "q8", "q4"].contains(&format.name);
        for format in FORMATS.iter().filter(loaded) {
            let packing = match format.kind {
                Kind::Blocks { group, .. } => Packing { format, group },
                _ => Packing { format, group: 32 },
            };
            let k = packing.fitting(576);
            let weight = matrix(&mut *executor, packing, n, k);
            for capacity in [1usize, 64] {
                // Every row in use: sequence 0.
                let rows = executor.create(capacity as u64 * 32, "rows").unwrap();
                let values = executor.create((capacity * k * 4) as u64, "x").unwrap();
                let out = executor.create((capacity * weight.stride() * 4) as u64, "out").unwrap();
                let mut r = Recorder::new(&capabilities);
                r.pin(out);
                r.matmul(Activations { rows, capacity, values }, &weight, "out");
                let prepared = executor.prepare(r.finish()).unwrap();
                group.throughput(Throughput::Elements((2 * n * k * capacity) as u64));
                let id = BenchmarkId::new(packing.name(), format!("{n}x{k}, {capacity} rows"));
                group.bench_function(id, |b| {
                    b.iter(|| {
                        executor.run(prepared).unwrap();
                        // Waits.
                        let ticket = executor.read(rows.window(0, 4)).unwrap();
                        block_on(executor.finish(ticket)).unwrap()
                    });
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
