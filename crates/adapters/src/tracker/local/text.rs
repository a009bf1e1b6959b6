//! The text of an issue file: front matter, description, comments. Edits change what they must and
//! keep every other byte.

use serde_json::Value;

use crate::marker::{self, MARKER, neutralised};
use crate::workflow::front_matter::{self, Found, Split, YamlError};

/// An issue file that is whole enough to be read.
pub(super) struct Text<'a> {
    whole: &'a str,
    split: Split,
    /// What the front matter says.
    pub(super) front: serde_json::Map<String, Value>,
    /// First byte of the line `## Comments`, if there is one.
    comments_at: Option<usize>,
}

const HEADING: &str = "## Comments";

impl<'a> Text<'a> {
    /// Takes the file apart, or says why it is half-saved or broken.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("the file is empty".to_owned());
        }
        let whole = std::str::from_utf8(bytes).map_err(|_error| "the file is not valid UTF-8".to_owned())?;
        if whole.contains('\0') {
            return Err("the file holds zero bytes".to_owned());
        }
        let split = match front_matter::find(whole) {
            Found::Closed(split) => split,
            Found::Open => return Err("the front matter has no closing `---`".to_owned()),
            Found::None => return Err("the file does not begin with `---`".to_owned()),
        };
        let yaml = whole.get(split.yaml_start..split.yaml_end).unwrap_or_default();
        let front = front_matter::parse(yaml).map_err(|error| match error {
            YamlError::NotAMap => "the front matter is not a map".to_owned(),
            YamlError::Syntax { line: Some(line), message } => format!("line {line}: {message}"),
            YamlError::Syntax { line: None, message } => message,
        })?;
        let comments_at = find_comments(whole, split.body_start);
        Ok(Self { whole, split, front, comments_at })
    }

    /// The YAML between the two `---`.
    pub(super) fn yaml(&self) -> &'a str {
        self.whole.get(self.split.yaml_start..self.split.yaml_end).unwrap_or_default()
    }

    /// The body without the comments, trimmed.
    pub(super) fn description(&self) -> &'a str {
        let end = self.comments_at.unwrap_or(self.whole.len());
        self.whole.get(self.split.body_start..end).unwrap_or_default().trim()
    }

    /// Everything from `## Comments` on.
    pub(super) fn comments(&self) -> &'a str {
        self.comments_at.and_then(|at| self.whole.get(at..)).unwrap_or_default()
    }

    /// Whether a comment of ours carries this marker.
    pub(super) fn has_marker(&self, marker: &str) -> bool {
        marker::is_in(self.comments(), marker)
    }

    /// The file with one comment more.
    pub(super) fn with_comment(&self, heading: &str, marker: &str, body: &str) -> String {
        let end = self.line_ending();
        let mut out = self.whole.to_owned();
        if !out.ends_with('\n') {
            out.push_str(end);
        }
        if self.comments_at.is_none() {
            out.push_str(end);
            out.push_str(HEADING);
            out.push_str(end);
        }
        out.push_str(end);
        out.push_str(&format!("### {heading}{end}{}{end}{end}", marker::line(marker)));
        for line in neutralised(body).trim().lines() {
            out.push_str(line);
            out.push_str(end);
        }
        out
    }

    /// The file with another state; an error when the line that says it cannot be edited safely.
    pub(super) fn with_state(&self, to: &str) -> Result<String, String> {
        let unsafe_line =
            || "the `state:` line cannot be edited safely; write it as `state: Name` on one line".to_owned();
        let mut at = self.split.yaml_start;
        for line in self.yaml().split_inclusive('\n') {
            if let Some((start, end)) = state_value(line) {
                let mut out = self.whole.get(..at + start).unwrap_or_default().to_owned();
                out.push_str(&scalar(to));
                out.push_str(self.whole.get(at + end..).unwrap_or_default());
                // Multi-line values, anchors and the like: only an edit that changes the state and nothing else is taken.
                let edited = Text::parse(out.as_bytes()).map_err(|_error| unsafe_line())?;
                let mut expected = self.front.clone();
                expected.insert("state".to_owned(), Value::String(to.to_owned()));
                return if edited.front == expected { Ok(out) } else { Err(unsafe_line()) };
            }
            at += line.len();
        }
        Err(unsafe_line())
    }

    fn line_ending(&self) -> &'static str {
        let first = self.whole.find('\n').and_then(|at| self.whole.get(..at)).unwrap_or_default();
        if first.ends_with('\r') { "\r\n" } else { "\n" }
    }
}

