//! Who may ask at all, and who sees contents.
//!
//! A page from elsewhere can make a browser on this machine send requests to loopback, and by DNS rebinding even
//! read the answers. So the `Host` must be a loopback name, and an `Origin`, if there is one, our own.

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use dalsegno_api::code;

use crate::app::{Access, App};
use crate::problem::Problem;

/// Whoever sent the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Showed the operator token.
    pub(crate) trusted: bool,
}

impl Caller {
    /// Refuses callers without a token.
    pub(crate) fn must_be_trusted(self) -> Result<(), Problem> {
        if self.trusted {
            return Ok(());
        }
        let hint = "send `Authorization: Bearer <token>`; the token is in the file `token` of the state directory";
        let message = "this needs the operator token";
        Err(Problem::new(StatusCode::UNAUTHORIZED, code::TOKEN_REQUIRED, message, hint))
    }
}

/// Checks host, origin and token; puts the [`Caller`] beside the request.
pub(crate) async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let checked = check_host(request.headers(), authority.as_deref())
        .and_then(|()| check_origin(request.headers()))
        .and_then(|()| caller(request.headers(), &app.access));
    let mut response = match checked {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn check_host(headers: &HeaderMap, authority: Option<&str>) -> Result<(), Problem> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let fine = hosts.next().is_none() && host.is_some_and(is_loopback) && authority.is_none_or(is_loopback);
    if fine {
        return Ok(());
    }
    let message = "the `Host` header names no loopback address";
    let hint = "ask for 127.0.0.1, localhost or [::1]";
    Err(Problem::new(StatusCode::FORBIDDEN, code::HOST_REFUSED, message, hint))
}

/// A page of ours has an origin that equals the host that it talks to.
fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let own = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
    let same = own.zip(host).is_some_and(|(own, host)| own.eq_ignore_ascii_case(host));
    if same && origins.next().is_none() {
        return Ok(());
    }
    let message = "the request comes from a page of another origin";
    let hint = "open the page from the daemon's own address";
    Err(Problem::new(StatusCode::FORBIDDEN, code::ORIGIN_REFUSED, message, hint))
}

fn is_loopback(authority: &str) -> bool {
    let end = match authority.find(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let Some((name, port)) = authority.split_at_checked(end) else { return false };
    let port_is_fine = match port.strip_prefix(':') {
        Some(port) => port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    port_is_fine && ["127.0.0.1", "localhost", "[::1]"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// A wrong token is refused and not taken for none: its owner believes to be somebody.
fn caller(headers: &HeaderMap, access: &Access) -> Result<Caller, Problem> {
    let Access::Token(token) = access else { return Ok(Caller { trusted: true }) };
    let Some(shown) = headers.get(AUTHORIZATION) else { return Ok(Caller { trusted: false }) };
    let shown = shown.as_bytes();
    let bearer = match shown.split_at_checked(7) {
        Some((scheme, bearer)) if scheme.eq_ignore_ascii_case(b"bearer ") => bearer,
        _ => &[],
    };
    if !token.is_empty() && same(bearer, token.as_bytes()) {
        return Ok(Caller { trusted: true });
    }
    let message = "the token is not that of this daemon";
    let hint = "read it again from the file `token` of the state directory";
    Err(Problem::new(StatusCode::UNAUTHORIZED, code::TOKEN_INVALID, message, hint))
}

/// Compares without telling by its time how much of the text is right. The length is no secret.
fn same(shown: &[u8], token: &[u8]) -> bool {
    let different = shown.iter().zip(token).fold(0_u8, |different, (a, b)| std::hint::black_box(different | (a ^ b)));
    shown.len() == token.len() && different == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_pass() {
        for fine in ["127.0.0.1", "127.0.0.1:7272", "localhost", "LocalHost:1", "[::1]", "[::1]:65535"] {
            assert!(is_loopback(fine), "{fine}");
        }
        for bad in [
            "",
            ":80",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "localhost:",
            "localhost:99999",
            "localhost:80@evil",
            "evil@localhost",
            "[::1",
            "::1",
            "[::1]x",
            "127.0.0.1:+80",
            "127.0.0.2",
            "0.0.0.0",
            "é]",
        ] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }

    #[test]
    fn tokens_are_equal_only_in_full() {
        assert!(same(b"abc", b"abc"));
        for other in [&b""[..], b"ab", b"abcd", b"abd", b"xbc"] {
            assert!(!same(other, b"abc"));
        }
    }
}
