//! Time of attention on the first device, at the end of a context of 4096 tokens: `cargo bench --bench attention`.
//! Heads are SmolLM2-135M's and Llama 3's of 8B; beside it, what the device takes to copy as many bytes as the keys and values have.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pollster::block_on;
use sixteen_states::engine::{DeviceChoice, open_device};
use sixteen_states::kernels::attention::PAGE;
use sixteen_states::kernels::{Cache, Scale};
use sixteen_states::recording::{Buffer, Executor, Prepared, Recorder};

const DEPTH: usize = 4096;

fn wait(executor: &mut dyn Executor, prepared: Prepared, witness: Buffer) {
    executor.run(prepared).unwrap();
    let ticket = executor.read(witness.window(0, 4)).unwrap();
    block_on(executor.finish(ticket)).unwrap();
}

fn bench(c: &mut Criterion) {
    let mut executor = block_on(open_device(&DeviceChoice::default())).unwrap().executor;
    let capabilities = executor.capabilities().clone();
    println!("on {} ({})", capabilities.device, capabilities.driver);
    let mut group = c.benchmark_group("attention");
    group.sample_size(10);
    for (name, heads, kv_heads, head_dim) in [("135m", 9, 3, 64), ("8b", 32, 8, 128)] {
        let max_pages = DEPTH / PAGE;
        let bytes = Cache::bytes(kv_heads, head_dim, DEPTH);
        let pages = executor.create(max_pages as u64 * 4, "pages").unwrap();
        let table: Vec<u32> = (0..max_pages as u32).collect();
        executor.upload(pages, 0, bytemuck::cast_slice(&table)).unwrap();
        // Of zeros: what they hold does not change how long it takes.
        let [keys, values] = ["keys", "values"].map(|name| executor.create(bytes, name).unwrap());
        let way = Cache::way(head_dim, &capabilities);
        let cache = Cache { heads, kv_heads, head_dim, window: 0, max_pages, pages, way, keys, values };
        group.throughput(Throughput::Bytes(2 * bytes));
        for capacity in [1usize, 64] {
            let rows = executor.create(capacity as u64 * 32, "rows").unwrap();
            // Token, position, sequence, expected, slot; the last rows of the context.
            let words: Vec<u32> =
                (DEPTH - capacity..DEPTH).flat_map(|p| [0, p as u32, 0, u32::MAX, 0, 0, 0, 0]).collect();
            executor.upload(rows, 0, bytemuck::cast_slice(&words)).unwrap();
            let floats = (capacity * heads * head_dim * 4) as u64;
            let [q, out] = ["q", "attention"].map(|name| executor.create(floats, name).unwrap());
            let mut r = Recorder::new(&capabilities);
            r.pin(out);
            r.attention((rows, capacity, capacity > 1), q, Scale { scale: 0.125, cap: 0.0 }, &cache);
            let prepared = executor.prepare(r.finish()).unwrap();
            group.bench_function(BenchmarkId::new(name, format!("{capacity} rows")), |b| {
                b.iter(|| wait(&mut *executor, prepared, rows));
            });
        }
        let [from, to] = ["copied from", "copied to"].map(|name| executor.create(bytes, name).unwrap());
        let mut r = Recorder::new(&capabilities);
        (0..2).for_each(|_| r.copy(from, to, (bytes / 4) as usize));
        let prepared = executor.prepare(r.finish()).unwrap();
        group.bench_function(BenchmarkId::new(name, "copied"), |b| {
            b.iter(|| wait(&mut *executor, prepared, pages));
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
