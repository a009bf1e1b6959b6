//! Who may ask at all, and who sees contents.
//!
//! A page from elsewhere can make a browser on this machine send requests to loopback, and by DNS rebinding even
//! read the answers. So the `Host` must be a name of ours, and an `Origin`, if there is one, our own. A cookie is sent by the
//! browser, whoever asks it to: a write by it needs that `Origin`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, HOST, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use dalsegno_api::code;

use crate::access::{Gate, Owner, Role};
use crate::app::{Access, App};
use crate::problem::{Problem, Refusal};

/// What may be asked by anybody: whether the daemon is up, and to be let in.
const OPEN_PATHS: [&str; 2] = ["/healthz", LOGIN_PATH];
/// Where services send their webhooks.
const WEBHOOKS: &str = "/api/v1/webhooks/";
/// Where login links lead.
pub(crate) const LOGIN_PATH: &str = "/login";

/// What whoever sent the request may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    role: Option<Role>,
}

impl Caller {
    #[cfg(test)]
    pub(crate) const VIEWER: Self = Self { role: Some(Role::Viewer) };
    pub(crate) const NOBODY: Self = Self { role: None };

    /// Sees what people, agents and programs wrote.
    pub(crate) fn reads(self) -> bool {
        self.role.is_some()
    }

    /// Refuses callers who may not read contents.
    pub(crate) fn must_read(self) -> Result<(), Problem> {
        self.must_be(Role::Viewer)
    }

    /// Refuses callers who may not act.
    pub(crate) fn must_operate(self) -> Result<(), Problem> {
        self.must_be(Role::Operator)
    }

    /// Refuses callers below this role.
    pub(crate) fn must_be(self, least: Role) -> Result<(), Problem> {
        match self.role {
            Some(role) if role >= least => Ok(()),
            Some(role) => {
                let message = format!("this needs the role {}, and the token has {}", least.as_str(), role.as_str());
                let hint = format!("make another one: `dalsegno token new NAME --role {}`", least.as_str());
                Err(Problem::new(StatusCode::FORBIDDEN, code::ROLE_TOO_LOW, message, &hint))
            }
            None => Err(token_required()),
        }
    }
}

/// Whoever sent the request, for the record and for what hangs on their token.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) name: Arc<str>,
    /// `None` inside the process, where everybody is trusted.
    pub(crate) owner: Option<Owner>,
    pub(crate) by_cookie: bool,
}

fn token_required() -> Problem {
    let hint = "send `Authorization: Bearer <token>`: one of `dalsegno token new`, or on this machine that in the file \
                `token` of the state directory; a browser is let in by `dalsegno open`";
    Problem::new(StatusCode::UNAUTHORIZED, code::TOKEN_REQUIRED, "this needs a token", hint)
}

