//! Where a receiver is: a URL in WORKFLOW.md, or in a variable that it names.

use dalsegno_core::Failure;

use crate::http::checked_url;
use crate::workflow::{Environment, referenced};

/// The URL of a receiver; its query, if it has one, is part of it.
///
/// # Errors
/// `missing_notify_secret`, `invalid_config`. What the variable holds is not told.
pub(super) fn resolved(address: &str, env: &Environment) -> Result<String, Failure> {
    let address = address.trim();
    let url = if referenced(address).is_some() { secret(address, env)? } else { address.to_owned() };
    let (place, query) = url.split_once('?').map_or((url.as_str(), None), |(place, query)| (place, Some(query)));
    let invalid = |why: &str| {
        let where_from = referenced(address).map_or_else(|| "it".to_owned(), |name| format!("the variable {name}"));
        Failure::permanent("invalid_config", format!("an address in notify cannot be used ({where_from}): {why}"))
            .hint("Write a URL like https://example.org/hook there.")
    };
    let place = checked_url(place).map_err(invalid)?;
    if query.is_some_and(|query| query.contains('#') || !query.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(invalid("its query is none"));
    }
    Ok(query.map_or_else(|| place.clone(), |query| format!("{place}?{query}")))
}

/// What the variable holds that `$NAME` names.
///
/// # Errors
/// `missing_notify_secret`.
pub(super) fn secret(reference: &str, env: &Environment) -> Result<String, Failure> {
    let name = referenced(reference.trim()).unwrap_or_default();
    let value = env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    value.ok_or_else(|| {
        Failure::permanent("missing_notify_secret", format!("notify names the variable {name}, and it is not set"))
            .hint(format!("Set {name} in the daemon's environment, or name another variable in notify."))
    })
}
