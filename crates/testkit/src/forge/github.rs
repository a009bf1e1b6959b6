//! What GitHub answers, from its documentation and from what it was seen to say.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::state::{Account, State, StoredPull};
use super::{APP, FakeSetup, OURS, STRANGER};

/// Pull requests in a page, if nothing is asked for, and at most.
const PER_PAGE: (usize, usize) = (30, 100);
const MAX_TITLE: usize = 256;
const MAX_BODY: usize = 65_536;
const API_VERSION: &str = "2022-11-28";

/// A request, as far as the answer depends on it.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    /// Without `/api/v3`.
    pub(super) path: &'a str,
    pub(super) query: Vec<(String, String)>,
    pub(super) authorization: Option<&'a str>,
    pub(super) agent: Option<&'a str>,
    pub(super) version: Option<&'a str>,
    pub(super) body: &'a Value,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) body: Value,
    /// The header `Link`.
    pub(super) link: Option<String>,
}

impl Said {
    fn new(status: u16, body: Value) -> Self {
        Self { status, body, link: None }
    }

    fn message(status: u16, message: &str) -> Self {
        Self::new(status, json!({"message": message, "documentation_url": "https://docs.github.com/rest"}))
    }

    fn not_found() -> Self {
        Self::message(404, "Not Found")
    }

    /// What the API calls a validation that failed.
    fn invalid(error: Value) -> Self {
        Self::new(422, json!({"message": "Validation Failed", "errors": [error]}))
    }
}

pub(super) fn account(authorization: Option<&str>) -> Option<Account> {
    let token = authorization?.strip_prefix("Bearer ")?;
    [OURS, STRANGER, APP].into_iter().find(|account| account.token == token)
}

/// What is answered; the state is changed as was asked.
pub(super) fn answer(state: &mut State, setup: &FakeSetup, asked: &Asked<'_>) -> Said {
    if asked.agent.is_none() {
        return Said::message(
            403,
            "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
        );
    }
    let Some(account) = account(asked.authorization) else {
        return Said::message(
            401,
            if asked.authorization.is_some() { "Bad credentials" } else { "Requires authentication" },
        );
    };
    if asked.version.is_some_and(|version| version != API_VERSION) {
        return Said::message(400, "The requested API version is not supported");
    }
    let repository = format!("/repos/{}", setup.repository);
    let below = asked.path.strip_prefix(&repository);
    let number = below.and_then(|rest| rest.strip_prefix("/pulls/")).and_then(|rest| rest.parse::<u64>().ok());
    match (asked.method, asked.path, below, number) {
        ("GET", "/user", ..) if account.app => Said::message(403, "Resource not accessible by integration"),
        ("GET", "/user", ..) => Said::new(200, json!({"login": account.login, "id": account.id})),
        ("POST", "/graphql" | "/api/graphql", ..) => graphql(state, asked.body),
        ("GET", _, Some(""), _) => {
            Said::new(200, json!({"full_name": setup.repository, "default_branch": setup.default_branch}))
        }
        ("GET", _, Some("/pulls"), _) => list(state, setup, asked),
        ("POST", _, Some("/pulls"), _) => open(state, setup, account, asked.body),
        ("GET", _, _, Some(number)) => match state.get(number) {
            Some(pull) => Said::new(200, shown(pull, setup)),
            None => Said::not_found(),
        },
        ("PATCH", _, _, Some(number)) => change(state, setup, number, asked.body),
        _ => Said::not_found(),
    }
}

fn shown(pull: &StoredPull, setup: &FakeSetup) -> Value {
    let name = setup.repository.split('/').nth(1).unwrap_or_default();
    let StoredPull { number, head_owner, head, .. } = pull;
    json!({
        "number": number,
        "node_id": node_id(*number),
        "html_url": format!("https://forge.example/{}/pull/{number}", setup.repository),
        "state": if pull.open { "open" } else { "closed" },
        "draft": pull.draft,
        "merged_at": pull.merged.then_some("2026-01-02T03:04:05Z"),
        "title": pull.title,
        "body": if pull.body.is_empty() { Value::Null } else { pull.body.clone().into() },
        "user": {"login": pull.author, "id": pull.author_id, "type": "User"},
        "head": {
            "label": format!("{head_owner}:{head}"), "ref": head,
            "repo": {"full_name": format!("{head_owner}/{name}")},
        },
        "base": {"ref": pull.base, "repo": {"full_name": setup.repository}},
    })
}

fn node_id(number: u64) -> String {
    format!("PR_{number}")
}

