//! Typed reading of one section of the front matter; every error names the key and what is allowed.

use dalsegno_core::{Failure, span_ms};
use serde_json::{Map, Value};

/// A section, or nothing in its place.
pub(super) struct Section<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
}

/// An error about the value of one key.
pub(super) fn invalid(key: &str, found: &str, allowed: &str) -> Failure {
    Failure::permanent("invalid_config", format!("{key} is {found}; allowed: {allowed}"))
        .hint(format!("Correct {key} in WORKFLOW.md."))
}

impl<'a> Section<'a> {
    /// The section `key` of the front matter; absent and null are empty.
    pub(super) fn of(root: &'a Map<String, Value>, key: &str) -> Result<Self, Failure> {
        Section { path: String::new(), map: Some(root) }.inner(key)
    }

    /// A section inside this one.
    pub(super) fn inner(&self, key: &str) -> Result<Self, Failure> {
        let path = self.path_of(key);
        match self.get(key) {
            None => Ok(Self { path, map: None }),
            Some(Value::Object(map)) => Ok(Self { path, map: Some(map) }),
            Some(other) => Err(invalid(&path, &shown(other), "a map")),
        }
    }

    /// The value, when there is one that is not null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.raw(key).filter(|value| !value.is_null())
    }

    /// The value, null included.
    pub(super) fn raw(&self, key: &str) -> Option<&'a Value> {
        self.map.and_then(|map| map.get(key))
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A map as it stands.
    pub(super) fn map(&self, key: &str) -> Result<Map<String, Value>, Failure> {
        Ok(self.inner(key)?.map.cloned().unwrap_or_default())
    }

    /// Text that is not blank; blank is as good as absent.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, Failure> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(other) => Err(invalid(&self.path_of(key), &shown(other), "text")),
        }
    }

    /// A whole number within bounds.
    pub(super) fn integer(&self, key: &str, min: i64, max: i64) -> Result<Option<i64>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        match number.filter(|number| (min..=max).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let allowed = if max == i64::MAX && min == i64::MIN {
                    "a whole number".to_owned()
                } else if max == i64::MAX {
                    format!("a whole number, {min} or more")
                } else {
                    format!("a whole number from {min} to {max}")
                };
                Err(invalid(&self.path_of(key), &shown(value), &allowed))
            }
        }
    }

    /// A count that fits 32 bits.
    pub(super) fn count(&self, key: &str, default: u32) -> Result<u32, Failure> {
        let found = self.integer(key, 1, i64::from(u32::MAX))?;
        Ok(found.and_then(|number| u32::try_from(number).ok()).unwrap_or(default))
    }

    /// Milliseconds, at least one.
    pub(super) fn millis(&self, key: &str, default: u64) -> Result<u64, Failure> {
        let found = self.integer(key, 1, i64::MAX)?;
        Ok(found.and_then(|number| u64::try_from(number).ok()).unwrap_or(default))
    }

    /// Texts; `blank` says whether blank ones are kept.
    pub(super) fn texts(&self, key: &str, blank: bool) -> Result<Option<Vec<String>>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || invalid(&self.path_of(key), &shown(value), "a list of texts");
        let Value::Array(items) = value else { return Err(wrong()) };
        let mut out = Vec::new();
        for item in items {
            let text = match item {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Null if blank => String::new(),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return Err(wrong()),
            };
            if !blank && text.trim().is_empty() {
                return Err(invalid(&self.path_of(key), "a list with a blank entry", "a list of texts"));
            }
            out.push(text);
        }
        Ok(Some(out))
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<Option<T>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let found = match value {
            Value::String(text) => words.iter().find(|(word, _)| *word == text.trim()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
        };
        match found {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let allowed: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                Err(invalid(&self.path_of(key), &shown(value), &allowed.join(", ")))
            }
        }
    }

    /// A duration like `500ms`, `30s`, `30m`, `24h`, `7d`, in milliseconds.
    pub(super) fn duration_ms(&self, key: &str) -> Result<Option<u64>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let found = match value {
            Value::String(text) => span_ms(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
        };
        match found {
            Some(ms) => Ok(Some(ms)),
            None => Err(invalid(&self.path_of(key), &shown(value), "a duration like 500ms, 30s, 30m, 24h or 7d")),
        }
    }
}

/// A value in an error: short, and no more of it than its kind when it is large.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => format!("`{flag}`"),
        Value::Number(number) => format!("`{number}`"),
        Value::String(text) => {
            let short: String = text.chars().take(60).collect();
            if short.len() < text.len() { format!("`{short}…`") } else { format!("`{short}`") }
        }
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    }
}
