//! New issue files.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use dalsegno_core::Failure;

use super::exchange::lock;
use super::text::scalar;
use crate::marker::neutralised;

/// What a new issue says. Its identifier is the next free one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewIssue {
    /// One line; required.
    pub title: String,
    /// The body.
    pub description: Option<String>,
    /// The first active state when absent.
    pub state: Option<String>,
    /// `1` (most urgent) to `4`.
    pub priority: Option<i64>,
    /// Labels.
    pub labels: Vec<String>,
    /// Identifiers of issues that must be terminal first.
    pub blocked_by: Vec<String>,
    /// Identifier of the parent.
    pub parent: Option<String>,
    /// Who it is assigned to.
    pub assignee: Option<String>,
}

/// Writes the file and answers its identifier. Two callers never get the same one.
pub(super) fn create(
    dir: &Path,
    prefix: &str,
    default_state: &str,
    id: &str,
    issue: &NewIssue,
) -> Result<String, Failure> {
    let failed = |doing: &str, error: &std::io::Error| {
        Failure::retryable("tracker_request", format!("{doing} {} failed: {error}", dir.display()))
            .hint("Look at the folder's permissions and at the free space of its disk.")
    };
    if issue.title.trim().is_empty() {
        return Err(
            Failure::permanent("tracker_response", "an issue needs a title").hint("Give it a title of one line.")
        );
    }
    fs::create_dir_all(dir).map_err(|error| failed("making", &error))?;
    let _turn = lock(dir)?;
    let text = text(default_state, id, issue);
    let mut number = highest(dir, prefix).map_err(|error| failed("reading", &error))?;
    // Somebody's editor does not take our turns: a name that is taken meanwhile costs a try.
    for _try in 0..100 {
        number = number.saturating_add(1);
        let identifier = format!("{prefix}-{number}");
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(dir)
            .map_err(|error| failed("writing in", &error))?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.as_file().sync_all())
            .map_err(|error| failed("writing in", &error))?;
        match file.persist_noclobber(dir.join(format!("{identifier}.md"))) {
            Ok(_file) => {
                fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed("syncing", &error))?;
                return Ok(identifier);
            }
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("writing in", &error.error)),
        }
    }
    Err(Failure::retryable("tracker_request", format!("no free number for {prefix} was found in {}", dir.display()))
        .hint("Try again."))
}

fn highest(dir: &Path, prefix: &str) -> std::io::Result<u64> {
    let start = format!("{}-", prefix.to_lowercase());
    let mut highest = 0;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().to_lowercase();
        let number = name.strip_prefix(&start).and_then(|rest| rest.strip_suffix(".md")?.parse::<u64>().ok());
        highest = highest.max(number.unwrap_or(0));
    }
    Ok(highest)
}

fn text(default_state: &str, id: &str, issue: &NewIssue) -> String {
    let NewIssue { title, description, state, priority, labels, blocked_by, parent, assignee } = issue;
    let list = |items: &[String]| items.iter().map(|item| scalar(item.trim())).collect::<Vec<_>>().join(", ");
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out = format!("---\nid: {}\n", scalar(id));
    out.push_str(&format!("title: {}\n", scalar(&one_line(title))));
    out.push_str(&format!("state: {}\n", scalar(one_line(state.as_deref().unwrap_or(default_state)).as_str())));
    if let Some(priority) = priority {
        out.push_str(&format!("priority: {priority}\n"));
    }
    for (key, items) in [("labels", labels), ("blocked_by", blocked_by)] {
        if !items.is_empty() {
            out.push_str(&format!("{key}: [{}]\n", list(items)));
        }
    }
    for (key, value) in [("parent", parent), ("assignee", assignee)] {
        if let Some(value) = value {
            out.push_str(&format!("{key}: {}\n", scalar(&one_line(value))));
        }
    }
    let now = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_else(|_error| jiff::Timestamp::now());
    out.push_str(&format!("created_at: {now}\n---\n"));
    if let Some(description) = description.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        out.push_str(&format!("\n{}\n", neutralised(description)));
    }
    out
}

/// A random name; begins with a letter, so that YAML takes it for text.
pub(super) fn random_id() -> Result<String, Failure> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::retryable("tracker_request", format!("the system gave no random numbers: {error}")).hint("Try again.")
    })?;
    Ok(format!("i{}", hex::encode(bytes)))
}
