//! What the agent asks its user: permissions and questions. The policy answers what it may, a person the rest; what nobody answers in
//! time ends the turn.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agent_client_protocol::v1::schema::{
    CancelNotification, CreateElicitationRequest, CreateElicitationResponse, ElicitationAcceptAction,
    ElicitationAction, ElicitationContentValue, ElicitationMode, ElicitationScope, PermissionOptionId,
    PermissionOptionKind, RequestPermissionOutcome, RequestPermissionRequest, RequestPermissionResponse,
    SelectedPermissionOutcome, SessionId, ToolCallContent, ToolKind,
};
use agent_client_protocol::v1::{ConnectionTo, Responder};
use agent_client_protocol::{Agent, Error};
use dalsegno_engine::core::{AutoApprove, Reply, Wants};

use super::fold::Listener;
use crate::agent::ear::Asked;
use crate::agent::inside::contained;
use crate::agent::text::clip;

/// Longest question.
const MAX_QUESTION_BYTES: usize = 2 * 1024;

/// Decides about permissions.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    pub(super) approve: AutoApprove,
    pub(super) workspace: PathBuf,
    /// What operators permitted in this session before, in the words in which it was asked for.
    pub(super) grants: Vec<String>,
}

impl Gate {
    /// Answers a permission request: by the policy, by a person, or by ending the turn with it.
    pub(super) async fn permission(
        &self,
        request: RequestPermissionRequest,
        responder: Responder<RequestPermissionResponse>,
        connection: &ConnectionTo<Agent>,
        listener: &Listener,
    ) -> Result<(), Error> {
        let wish = wish(&request);
        let question = clip(&format!("The agent asks for permission: {wish}"), MAX_QUESTION_BYTES);
        let mut chosen = self.decide(&request);
        if chosen.is_some() {
            listener.note(&format!("permission granted by `questions.auto_approve`: {wish}"));
        } else if self.grants.contains(&question) {
            listener.note(&format!("permission granted by an operator before: {wish}"));
            chosen = pick(&request, &ONCE);
        }
        if chosen.is_none() {
            chosen = match listener.ask(&question, Wants::Permission).await {
                Some(Reply::Granted) => pick(&request, &ONCE),
                Some(Reply::Denied { .. }) => pick(&request, &REFUSED),
                Some(Reply::Text { .. }) | None => None,
            };
        }
        let outcome = match chosen {
            Some(option) => RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(option)),
            None => {
                // The protocol wants the turn canceled before the request is answered so.
                connection.send_notification(CancelNotification::new(request.session_id))?;
                listener.asked.send_replace(Some(Asked { question, wants: Wants::Permission }));
                RequestPermissionOutcome::Cancelled
            }
        };
        responder.respond(RequestPermissionResponse::new(outcome))
    }

    /// Answers a question: by a person, or by ending the turn with it.
    pub(super) async fn question(
        request: CreateElicitationRequest,
        responder: Responder<CreateElicitationResponse>,
        connection: &ConnectionTo<Agent>,
        listener: &Listener,
    ) -> Result<(), Error> {
        let question = clip(&question_text(&request), MAX_QUESTION_BYTES);
        if let Some(field) = only_field(&request)
            && let Some(Reply::Text { text }) = listener.ask(&question, Wants::Input).await
        {
            let content = BTreeMap::from([(field, ElicitationContentValue::String(text))]);
            let accepted = ElicitationAcceptAction::new().content(content);
            return responder.respond(CreateElicitationResponse::new(ElicitationAction::Accept(accepted)));
        }
        if let Some(session) = session_of(&request) {
            connection.send_notification(CancelNotification::new(session))?;
        }
        listener.asked.send_replace(Some(Asked { question, wants: Wants::Input }));
        responder.respond(CreateElicitationResponse::new(ElicitationAction::Cancel))
    }

    /// The option that the policy takes without asking, if there is one.
    fn decide(&self, request: &RequestPermissionRequest) -> Option<PermissionOptionId> {
        match self.approve {
            AutoApprove::None => None,
            AutoApprove::All => pick(request, &[PermissionOptionKind::AllowAlways, PermissionOptionKind::AllowOnce]),
            // Only once: "always" would cover paths that nobody has looked at.
            AutoApprove::Workspace if self.inside(request) => pick(request, &ONCE),
            AutoApprove::Workspace => None,
        }
    }

    /// Whether the request is tied to paths, and all of them are inside the workspace. A command is not: its
    /// locations say where it runs, not what it touches.
    fn inside(&self, request: &RequestPermissionRequest) -> bool {
        let fields = &request.tool_call.fields;
        let tied = matches!(
            fields.kind,
            Some(ToolKind::Read | ToolKind::Edit | ToolKind::Delete | ToolKind::Move | ToolKind::Search)
        );
        let mut paths: Vec<&Path> = fields.locations.iter().flatten().map(|location| location.path.as_path()).collect();
        for content in fields.content.iter().flatten() {
            if let ToolCallContent::Diff(diff) = content {
                paths.push(&diff.path);
            }
        }
        tied && !paths.is_empty() && paths.iter().all(|path| contained(&self.workspace, path))
    }
}

