//! Effects as they are asked for: what, under which identity, and what is hashed of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::canonical::{ContentHash, Members};
use crate::error::DurableError;
use crate::key::Secret;
use crate::scope::{self, ExecutionScope, RuntimeScope, check_length};

/// The largest command, in bytes of canonical JSON. Larger payloads enter as [`Fingerprint`]s.
pub const COMMAND_BYTES: usize = 1 << 20;

/// What kind of interaction an effect is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is said by the command of the same name")]
pub enum EffectKind {
    LlmCall,
    ToolCall,
    ToolBatch,
    ExecCode,
    Checkpoint,
    Process,
    Trigger,
    Sleep,
    AwaitEvent,
    PeekEvent,
    DurableStep,
    External,
    Direct,
}

impl EffectKind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::LlmCall,
        Self::ToolCall,
        Self::ToolBatch,
        Self::ExecCode,
        Self::Checkpoint,
        Self::Process,
        Self::Trigger,
        Self::Sleep,
        Self::AwaitEvent,
        Self::PeekEvent,
        Self::DurableStep,
        Self::External,
        Self::Direct,
    ];

    /// The word in stores and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LlmCall => "llm_call",
            Self::ToolCall => "tool_call",
            Self::ToolBatch => "tool_batch",
            Self::ExecCode => "exec_code",
            Self::Checkpoint => "checkpoint",
            Self::Process => "process",
            Self::Trigger => "trigger",
            Self::Sleep => "sleep",
            Self::AwaitEvent => "await_event",
            Self::PeekEvent => "peek_event",
            Self::DurableStep => "durable_step",
            Self::External => "external",
            Self::Direct => "direct",
        }
    }

    /// The kind that this word names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// How it is settled when nobody knows whether it took place and the caller did not say. What asks and changes nothing
    /// runs again; so does a step, which is documented to run at least once. What touches the world waits for an operator.
    /// `None`: the caller has to say.
    #[must_use]
    pub fn default_in_doubt(self) -> Option<InDoubt> {
        match self {
            Self::LlmCall | Self::Checkpoint | Self::Sleep | Self::AwaitEvent | Self::PeekEvent | Self::DurableStep => {
                Some(InDoubt::Rerun)
            }
            Self::ToolCall | Self::ToolBatch | Self::ExecCode | Self::Process | Self::Trigger | Self::Direct => {
                Some(InDoubt::Park)
            }
            Self::External => None,
        }
    }
}

/// How an effect is settled when its intent is recorded, its outcome is not, and nobody runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InDoubt {
    /// It is idempotent by nature: do it again.
    Rerun,
    /// The remote deduplicates on the idempotency key: do it again under the same one.
    SameKey,
    /// Ask the world, by the call's probe.
    Probe,
    /// An operator says.
    Park,
}

/// What is to be done, as data. It is hashed, so that a recorded outcome is never given to another question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are what their names say")]
pub enum Command {
    /// A language model is asked.
    LlmCall { request: Value },
    /// A tool is called.
    ToolCall { tool: String, arguments: Value },
    /// Several tools are called.
    ToolBatch { calls: Vec<ToolRequest> },
    /// Code is run.
    ExecCode { language: String, code: String },
    /// State is kept.
    Checkpoint { state: Value },
    /// A process is started or told something.
    Process { request: Value },
    /// Something is triggered.
    Trigger { name: String, payload: Value },
    /// Time passes.
    Sleep { duration_ms: u64 },
    /// A wait is waited for.
    AwaitEvent { wait: String },
    /// A wait is looked at.
    PeekEvent { wait: String },
    /// A piece of the caller's own code.
    DurableStep { name: String, input: Value },
    /// Somebody else's system is written to.
    External { system: String, request: Value },
    /// Anything else.
    Direct { name: String, input: Value },
}

/// One call of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolRequest {
    /// The tool.
    pub tool: String,
    /// What it is given.
    pub arguments: Value,
}

