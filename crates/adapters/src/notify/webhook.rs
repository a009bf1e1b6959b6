//! What a webhook gets beside its JSON: the message's id, and a signature when there is a secret.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The headers of a message that is sent at `now`, in seconds. The signature is over `<timestamp>.<body>`, so that neither can
/// be changed and an old one be told.
pub(super) fn headers(id: &str, secret: Option<&str>, now: i64, body: &str) -> Vec<(&'static str, String)> {
    let mut headers = vec![("dalsegno-id", id.to_owned()), ("dalsegno-timestamp", now.to_string())];
    // Keys of any length are taken.
    if let Some(mut mac) = secret.and_then(|secret| Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()) {
        mac.update(format!("{now}.{body}").as_bytes());
        headers.push(("dalsegno-signature", format!("sha256={}", hex::encode(mac.finalize().into_bytes()))));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_can_be_checked_with_any_other_program() {
        // printf '7.{}' | openssl dgst -sha256 -hmac key
        let signed = "sha256=77bc83bd1f40422311e47918b203449aecf84b02c1568bb1b570ac2a474cc2d8";
        let headers = headers("j-n1", Some("key"), 7, "{}");
        assert_eq!(headers[0], ("dalsegno-id", "j-n1".to_owned()));
        assert_eq!(headers[2], ("dalsegno-signature", signed.to_owned()));
        assert_eq!(super::headers("j-n1", None, 7, "{}").len(), 2);
    }
}