/// What a person permits, it permits once.
const ONCE: [PermissionOptionKind; 1] = [PermissionOptionKind::AllowOnce];
const REFUSED: [PermissionOptionKind; 2] = [PermissionOptionKind::RejectOnce, PermissionOptionKind::RejectAlways];

/// The first option of one of these kinds.
fn pick(request: &RequestPermissionRequest, kinds: &[PermissionOptionKind]) -> Option<PermissionOptionId> {
    kinds.iter().find_map(|kind| {
        request.options.iter().find(|option| option.kind == *kind).map(|option| option.option_id.clone())
    })
}

/// The field of a form that has one, and takes text: what can be answered in words.
fn only_field(request: &CreateElicitationRequest) -> Option<String> {
    let ElicitationMode::Form(form) = &request.mode else { return None };
    let schema = serde_json::to_value(&form.requested_schema).ok()?;
    let mut fields = schema.get("properties")?.as_object()?.iter();
    let (name, field) = fields.next()?;
    let text = field.get("type").and_then(|kind| kind.as_str()) == Some("string");
    (text && fields.next().is_none()).then(|| name.clone())
}

/// What the agent wants to do, in its own words.
fn wish(request: &RequestPermissionRequest) -> String {
    let fields = &request.tool_call.fields;
    let title = fields.title.as_deref().unwrap_or("a tool call without a title");
    let command = fields.raw_input.as_ref().and_then(|input| input.get("command")).and_then(|value| value.as_str());
    match command.filter(|command| *command != title) {
        Some(command) => format!("{title} ({command})"),
        None => title.to_owned(),
    }
}

fn session_of(request: &CreateElicitationRequest) -> Option<SessionId> {
    let scope = if let ElicitationMode::Form(form) = &request.mode {
        &form.scope
    } else if let ElicitationMode::Url(url) = &request.mode {
        &url.scope
    } else {
        return None;
    };
    if let ElicitationScope::Session(session) = scope { Some(session.session_id.clone()) } else { None }
}

/// The message, and what may be answered, field by field.
fn question_text(request: &CreateElicitationRequest) -> String {
    let mut text = request.message.clone();
    // The schema is shown as it is on the wire: title, type and choices of each field.
    let fields = if let ElicitationMode::Form(form) = &request.mode {
        serde_json::to_value(&form.requested_schema).ok()
    } else {
        None
    };
    let properties = fields.as_ref().and_then(|fields| fields.get("properties")).and_then(|value| value.as_object());
    for (name, schema) in properties.into_iter().flatten().take(20) {
        let choices: Vec<&str> = schema
            .get("enum")
            .and_then(|value| value.as_array())
            .into_iter()
            .flatten()
            .filter_map(|value| value.as_str())
            .collect();
        if !choices.is_empty() {
            text.push_str(&format!("\n{name}: {}", choices.join(" | ")));
        }
    }
    text
}
