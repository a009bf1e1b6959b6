//! Canonical JSON (RFC 8785) and hashes over it.
//!
//! The same value gives the same text in every build: numbers are read by what they are and not by how the JSON library
//! happens to keep them, keys are sorted by their UTF-16 units, and integers beyond 2⁵³, which the RFC's numbers (doubles) cannot
//! hold, enter as strings.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The largest integer that a double holds without a gap below it.
const EXACT: u64 = 1 << 53;

/// SHA-256 over canonical JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// Of this text, which must be canonical already.
    #[must_use]
    pub fn of(canonical: &str) -> Self {
        Self(Sha256::digest(canonical.as_bytes()).into())
    }
}

impl std::fmt::Display for ContentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

/// How long a value is as JSON.
pub(crate) fn json_bytes(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Values can always be written, and counting does not fail.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

/// The canonical text of a value.
#[must_use]
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

/// Appends the canonical text of a value.
pub(crate) fn write(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => write_number(number, text),
        Value::String(string) => write_string(string, text),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(members) => {
            text.push('{');
            let mut first = true;
            let mut member = |(key, member): (&String, &Value)| {
                if !std::mem::take(&mut first) {
                    text.push(',');
                }
                write_string(key, text);
                text.push(':');
                write(member, text);
            };
            // Mostly they are in order already: of ASCII, units and bytes are the same.
            if members.keys().all(|key| key.is_ascii()) && members.keys().is_sorted() {
                members.iter().for_each(member);
            } else {
                let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
                sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
                sorted.into_iter().for_each(&mut member);
            }
            text.push('}');
        }
    }
}

/// An object that is written member by member. Whoever writes gives the names in canonical order.
pub(crate) struct Members<'t> {
    text: &'t mut String,
    is_first: bool,
}

impl<'t> Members<'t> {
    pub(crate) fn open(text: &'t mut String) -> Self {
        text.push('{');
        Self { text, is_first: true }
    }

    /// Writes a name, which needs no escapes; what is appended next is its value.
    pub(crate) fn name(&mut self, name: &'static str) -> &mut String {
        if !std::mem::take(&mut self.is_first) {
            self.text.push(',');
        }
        self.text.push('"');
        self.text.push_str(name);
        self.text.push_str("\":");
        self.text
    }

    pub(crate) fn string(&mut self, name: &'static str, value: &str) {
        write_string(value, self.name(name));
    }

    pub(crate) fn value(&mut self, name: &'static str, value: &Value) {
        write(value, self.name(name));
    }

    pub(crate) fn close(self) {
        self.text.push('}');
    }
}

fn write_number(number: &serde_json::Number, text: &mut String) {
    if let Some(integer) = number.as_i64() {
        push_quoted(integer, integer.unsigned_abs() > EXACT, text);
    } else if let Some(integer) = number.as_u64() {
        push_quoted(integer, integer > EXACT, text);
    } else if let Some(double) = number.as_f64().filter(|double| double.is_finite()) {
        text.push_str(ryu_js::Buffer::new().format_finite(double));
    } else {
        // Only a build that keeps numbers of any size gets here.
        push_quoted(number, true, text);
    }
}

fn push_quoted(digits: impl std::fmt::Display, quoted: bool, text: &mut String) {
    if quoted {
        text.push('"');
    }
    // Writing to a string cannot fail.
    let _ = write!(text, "{digits}");
    if quoted {
        text.push('"');
    }
}

/// The RFC escapes what JSON must escape, and nothing else.
fn write_string(string: &str, text: &mut String) {
    text.push('"');
    let mut rest = string;
    // What is escaped is ASCII, so a byte that looks like it is it, and both sides of it are whole.
    while let Some(at) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        let (plain, special) = rest.split_at(at);
        text.push_str(plain);
        let Some(character) = special.chars().next() else { break };
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            other => text.push_str(&format!("\\u{:04x}", u32::from(other))),
        }
        rest = special.get(1..).unwrap_or_default();
    }
    text.push_str(rest);
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_example_of_the_rfc() {
        // As literals: the JSON library reads the first number from text one unit off, unless it is built to be exact.
        #[allow(clippy::excessive_precision, reason = "as the RFC spells it")]
        let numbers = [333_333_333.333_333_29, 1E30, 4.50, 2e-3, 0.000_000_000_000_000_000_000_000_001];
        let string = "\u{20ac}$\u{f}\u{a}A'\u{42}\u{22}\u{5c}\\\"/";
        let value = json!({"numbers": numbers, "string": string, "literals": [null, true, false]});
        let expected = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
             \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(canonical(&value), expected);
    }

    #[test]
    fn keys_are_sorted_by_utf16_units() {
        let value = json!({"\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7});
        let order: Vec<u32> = canonical(&value)
            .split(',')
            .filter_map(|member| member.trim_end_matches('}').rsplit(':').next()?.parse().ok())
            .collect();
        assert_eq!(order, [2, 4, 6, 7, 1, 5, 3]);
    }

    #[test]
    fn large_integers_are_strings_and_whole_doubles_are_integers() {
        let exact = 9_007_199_254_740_992_u64;
        assert_eq!(canonical(&json!([exact, exact + 1])), "[9007199254740992,\"9007199254740993\"]");
        assert_eq!(
            canonical(&json!([-9_007_199_254_740_993_i64, u64::MAX])),
            "[\"-9007199254740993\",\"18446744073709551615\"]"
        );
        assert_eq!(canonical(&json!([1.0, -0.0, 1e21])), "[1,0,1e+21]");
    }
}