impl Command {
    /// The kind that agrees with it.
    #[must_use]
    pub fn kind(&self) -> EffectKind {
        match self {
            Self::LlmCall { .. } => EffectKind::LlmCall,
            Self::ToolCall { .. } => EffectKind::ToolCall,
            Self::ToolBatch { .. } => EffectKind::ToolBatch,
            Self::ExecCode { .. } => EffectKind::ExecCode,
            Self::Checkpoint { .. } => EffectKind::Checkpoint,
            Self::Process { .. } => EffectKind::Process,
            Self::Trigger { .. } => EffectKind::Trigger,
            Self::Sleep { .. } => EffectKind::Sleep,
            Self::AwaitEvent { .. } => EffectKind::AwaitEvent,
            Self::PeekEvent { .. } => EffectKind::PeekEvent,
            Self::DurableStep { .. } => EffectKind::DurableStep,
            Self::External { .. } => EffectKind::External,
            Self::Direct { .. } => EffectKind::Direct,
        }
    }
}

/// What stands in a command for a payload that is too large or must not be written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// SHA-256, or for a secret HMAC-SHA256 under the store's secret, in hexadecimal.
    pub digest: String,
    /// Length of the payload.
    pub bytes: u64,
}

impl Fingerprint {
    /// Of a large payload. Anybody who guesses the payload can check the guess: not for secrets.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        use sha2::{Digest as _, Sha256};
        Self { digest: hex::encode(Sha256::digest(payload)), bytes: payload.len() as u64 }
    }

    /// Of a secret. The same in one store, and worth nothing to whoever has no access to the store's secret.
    #[must_use]
    pub fn of_secret(store: &Secret, payload: &[u8]) -> Self {
        Self { digest: hex::encode(store.mac("fingerprint", payload)), bytes: payload.len() as u64 }
    }
}

/// Under which identity an effect is asked for. An effect is identified by scope and replay key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// Where it lives.
    pub scope: ExecutionScope,
    /// Name of this invocation for people and logs; the same at each replay.
    pub effect_id: String,
    /// Kind; agrees with the command.
    pub kind: EffectKind,
    /// Identity within the scope.
    pub replay_key: String,
    /// The effect that led to this one. Provenance: no part of the hash.
    pub caused_by: Option<String>,
    /// Where in the runtime it came from. Provenance: no part of the hash.
    pub runtime: Option<RuntimeScope>,
}

/// An effect that is fit to be executed: ids are there, kind and command agree, and the hash is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    invocation: Invocation,
    command: Command,
    content: String,
    hash: ContentHash,
}

impl Envelope {
    /// Checks and hashes.
    ///
    /// # Errors
    /// [`DurableError::MissingExecutionScopeId`], [`DurableError::Invalid`] with `missing_effect_id`, `missing_replay_key`,
    /// `kind_mismatch`, `name_too_long` or `command_too_large`.
    pub fn new(invocation: Invocation, command: Command) -> Result<Self, DurableError> {
        let invalid = |code, message| Err(DurableError::Invalid { code, message });
        invocation.scope.check()?;
        for (what, code, text) in [
            // First, because an effect that is given no name is named by it.
            ("replay key", "missing_replay_key", &invocation.replay_key),
            ("effect id", "missing_effect_id", &invocation.effect_id),
        ] {
            if text.is_empty() {
                return invalid(code, format!("an effect needs a {what}, and it is empty"));
            }
            check_length(what, text)?;
        }
        if invocation.kind != command.kind() {
            let (kind, other) = (invocation.kind.as_str(), command.kind().as_str());
            return invalid(
                "kind_mismatch",
                format!("the invocation is of kind {kind}, and its command of kind {other}"),
            );
        }
        let content = content(&invocation, &command);
        if content.len() > COMMAND_BYTES {
            let message = format!(
                "the command has {} bytes, and {COMMAND_BYTES} are allowed; put large payloads in as fingerprints",
                content.len()
            );
            return invalid("command_too_large", message);
        }
        let hash = ContentHash::of(&content);
        Ok(Self { invocation, command, content, hash })
    }

