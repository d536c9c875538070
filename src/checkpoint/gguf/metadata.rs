//! The metadata of a GGUF file, read with a say in what it may be.

use super::header::Value;
use crate::checkpoint::{QUOTE, clip};
use std::collections::BTreeMap;

/// The keys of a header, with errors that name them.
pub(super) struct Metadata<'a>(pub &'a BTreeMap<String, Value>);

impl<'a> Metadata<'a> {
    pub fn wrong(&self, key: &str, expected: &str) -> String {
        match self.0.get(key) {
            Some(found) => {
                format!("its key {key} is {}, expected {expected}", clip(&format!("{found:?}"), QUOTE))
            }
            None => format!("has no key {key}, expected {expected}"),
        }
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a text")),
        }
    }

    pub fn texts(&self, key: &str) -> Result<Option<&'a [String]>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Texts(texts)) => Ok(Some(texts)),
            Some(_) => Err(self.wrong(key, "a list of texts")),
        }
    }

    pub fn numbers(&self, key: &str) -> Result<Option<&'a [f64]>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Numbers(numbers)) => Ok(Some(numbers)),
            Some(_) => Err(self.wrong(key, "a list of numbers")),
        }
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Flag(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    pub fn integer(&self, key: &str) -> Result<Option<u64>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Integer(n)) => {
                u64::try_from(*n).map(Some).map_err(|_| self.wrong(key, "an integer from 0"))
            }
            // A number for each layer, which must all be the same.
            Some(Value::Numbers(each)) => match each.first() {
                Some(&n) if n >= 0.0 && n.fract() == 0.0 && each.iter().all(|&other| other == n) => {
                    Ok(Some(n as u64))
                }
                _ => Err(self.wrong(key, "the same integer for every layer")),
            },
            Some(_) => Err(self.wrong(key, "an integer")),
        }
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Float(x)) => Ok(Some(*x)),
            Some(Value::Integer(n)) => Ok(Some(*n as f64)),
            Some(_) => Err(self.wrong(key, "a number")),
        }
    }

    pub fn needed<T>(&self, key: &str, value: Result<Option<T>, String>) -> Result<T, String> {
        value?.ok_or_else(|| format!("has no key {key}, which a model's file has"))
    }
}
