//! GitHub: <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>.

use dalsegno_core::Timestamp;
use dalsegno_engine::{Delivery, Heard};
use serde::Deserialize;

use super::{Refused, across, heard, part, sign};

#[derive(Default, Deserialize)]
struct Body {
    issue: Option<Issue>,
    repository: Option<Repository>,
}

#[derive(Deserialize)]
struct Issue {
    id: Option<u64>,
    node_id: Option<String>,
    number: Option<u64>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: Option<String>,
}

pub(super) fn read(delivery: &Delivery, secret: &str, _: Timestamp) -> Result<Heard, Refused> {
    let shown = delivery.header("x-hub-signature-256").and_then(|shown| shown.strip_prefix("sha256="));
    sign::check_hex(secret, &delivery.body, shown)?;
    let Body { issue, repository } = part(&delivery.body)?;
    let id = delivery.header("x-github-delivery");
    let Some(Issue { id: number_of_all, node_id, number }) = issue else { return Ok(heard(id, [])) };
    let across = across(repository.and_then(|repository| repository.full_name), number);
    Ok(heard(id, [node_id, number_of_all.map(|id| id.to_string()), across]))
}
