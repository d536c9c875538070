//! wip
#![warn(missing_docs)]
pub mod capabilities;
pub mod cpu;
pub mod engine;
pub mod error;
pub mod format;
pub mod gpu;
pub mod kernels;
mod memory;
pub mod recording;