fn list(state: &State, setup: &FakeSetup, asked: &Asked<'_>) -> Said {
    let get = |name: &str| asked.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let whole = |name: &str, otherwise: usize| get(name).and_then(|text| text.parse().ok()).unwrap_or(otherwise).max(1);
    let wanted = |pull: &&StoredPull| {
        let state_fits = match get("state") {
            Some("all") => true,
            Some("closed") => !pull.open,
            Some(_) | None => pull.open,
        };
        let head_fits = get("head").is_none_or(|head| head == format!("{}:{}", pull.head_owner, pull.head));
        state_fits && head_fits && get("base").is_none_or(|base| base == pull.base)
    };
    let mut found: Vec<&StoredPull> = state.pulls.iter().filter(wanted).collect();
    if get("direction") != Some("asc") {
        found.reverse();
    }
    let (page, per_page) = (whole("page", 1), whole("per_page", PER_PAGE.0).min(PER_PAGE.1));
    let last = found.len().div_ceil(per_page);
    let shown = found.iter().skip((page - 1) * per_page).take(per_page).map(|pull| shown(pull, setup)).collect();
    let place = |page: usize, rel: &str| format!("<https://forge.example/pulls?page={page}>; rel=\"{rel}\"");
    let link = (page < last).then(|| format!("{}, {}", place(page + 1, "next"), place(last, "last")));
    Said { link, ..Said::new(200, Value::Array(shown)) }
}

fn open(state: &mut State, setup: &FakeSetup, account: Account, body: &Value) -> Said {
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let field = |name: &str, code: &str| json!({"resource": "PullRequest", "field": name, "code": code});
    let custom = |message: String| json!({"resource": "PullRequest", "code": "custom", "message": message});
    for name in ["title", "head", "base"] {
        if text(name).is_empty() {
            return Said::invalid(field(name, "missing_field"));
        }
    }
    let owner = state.owner.clone();
    let head = text("head").strip_prefix(&format!("{owner}:")).unwrap_or(text("head"));
    let there = |branch: &str| setup.git_dir.as_deref().is_none_or(|git_dir| has_branch(git_dir, branch));
    if let Some((name, _)) = [("head", head), ("base", text("base"))].into_iter().find(|(_, branch)| !there(branch)) {
        return Said::invalid(field(name, "invalid"));
    }
    for (name, most) in [("title", MAX_TITLE), ("body", MAX_BODY)] {
        if text(name).chars().count() > most {
            return Said::invalid(custom(format!("{name} is too long (maximum is {most} characters)")));
        }
    }
    let draft = body.get("draft").and_then(Value::as_bool).unwrap_or(false);
    if draft && !setup.drafts {
        return Said::message(422, "Draft pull requests are not supported in this repository.");
    }
    let same =
        |pull: &&StoredPull| pull.open && pull.head_owner == owner && pull.head == head && pull.base == text("base");
    if state.pulls.iter().any(|pull| same(&pull)) {
        return Said::invalid(custom(format!("A pull request already exists for {owner}:{head}.")));
    }
    let number = state.add(StoredPull {
        number: 0,
        author: account.login.to_owned(),
        author_id: account.id,
        head_owner: owner,
        head: head.to_owned(),
        base: text("base").to_owned(),
        title: text("title").to_owned(),
        body: text("body").to_owned(),
        draft,
        open: true,
        merged: false,
    });
    match state.get(number) {
        Some(pull) => Said::new(201, shown(pull, setup)),
        None => Said::not_found(),
    }
}

/// Whether the repository has the branch.
fn has_branch(git_dir: &Path, branch: &str) -> bool {
    let status = Command::new("git")
        .arg("--git-dir")
        .arg(git_dir)
        .args(["rev-parse", "--verify", "--quiet", &format!("refs/heads/{branch}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// A draft stays one here, whatever is asked for: this API cannot change that.
fn change(state: &mut State, setup: &FakeSetup, number: u64, body: &Value) -> Said {
    let Some(pull) = state.get_mut(number) else { return Said::not_found() };
    match body.get("state").and_then(Value::as_str) {
        Some("closed") => pull.open = false,
        Some("open") if pull.merged => {
            return Said::message(422, "Validation Failed: a merged pull request cannot be opened again");
        }
        Some("open") => pull.open = true,
        Some(_) | None => {}
    }
    Said::new(200, shown(pull, setup))
}

fn graphql(state: &mut State, body: &Value) -> Said {
    const MUTATION: &str = "markPullRequestReadyForReview";
    let refused = |kind: &str, message: String| {
        let error = json!({"type": kind, "path": [MUTATION], "message": message});
        Said::new(200, json!({"data": {MUTATION: null}, "errors": [error]}))
    };
    let query = body.get("query").and_then(Value::as_str).unwrap_or_default();
    if !query.contains(MUTATION) {
        return Said::new(200, json!({"errors": [{"message": "this fake knows one mutation"}]}));
    }
    let id = body.pointer("/variables/id").and_then(Value::as_str).unwrap_or_default();
    let Some(pull) = state.pulls.iter_mut().find(|pull| node_id(pull.number) == id) else {
        return refused("NOT_FOUND", format!("Could not resolve to a node with the global id of '{id}'"));
    };
    if !pull.open || !pull.draft {
        return refused("UNPROCESSABLE", "Pull request is not an open draft".to_owned());
    }
    pull.draft = false;
    let shown = json!({"number": pull.number, "isDraft": false});
    Said::new(200, json!({"data": {MUTATION: {"pullRequest": shown}}}))
}