/// Checks host, origin, token and rate; puts [`Caller`] and [`Identity`] beside the request.
pub(crate) async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let writes = request.method() != Method::GET && request.method() != Method::HEAD;
    let checked = match &*app.access {
        Access::Everybody => Ok((Caller { role: Some(Role::Admin) }, None)),
        Access::Guarded(gate) => check(gate, &request, writes),
    };
    let mut response = match checked {
        Ok((caller, identity)) => {
            request.extensions_mut().insert(caller);
            let unnamed = || Identity { name: "this process".into(), owner: None, by_cookie: false };
            request.extensions_mut().insert(identity.unwrap_or_else(unnamed));
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    if let Access::Guarded(gate) = &*app.access {
        count_refused(gate, writes, &response);
    }
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// Counts an answer that refuses a write to whoever asked.
fn count_refused(gate: &Gate, writes: bool, response: &Response) {
    if let Some(Refusal(code)) = response.extensions().get::<Refusal>().filter(|_| writes) {
        gate.refused_write(code);
    }
}

fn check(gate: &Gate, request: &Request, writes: bool) -> Result<(Caller, Option<Identity>), Problem> {
    let headers = request.headers();
    if request.method() == Method::POST && request.uri().path().starts_with(WEBHOOKS) {
        return check_webhook(gate, headers);
    }
    check_host(gate, headers, request.uri().authority().map(axum::http::uri::Authority::as_str))?;
    check_origin(gate, headers)?;
    let found = identify(gate, headers);
    let owner = found.as_ref().ok().and_then(|found| *found).map(|(owner, _)| owner);
    gate.count(owner).map_err(too_many)?;
    let standing = found?.and_then(|(owner, by_cookie)| Some((owner, by_cookie, gate.standing(owner)?)));
    let Some((owner, by_cookie, (role, name))) = standing else {
        if gate.is_closed() && !OPEN_PATHS.contains(&request.uri().path()) {
            return Err(token_required());
        }
        return Ok(nobody());
    };
    if by_cookie && writes && !headers.contains_key(ORIGIN) {
        let message = "a write by cookie has to say which page it comes from, and this one has no `Origin`";
        let hint = "programs send `Authorization: Bearer <token>` and no cookie";
        return Err(Problem::new(StatusCode::FORBIDDEN, code::ORIGIN_REFUSED, message, hint));
    }
    Ok((Caller { role: Some(role) }, Some(Identity { name, owner: Some(owner), by_cookie })))
}

/// A service comes by whatever name a tunnel or a proxy has for us, and its signature is looked at by whoever takes it. Pages never
/// send webhooks. Tokens and cookies count for nothing here.
fn check_webhook(gate: &Gate, headers: &HeaderMap) -> Result<(Caller, Option<Identity>), Problem> {
    if headers.contains_key(ORIGIN) {
        let message = "webhooks come from services, and this request comes from a page";
        let hint = "have the service itself send it";
        return Err(Problem::new(StatusCode::FORBIDDEN, code::ORIGIN_REFUSED, message, hint));
    }
    gate.count(None).map_err(too_many)?;
    Ok(nobody())
}

fn nobody() -> (Caller, Option<Identity>) {
    (Caller::NOBODY, Some(Identity { name: "nobody".into(), owner: None, by_cookie: false }))
}

fn too_many(wait: u64) -> Problem {
    let hint = format!("wait {wait} s, and ask more rarely; to follow what happens there is /api/v1/events/stream");
    let message = "too many requests with this token, or without one";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, code::RATE_LIMITED, message, &hint).retry_after(wait)
}

fn check_host(gate: &Gate, headers: &HeaderMap, authority: Option<&str>) -> Result<(), Problem> {
    let ours = |host: &str| is_ours(gate, host);
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let fine = hosts.next().is_none() && host.is_some_and(ours) && authority.is_none_or(ours);
    if fine {
        return Ok(());
    }
    let message = "the `Host` header names neither a loopback address nor a name of `server.hosts`";
    let hint = "ask for 127.0.0.1, localhost or [::1], or set server.hosts in WORKFLOW.md and start the daemon again";
    Err(Problem::new(StatusCode::FORBIDDEN, code::HOST_REFUSED, message, hint))
}

/// A page of ours has an origin that equals the host that it talks to. On loopback nobody speaks TLS; a proxy does, whose
/// name is configured.
fn check_origin(gate: &Gate, headers: &HeaderMap) -> Result<(), Problem> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let same = origin.to_str().ok().zip(host).is_some_and(|(origin, host)| {
        let by_tls = name_of(host).is_some_and(|name| gate.has_host(name));
        let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://").filter(|_| by_tls));
        own.is_some_and(|own| own.eq_ignore_ascii_case(host))
    });
    if same && origins.next().is_none() {
        return Ok(());
    }
    let message = "the request comes from a page of another origin";
    let hint = "open the page from the daemon's own address";
    Err(Problem::new(StatusCode::FORBIDDEN, code::ORIGIN_REFUSED, message, hint))
}

fn is_ours(gate: &Gate, authority: &str) -> bool {
    name_of(authority).is_some_and(|name| is_loopback(name) || gate.has_host(name))
}

