//! `GET /api/v1/openapi.json`: the description of the API for programs. The shapes are those of `dalsegno-api`, derived from its
//! types; what each route takes and answers is one table here, beside which stands the table of the routes themselves
//! ([`crate::routes::api`]). Tests hold the two together, and real answers to the shapes.

use std::sync::OnceLock;

use axum::Json;
use dalsegno_api as api;
use dalsegno_core::ActionKind;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::params::Params;
use crate::problem::Problem;
use crate::routes::{MAX_EFFECTS, MAX_ENTRIES, MAX_EVENTS, MAX_ISSUES, MAX_RUNS};

/// The shapes that routes name; those inside them come along.
#[derive(OpenApi)]
#[openapi(components(schemas(
    api::Action,
    api::ActionState,
    api::BudgetReport,
    api::Capabilities,
    api::EffectPage,
    api::ErrorBody,
    api::EventPage,
    api::Explanation,
    api::FileList,
    api::Health,
    api::IssueDetail,
    api::IssueList,
    api::LoginLink,
    api::Readiness,
    api::Ready,
    api::Receipt,
    api::Refreshed,
    api::Run,
    api::RunDiff,
    api::RunList,
    api::Saga,
    api::State,
    api::TokenList,
    api::TranscriptPage,
    api::UsageReport,
    api::WebhookTaken,
)))]
struct Shapes;

/// What a caller has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing, ever.
    Nothing,
    /// Nothing on loopback, unless the daemon wants it; without a token, texts are left out.
    MaybeToken,
    /// A token of this role or a higher one.
    Role(&'static str),
}

