//! wip
#![warn(missing_docs)]
pub mod capabilities;
pub mod checkpoint;
pub mod cli;
pub mod cpu;
pub mod engine;
pub mod error;
pub mod format;
pub mod gpu;
pub mod kernels;
mod memory;
pub mod model;
pub mod quantize;
pub mod recording;
pub mod text;
