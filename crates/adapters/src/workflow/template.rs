//! Strict Liquid rendering (Symphony §5.4, §12.2).
//!
//! Text of issues goes in as values and is never parsed as template.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use dalsegno_core::{BlockerRef, Failure, Issue, Timestamp};
use liquid::{Object, ObjectView, ValueView};
use liquid_core::Value;
use liquid_core::model::{DisplayCow, KStringCow, State};

/// Bytes that a template may make.
const OUTPUT_LIMIT: usize = 1024 * 1024;
/// Rounds that the ranges of a template may make, one within the other.
const ROUNDS_LIMIT: u128 = 1_000_000;
/// Blocks, or brackets of a variable, that may be open at once: the engine takes a part of the stack for each.
const OPEN_LIMIT: usize = 50;

/// Why a template is no template; `Ok` when it can be rendered as far as its syntax goes.
pub(super) fn check(template: &str) -> Result<(), Failure> {
    parse(template).map(|_parsed| ())
}

/// Renders `template` with `issue` and `attempt`.
pub(super) fn render(template: &str, issue: &Issue, attempt: Option<u32>) -> Result<String, Failure> {
    let parsed = parse(template)?;
    let issue = issue_object(issue)?;
    let missed = RefCell::new(Vec::new());
    let strict_issue = Strict { name: "issue.", object: &issue, inner: None, missed: &missed };
    let mut globals = Object::new();
    globals.insert("issue".into(), Value::Object(issue.clone()));
    globals.insert("attempt".into(), attempt.map_or(Value::Nil, |attempt| Value::scalar(i64::from(attempt))));
    let strict = Strict { name: "", object: &globals, inner: Some(("issue", &strict_issue)), missed: &missed };

    let mut out = Limited { bytes: Vec::new(), full: false };
    // The engine has asserts of its own; one of them must not take the daemon along.
    let rendered = catch_unwind(AssertUnwindSafe(|| parsed.render_to(&mut out, &strict)))
        .unwrap_or_else(|_panic| liquid::Error::with_msg("The template engine gave up").into_err());
    if out.full {
        return Err(render_error(format!("the template makes more than {OUTPUT_LIMIT} bytes")));
    }
    rendered.map_err(|error| render_error(message(&error)))?;
    if let Some(name) = missed.borrow().first() {
        return Err(render_error(format!("unknown variable {name}")));
    }
    String::from_utf8(out.bytes).map_err(|_error| render_error("the template's output is not valid UTF-8".to_owned()))
}

fn parse(template: &str) -> Result<liquid::Template, Failure> {
    bounded(template)?;
    let parsed =
        catch_unwind(|| liquid::ParserBuilder::with_stdlib().build().and_then(|parser| parser.parse(template)))
            .unwrap_or_else(|_panic| liquid::Error::with_msg("The template engine gave up").into_err());
    parsed.map_err(|error| {
        let text = message(&error);
        // The engine finds unknown filters when it parses; the specification calls them rendering errors (§5.5).
        if text.to_lowercase().contains("unknown filter") {
            render_error(text)
        } else {
            Failure::permanent("template_parse_error", text).hint("Correct the Liquid template in WORKFLOW.md.")
        }
    })
}

/// The engine makes a list of every number of a range before it begins, and calls itself for all that is nested. Neither may take
/// the daemon along.
fn bounded(template: &str) -> Result<(), Failure> {
    let refused = |why: String| {
        Err(Failure::permanent("template_parse_error", why).hint("Correct the Liquid template in WORKFLOW.md."))
    };
    let (mut rounds, mut blocks) = (1_u128, 0_usize);
    for tag in template.split("{%").skip(1).map(|tag| tag.trim_start_matches('-').trim_start()) {
        if tag.starts_with("end") {
            blocks = blocks.saturating_sub(1);
        } else if ["if", "unless", "for", "case", "capture", "tablerow", "ifchanged"]
            .iter()
            .any(|begin| tag.starts_with(begin))
        {
            blocks += 1;
        }
        match range(tag) {
            None => {}
            Some(Some(length)) => rounds = rounds.saturating_mul(length),
            Some(None) => {
                return refused("a range in the template has whole numbers at both ends, as (1..5)".to_owned());
            }
        }
        if rounds > ROUNDS_LIMIT {
            return refused(format!("the ranges of the template make more than {ROUNDS_LIMIT} rounds"));
        }
        if blocks > OPEN_LIMIT {
            return refused(format!("more than {OPEN_LIMIT} blocks of the template are open at once"));
        }
    }
    for part in template.split("{{").flat_map(|part| part.split("{%")) {
        let mut open = 0_usize;
        for byte in part.bytes().filter(|byte| matches!(byte, b'[' | b']')) {
            open = if byte == b'[' { open + 1 } else { open.saturating_sub(1) };
            if open > OPEN_LIMIT {
                return refused(format!("more than {OPEN_LIMIT} brackets of the template are open at once"));
            }
        }
    }
    Ok(())
}

/// How many numbers are in the range that a tag loops over: `for name in (first..last)`. The inner `None`: that is not known before
/// it is rendered.
fn range(tag: &str) -> Option<Option<u128>> {
    let rest = tag.strip_prefix("for").or_else(|| tag.strip_prefix("tablerow"))?;
    let name = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    let rest = rest.trim_start().trim_start_matches(name).trim_start().strip_prefix("in")?;
    let (first, rest) = rest.trim_start().strip_prefix('(')?.split_once("..")?;
    let (last, _) = rest.split_once(')')?;
    let number = |text: &str| text.trim().parse::<i64>().ok().map(i128::from);
    let (Some(first), Some(last)) = (number(first), number(last)) else { return Some(None) };
    Some(Some(u128::try_from(last - first + 1).unwrap_or(0).max(1)))
}

