//! What the scripted model answers: named scripts of steps, read from YAML or JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Name of the script for prompts that name none.
pub const DEFAULT: &str = "default";
/// Name of the script whose first step answers calls without tools (titles, summaries).
pub const SIDE: &str = "side";
/// Most bytes of a script.
const MAX_BYTES: usize = 4 << 20;

/// Named scripts. A prompt names its script as `[[script:NAME]]`; one that names none gets `default`.
///
/// ```
/// let script = dalsegno_testkit::model::Script::parse(
///     "default: [{answer: [{say: Hello}]}]
/// write:
///   - answer: [{say: I write it.}, {run: echo hi > made.txt}]
///     tokens: {input: 900, cached: 500, output: 20}
///   - answer: [{say: Done.}]
///     fail: {status: 429, times: 2, headers: {retry-after: '1'}}",
/// );
/// assert_eq!(script.map(|script| script.steps("write").len()), Ok(2));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Script {
    scripts: BTreeMap<String, Vec<Step>>,
}

impl Script {
    /// Reads YAML or JSON: an object of lists of steps.
    ///
    /// # Errors
    /// A sentence that says what is wrong where.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("the script has {} bytes; {MAX_BYTES} are read", text.len()));
        }
        serde_saphyr::from_str(text).map_err(|error| format!("the script cannot be read: {error}"))
    }

    /// The same scripts and one more.
    #[must_use]
    pub fn with(mut self, name: &str, steps: Vec<Step>) -> Self {
        self.scripts.insert(name.to_owned(), steps);
        self
    }

    /// The steps of a script; none if nobody wrote it.
    #[must_use]
    pub fn steps(&self, name: &str) -> &[Step] {
        self.scripts.get(name).map_or(&[], Vec::as_slice)
    }
}

/// One answer of the model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Step {
    /// What is said and which tools are called, in order, in one response.
    pub answer: Vec<Part>,
    /// What the response says it used.
    pub tokens: Tokens,
    /// Headers of the response, good or not.
    pub headers: BTreeMap<String, String>,
    /// Becomes `x-codex-primary-…` headers, on good responses and on failures.
    pub rate_limit: Option<RateLimit>,
    /// Milliseconds before the first byte.
    pub delay_ms: u64,
    /// Milliseconds between the events of a stream.
    pub delta_delay_ms: u64,
    /// Fails instead: always, or the first times.
    pub fail: Option<Fail>,
    /// How the response ends.
    pub end: End,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Text, streamed in several pieces.
    Say(String),
    /// A command for whichever shell tool is offered.
    Run(String),
    /// A command that asks Codex to leave its sandbox.
    Escalate {
        /// The command.
        command: String,
        /// Why; people are shown this.
        justification: String,
    },
    /// A tool by its name, dynamic ones and those of MCP servers too.
    Call {
        /// Its name, as it is offered.
        tool: String,
        /// Its arguments.
        #[serde(default)]
        arguments: Map<String, Value>,
    },
}

/// Tokens that a response says were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    /// All input, with what was cached.
    pub input: u64,
    /// The part of the input that was cached.
    pub cached: u64,
    /// Output.
    pub output: u64,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { input: 100, cached: 0, output: 10 }
    }
}

impl Tokens {
    /// None at all.
    pub const ZERO: Self = Self { input: 0, cached: 0, output: 0 };

    pub(super) fn add(&mut self, other: Self) {
        self.input += other.input;
        self.cached += other.cached;
        self.output += other.output;
    }
}

/// How much of a provider's limit is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Percent of the window that is used.
    pub used_percent: f64,
    /// Length of the window.
    pub window_minutes: u64,
    /// When it begins anew, in seconds since 1970.
    pub reset_at: u64,
}

/// An HTTP error in place of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// HTTP status.
    pub status: u16,
    /// How often, for one and the same prompt, before it answers. Without it: always.
    #[serde(default)]
    pub times: Option<u32>,
    /// The error's code; without it one that goes with the status.
    #[serde(default)]
    pub code: Option<String>,
    /// The whole body; without it, one in the manner of the wire format.
    #[serde(default)]
    pub body: Option<Value>,
    /// Headers beside those of the step, such as `retry-after`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// How a response ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// As it should.
    #[default]
    Complete,
    /// The connection is cut after half of the response.
    Cut,
    /// After half of the response nothing more comes, until the client goes away.
    Hang,
    /// With an error inside the stream (`response.failed`).
    Failed {
        /// Such as `rate_limit_exceeded`, `usage_not_included`, `context_length_exceeded`, `insufficient_quota`.
        code: String,
        /// For people.
        #[serde(default)]
        message: String,
    },
    /// Too early (`response.incomplete`).
    Incomplete {
        /// Such as `max_output_tokens`.
        reason: String,
    },
}

impl Step {
    /// A step that answers these parts.
    #[must_use]
    pub fn of(answer: impl IntoIterator<Item = Part>) -> Self {
        Self { answer: answer.into_iter().collect(), ..Self::default() }
    }

    /// A step that says this.
    #[must_use]
    pub fn say(text: &str) -> Self {
        Self::of([Part::Say(text.to_owned())])
    }

    /// A step that runs this command.
    #[must_use]
    pub fn run(command: &str) -> Self {
        Self::of([Part::Run(command.to_owned())])
    }

    /// How many tool results this step brings.
    pub(super) fn calls(&self) -> usize {
        self.answer.iter().filter(|part| !matches!(part, Part::Say(_))).count()
    }
}

impl RateLimit {
    pub(super) fn headers(&self) -> [(&'static str, String); 3] {
        [
            ("x-codex-primary-used-percent", self.used_percent.to_string()),
            ("x-codex-primary-window-minutes", self.window_minutes.to_string()),
            ("x-codex-primary-reset-at", self.reset_at.to_string()),
        ]
    }
}
