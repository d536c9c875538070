//! The fields of a JSON object, read with a say in what they may be.

use crate::checkpoint::{QUOTE, clip};
use serde_json::{Map, Value};

/// "`name` is this, expected that."
pub(super) fn found(name: &str, value: Option<&Value>, expected: &str) -> String {
    match value {
        Some(value) => format!("{name} is {}, expected {expected}", clip(&value.to_string(), QUOTE)),
        None => format!("{name} is missing, expected {expected}"),
    }
}

/// The fields of an object, `null` being as good as absent.
pub(super) struct Fields<'a> {
    /// The object.
    pub object: &'a Map<String, Value>,
    /// Fields that may be called otherwise: (what they are asked for as, what they are called).
    pub aliases: &'static [(&'static str, &'static str)],
}

impl Fields<'_> {
    /// Fields that are called what they are asked for as.
    pub fn plain(object: &Map<String, Value>) -> Fields<'_> {
        Fields { object, aliases: &[] }
    }

    /// What the field `name` is called here.
    fn called<'n>(&self, name: &'n str) -> &'n str {
        let alias = self.aliases.iter().find(|(n, here)| *n == name && self.object.contains_key(*here));
        alias.map_or(name, |(_, here)| here)
    }

    /// Whether the field is there, be it `null`.
    pub fn has(&self, name: &str) -> bool {
        self.object.contains_key(self.called(name))
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.object.get(self.called(name)).filter(|value| !value.is_null())
    }

    /// "The field is this, expected that."
    pub fn wrong(&self, name: &str, expected: &str) -> String {
        found(self.called(name), self.get(name), expected)
    }

    /// The field as `read` has it, or `default`; if there is none of either, or of another kind, an error.
    fn read<'a, T>(
        &'a self,
        name: &str,
        default: Option<T>,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T, String> {
        match (self.get(name), default) {
            (None, Some(default)) => Ok(default),
            (value, _) => value.and_then(read).ok_or_else(|| self.wrong(name, expected)),
        }
    }

    pub fn size(&self, name: &str, max: usize, default: Option<usize>) -> Result<usize, String> {
        let in_range =
            |value: &Value| usize::try_from(value.as_u64()?).ok().filter(|n| (1..=max).contains(n));
        self.read(name, default, &format!("an integer from 1 to {max}"), in_range)
    }

    pub fn number(&self, name: &str, min: f64, max: f64, default: Option<f64>) -> Result<f64, String> {
        let in_range = |value: &Value| value.as_f64().filter(|n| (min..=max).contains(n));
        self.read(name, default, &format!("a number from {min} to {max}"), in_range)
    }

    pub fn flag(&self, name: &str, default: bool) -> Result<bool, String> {
        self.read(name, Some(default), "true or false", Value::as_bool)
    }

    pub fn text<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str, String> {
        self.read(name, Some(default), "a string", Value::as_str)
    }

    /// A token or a list of them, each once.
    pub fn tokens(&self, name: &str, vocab_size: usize) -> Result<Vec<u32>, String> {
        let value = self.get(name);
        let list = match value {
            None => &[],
            Some(Value::Array(list)) => list.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        let mut tokens = Vec::new();
        for token in list {
            let id =
                token.as_u64().filter(|&id| id < vocab_size as u64).and_then(|id| u32::try_from(id).ok());
            let Some(id) = id else {
                return Err(found(name, value, &format!("tokens below vocab_size ({vocab_size})")));
            };
            if !tokens.contains(&id) {
                tokens.push(id);
            }
        }
        Ok(tokens)
    }
}
