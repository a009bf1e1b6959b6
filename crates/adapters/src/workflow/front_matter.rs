//! YAML front matter, as workflow files (Symphony §5.2) and issue files have it.

use serde_json::{Map, Value};

/// Where the parts of a text with front matter are, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Split {
    /// First byte of the YAML.
    pub(crate) yaml_start: usize,
    /// First byte of the closing line.
    pub(crate) yaml_end: usize,
    /// First byte after the closing line.
    pub(crate) body_start: usize,
}

/// Whether a text begins with front matter, and where that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The text does not begin with `---`.
    None,
    /// It begins with `---`, and the closing line is missing.
    Open,
    /// It has both lines.
    Closed(Split),
}

const BOM: &str = "\u{feff}";

/// Looks for front matter. A byte order mark before it is skipped.
pub(crate) fn find(text: &str) -> Found {
    let start = if text.starts_with(BOM) { BOM.len() } else { 0 };
    let mut lines = text.get(start..).unwrap_or_default().split_inclusive('\n');
    let Some(first) = lines.next().filter(|line| is_fence(line)) else { return Found::None };
    let yaml_start = start + first.len();
    let mut at = yaml_start;
    for line in lines {
        if is_fence(line) {
            return Found::Closed(Split { yaml_start, yaml_end: at, body_start: at + line.len() });
        }
        at += line.len();
    }
    Found::Open
}

fn is_fence(line: &str) -> bool {
    line.trim_end() == "---"
}

/// Front matter that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum YamlError {
    /// No YAML.
    Syntax {
        /// Line in the file, from 1.
        line: Option<u64>,
        /// What the parser says; holds no excerpt of the file.
        message: String,
    },
    /// YAML, but no map.
    NotAMap,
}

/// Parses the YAML of a front matter. Nothing in it is an empty map.
pub(crate) fn parse(yaml: &str) -> Result<Map<String, Value>, YamlError> {
    if yaml.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Map::new());
    }
    // An empty line in place of the opening `---`: the parser's line numbers are the file's.
    let padded = format!("\n{yaml}");
    match serde_saphyr::from_str_with_options::<Value>(&padded, options()) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            Err(YamlError::NotAMap)
        }
        Err(error) => Err(YamlError::Syntax {
            line: error.location().map(|location| location.line()),
            message: one_line(&error.without_snippet().to_string()),
        }),
    }
}

/// Parses scalars of a front matter as the text that stands there, so that `007` stays `007`.
pub(crate) fn parse_as<T: serde::de::DeserializeOwned>(yaml: &str) -> Option<T> {
    serde_saphyr::from_str_with_options::<T>(yaml, options()).ok()
}

fn options() -> serde_saphyr::Options {
    // `on`, `no` and the like are words in titles and labels, not booleans.
    serde_saphyr::options! { strict_booleans: true }
}

fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > 400 {
        let cut = (0..=400).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        line.truncate(cut);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn finds_both_lines_and_keeps_bytes() {
        let text = "\u{feff}---\r\na: 1\r\n---\r\nbody";
        let Found::Closed(split) = find(text) else { unreachable!() };
        assert_eq!(&text[split.yaml_start..split.yaml_end], "a: 1\r\n");
        assert_eq!(&text[split.body_start..], "body");
        assert_eq!(find("a: 1\n---\n"), Found::None);
        assert_eq!(find("---\na: 1\n"), Found::Open);
    }

    #[test]
    fn empty_and_commented_front_matter_is_an_empty_map() {
        assert_eq!(parse("\n# nothing\n").unwrap().len(), 0);
    }

    #[test]
    fn errors_carry_the_line_of_the_file() {
        let error = parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        let YamlError::Syntax { line: Some(line), .. } = error else { unreachable!() };
        assert!((3..=5).contains(&line), "line {line}");
        assert_eq!(parse("- 1\n- 2\n").unwrap_err(), YamlError::NotAMap);
    }

    #[test]
    fn words_are_no_booleans() {
        assert_eq!(parse("a: on\nb: no\n").unwrap()["a"], Value::String("on".to_owned()));
    }
}