// Byte range of the value in a line `state: value  # comment`.
fn state_value(line: &str) -> Option<(usize, usize)> {
    let after_key = ["state", "\"state\"", "'state'"].iter().find_map(|key| line.strip_prefix(key))?;
    let after_colon = after_key.trim_start_matches([' ', '\t']).strip_prefix(':')?;
    if !after_colon.starts_with([' ', '\t']) {
        return None;
    }
    let value = after_colon.trim_start_matches([' ', '\t']);
    let start = line.len() - value.len();
    let length = match value.chars().next()? {
        quote @ ('"' | '\'') => {
            let inner = value.get(1..)?;
            let mut escaped = false;
            let close = inner.char_indices().find(|(_, c)| {
                let closes = *c == quote && !escaped;
                escaped = quote == '"' && *c == '\\' && !escaped;
                closes
            })?;
            close.0 + 2
        }
        '#' => 0,
        _ => {
            let end = [" #", "\t#"].iter().filter_map(|mark| value.find(mark)).min().unwrap_or(value.len());
            value.get(..end)?.trim_end().len()
        }
    };
    Some((start, start + length))
}

/// A text as a YAML scalar on one line.
pub(super) fn scalar(text: &str) -> String {
    let plain = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic())
        && text.chars().last().is_some_and(|c| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || " -_./".contains(c))
        && !matches!(text.to_lowercase().as_str(), "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if plain {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

// The first heading outside fenced code; failing that (a fence that was never closed), the first one that
// is followed by a comment of ours.
fn find_comments(whole: &str, from: usize) -> Option<usize> {
    let mut at = from;
    let mut fence: Option<&str> = None;
    let mut fallback = None;
    let body = whole.get(from..)?;
    for line in body.split_inclusive('\n') {
        let bare = line.trim_end();
        let inner = bare.trim_start();
        let opener = ["```", "~~~"].into_iter().find(|mark| inner.starts_with(mark));
        match (fence, opener) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None | Some(_), _) => {}
        }
        if bare.eq_ignore_ascii_case(HEADING) {
            if fence.is_none() {
                return Some(at);
            }
            let mut after = whole.get(at + line.len()..).unwrap_or_default().lines().filter(|l| !l.trim().is_empty());
            let ours = after.next().is_some_and(|l| l.starts_with("### "))
                && after.next().is_some_and(|l| l.starts_with(MARKER));
            if ours && fallback.is_none() {
                fallback = Some(at);
            }
        }
        at += line.len();
    }
    fallback
}

/// A comment as it stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// When it was written, as it stands there.
    pub at: String,
    /// Who wrote it.
    pub author: String,
    /// Its text.
    pub body: String,
    /// Its hidden marker.
    pub marker: String,
}

/// The comments that carry a marker, in the order of the file; what people wrote by hand between them
/// belongs to the comment before.
pub(super) fn comments(section: &str) -> Vec<Comment> {
    let mut found: Vec<Comment> = Vec::new();
    let lines: Vec<&str> = section.lines().collect();
    let marker_of = |index: usize| {
        let line = lines.get(index)?.trim_end();
        line.strip_prefix(MARKER)?.strip_suffix("-->").map(str::trim)
    };
    let mut index = 0;
    while let Some(line) = lines.get(index) {
        match (line.strip_prefix("### "), marker_of(index + 1)) {
            (Some(heading), Some(marker)) => {
                let (at, author) = heading.trim_end().split_once(" · ").unwrap_or((heading.trim_end(), ""));
                found.push(Comment {
                    at: at.to_owned(),
                    author: author.to_owned(),
                    body: String::new(),
                    marker: marker.to_owned(),
                });
                index += 1;
            }
            (Some(_) | None, _) => {
                if let Some(comment) = found.last_mut() {
                    comment.body.push_str(line);
                    comment.body.push('\n');
                }
            }
        }
        index += 1;
    }
    for comment in &mut found {
        comment.body = comment.body.trim().to_owned();
    }
    found
}
