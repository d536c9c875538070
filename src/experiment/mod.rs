//! The experiment: do sixteen states preserve reasoning?

pub mod random;
pub mod tasks;