    /// Its identity.
    #[must_use]
    pub fn invocation(&self) -> &Invocation {
        &self.invocation
    }

    /// What is to be done.
    #[must_use]
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// Identity within the scope.
    #[must_use]
    pub fn replay_key(&self) -> &str {
        &self.invocation.replay_key
    }

    /// The canonical JSON that is hashed: command, and invocation without provenance.
    #[must_use]
    pub fn content(&self) -> &str {
        &self.content
    }

    /// SHA-256 over [`Envelope::content`].
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        self.hash
    }
}

/// The canonical JSON of command and invocation, written as it is read: what the wire form of either would sort first, stands first.
fn content(invocation: &Invocation, command: &Command) -> String {
    // Provenance is left out by name, so that a new field of the invocation cannot be forgotten here.
    let Invocation { scope, effect_id, kind, replay_key, caused_by: _, runtime: _ } = invocation;
    let mut text = String::with_capacity(512);
    text.push_str("{\"command\":");
    write_command(command, &mut text);
    text.push_str(",\"invocation\":");
    let mut members = Members::open(&mut text);
    members.string("effect_id", effect_id);
    members.string("kind", kind.as_str());
    members.string("replay_key", replay_key);
    scope::write_content(scope, members.name("scope"));
    members.close();
    text.push('}');
    text
}

