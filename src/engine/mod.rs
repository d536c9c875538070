//! wip
pub mod check;
