//! Events that say who acted, and who was not let, and a workflow that hears webhooks: added to the third version.

use std::collections::BTreeMap;

use dalsegno_core::{Event, IssueId, Policy, WebhookPolicy};

use crate::samples::policy;

/// Each with the shapes that it has.
pub(crate) fn audited() -> Vec<Event> {
    let texts = || ["act-8", "c-act-8", "release", "issue", "DS-1"].map(str::to_owned);
    let [action_id, correlation_id, action_kind, target_kind, target_id] = texts();
    let accepted = Event::ActionAccepted {
        action_id,
        correlation_id,
        action_kind,
        target_kind,
        target_id,
        issue: Some(IssueId::from("i1")),
        idempotency_key: Some("k-8".to_owned()),
        content: "c0ffee".to_owned(),
        by: Some("ada (ci)".to_owned()),
    };
    let [action_id, correlation_id, action_kind, target_kind, target_id] = texts();
    let rejected = Event::ActionRejected {
        action_id,
        correlation_id,
        action_kind,
        target_kind,
        target_id,
        code: "not_parked".to_owned(),
        reason: "release only valid on a parked issue".to_owned(),
        by: Some("local".to_owned()),
    };
    let counts = BTreeMap::from([("rate_limited".to_owned(), 40_000), ("token_required".to_owned(), 2)]);
    let webhooks = BTreeMap::from([("github".to_owned(), WebhookPolicy { secret: "$HOOK".to_owned() })]);
    let heard = Event::WorkflowLoaded { hash: "p8".into(), policy: Box::new(Policy { webhooks, ..policy() }) };
    vec![accepted, rejected, Event::WritesRefused { counts }, heard]
}