fn write_command(command: &Command, text: &mut String) {
    let kind = command.kind().as_str();
    let mut members = Members::open(text);
    // In the order of their names, which is the canonical one.
    match command {
        Command::LlmCall { request } | Command::Process { request } => members.value("request", request),
        Command::ToolCall { tool, arguments } => {
            members.value("arguments", arguments);
            members.string("tool", tool);
        }
        Command::ToolBatch { calls } => {
            let text = members.name("calls");
            text.push('[');
            for (index, ToolRequest { tool, arguments }) in calls.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                let mut call = Members::open(text);
                call.value("arguments", arguments);
                call.string("tool", tool);
                call.close();
            }
            text.push(']');
        }
        Command::ExecCode { language, code } => {
            members.string("code", code);
            members.string("language", language);
        }
        Command::Checkpoint { state } => members.value("state", state),
        Command::Trigger { name, payload } => {
            members.string("name", name);
            members.value("payload", payload);
        }
        Command::Sleep { duration_ms } => members.value("duration_ms", &Value::from(*duration_ms)),
        Command::AwaitEvent { wait } | Command::PeekEvent { wait } => {
            members.string("type", kind);
            members.string("wait", wait);
            members.close();
            return;
        }
        Command::DurableStep { name, input } | Command::Direct { name, input } => {
            members.value("input", input);
            members.string("name", name);
        }
        Command::External { system, request } => {
            members.value("request", request);
            members.string("system", system);
        }
    }
    members.string("type", kind);
    members.close();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn invocation(kind: EffectKind) -> Invocation {
        Invocation {
            scope: ExecutionScope::turn("s", "1"),
            effect_id: "e".into(),
            kind,
            replay_key: "k".into(),
            caused_by: None,
            runtime: None,
        }
    }

    fn code(result: Result<Envelope, DurableError>) -> String {
        result.err().map(|error| error.code().to_owned()).unwrap_or_default()
    }

    #[test]
    fn what_does_not_fit_together_is_refused_before_anything_runs() {
        let sleep = || Command::Sleep { duration_ms: 1 };
        assert_eq!(code(Envelope::new(invocation(EffectKind::Direct), sleep())), "kind_mismatch");
        let nameless = Invocation { effect_id: String::new(), ..invocation(EffectKind::Sleep) };
        assert_eq!(code(Envelope::new(nameless, sleep())), "missing_effect_id");
        let keyless = Invocation { replay_key: String::new(), ..invocation(EffectKind::Sleep) };
        assert_eq!(code(Envelope::new(keyless, sleep())), "missing_replay_key");
        let nowhere = Invocation { scope: ExecutionScope::process(""), ..invocation(EffectKind::Sleep) };
        assert_eq!(code(Envelope::new(nowhere, sleep())), "missing_execution_scope_id");
        let large = Command::Direct { name: "n".into(), input: json!("x".repeat(COMMAND_BYTES)) };
        assert_eq!(code(Envelope::new(invocation(EffectKind::Direct), large)), "command_too_large");
    }

    #[test]
    fn provenance_changes_nothing_and_everything_else_does() {
        let of = |invocation: Invocation, input: Value| {
            let command = Command::Direct { name: "n".into(), input };
            Envelope::new(invocation, command).map(|envelope| envelope.hash().to_string()).unwrap_or_default()
        };
        let base = || invocation(EffectKind::Direct);
        let hash = of(base(), json!(1));
        let caused = Invocation { caused_by: Some("other".into()), ..base() };
        assert_eq!(of(caused, json!(1)), hash);
        let runtime = RuntimeScope { session: "s".into(), turn: "1".into(), turn_index: 3, iteration: 4 };
        assert_eq!(of(Invocation { runtime: Some(runtime), ..base() }, json!(1)), hash);
        assert_ne!(of(base(), json!(2)), hash);
        assert_ne!(of(Invocation { effect_id: "f".into(), ..base() }, json!(1)), hash);
        assert_ne!(of(Invocation { scope: ExecutionScope::turn("t", "1"), ..base() }, json!(1)), hash);
        assert_ne!(of(Invocation { replay_key: "l".into(), ..base() }, json!(1)), hash);
    }

    fn every_command() -> [Command; 13] {
        let value = || json!({"b": [1, -2.5, null], "a": "\u{7}\"x"});
        let text = || "te\"xt".to_owned();
        [
            Command::LlmCall { request: value() },
            Command::ToolCall { tool: text(), arguments: value() },
            Command::ToolBatch {
                calls: vec![
                    ToolRequest { tool: text(), arguments: value() },
                    ToolRequest { tool: text(), arguments: json!(1) },
                ],
            },
            Command::ExecCode { language: text(), code: text() },
            Command::Checkpoint { state: value() },
            Command::Process { request: value() },
            Command::Trigger { name: text(), payload: value() },
            Command::Sleep { duration_ms: u64::MAX },
            Command::AwaitEvent { wait: text() },
            Command::PeekEvent { wait: text() },
            Command::DurableStep { name: text(), input: value() },
            Command::External { system: text(), request: value() },
            Command::Direct { name: text(), input: value() },
        ]
    }

    #[test]
    fn content_is_the_canonical_form_of_what_serde_writes() {
        let scopes = [
            ExecutionScope::turn("s\"", "1"),
            ExecutionScope::process("p"),
            ExecutionScope::QueueDrain { session: "s".into(), drain: "d".into() },
            ExecutionScope::SessionDelete { session: "s".into() },
            ExecutionScope::operation("o"),
        ];
        for (number, command) in every_command().into_iter().enumerate() {
            let scope = scopes[number % scopes.len()].clone();
            let invocation = Invocation { scope, ..invocation(command.kind()) };
            let whole = json!({
                "command": command,
                "invocation": {
                    "effect_id": invocation.effect_id, "kind": invocation.kind,
                    "replay_key": invocation.replay_key, "scope": invocation.scope,
                },
            });
            assert_eq!(content(&invocation, &command), crate::canonical::canonical(&whole));
        }
    }

    #[test]
    fn every_kind_has_its_word_and_external_alone_has_no_default() {
        for kind in EffectKind::ALL {
            assert_eq!(EffectKind::from_word(kind.as_str()), Some(kind));
            assert_eq!(kind.default_in_doubt().is_none(), kind == EffectKind::External);
            assert_eq!(serde_json::to_value(kind).ok(), Some(json!(kind.as_str())));
        }
    }
}
