//! WORKFLOW.md: reading, validating, rendering (Symphony §5, §6, §12).

pub(crate) mod front_matter;
mod governance;
mod keys;
mod later;
mod notify;
pub(crate) mod paths;
mod secrets;
mod section;
mod settings;
mod template;
mod webhooks;

use std::fs;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use dalsegno_core::{Failure, Issue, Policy};
use dalsegno_engine::Workflow;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use front_matter::{Found, YamlError};
pub use keys::UnknownKey;
pub use later::{AGENTS, FORGES, TRACKERS};
pub use paths::{Environment, process_environment};
pub(crate) use secrets::referenced;

/// Bytes that a workflow file may have.
const SIZE_LIMIT: u64 = 1024 * 1024;

/// A workflow file on disk.
pub struct WorkflowFile {
    path: PathBuf,
    env: Environment,
    seen: Mutex<Option<Seen>>,
}

/// Everything that a workflow file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What runs are done under.
    pub policy: Policy,
    /// Where the API is served, and for whom.
    pub server: ServerSettings,
    /// Keys that nothing reads.
    pub unknown_keys: Vec<UnknownKey>,
    /// Templates that cannot be parsed. They do not stop a load: template errors fail the run that meets them (Symphony §5.5).
    pub template_problems: Vec<Failure>,
}

/// The section `server`. Read at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// The address to listen on.
    pub host: IpAddr,
    /// Zero asks for any free port.
    pub port: Option<u16>,
    /// By which names and addresses it may be called, besides those of loopback.
    pub hosts: Vec<String>,
    /// The overview needs a token too.
    pub auth_required: bool,
}

/// What the file was at the last load.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    stamp: Option<Stamp>,
    hash: Option<[u8; 32]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
    inode: u64,
    /// The file was so young that another write may have left the same times.
    young: bool,
}

impl WorkflowFile {
    /// The workflow file at `path`, with the environment of this process.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with_environment(path, process_environment())
    }

    /// The workflow file at `path`; `$VAR` and `~` come from `env`.
    #[must_use]
    pub fn with_environment(path: impl Into<PathBuf>, env: Environment) -> Self {
        Self { path: path.into(), env, seen: Mutex::new(None) }
    }

    /// The path as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file as it stands now, with what is not policy.
    ///
    /// # Errors
    /// `missing_workflow_file`, `workflow_parse_error`, `workflow_front_matter_not_a_map`, `invalid_config`,
    /// `not_available`, `unsupported_tracker_kind`, `literal_secret`.
    pub fn load_full(&self) -> Result<Loaded, Failure> {
        // The stamp is taken first: a write that comes between is noticed by the next look.
        let stamp = stamp_of(&self.path);
        let read = self.read();
        let hash = read.as_ref().ok().map(|bytes| Sha256::digest(bytes).into());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen { stamp, hash });
        self.interpret(&read?)
    }

    fn read(&self) -> Result<Vec<u8>, Failure> {
        let missing = |why: String| {
            Failure::permanent("missing_workflow_file", format!("{} cannot be read: {why}", self.path.display()))
                .hint("Name the file on the command line, or start in the directory that holds WORKFLOW.md.")
        };
        let file = fs::File::open(&self.path).map_err(|error| missing(error.to_string()))?;
        let mut bytes = Vec::new();
        file.take(SIZE_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| missing(error.to_string()))?;
        if bytes.len() as u64 > SIZE_LIMIT {
            return Err(parse_error(&self.path, None, "the file is larger than 1 MiB"));
        }
        Ok(bytes)
    }

    fn text<'a>(&self, bytes: &'a [u8]) -> Result<&'a str, Failure> {
        std::str::from_utf8(bytes).map_err(|error| {
            let line = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count() as u64 + 1;
            parse_error(&self.path, Some(line), "the file is not valid UTF-8")
        })
    }

    fn interpret(&self, bytes: &[u8]) -> Result<Loaded, Failure> {
        let (config, body) = split(self.text(bytes)?, &self.path)?;
        later::refuse_unavailable(&config)?;
        // The directory that was named, also when WORKFLOW.md in it is a link to somewhere else.
        let project_dir = std::path::absolute(&self.path)
            .and_then(|path| fs::canonicalize(path.parent().unwrap_or(Path::new("/"))))
            .map_err(|error| {
                Failure::permanent("missing_workflow_file", format!("{} cannot be read: {error}", self.path.display()))
                    .hint("The directory went away while the file was read; put it back.")
            })?;
        let place = settings::Place { project_dir: &project_dir, env: &self.env };
        let policy = settings::policy(&config, body, &place)?;
        let mut template_problems = Vec::new();
        let comment = policy.handoff.as_ref().and_then(|handoff| handoff.comment.as_deref());
        for (name, template) in [
            ("the prompt", Some(policy.prompt_template.as_str())),
            ("workspace.branch", Some(policy.workspace.branch.as_str())),
            ("handoff.comment", comment),
        ] {
            if let Some(Err(mut failure)) = template.map(template::check) {
                failure.message = format!("{name}: {}", failure.message);
                template_problems.push(failure);
            }
        }
        Ok(Loaded {
            server: settings::server(&config)?,
            unknown_keys: keys::unknown(&config),
            template_problems,
            policy,
        })
    }
}

