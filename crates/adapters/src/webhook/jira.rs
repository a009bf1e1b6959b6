//! Jira: <https://developer.atlassian.com/cloud/jira/platform/webhooks/>, with a secret; Data Center signs the same way.

use dalsegno_core::Timestamp;
use dalsegno_engine::{Delivery, Heard};
use serde::Deserialize;

use super::{Refused, heard, part, sign};

#[derive(Default, Deserialize)]
struct Body {
    issue: Option<Issue>,
}

#[derive(Deserialize)]
struct Issue {
    id: Option<String>,
    key: Option<String>,
}

pub(super) fn read(delivery: &Delivery, secret: &str, _: Timestamp) -> Result<Heard, Refused> {
    let shown = delivery.header("x-hub-signature").and_then(|shown| shown.strip_prefix("sha256="));
    sign::check_hex(secret, &delivery.body, shown)?;
    let Body { issue } = part(&delivery.body)?;
    // The same for each try to deliver it.
    let delivery = delivery.header("x-atlassian-webhook-identifier");
    let Some(Issue { id, key }) = issue else { return Ok(heard(delivery, [])) };
    Ok(heard(delivery, [id, key]))
}
