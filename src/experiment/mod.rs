//! The experiment: do sixteen states preserve reasoning?
//!
//! [`tasks`] ask questions with exact answers; [`arms`] are one model with its weights treated in several ways;
//! a [`run`] has every arm answer and predict the same texts, and writes a [`journal`]; [`assemble`] turns what
//! was found into [`results`], with [`stats`]; a [`report`] shows them.

pub mod arms;
pub mod assemble;
pub mod journal;
pub mod output;
pub mod prompts;
pub mod questions;
pub mod random;
pub mod report;
pub mod results;
pub mod run;
pub mod stats;
pub mod stored;
pub mod sweep;
pub mod tasks;
