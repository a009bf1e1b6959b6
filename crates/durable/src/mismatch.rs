//! Where a command differs from the one that was recorded under its key.

use serde_json::Value;

use crate::canonical::ContentHash;

/// Divergent paths that are named; the others are counted.
pub const NAMED_PATHS: usize = 8;
/// Divergent paths that are counted at most.
const COUNTED_PATHS: usize = 10_000;

/// An effect was asked for with other content than it was recorded with. Nothing ran.
#[derive(Debug, Clone, PartialEq)]
pub struct Mismatch {
    /// The effect.
    pub replay_key: String,
    /// What the record holds.
    pub recorded: ContentHash,
    /// What was asked for.
    pub given: ContentHash,
    /// How many JSON paths differ. `None`: the record is too old or too large to hold its content.
    pub divergent: Option<usize>,
    /// The first of them in the order of the paths.
    pub paths: Vec<Divergence>,
}

/// One JSON path at which two commands differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Divergence {
    /// As a JSON pointer (RFC 6901).
    pub path: String,
    /// What the record has there, unless nothing. No secret: those enter as fingerprints.
    pub recorded: Option<Value>,
    /// What was asked for there.
    pub given: Option<Value>,
}

impl Mismatch {
    /// Compares two canonical contents.
    #[must_use]
    pub fn between(replay_key: &str, recorded: (ContentHash, Option<&str>), given: (ContentHash, &str)) -> Self {
        let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
        let mut found = Vec::new();
        let compared = recorded.1.and_then(parsed).zip(parsed(given.1)).map(|(was, is)| {
            diverge(&mut String::new(), Some(&was), Some(&is), &mut found);
        });
        let divergent = compared.map(|()| found.len());
        found.truncate(NAMED_PATHS);
        Self { replay_key: replay_key.to_owned(), recorded: recorded.0, given: given.0, divergent, paths: found }
    }

    /// The same with the values at the paths, for whoever asks for them.
    #[must_use]
    pub fn with_values(&self) -> String {
        let text = |value: &Option<Value>| value.as_ref().map_or("nothing".to_owned(), ToString::to_string);
        let lines = self.paths.iter().map(|at| format!("{}: {} → {}", at.path, text(&at.recorded), text(&at.given)));
        std::iter::once(self.to_string()).chain(lines).collect::<Vec<_>>().join("\n")
    }
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { replay_key, recorded, given, divergent, paths } = self;
        write!(f, "{replay_key} was recorded as {recorded}, and is asked for as {given}")?;
        match divergent {
            Some(count) => {
                let named: Vec<&str> = paths.iter().map(|at| at.path.as_str()).collect();
                write!(f, "; {count} paths differ: {}", named.join(", "))?;
            }
            None => f.write_str("; the record does not hold its content any more")?,
        }
        f.write_str("; nothing was executed: give the step another key, or the code its old content")
    }
}

fn diverge(path: &mut String, was: Option<&Value>, is: Option<&Value>, found: &mut Vec<Divergence>) {
    if was == is || found.len() >= COUNTED_PATHS {
        return;
    }
    match (was, is) {
        (Some(Value::Object(was)), Some(Value::Object(is))) => {
            let keys: std::collections::BTreeSet<&String> = was.keys().chain(is.keys()).collect();
            for key in keys {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                below(path, &escaped, was.get(key), is.get(key), found);
            }
        }
        (Some(Value::Array(was)), Some(Value::Array(is))) => {
            for index in 0..was.len().max(is.len()) {
                below(path, &index.to_string(), was.get(index), is.get(index), found);
            }
        }
        (recorded, given) => {
            let path = if path.is_empty() { "/".to_owned() } else { path.clone() };
            found.push(Divergence { path, recorded: recorded.cloned(), given: given.cloned() });
        }
    }
}

fn below(path: &mut String, step: &str, was: Option<&Value>, is: Option<&Value>, found: &mut Vec<Divergence>) {
    let length = path.len();
    path.push('/');
    path.push_str(step);
    diverge(path, was, is, found);
    path.truncate(length);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(was: &str, is: &str) -> Mismatch {
        Mismatch::between("k", (ContentHash::of(was), Some(was)), (ContentHash::of(is), is))
    }

    #[test]
    fn paths_are_counted_and_the_first_are_named() {
        let found = compare(r#"{"a":1,"b":[1,2],"c/d":{"x":1}}"#, r#"{"a":1,"b":[1,3,4],"c/d":{"x":2},"e":null}"#);
        assert_eq!(found.divergent, Some(4));
        let paths: Vec<&str> = found.paths.iter().map(|at| at.path.as_str()).collect();
        assert_eq!(paths, ["/b/1", "/b/2", "/c~1d/x", "/e"]);
        assert!(!found.to_string().contains('→'));
        assert!(found.with_values().contains("/b/1: 2 → 3"), "{}", found.with_values());
        assert!(found.with_values().contains("/b/2: nothing → 4"));
    }

    #[test]
    fn many_paths_are_counted_and_eight_are_named() {
        let list = |from: u32| serde_json::json!((from..from + 50).collect::<Vec<u32>>()).to_string();
        let found = compare(&list(0), &list(100));
        assert_eq!((found.divergent, found.paths.len()), (Some(50), NAMED_PATHS));
    }

    #[test]
    fn without_content_the_hashes_are_told() {
        let found = Mismatch::between("k", (ContentHash::of("a"), None), (ContentHash::of("{}"), "{}"));
        assert_eq!(found.divergent, None);
        assert!(found.to_string().contains(&ContentHash::of("a").to_string()));
    }
}
