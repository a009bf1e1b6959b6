//! Linear: <https://linear.app/developers/webhooks>. The time in the body is signed with it, and old ones are refused.

use dalsegno_core::Timestamp;
use dalsegno_engine::{Delivery, Heard};
use serde::Deserialize;

use super::{Refused, heard, part, sign};

/// How far the time of a webhook may be from ours, in milliseconds.
const MAX_AGE_MS: u64 = 60_000;

#[derive(Default, Deserialize)]
struct Body {
    #[serde(rename = "type")]
    kind: Option<String>,
    data: Option<Data>,
}

/// On its own, so that a body with data of another type still has its time.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    webhook_timestamp: Option<i64>,
}

/// An issue, or something of one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    id: Option<String>,
    identifier: Option<String>,
    issue_id: Option<String>,
    issue: Option<Issue>,
}

#[derive(Deserialize)]
struct Issue {
    id: Option<String>,
    identifier: Option<String>,
}

pub(super) fn read(delivery: &Delivery, secret: &str, now: Timestamp) -> Result<Heard, Refused> {
    sign::check_hex(secret, &delivery.body, delivery.header("linear-signature"))?;
    let Sent { webhook_timestamp } = part(&delivery.body)?;
    let sent = webhook_timestamp.ok_or(Refused::Stale("it does not say when it was sent"))?;
    if now.0.abs_diff(sent) > MAX_AGE_MS {
        return Err(Refused::Stale("it was sent more than a minute ago, or in the future"));
    }
    let Body { kind, data } = part(&delivery.body)?;
    let id = delivery.header("linear-delivery");
    let Some(data) = data else { return Ok(heard(id, [])) };
    let Data { id: own_id, identifier, issue_id, issue } = data;
    if kind.as_deref() == Some("Issue") {
        return Ok(heard(id, [own_id, identifier]));
    }
    let (of_id, of_identifier) = issue.map_or((None, None), |Issue { id, identifier }| (id, identifier));
    Ok(heard(id, [issue_id, of_id, of_identifier]))
}