fn render_error(message: String) -> Failure {
    Failure::permanent("template_render_error", message)
        .hint("Templates know `issue` with its fields, and `attempt`. Correct the template in WORKFLOW.md.")
}

fn message(error: &liquid::Error) -> String {
    let text = error.to_string();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.trim_start_matches("liquid: ").chars().take(600).collect()
}

fn issue_object(issue: &Issue) -> Result<Object, Failure> {
    // Destructured whole, so that a new field cannot be forgotten.
    let Issue {
        id,
        native_ref,
        identifier,
        title,
        description,
        priority,
        state,
        branch_name,
        url,
        assignee_id,
        labels,
        blocked_by,
        parent,
        dispatchable,
        undispatchable_reason,
        created_at,
        updated_at,
    } = issue;
    let native_ref = match native_ref {
        Some(value) => liquid_core::model::to_value(value).map_err(|error| render_error(message(&error)))?,
        None => Value::Nil,
    };
    let fields = [
        ("id", text(id.as_str())),
        ("native_ref", native_ref),
        ("identifier", text(identifier)),
        ("title", text(title)),
        ("description", optional(description.as_deref())),
        ("priority", priority.map_or(Value::Nil, Value::scalar)),
        ("state", text(state)),
        ("branch_name", optional(branch_name.as_deref())),
        ("url", optional(url.as_deref())),
        ("assignee_id", optional(assignee_id.as_deref())),
        ("labels", Value::Array(labels.iter().map(|label| text(label)).collect())),
        ("blocked_by", Value::Array(blocked_by.iter().map(blocker).collect())),
        ("parent", optional(parent.as_deref())),
        ("dispatchable", Value::scalar(*dispatchable)),
        ("undispatchable_reason", optional(undispatchable_reason.as_deref())),
        ("created_at", time(*created_at)),
        ("updated_at", time(*updated_at)),
    ];
    Ok(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

fn blocker(blocker: &BlockerRef) -> Value {
    let BlockerRef { id, identifier, state } = blocker;
    let fields = [
        ("id", optional(id.as_ref().map(dalsegno_core::IssueId::as_str))),
        ("identifier", optional(identifier.as_deref())),
        ("state", optional(state.as_deref())),
    ];
    Value::Object(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

fn text(value: &str) -> Value {
    Value::scalar(value.to_owned())
}

fn optional(value: Option<&str>) -> Value {
    value.map_or(Value::Nil, text)
}

fn time(at: Option<Timestamp>) -> Value {
    at.and_then(|at| jiff::Timestamp::from_millisecond(at.0).ok()).map_or(Value::Nil, |at| text(&at.to_string()))
}

/// A map that remembers what was sought in it and is not there: the engine takes an unknown variable in a
/// condition for false, and the specification wants an error.
struct Strict<'a> {
    name: &'static str,
    object: &'a Object,
    inner: Option<(&'static str, &'a dyn ValueView)>,
    missed: &'a RefCell<Vec<String>>,
}

impl Strict<'_> {
    fn miss(&self, index: &str) {
        let mut missed = self.missed.borrow_mut();
        // Every object has a size, and a loop asks for the loop around it.
        if !matches!(index, "size" | "forloop") && missed.is_empty() {
            missed.push(format!("{}{index}", self.name));
        }
    }
}

impl fmt::Debug for Strict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.object.fmt(f)
    }
}

impl ValueView for Strict<'_> {
    fn as_debug(&self) -> &dyn fmt::Debug {
        self
    }
    fn render(&self) -> DisplayCow<'_> {
        self.object.render()
    }
    fn source(&self) -> DisplayCow<'_> {
        self.object.source()
    }
    fn type_name(&self) -> &'static str {
        self.object.type_name()
    }
    fn query_state(&self, state: State) -> bool {
        self.object.query_state(state)
    }
    fn to_kstr(&self) -> KStringCow<'_> {
        self.object.to_kstr()
    }
    fn to_value(&self) -> Value {
        self.object.to_value()
    }
    fn as_object(&self) -> Option<&dyn ObjectView> {
        Some(self)
    }
}

impl ObjectView for Strict<'_> {
    fn as_value(&self) -> &dyn ValueView {
        self
    }
    fn size(&self) -> i64 {
        ObjectView::size(self.object)
    }
    fn keys<'k>(&'k self) -> Box<dyn Iterator<Item = KStringCow<'k>> + 'k> {
        ObjectView::keys(self.object)
    }
    fn values<'k>(&'k self) -> Box<dyn Iterator<Item = &'k dyn ValueView> + 'k> {
        ObjectView::values(self.object)
    }
    fn iter<'k>(&'k self) -> Box<dyn Iterator<Item = (KStringCow<'k>, &'k dyn ValueView)> + 'k> {
        ObjectView::iter(self.object)
    }
    fn contains_key(&self, index: &str) -> bool {
        let found = self.object.contains_key(index);
        // Only variables are looked up this way; below them `contains` asks, and may.
        if !found && self.name.is_empty() {
            self.miss(index);
        }
        found
    }
    fn get<'s>(&'s self, index: &str) -> Option<&'s dyn ValueView> {
        if let Some((name, value)) = self.inner
            && name == index
        {
            return Some(value);
        }
        let found = ObjectView::get(self.object, index);
        if found.is_none() {
            self.miss(index);
        }
        found
    }
}

struct Limited {
    bytes: Vec<u8>,
    full: bool,
}

impl Write for Limited {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + part.len() > OUTPUT_LIMIT {
            self.full = true;
            return Err(io::Error::other("too long"));
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