/// What an answer holds.
#[derive(Debug, Clone, Copy)]
enum Holds {
    Json(&'static str),
    /// One of two.
    Either(&'static str, &'static str),
    Text(&'static str),
    /// Any JSON object.
    Object,
}

/// One method of one route.
struct Operation {
    method: &'static str,
    path: &'static str,
    name: &'static str,
    does: &'static str,
    needs: Needs,
    takes: Vec<Value>,
    body: Option<&'static str>,
    answers: Vec<(u16, &'static str, Holds)>,
}

impl Operation {
    fn get(path: &'static str, name: &'static str, does: &'static str, needs: Needs, holds: Holds) -> Self {
        let answers = vec![(200, "As asked.", holds)];
        Self { method: "get", path, name, does, needs, takes: Vec::new(), body: None, answers }
    }

    fn post(path: &'static str, name: &'static str, does: &'static str, needs: Needs) -> Self {
        Self { method: "post", answers: Vec::new(), ..Self::get(path, name, does, needs, Holds::Object) }
    }

    fn takes(self, takes: impl IntoIterator<Item = Value>) -> Self {
        Self { takes: takes.into_iter().collect(), ..self }
    }

    fn answers(mut self, status: u16, when: &'static str, holds: Holds) -> Self {
        self.answers.push((status, when, holds));
        self
    }
}

fn parameter(place: &str, name: &str, about: &str, schema: &Value) -> Value {
    json!({"in": place, "name": name, "description": about, "required": place == "path", "schema": schema})
}

/// No control characters.
const PLAIN: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";

fn word(place: &str, name: &str, about: &str) -> Value {
    parameter(place, name, about, &json!({"type": "string", "maxLength": 256, "pattern": PLAIN}))
}

fn id(about: &str) -> Value {
    named("id", about)
}

fn named(name: &str, about: &str) -> Value {
    let schema = json!({"type": "string", "minLength": 1, "maxLength": 256, "pattern": PLAIN});
    parameter("path", name, about, &schema)
}

fn limit(most: usize) -> Value {
    parameter("query", "limit", "At most so many.", &json!({"type": "integer", "minimum": 1, "maximum": most}))
}

fn after() -> Value {
    let about = "A cursor as an answer gave it: only what comes after it. Without one, from the oldest that is kept.";
    parameter("query", "after", about, &json!({"type": "string"}))
}

fn filters() -> [Value; 3] {
    [
        word("query", "issue", "Only of the issue with this identifier or id, ignoring case."),
        word("query", "run", "Only of this run."),
        word("query", "kind", "Only of this kind."),
    ]
}

const VIEWER: Needs = Needs::Role("viewer");
const OPERATOR: Needs = Needs::Role("operator");
const ISSUE_ID: &str = "Identifier or id of an issue, ignoring case.";
const RUN_ID: &str = "Name of a run.";

fn operations() -> Vec<Operation> {
    [about_the_daemon(), about_issues(), about_runs(), about_events_and_actions()].into_iter().flatten().collect()
}

fn about_the_daemon() -> Vec<Operation> {
    use Holds::{Json, Object, Text};
    let open = Needs::MaybeToken;
    let login = word("query", "code", "The code of a login link, used once.");
    vec![
        Operation::get("/healthz", "health", "The process is up.", Needs::Nothing, Json("Health")),
        Operation::get("/readyz", "ready", "Whether it has recovered and takes work.", open, Json("Ready")).answers(
            503,
            "It recovers, or ends.",
            Json("Ready"),
        ),
        Operation::get("/metrics", "metrics", "Figures in the text format of Prometheus.", open, Text("text/plain")),
        Operation::get("/login", "log_in", "Lets a browser in by a login link.", Needs::Nothing, Text("text/html"))
            .takes([login]),
        Operation::get("/api/v1/openapi.json", "openapi", "This document.", open, Object),
        Operation::get(
            "/api/v1/capabilities",
            "capabilities",
            "What this daemon can do, and keeps.",
            open,
            Json("Capabilities"),
        ),
        Operation::get(
            "/api/v1/readiness",
            "readiness",
            "How ready it is, and what is left to recover.",
            open,
            Json("Readiness"),
        ),
        Operation::post(
            "/api/v1/login-links",
            "make_login_link",
            "A link that lets a browser in, once. Not by a session.",
            VIEWER,
        )
        .answers(201, "It is made.", Json("LoginLink")),
        Operation::get("/api/v1/tokens", "tokens", "Which tokens there are.", Needs::Role("admin"), Json("TokenList")),
        Operation::get("/api/v1/state", "state", "The overview.", open, Json("State")),
        Operation::post("/api/v1/refresh", "refresh", "Reads the tracker now.", OPERATOR).answers(
            202,
            "It is going to be read.",
            Json("Refreshed"),
        ),
        Operation::get(
            "/api/v1/usage",
            "usage",
            "Tokens and cost by issue, run, day and model.",
            open,
            Json("UsageReport"),
        ),
        Operation::get("/api/v1/budget", "budget", "Use and limits.", open, Json("BudgetReport")),
    ]
}

fn about_issues() -> Vec<Operation> {
    use Holds::Json;
    let open = Needs::MaybeToken;
    let state = word("query", "state", "Only of this status (`parked`), or this state of the tracker (`In Progress`).");
    let identifier = named("identifier", ISSUE_ID);
    vec![
        Operation::get("/api/v1/issues", "issues", "All visible issues.", open, Json("IssueList"))
            .takes([state, limit(MAX_ISSUES)]),
        Operation::get("/api/v1/issues/{id}", "issue", "One issue.", open, Json("IssueDetail")).takes([id(ISSUE_ID)]),
        Operation::get(
            "/api/v1/{identifier}",
            "issue_by_identifier",
            "The same. Fixed routes win over it.",
            open,
            Json("IssueDetail"),
        )
        .takes([identifier]),
        Operation::get("/api/v1/issues/{id}/explain", "explain", "Why it runs or does not.", open, Json("Explanation"))
            .takes([id(ISSUE_ID)]),
        Operation::get("/api/v1/issues/{id}/runs", "issue_runs", "Its runs, newest first.", open, Json("RunList"))
            .takes([id(ISSUE_ID), limit(MAX_RUNS)]),
    ]
}

fn about_runs() -> Vec<Operation> {
    use Holds::{Json, Text};
    let open = Needs::MaybeToken;
    let saga = "Id of a saga.";
    vec![
        Operation::get("/api/v1/runs", "runs", "Runs of all issues, newest first.", open, Json("RunList"))
            .takes([limit(MAX_RUNS)]),
        Operation::get("/api/v1/runs/{id}", "run", "One run.", open, Json("Run")).takes([id(RUN_ID)]),
        Operation::get(
            "/api/v1/runs/{id}/transcript",
            "transcript",
            "What its agent was asked, said and did.",
            VIEWER,
            Json("TranscriptPage"),
        )
        .takes([id(RUN_ID), after(), limit(MAX_ENTRIES)]),
        Operation::get("/api/v1/runs/{id}/effects", "effects", "What it did to the world.", VIEWER, Json("EffectPage"))
            .takes([id(RUN_ID), after(), limit(MAX_EFFECTS)]),
        Operation::get("/api/v1/runs/{id}/diff", "diff", "What it changed.", VIEWER, Json("RunDiff"))
            .takes([id(RUN_ID)]),
        Operation::get("/api/v1/runs/{id}/files", "files", "What was kept for it.", VIEWER, Json("FileList"))
            .takes([id(RUN_ID)]),
        Operation::get(
            "/api/v1/runs/{id}/files/{file}",
            "file",
            "What is in a file that was kept for it, invalid UTF-8 replaced.",
            VIEWER,
            Text("text/plain"),
        )
        .takes([id(RUN_ID), named("file", "Name of a file, as the list has it.")])
        .answers(
            410,
            "It is lost: not what was kept any more, or its receipt was taken back.",
            Json("ErrorBody"),
        ),
        Operation::get("/api/v1/sagas/{id}", "saga", "A saga: its steps, and how each is.", VIEWER, Json("Saga"))
            .takes([id(saga)]),
    ]
}

fn about_events_and_actions() -> Vec<Operation> {
    use Holds::{Either, Json, Text};
    let (open, either) = (Needs::MaybeToken, Either("Receipt", "ErrorBody"));
    let last = parameter(
        "header",
        "Last-Event-ID",
        "The cursor that was seen last; wins over `after`.",
        &json!({"type": "string"}),
    );
    let page = [after(), limit(MAX_EVENTS)].into_iter().chain(filters());
    let stream = [after(), last].into_iter().chain(filters());
    let act = Operation::post(
        "/api/v1/actions",
        "act",
        "Has an action decided. The receipt is durable when it comes. Beyond a thousand rejected actions in a minute a rejection is told as an \
         error, without a receipt.",
        OPERATOR,
    );
    vec![
        Operation::get("/api/v1/events", "events", "The journal, page by page.", open, Json("EventPage")).takes(page),
        Operation::get(
            "/api/v1/events/stream",
            "stream",
            "The same as server-sent events: one `Event` per `data:` line, its cursor as `id:`.",
            open,
            Text("text/event-stream"),
        )
        .takes(stream),
        Operation { body: Some("Action"), ..act }
            .answers(200, "It was accepted before, under the same key.", Json("Receipt"))
            .answers(202, "It is accepted.", Json("Receipt"))
            .answers(404, "It is rejected: there is no such target.", either)
            .answers(409, "It is rejected: it is not allowed now.", either)
            .answers(422, "It is rejected for its payload, or the body is no action.", either)
            .answers(
                503,
                "It is rejected: too many are accepted and not done yet (see `Retry-After`). Or there is no daemon.",
                either,
            ),
        Operation::get(
            "/api/v1/actions/{id}",
            "action",
            "A receipt, and what came of it.",
            VIEWER,
            Json("ActionState"),
        )
        .takes([id("Name of an action.")]),
        Operation::post(
            "/api/v1/webhooks/{tracker}",
            "webhook",
            "Takes a webhook of a service, with the body and the signature that it sends. What it names is looked at.",
            Needs::Nothing,
        )
        .takes([named("tracker", "The service: one of `webhooks` of the capabilities.")])
        .answers(200, "It came before.", Json("WebhookTaken"))
        .answers(202, "It is going to be looked at.", Json("WebhookTaken")),
    ]
}

/// The document.
pub(crate) fn document() -> Value {
    // Types that cannot be written would be a defect that the tests see.
    let mut shapes = serde_json::to_value(Shapes::openapi()).unwrap_or_default();
    let mut schemas = shapes["components"]["schemas"].take();
    schemas["Action"]["properties"]["action_kind"]["enum"] = ActionKind::ALL.iter().map(|kind| kind.as_str()).collect();
    schemas["Action"]["properties"]["schema_version"]["enum"] = json!([1]);
    schemas["Action"]["properties"]["on_duplicate"]["enum"] = json!(["replay", "reject", null]);
    let mut paths = Map::new();
    for operation in operations() {
        let methods = paths.entry(operation.path).or_insert_with(|| json!({}));
        methods[operation.method] = described(&operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Dalsegno",
            "version": "1",
            "description": "A durable orchestrator for coding agents. Readers ignore fields that they do not know; within `v1` none is taken away. \
                            Times are RFC 3339 in UTC. Cursors are opaque. Each error has a stable code (docs/errors.md). The pages of the dashboard are not described here.",
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:7272"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "A token of `dalsegno token new`, or that of the state directory."},
                "session": {"type": "apiKey", "in": "cookie", "name": "dalsegno_session_7272",
                            "description": "The session of a browser; the name ends with the daemon's port. A write by it needs an `Origin`."},
            },
        },
    })
}

fn described(operation: &Operation) -> Value {
    let Operation { method: _, path: _, name, does, needs, takes, body, answers } = operation;
    let mut responses = Map::new();
    for (status, when, holds) in answers {
        responses.insert(status.to_string(), json!({"description": when, "content": content(*holds)}));
    }
    for (range, when) in [("4XX", "Refused, or not to be had."), ("5XX", "Not now.")] {
        responses.insert(range.to_owned(), json!({"description": when, "content": content(Holds::Json("ErrorBody"))}));
    }
    let any = json!([{"token": []}, {"session": []}]);
    let (security, asks) = match needs {
        Needs::Nothing => (json!([{}]), String::new()),
        Needs::MaybeToken => (
            json!([{}, {"token": []}, {"session": []}]),
            " Without a token, texts of people, agents and programs are left out; a daemon may want one.".to_owned(),
        ),
        Needs::Role(role) => (any, format!(" Needs the role `{role}`.")),
    };
    let mut described = json!({
        "operationId": name,
        "summary": does,
        "description": format!("{does}{asks}"),
        "security": security,
        "responses": responses,
    });
    if !takes.is_empty() {
        described["parameters"] = json!(takes);
    }
    if let Some(body) = body {
        described["requestBody"] = json!({"required": true, "content": content(Holds::Json(body))});
    }
    described
}

fn content(holds: Holds) -> Value {
    let shape = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    match holds {
        Holds::Json(name) => json!({"application/json": {"schema": shape(name)}}),
        Holds::Either(one, other) => json!({"application/json": {"schema": {"oneOf": [shape(one), shape(other)]}}}),
        Holds::Object => json!({"application/json": {"schema": {"type": "object"}}}),
        Holds::Text(kind) => json!({kind: {"schema": {"type": "string"}}}),
    }
}

pub(crate) async fn openapi(params: Params) -> Result<Json<&'static Value>, Problem> {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    params.done()?;
    Ok(Json(DOCUMENT.get_or_init(document)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// In the checkout, from the crate.
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

    #[test]
    fn every_route_of_the_api_is_in_the_document_and_nothing_else() {
        let routes: BTreeSet<&str> = crate::routes::api().into_iter().map(|(path, _)| path).collect();
        let described: BTreeSet<&str> = operations().iter().map(|operation| operation.path).collect();
        assert_eq!(described, routes);
        let names: BTreeSet<&str> = operations().iter().map(|operation| operation.name).collect();
        assert_eq!(names.len(), operations().len(), "each has a name of its own");
    }

    #[test]
    fn every_shape_that_is_named_is_there() {
        let document = document();
        let mut open = vec![&document];
        let mut named = 0;
        while let Some(value) = open.pop() {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(name)) = fields.get("$ref") {
                        named += 1;
                        let pointer = name.trim_start_matches('#');
                        assert!(document.pointer(pointer).is_some(), "{name}");
                    }
                    open.extend(fields.values());
                }
                Value::Array(items) => open.extend(items),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        assert!(named > 50, "{named}");
    }

    #[test]
    fn the_document_in_the_checkout_is_current() {
        let text = serde_json::to_string_pretty(&document()).map(|text| text + "\n").unwrap_or_default();
        if std::env::var_os("DALSEGNO_WRITE_DOCS").is_some() {
            assert!(std::fs::write(FILE, &text).is_ok());
        }
        let kept = std::fs::read_to_string(FILE).unwrap_or_default();
        // The order of keys depends on what else is built with it.
        let read = |text: &str| serde_json::from_str::<Value>(text).ok();
        assert!(
            read(&kept).is_some() && read(&kept) == read(&text),
            "docs/openapi.json is old: DALSEGNO_WRITE_DOCS=1 cargo test -p dalsegno-gateway --lib openapi"
        );
    }
}