impl Workflow for WorkflowFile {
    fn load(&self) -> Result<Policy, Failure> {
        self.load_full().map(|loaded| loaded.policy)
    }

    fn changed(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = seen.as_mut() else { return true };
        let stamp = stamp_of(&self.path);
        if stamp == known.stamp && !stamp.is_some_and(|stamp| stamp.young) {
            return false;
        }
        // Touched, or too young to tell: what it holds decides.
        let hash: Option<[u8; 32]> = self.read().ok().map(|bytes| Sha256::digest(&bytes).into());
        if hash == known.hash {
            known.stamp = stamp;
            return false;
        }
        true
    }

    fn render(&self, template: &str, issue: &Issue, attempt: Option<u32>) -> Result<String, Failure> {
        template::render(template, issue, attempt)
    }
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    let age = meta.modified().ok().and_then(|at| at.elapsed().ok());
    Some(Stamp {
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
        size: meta.size(),
        inode: meta.ino(),
        young: age.is_none_or(|age| age.as_millis() < 2_000),
    })
}

fn split<'a>(text: &'a str, path: &Path) -> Result<(Map<String, Value>, &'a str), Failure> {
    let (yaml, body) = match front_matter::find(text) {
        Found::None => return Ok((Map::new(), text.trim_start_matches('\u{feff}').trim())),
        Found::Open => {
            let why = "the front matter that begins in the first line has no closing `---`";
            return Err(parse_error(path, Some(1), why));
        }
        Found::Closed(split) => (
            text.get(split.yaml_start..split.yaml_end).unwrap_or_default(),
            text.get(split.body_start..).unwrap_or_default(),
        ),
    };
    match front_matter::parse(yaml) {
        Ok(config) => Ok((config, body.trim())),
        Err(YamlError::NotAMap) => Err(Failure::permanent(
            "workflow_front_matter_not_a_map",
            format!("the front matter of {} is not a map", path.display()),
        )
        .hint("Write `key: value` lines between the two `---`.")),
        Err(YamlError::Syntax { line, message }) => Err(parse_error(path, line, &message)),
    }
}

fn parse_error(path: &Path, line: Option<u64>, why: &str) -> Failure {
    let place = line.map(|line| format!(", line {line}")).unwrap_or_default();
    Failure::permanent("workflow_parse_error", format!("{}{place}: {why}", path.display()))
        .hint("Correct the file; until then the last good version stays in force.")
}

/// Reads what passes for a WORKFLOW.md, and renders its template.
pub(crate) fn foreign(bytes: &[u8]) {
    let file = WorkflowFile::with_environment("/WORKFLOW.md", std::sync::Arc::new(|_| None));
    if let Ok(loaded) = file.interpret(bytes) {
        foreign_template(loaded.policy.prompt_template.as_bytes());
    }
}

/// Renders what passes for a template.
pub(crate) fn foreign_template(bytes: &[u8]) {
    let Ok(template) = std::str::from_utf8(bytes) else { return };
    let issue = dalsegno_engine::core::Issue {
        priority: Some(2),
        labels: vec!["bug".to_owned(), "ui".to_owned()],
        ..dalsegno_engine::core::Issue::new("i1", "DS-1", "A title", "Todo")
    };
    drop(template::render(template, &issue, Some(2)));
}
