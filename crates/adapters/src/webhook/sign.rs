//! Signatures: HMAC-SHA256 of bytes, compared in constant time.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::Refused;

fn mac(key: &[u8], parts: &[&[u8]]) -> Result<Hmac<Sha256>, Refused> {
    // Keys of any length are taken.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| Refused::Signature("its secret is no key"))?;
    parts.iter().for_each(|part| mac.update(part));
    Ok(mac)
}

/// Whether `tag` is the HMAC-SHA256 of these parts, one after the other.
pub(super) fn is_signed(key: &[u8], parts: &[&[u8]], tag: &[u8]) -> Result<bool, Refused> {
    Ok(mac(key, parts)?.verify_slice(tag).is_ok())
}

/// The hexadecimal signature of a body.
pub(super) fn hex_of(secret: &str, body: &[u8]) -> Result<String, Refused> {
    Ok(hex::encode(mac(secret.as_bytes(), &[body])?.finalize().into_bytes()))
}

/// Checks a hexadecimal signature of a body.
pub(super) fn check_hex(secret: &str, body: &[u8], shown: Option<&str>) -> Result<(), Refused> {
    let shown = shown.ok_or(Refused::Signature("it has no signature, or several"))?;
    let tag = hex::decode(shown).map_err(|_| Refused::Signature("its signature has another form"))?;
    if is_signed(secret.as_bytes(), &[body], &tag)? {
        Ok(())
    } else {
        Err(Refused::Signature("its signature is wrong"))
    }
}

/// Whether two secrets are the same, in a time that tells nothing of either.
pub(super) fn is_same(secret: &str, shown: &str) -> Result<bool, Refused> {
    let expected = mac(secret.as_bytes(), &[secret.as_bytes()])?.finalize().into_bytes();
    is_signed(secret.as_bytes(), &[shown.as_bytes()], &expected)
}
