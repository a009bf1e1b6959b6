//! Figures of the daemon for Prometheus: from projections, and from what this process counts of its own requests.
//!
//! # Invariants
//! - Labels come from closed lists: statuses, routes of the router, methods that it knows, services of webhooks. Nothing that a caller sends makes a series.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use dalsegno_core::IssueStatus;
use dalsegno_engine::{ReadError, Reads};

use crate::app::{App, Control};

/// Answered requests by route, method and status.
#[derive(Debug, Default)]
pub(crate) struct Requests(Mutex<BTreeMap<(String, &'static str, u16), u64>>);

impl Requests {
    fn count(&self, route: &str, method: &Method, status: u16) {
        let method = [Method::GET, Method::POST, Method::HEAD].iter().find(|known| *known == method).map(word);
        let key = (route.to_owned(), method.unwrap_or("other"), status);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
    }
}

fn word(method: &Method) -> &'static str {
    if *method == Method::GET {
        "GET"
    } else if *method == Method::POST {
        "POST"
    } else {
        "HEAD"
    }
}

/// Counts the answer to each request.
pub(crate) async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let response = next.run(request).await;
    app.requests.count(&route, &method, response.status().as_u16());
    response
}

/// All figures, in the text format of Prometheus.
pub(crate) fn render(
    reads: &dyn Reads,
    control: &dyn Control,
    requests: &Requests,
    webhooks: &BTreeMap<(&str, &str), u64>,
    version: &str,
    streams: usize,
) -> Result<String, ReadError> {
    let mut text = Text::default();
    text.family("dalsegno_info", "gauge", "The running version.");
    text.sample("dalsegno_info", &[("version", version)], 1);
    text.family("dalsegno_ready", "gauge", "1 when the daemon has recovered and takes work.");
    text.sample("dalsegno_ready", &[], u64::from(control.ready()));
    let mut statuses: BTreeMap<&str, u64> = IssueStatus::ALL.into_iter().map(|status| (status.as_str(), 0)).collect();
    for issue in reads.issues(None)? {
        *statuses.entry(issue.status.as_str()).or_default() += 1;
    }
    text.family("dalsegno_issues", "gauge", "Visible issues by status.");
    for (status, number) in statuses {
        text.sample("dalsegno_issues", &[("status", status)], number);
    }
    let (oldest, head) = reads.bounds()?;
    text.family("dalsegno_journal_events_total", "counter", "Events that the journal ever had.");
    text.sample("dalsegno_journal_events_total", &[], head);
    text.family("dalsegno_journal_oldest_event", "gauge", "Number of the oldest event that is kept.");
    text.sample("dalsegno_journal_oldest_event", &[], oldest);
    if let Some(daemon) = reads.daemon()? {
        text.family("dalsegno_epoch", "gauge", "How many daemons have held the journal.");
        text.sample("dalsegno_epoch", &[], daemon.epoch);
        text.family("dalsegno_tokens_total", "counter", "Tokens of all turns.");
        for (kind, tokens) in [
            ("input", daemon.usage.input_tokens),
            ("cached_input", daemon.usage.cached_input_tokens),
            ("output", daemon.usage.output_tokens),
        ] {
            text.sample("dalsegno_tokens_total", &[("kind", kind)], tokens);
        }
        text.family("dalsegno_run_seconds_total", "counter", "Time that ended runs took.");
        text.sample("dalsegno_run_seconds_total", &[], daemon.run_ms / 1_000);
        text.family("dalsegno_workflow_broken", "gauge", "1 while WORKFLOW.md cannot be used as it is.");
        text.sample("dalsegno_workflow_broken", &[], u64::from(daemon.workflow_failure.is_some()));
        text.family("dalsegno_tracker_failing", "gauge", "1 while the tracker cannot be read.");
        text.sample("dalsegno_tracker_failing", &[], u64::from(daemon.tracker_failure.is_some()));
    }
    text.family("dalsegno_event_streams", "gauge", "Open event streams.");
    text.sample("dalsegno_event_streams", &[], streams as u64);
    text.family("dalsegno_http_requests_total", "counter", "Answered requests since the daemon started.");
    for ((route, method, status), number) in requests.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let status = status.to_string();
        let labels = [("route", route.as_str()), ("method", method), ("status", &status)];
        text.sample("dalsegno_http_requests_total", &labels, *number);
    }
    text.family("dalsegno_webhooks_total", "counter", "Webhooks that came since the daemon started.");
    for ((service, outcome), number) in webhooks {
        text.sample("dalsegno_webhooks_total", &[("service", service), ("outcome", outcome)], *number);
    }
    Ok(text.0)
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a text cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> = labels.iter().map(|(name, text)| format!("{name}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
