//! GitHub, and GitHub Enterprise Server: pull requests over REST, and one mutation of GraphQL.

use async_trait::async_trait;
use dalsegno_core::{Failure, PullRequest};
use dalsegno_engine::{Draft, Forge, ForgeError, Pull, PullState};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::settings::Place;
use crate::http::{Answer, Call, Http, Limits, Method, NoAnswer, Secret, Verdict, encoded};
use crate::marker;

const HEADERS: &[(&str, &str)] = &[("accept", "application/vnd.github+json"), ("x-github-api-version", "2022-11-28")];
/// Most characters of a title and of a body, as GitHub counts them.
const MAX_TITLE: usize = 256;
const MAX_BODY: usize = 65_536;
/// Pull requests in a page of a list; more than GitHub gives are not asked for.
const PER_PAGE: usize = 100;
/// Pages of a list that are read. One branch has a few pull requests at most.
const MAX_PAGES: usize = 20;
const READY: &str =
    "mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { pullRequest { isDraft } } }";

/// The pull requests of one repository on GitHub.
#[derive(Debug)]
pub struct GitHub {
    http: Http,
    place: Place,
    account: OnceCell<Account>,
}

#[derive(Debug, Clone, Deserialize)]
struct Account {
    /// Stays when the name changes.
    id: u64,
}

#[derive(Debug, Deserialize)]
struct Repository {
    default_branch: String,
}

