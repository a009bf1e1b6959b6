//! Webhooks of whoever has the address. Most that is made up is refused for its signature; so each is read a second time, signed.

use dalsegno_core::Timestamp;
use dalsegno_engine::Delivery;

use super::{scheme, sign};

const SECRET: &str = "secret";
/// When it comes: a whole number of seconds, as that of GitLab's header in the corpus.
const NOW: Timestamp = Timestamp(1_614_265_330_000);

/// Reads what passes for a webhook: the service in a line, headers in a line each, an empty line, and the body.
pub(crate) fn foreign(bytes: &[u8]) {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let service = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let Some(read) = scheme(&service) else { return };
    let mut rest = lines.next().unwrap_or_default();
    let mut headers = Vec::new();
    loop {
        let mut lines = rest.splitn(2, |byte| *byte == b'\n');
        let line = String::from_utf8_lossy(lines.next().unwrap_or_default());
        rest = lines.next().unwrap_or_default();
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut delivery = Delivery { service, headers, body: rest.to_vec() };
    drop(read(&delivery, SECRET, NOW));
    let Ok(tag) = sign::hex_of(SECRET, &delivery.body) else { return };
    for (name, value) in [
        ("x-hub-signature-256", format!("sha256={tag}")),
        ("x-hub-signature", format!("sha256={tag}")),
        ("linear-signature", tag.clone()),
        ("x-forgejo-signature", tag),
        ("x-gitlab-token", SECRET.to_owned()),
    ] {
        delivery.headers.retain(|(known, _)| known != name);
        delivery.headers.push((name.to_owned(), value));
    }
    drop(read(&delivery, SECRET, NOW));
    // With a signing token another part of GitLab's scheme is read.
    drop(read(&delivery, "whsec_c2VjcmV0", NOW));
}
