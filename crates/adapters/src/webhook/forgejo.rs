//! Forgejo, and Gitea under its own names of the same headers: <https://forgejo.org/docs/latest/user/webhooks/>.

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
    number: Option<u64>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: Option<String>,
}

pub(super) fn read(delivery: &Delivery, secret: &str, _: Timestamp) -> Result<Heard, Refused> {
    let header = |name: &str| {
        delivery.header(&format!("x-forgejo-{name}")).or_else(|| delivery.header(&format!("x-gitea-{name}")))
    };
    sign::check_hex(secret, &delivery.body, header("signature"))?;
    let Body { issue, repository } = part(&delivery.body)?;
    let id = header("delivery");
    let Some(Issue { id: number_of_all, number }) = issue else { return Ok(heard(id, [])) };
    let across = across(repository.and_then(|repository| repository.full_name), number);
    Ok(heard(id, [number_of_all.map(|id| id.to_string()), across]))
}