/// A pull request, as far as we read it.
#[derive(Debug, Deserialize)]
struct Raw {
    number: u64,
    node_id: String,
    html_url: String,
    state: RawState,
    #[serde(default)]
    draft: bool,
    merged_at: Option<String>,
    body: Option<String>,
    /// Nobody: the account was deleted.
    user: Option<Account>,
    head: RawHead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawState {
    Open,
    Closed,
}

#[derive(Debug, Deserialize)]
struct RawHead {
    #[serde(rename = "ref")]
    branch: String,
    /// Nothing: the fork was deleted.
    repo: Option<RawRepository>,
}

#[derive(Debug, Deserialize)]
struct RawRepository {
    full_name: String,
}

#[derive(Debug, Deserialize)]
struct RawRefusal {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<Value>,
}

#[derive(Debug, Deserialize)]
struct GraphQl {
    #[serde(default)]
    errors: Vec<GraphQlError>,
}

#[derive(Debug, Deserialize)]
struct GraphQlError {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    message: String,
}

fn headers() -> Vec<(&'static str, String)> {
    HEADERS.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

impl GitHub {
    pub(super) fn new(place: Place, token: Secret, limits: Limits) -> Self {
        Self { http: Http::new(token, limits), place, account: OnceCell::new() }
    }

    fn url(&self, rest: &str) -> String {
        format!("{}/repos/{}{rest}", self.place.api, self.place.repository)
    }

    /// A read that has to succeed.
    async fn get(&self, url: String) -> Result<Answer, Failure> {
        let call = Call { method: Method::Get, url, headers: headers(), bearer: true, body: None };
        let answer = self.http.call(call).await.map_err(silent)?;
        match answer.verdict() {
            Verdict::Done => Ok(answer),
            Verdict::Refused => Err(refused(&answer)),
            Verdict::Unclear => Err(broken(&answer)),
        }
    }

    /// A write. An answer that comes back says that it is done; whether it is so has still to be looked at.
    async fn write(&self, method: Method, url: String, body: Value) -> Result<Answer, ForgeError> {
        let call = Call { method, url, headers: headers(), bearer: true, body: Some(body.to_string()) };
        let answer = match self.http.call(call).await {
            Ok(answer) => answer,
            Err(none @ NoAnswer::NotSent(_)) => return Err(ForgeError::NotApplied(silent(none))),
            Err(none @ NoAnswer::Unanswered(_)) => return Err(ForgeError::Unknown(silent(none))),
        };
        match answer.verdict() {
            Verdict::Done => Ok(answer),
            Verdict::Refused => Err(ForgeError::NotApplied(refused(&answer))),
            Verdict::Unclear => Err(ForgeError::Unknown(broken(&answer))),
        }
    }

    async fn account(&self) -> Result<&Account, Failure> {
        self.account
            .get_or_try_init(|| async {
                let answer = self.get(format!("{}/user", self.place.api)).await.map_err(|mut failure| {
                    if failure.code == "forge_denied" {
                        failure.hint = Some(
                            "Use the token of a user's account: a GitHub App, and the token of a GitHub Actions job, cannot ask \
                             who they are, and what is theirs could not be told from what is others'."
                                .to_owned(),
                        );
                    }
                    failure
                })?;
                read(&answer)
            })
            .await
    }

    /// The pull request as GitHub gives it; `None`: there is none.
    async fn raw(&self, number: u64) -> Result<Option<Raw>, Failure> {
        match self.get(self.url(&format!("/pulls/{number}"))).await {
            Ok(answer) => read(&answer).map(Some),
            Err(failure) if failure.code == "forge_not_found" => {
                // GitHub says the same of a repository that the token may not see.
                self.get(self.url("")).await?;
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    fn shown(&self, raw: &Raw, account: &Account) -> Pull {
        let here =
            raw.head.repo.as_ref().is_some_and(|repo| repo.full_name.eq_ignore_ascii_case(&self.place.repository));
        Pull {
            id: PullRequest { number: raw.number, url: raw.html_url.clone() },
            state: match (&raw.merged_at, raw.state, raw.draft) {
                (Some(_), ..) => PullState::Merged,
                (None, RawState::Closed, _) => PullState::Closed,
                (None, RawState::Open, true) => PullState::Draft,
                (None, RawState::Open, false) => PullState::Open,
            },
            head: here.then(|| raw.head.branch.clone()),
            ours: raw.user.as_ref().is_some_and(|user| user.id == account.id),
        }
    }

    /// What a write left, which GitHub says it did. When that cannot be seen, nobody knows.
    async fn after(&self, number: u64) -> Result<Option<(Raw, Pull)>, ForgeError> {
        let account = self.account().await.map_err(ForgeError::Unknown)?;
        let raw = self.raw(number).await.map_err(ForgeError::Unknown)?;
        Ok(raw.map(|raw| {
            let pull = self.shown(&raw, account);
            (raw, pull)
        }))
    }
}

#[async_trait]
impl Forge for GitHub {
    async fn open_draft(&self, draft: &Draft) -> Result<Pull, ForgeError> {
        // Asked before anything is written: who cannot be told apart does not write.
        self.account().await?;
        let base = match &draft.base {
            Some(base) => base.clone(),
            None => read::<Repository>(&self.get(self.url("")).await?)?.default_branch,
        };
        let body = json!({
            "title": title(&draft.title), "body": body(&draft.body, &draft.marker),
            "head": draft.head, "base": base, "draft": true,
        });
        let opened = self.write(Method::Post, self.url("/pulls"), body).await;
        let answer = opened.map_err(|error| match error {
            ForgeError::NotApplied(failure) => ForgeError::NotApplied(open_refused(failure, &draft.head, &base)),
            ForgeError::Unknown(failure) => ForgeError::Unknown(failure),
        })?;
        let made: Raw = read(&answer).map_err(ForgeError::Unknown)?;
        match self.after(made.number).await? {
            Some((raw, pull)) if is_it(&raw, &pull, &draft.head, &draft.marker) => Ok(pull),
            Some(_) | None => Err(unseen("opened a pull request", made.number)),
        }
    }

    async fn find(&self, head: &str, marker: &str) -> Result<Option<Pull>, Failure> {
        let account = self.account().await?;
        let owner = self.place.repository.split('/').next().unwrap_or_default();
        let mut newest: Option<Pull> = None;
        for page in 1..=MAX_PAGES {
            let asked = format!(
                "/pulls?state=all&head={}:{}&sort=created&direction=desc&per_page={PER_PAGE}&page={page}",
                encoded(owner),
                encoded(head)
            );
            let answer = self.get(self.url(&asked)).await?;
            let found: Vec<Raw> = read(&answer)?;
            for raw in &found {
                let pull = self.shown(raw, account);
                let newer = newest.as_ref().is_none_or(|newest| newest.id.number < raw.number);
                if newer && is_it(raw, &pull, head, marker) {
                    newest = Some(pull);
                }
            }
            // The link is not followed: it could lead elsewhere, and the token with it.
            let more = answer.header("link").is_some_and(|link| link.contains("rel=\"next\""));
            if !more && found.len() < PER_PAGE {
                return Ok(newest);
            }
        }
        let most = MAX_PAGES * PER_PAGE;
        Err(Failure::permanent(
            "forge_response",
            format!("{head} has more than {most} pull requests, and not all can be read"),
        )
        .hint("Use another branch."))
    }

    async fn look(&self, number: u64) -> Result<Option<Pull>, Failure> {
        let account = self.account().await?;
        Ok(self.raw(number).await?.map(|raw| self.shown(&raw, account)))
    }

    async fn mark_ready(&self, number: u64) -> Result<Pull, ForgeError> {
        let account = self.account().await?;
        let Some(raw) = self.raw(number).await? else {
            let why = format!("{} has no pull request {number}", self.place.repository);
            return Err(Failure::permanent("forge_not_found", why).hint("Look for it on the forge.").into());
        };
        let pull = self.shown(&raw, account);
        if !pull.ours {
            return Err(not_ours(number));
        }
        match pull.state {
            PullState::Open | PullState::Merged => return Ok(pull),
            PullState::Closed => {
                return Err(Failure::permanent("pull_request_closed", format!("pull request {number} is closed"))
                    .hint("Open it again, or abandon the handoff.")
                    .into());
            }
            PullState::Draft => {}
        }
        let body = json!({"query": READY, "variables": {"id": raw.node_id}});
        let answer = self.write(Method::Post, self.place.graphql.clone(), body).await?;
        // GraphQL answers 200 to what it refuses. What became of the draft tells more than any answer.
        match self.after(number).await? {
            Some((_, pull)) if matches!(pull.state, PullState::Open | PullState::Merged) => Ok(pull),
            Some(_) | None => Err(graphql_refused(&answer).unwrap_or_else(|| unseen("marked as ready", number))),
        }
    }

    async fn close(&self, number: u64) -> Result<(), ForgeError> {
        let account = self.account().await?;
        let Some(raw) = self.raw(number).await? else { return Ok(()) };
        let pull = self.shown(&raw, account);
        if !pull.ours {
            return Err(not_ours(number));
        }
        match pull.state {
            PullState::Closed => return Ok(()),
            PullState::Merged => return Err(merged(number)),
            PullState::Draft | PullState::Open => {}
        }
        let url = self.url(&format!("/pulls/{number}"));
        self.write(Method::Patch, url, json!({"state": "closed"})).await?;
        match self.after(number).await? {
            None => Ok(()),
            Some((_, pull)) => match pull.state {
                PullState::Closed => Ok(()),
                PullState::Merged => Err(merged(number)),
                PullState::Draft | PullState::Open => Err(unseen("closed", number)),
            },
        }
    }
}

/// Ours, from this branch of our repository, with this marker.
fn is_it(raw: &Raw, pull: &Pull, head: &str, marker: &str) -> bool {
    pull.ours && pull.head.as_deref() == Some(head) && marker::is_in(raw.body.as_deref().unwrap_or_default(), marker)
}

fn title(title: &str) -> String {
    let line = title.split_whitespace().collect::<Vec<_>>().join(" ");
    cut(&marker::neutralised(&line), MAX_TITLE)
}

fn body(text: &str, marker: &str) -> String {
    let end = format!("\n\n{}", marker::line(marker));
    cut(marker::neutralised(text).trim_end(), MAX_BODY.saturating_sub(end.chars().count())) + &end
}

fn cut(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest.saturating_sub(1)).chain(['…']).collect()
}

fn read<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, Failure> {
    answer.json().map_err(|why| {
        Failure::retryable("forge_response", format!("the forge answered {} with something else: {why}", answer.status))
            .hint("See the forge's status page, and handoff.provider.api_url.")
    })
}

fn silent(none: NoAnswer) -> Failure {
    match none {
        NoAnswer::NotSent(why) => Failure::retryable("forge_request", format!("the forge cannot be reached: {why}"))
            .hint("See to the network, to the certificates of this machine, and to handoff.provider.api_url."),
        NoAnswer::Unanswered(why) => Failure::retryable("forge_no_answer", format!("the forge did not answer: {why}"))
            .hint("See to the network, and to the forge's status page."),
    }
}

fn broken(answer: &Answer) -> Failure {
    Failure::retryable("forge_response", format!("the forge broke off with status {}", answer.status))
        .hint("See the forge's status page.")
}

fn refused(answer: &Answer) -> Failure {
    let said = said(answer);
    let status = answer.status;
    let limited = answer.header("x-ratelimit-remaining") == Some("0")
        || answer.header("retry-after").is_some()
        || said.to_lowercase().contains("rate limit");
    match status {
        429 => limit_reached(answer, &said),
        403 if limited => limit_reached(answer, &said),
        401 => Failure::permanent("forge_denied", format!("the forge does not know the token: {said}"))
            .hint("Put a valid token into the variable that handoff.provider.token names, and start the daemon again."),
        403 => Failure::permanent("forge_denied", format!("the token may not do this: {said}"))
            .hint("Give it the rights that docs/forges/github.md lists."),
        404 => {
            Failure::permanent("forge_not_found", format!("the forge has no such repository for this token: {said}"))
                .hint("See handoff.provider.repository, and whether the token may see it.")
        }
        300..=399 => {
            Failure::permanent("forge_refused", format!("the forge answers {status}: the repository has moved"))
                .hint("Set the URL of the remote, or handoff.provider.repository, to its new name.")
        }
        _ => Failure::permanent("forge_refused", format!("the forge refuses with status {status}: {said}"))
            .hint("See what it says."),
    }
}

fn limit_reached(answer: &Answer, said: &str) -> Failure {
    let wait = answer.retry_after_s().map(|seconds| format!(", for {seconds} s")).unwrap_or_default();
    Failure::retryable("forge_rate_limited", format!("the forge was asked too often{wait}: {said}"))
        .hint("Wait; see what else uses this account.")
}

/// The words of a refusal.
fn said(answer: &Answer) -> String {
    let Ok(RawRefusal { message, errors }) = answer.json() else { return "no words".to_owned() };
    let detail = errors.iter().map(|error| match error.get("message").or(Some(error)) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    });
    let words: Vec<String> = std::iter::once(message).chain(detail).filter(|text| !text.is_empty()).collect();
    answer.quoted(&words.join("; "))
}

fn open_refused(failure: Failure, head: &str, base: &str) -> Failure {
    let words = failure.message.to_lowercase();
    if failure.code != "forge_refused" {
        return failure;
    }
    if words.contains("already exists") {
        let why = format!("a pull request is open for {head} into {base}, and it is not this handoff's");
        return Failure::permanent("pull_request_exists", why).hint("Close it, or change workspace.branch.");
    }
    if words.contains("draft") && words.contains("not supported") {
        return failure
            .hint("Drafts need a public repository or a paid plan: make it public, or set handoff.forge to git.");
    }
    failure
}

/// The refusal in an answer of GraphQL; `None` when it is none for certain.
fn graphql_refused(answer: &Answer) -> Option<ForgeError> {
    let GraphQl { errors } = answer.json().ok()?;
    let error = errors.first()?;
    let words = format!("the forge refuses: {}", answer.quoted(&error.message));
    let failure = match error.kind.as_deref()? {
        "RATE_LIMITED" => limit_reached(answer, &words),
        "FORBIDDEN" | "INSUFFICIENT_SCOPES" => Failure::permanent("forge_denied", words)
            .hint("Give the token the rights that docs/forges/github.md lists."),
        "NOT_FOUND" => Failure::permanent("forge_not_found", words).hint("Look for the pull request on the forge."),
        "UNPROCESSABLE" => Failure::permanent("forge_refused", words).hint("See what it says."),
        _ => return None,
    };
    Some(ForgeError::NotApplied(failure))
}

fn not_ours(number: u64) -> ForgeError {
    Failure::permanent("pull_request_not_ours", format!("another account opened pull request {number}"))
        .hint("It is left to whoever opened it; see whose token the daemon has.")
        .into()
}

fn merged(number: u64) -> ForgeError {
    Failure::permanent("pull_request_merged", format!("pull request {number} is merged"))
        .hint("Revert its commits, if they are not wanted.")
        .into()
}

/// The forge said that it did something, and it does not show.
fn unseen(what: &str, number: u64) -> ForgeError {
    let why = format!("the forge says that it {what} (number {number}), and it does not show");
    ForgeError::Unknown(Failure::retryable("forge_response", why).hint("Look at the pull request on the forge."))
}

/// Reads what passes for an answer of the forge: its status in two bytes, and its body.
pub(crate) fn foreign(bytes: &[u8]) {
    let Some((status, body)) = bytes.split_first_chunk::<2>() else { return };
    let status = 200 + u16::from_be_bytes(*status) % 400;
    let Some(answer) = Secret::new("secret").map(|secret| Answer::of(status, body, secret)) else { return };
    drop(read::<Raw>(&answer));
    drop(read::<Vec<Raw>>(&answer));
    drop(read::<Account>(&answer));
    drop(open_refused(refused(&answer), "head", "base"));
    drop(graphql_refused(&answer));
}
