//! Sixteen States: a language model in 16-bit floats and in 16 weight states, on whatever GPU there is.
//!
//! A model **records** its forward pass once as plain data; an executor, GPU or CPU, **replays** it; weights
//! come in interchangeable **formats**. So "FP16 against 16 states" is the same recording, loaded twice.
//!
//! # A tour
//!
//! From the bottom up; a module imports only from floors below its own (`tests/layers.rs` holds that), but for its tests:
//!
//! | floor | modules | |
//! |---|---|---|
//! | 7 | [`cli`] | one file a subcommand of `infer` |
//! | 6 | [`experiment`] | tasks, arms, runs, statistics, verdicts, reports: what `infer ab` does |
//! | 6 | [`export`] | one file a layout: models with quantized weights in files, what `infer quantize` does |
//! | 5 | [`engine`] | prompts in, tokens out: batches, cache pages, memory plans, likelihoods, device checks |
//! | 4 | [`model`] | one file an architecture: how a forward pass is recorded, and how weights are loaded |
//! | 4 | [`gpu`] | the only place that names wgpu: adapters, pipelines, replay |
//! | 4 | [`cpu`] | replays the same recordings on the kernels' twins |
//! | 4 | [`text`] | tokenizer, chat template, streaming of whole characters |
//! | 3 | [`kernels`] | one file a kernel: what a model calls, the Rust twin, the cases it is checked on |
//! | 2 | [`checkpoint`] | safetensors, GGUF, packed layouts, `config.json`, hub downloads |
//! | 2 | [`quantize`] | how scales and codes are chosen |
//! | 1 | [`format`](mod@format) | one file a weight format: how it is packed and unpacked |
//! | 0 | [`recording`], [`capabilities`], [`error`] | plain data: buffers, dispatches, what a device can do |
//!
//! The WGSL is in `shaders/`, one kernel a file, readable without Rust.
//!
//! # Where things go
//!
//! - **A kernel**: `shaders/NAME.wgsl`, `src/kernels/NAME.rs` (the `Recorder` method, the twin, the cases),
//!   and a line in [`kernels::KERNELS`]. The tests and `infer devices --check` find it there.
//! - **A weight format**: `shaders/format/NAME.wgsl` with what `shaders/format/f16.wgsl` says,
//!   `src/format/NAME.rs`, and a line in [`format::FORMATS`]. Every kernel that reads weights can use it.
//! - **A kind of file**: a block type of GGUF in `src/checkpoint/ggml.rs`, a packed layout of safetensors in
//!   `src/checkpoint/packed/NAME.rs`; see `docs/formats.md`.
//! - **An architecture**: `src/model/NAME.rs` and a line in [`model::ARCHITECTURES`]; what its configuration means by
//!   names, defaults and settings of its own: `src/checkpoint/config/family.rs`.
//! - **A quantizer**: `src/quantize/NAME.rs` and a line in [`quantize::QUANTIZERS`]; one that looks at activations has a
//!   [`quantize::Calibrated`].
//! - **A layout to write codes in**: `src/export/NAME.rs` and a line in [`export::LAYOUTS`].
//! - **A task**: `src/experiment/tasks/NAME.rs` and a line in [`experiment::tasks::TASKS`].
//!
//! `docs/architecture.md` tells why it is so.
#![warn(missing_docs)]

pub mod capabilities;
pub mod checkpoint;
pub mod cli;
pub mod cpu;
pub mod engine;
pub mod error;
pub mod experiment;
pub mod export;
pub mod format;
pub mod gpu;
pub mod kernels;
mod memory;
pub mod model;
pub mod quantize;
pub mod recording;
pub mod text;
