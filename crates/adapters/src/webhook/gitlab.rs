//! GitLab: <https://docs.gitlab.com/user/project/integrations/webhooks/>. A webhook has a signing token (`whsec_…`), and then it is signed as
//! <https://www.standardwebhooks.com> says; or only a secret token, and then that very token comes with it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dalsegno_core::Timestamp;
use dalsegno_engine::{Delivery, Heard};
use serde::Deserialize;

use super::{Refused, across, heard, part, sign};

/// What a signing token begins with.
const SIGNING: &str = "whsec_";
/// How far the time of a signed webhook may be from ours, in seconds.
const MAX_AGE_S: u64 = 300;
/// Signatures that a webhook may have: two while a token is changed.
const MAX_SIGNATURES: usize = 8;

#[derive(Default, Deserialize)]
struct Body {
    object_kind: Option<String>,
    object_attributes: Option<Issue>,
    issue: Option<Issue>,
    project: Option<Project>,
}

#[derive(Deserialize)]
struct Issue {
    id: Option<u64>,
    iid: Option<u64>,
}

#[derive(Deserialize)]
struct Project {
    path_with_namespace: Option<String>,
}

pub(super) fn read(delivery: &Delivery, secret: &str, now: Timestamp) -> Result<Heard, Refused> {
    // Where there is a signing token, whoever shows another one is not believed.
    match secret.strip_prefix(SIGNING) {
        Some(key) => check_signed(delivery, key, now)?,
        None => check_token(delivery, secret)?,
    }
    let Body { object_kind, object_attributes, issue, project } = part(&delivery.body)?;
    // The same for each try to deliver it. Older versions send none.
    let id = delivery.header("webhook-id").or_else(|| delivery.header("idempotency-key"));
    let named = match object_kind.as_deref() {
        Some("issue" | "work_item") => object_attributes,
        _ => issue,
    };
    let Some(Issue { id: number_of_all, iid }) = named else { return Ok(heard(id, [])) };
    let across = across(project.and_then(|project| project.path_with_namespace), iid);
    Ok(heard(id, [number_of_all.map(|id| id.to_string()), across]))
}

fn check_token(delivery: &Delivery, secret: &str) -> Result<(), Refused> {
    let shown = delivery.header("x-gitlab-token").ok_or(Refused::Signature("it has no token, or several"))?;
    if sign::is_same(secret, shown)? { Ok(()) } else { Err(Refused::Signature("its token is wrong")) }
}

fn check_signed(delivery: &Delivery, key: &str, now: Timestamp) -> Result<(), Refused> {
    let missing = Refused::Signature("webhook-id, webhook-timestamp or webhook-signature is missing, or there twice");
    let header = |name| delivery.header(name);
    let (Some(id), Some(sent), Some(shown)) =
        (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"))
    else {
        return Err(missing);
    };
    let key = BASE64_STANDARD.decode(key).map_err(|_| Refused::Signature("the daemon's signing token is no base64"))?;
    let parts: [&[u8]; 5] = [id.as_bytes(), b".", sent.as_bytes(), b".", &delivery.body];
    let tags = shown.split(' ').take(MAX_SIGNATURES).filter_map(|shown| shown.strip_prefix("v1,"));
    let mut signed = false;
    for tag in tags.filter_map(|tag| BASE64_STANDARD.decode(tag).ok()) {
        signed |= sign::is_signed(&key, &parts, &tag)?;
    }
    if !signed {
        return Err(Refused::Signature("its signature is wrong"));
    }
    let sent: i64 = sent.parse().map_err(|_| Refused::Stale("it does not say when it was sent"))?;
    if now.0.div_euclid(1_000).abs_diff(sent) > MAX_AGE_S {
        return Err(Refused::Stale("it was sent more than five minutes ago, or in the future"));
    }
    Ok(())
}