/// Whether this name is one of loopback.
pub(crate) fn is_loopback(name: &str) -> bool {
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// The name in a `Host` without its port; `None` when that is none.
pub(crate) fn name_of(authority: &str) -> Option<&str> {
    let end = match authority.find(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (name, port) = authority.split_at_checked(end)?;
    let port_is_fine = match port.strip_prefix(':') {
        Some(port) => port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    port_is_fine.then_some(name)
}

/// Cookies know no ports: two daemons on one machine have cookies of two names.
pub(crate) fn cookie_name(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let port = name_of(host).and_then(|name| host.get(name.len() + 1..)).unwrap_or_default();
    if port.is_empty() { "dalsegno_session".to_owned() } else { format!("dalsegno_session_{port}") }
}

/// Who it is, and whether by a cookie. A wrong token is refused and not taken for none: its owner believes to be somebody.
/// A cookie that is over is none: the browser sends it by itself.
fn identify(gate: &Gate, headers: &HeaderMap) -> Result<Option<(Owner, bool)>, Problem> {
    let Some(shown) = headers.get(AUTHORIZATION) else {
        let name = cookie_name(headers);
        let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
        let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let secret = pairs.find(|(known, _)| *known == name).map(|(_, secret)| secret);
        return Ok(secret.and_then(|secret| gate.session(secret)).map(|owner| (owner, true)));
    };
    let shown = shown.to_str().unwrap_or_default();
    let bearer = match shown.split_at_checked(7) {
        Some((scheme, bearer)) if scheme.eq_ignore_ascii_case("bearer ") && !bearer.is_empty() => Some(bearer),
        _ => None,
    };
    if let Some(owner) = bearer.and_then(|bearer| gate.owner_of(bearer)) {
        return Ok(Some((owner, false)));
    }
    let message = "this daemon does not know the token";
    let hint = "it may be revoked (`dalsegno token list`); that of the state directory is another one after each start";
    Err(Problem::new(StatusCode::UNAUTHORIZED, code::TOKEN_INVALID, message, hint))
}

/// Reads what passes for the headers that say who asks and from where: `Host`, `Origin`, `Cookie` and `Authorization`, a line each.
pub(crate) fn foreign(bytes: &[u8]) {
    let gate = Gate::new("token").hosts(vec!["dash.example".to_owned()]);
    let lines = bytes.split(|byte| *byte == b'\n').map(HeaderValue::from_bytes);
    let named = [HOST, ORIGIN, COOKIE, AUTHORIZATION].into_iter().zip(lines);
    let headers: HeaderMap = named.filter_map(|(name, value)| Some((name, value.ok()?))).collect();
    drop(check_host(&gate, &headers, None));
    drop(check_origin(&gate, &headers));
    drop(cookie_name(&headers));
    drop(identify(&gate, &headers));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_that_are_refused_to_somebody_are_counted_by_code() {
        let gate = Gate::new("t");
        let refused = token_required().into_response();
        for writes in [true, true, false] {
            count_refused(&gate, writes, &refused);
        }
        count_refused(&gate, true, &Problem::issue_not_found("DS-1").into_response());
        let forged = Problem::new(StatusCode::UNAUTHORIZED, code::WEBHOOK_SIGNATURE, "no", "do").into_response();
        count_refused(&gate, true, &forged);
        let counted = [(code::TOKEN_REQUIRED.to_owned(), 2), (code::WEBHOOK_SIGNATURE.to_owned(), 1)];
        assert_eq!(gate.take_refused(), counted.into());
        assert!(gate.take_refused().is_empty(), "each is told once");
    }

    #[test]
    fn only_loopback_names_pass() {
        let (gate, open) = (Gate::new("t"), Gate::new("t").hosts(vec!["dash.example".to_owned()]));
        for fine in ["127.0.0.1", "127.0.0.1:7272", "localhost", "LocalHost:1", "[::1]", "[::1]:65535"] {
            assert!(is_ours(&gate, fine), "{fine}");
        }
        for fine in ["dash.example", "DASH.example:443"] {
            assert!(!is_ours(&gate, fine) && is_ours(&open, fine), "{fine}");
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
            "dash.example.evil",
        ] {
            assert!(!is_ours(&open, bad), "{bad}");
        }
    }
}
