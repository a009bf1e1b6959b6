//! A small client of HTTPS APIs that speak JSON: what adapters of forges and trackers have in common.
//!
//! # What holds
//! - Every call has an end: limits of the connection, of the whole call, and of the answer's size.
//! - A call that gave no answer says whether anything was sent ([`NoAnswer`]). One connection carries one call: so what became of the
//!   call is known from its own connection alone, and none is cut that was left idle for too long.
//! - No redirect is followed: the token goes to the host that it is for, and to no other.
//! - The token goes over TLS, or not beyond this machine ([`checked_url`]). It is in no error and in no `Debug`.
//! - Nothing is tried again in here.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, Request, Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectionDetails, Connector, DefaultConnector, Transport};

/// Who calls, as servers are told.
const USER_AGENT: &str = concat!("dalsegno/", env!("CARGO_PKG_VERSION"));
/// Most bytes of an answer.
const MAX_ANSWER_BYTES: u64 = 8 << 20;
/// How much of what a server says goes into an error, in characters.
const MAX_SAID: usize = 300;
/// What a server must not see in a text of ours is shown as.
const WITHHELD: &str = "(withheld)";

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Until there is a connection, TLS included.
    pub(crate) connect: Duration,
    /// The whole call, to the last byte of the answer.
    pub(crate) call: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), call: Duration::from_secs(30) }
    }
}

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The token in `text`; `None` when no header can carry it.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = !text.is_empty() && text.chars().all(|letter| letter.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }

    /// The text without the token.
    fn kept_out_of(&self, text: &str) -> String {
        text.replace(&self.0, WITHHELD)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(WITHHELD)
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// To read.
    Get,
    /// To make something.
    Post,
    /// To change something.
    Patch,
}

impl Method {
    fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
        }
    }
}

/// A call: where to, and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// As [`checked_url`] takes it, with path and query.
    pub(crate) url: String,
    /// Besides those that every call has.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// It carries the secret as its token; otherwise the secret is only kept out of what is told.
    pub(crate) bearer: bool,
    /// JSON.
    pub(crate) body: Option<String>,
}

impl fmt::Display for Call {
    /// Without the query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.url.split('?').next().unwrap_or_default();
        write!(f, "{} {place}", self.method.as_str())
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// No byte of the call left this machine: no name, no connection, no TLS.
    NotSent(String),
    /// There was a connection; what the server did with the call, nobody knows.
    Unanswered(String),
}

/// What an answer's status says of a call that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Done.
    Done,
    /// Not done, for certain.
    Refused,
    /// Nobody knows.
    Unclear,
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    body: Result<Vec<u8>, String>,
    secret: Secret,
}

impl Answer {
    /// An answer that no server gave.
    pub(crate) fn of(status: u16, body: &[u8], secret: Secret) -> Self {
        Self { status, headers: HeaderMap::new(), body: Ok(body.to_vec()), secret }
    }

    /// What the status says of a call that writes.
    ///
    /// A redirect was not followed, and a status from 400 on says that the server did not take the call, 429 among them: it is given
    /// before any work. From 500 on the work may be done: the server broke off in the midst of it, or something in front of the server
    /// did not wait for it. `Retry-After` does not change that: a gateway that says 503 does not know what the server behind it did.
    pub(crate) fn verdict(&self) -> Verdict {
        match self.status {
            200..=299 => Verdict::Done,
            300..=499 => Verdict::Refused,
            _ => Verdict::Unclear,
        }
    }

    /// A header, if it is there and readable.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// In how many seconds the server wants to be asked again; `None` when it names none, or a date.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        self.header("retry-after").and_then(|text| text.trim().parse().ok())
    }

    /// The body.
    ///
    /// # Errors
    /// Why it cannot be read: it was cut, is too long, or is not this JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, String> {
        let body = self.body.as_ref().map_err(Clone::clone)?;
        // The error of the parser quotes what it found.
        serde_json::from_slice(body).map_err(|error| self.secret.kept_out_of(&error.to_string()))
    }

    /// A text of the server's as an error may have it: one line, short, without the token.
    pub(crate) fn quoted(&self, text: &str) -> String {
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.secret.kept_out_of(&line).chars().take(MAX_SAID).collect()
    }
}

/// The URL that `key` names, without a slash at its end.
///
/// # Errors
/// Why no token may go there.
pub(crate) fn checked_url(url: &str) -> Result<String, &'static str> {
    let plain = url.trim().trim_end_matches('/');
    let uri: Uri = plain.parse().map_err(|_error| "it is not a URL")?;
    let authority = uri.authority().ok_or("it names no host")?.as_str();
    if authority.contains('@') {
        return Err("it holds a user or a password");
    }
    if uri.query().is_some() || plain.contains('#') {
        return Err("it has a query or a fragment");
    }
    match uri.scheme_str() {
        Some("https") => Ok(plain.to_owned()),
        Some("http") if is_loopback(&uri) => Ok(plain.to_owned()),
        Some(_) | None => Err("it does not begin with https://, and the token would be read on the way"),
    }
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// A part of a path or a query, percent-encoded.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Calls with one token.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    secret: Secret,
    limits: Limits,
}

impl Http {
    pub(crate) fn new(secret: Secret, limits: Limits) -> Self {
        Self { secret, limits }
    }

    /// Calls, and waits for the answer, whatever its status.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, NoAnswer> {
        let (secret, limits) = (self.secret.clone(), self.limits);
        let done = tokio::task::spawn_blocking(move || perform(&call, &secret, limits, machine_roots)).await;
        done.unwrap_or_else(|error| Err(NoAnswer::Unanswered(format!("the call broke off: {error}"))))
    }
}

fn perform(
    call: &Call,
    secret: &Secret,
    limits: Limits,
    roots: impl FnOnce() -> Result<RootCerts, String>,
) -> Result<Answer, NoAnswer> {
    let not_sent = |why: &dyn fmt::Display| NoAnswer::NotSent(secret.kept_out_of(&format!("{call}: {why}")));
    let mut request = Request::builder().method(call.method.as_str()).uri(&call.url);
    if call.bearer {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", secret.0));
    }
    for (name, value) in &call.headers {
        request = request.header(*name, value.as_str());
    }
    let uri: Uri = call.url.parse().map_err(|error| not_sent(&error))?;
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(limits.connect))
        .timeout_global(Some(limits.call))
        .user_agent(USER_AGENT);
    // A proxy of the environment has no business between us and loopback.
    let config = if is_loopback(&uri) { config.proxy(None) } else { config };
    let config = if uri.scheme_str() == Some("https") {
        let tls = TlsConfig::builder()
            .root_certs(roots().map_err(|why| not_sent(&why))?)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        config.tls_config(tls.build())
    } else {
        config
    };
    let connected = Connected { target: uri, yet: Arc::default() };
    let connector = DefaultConnector::new().chain(connected.clone());
    let agent = ureq::Agent::with_parts(config.build(), connector, DefaultResolver::default());
    let sent = match &call.body {
        None => agent.run(request.body(()).map_err(|error| not_sent(&error))?),
        Some(body) => {
            let request = request.header(header::CONTENT_TYPE, "application/json");
            agent.run(request.body(body.clone()).map_err(|error| not_sent(&error))?)
        }
    };
    let mut answer = sent.map_err(|error| match connected.yet.load(Ordering::Relaxed) {
        true => NoAnswer::Unanswered(secret.kept_out_of(&format!("{call}: {error}"))),
        false => not_sent(&error),
    })?;
    let body = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
    Ok(Answer {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        body: body.map_err(|error| format!("the answer could not be read: {error}")),
        secret: secret.clone(),
    })
}

/// The authorities that this machine trusts, looked up once.
fn machine_roots() -> Result<RootCerts, String> {
    static ROOTS: OnceLock<RootCerts> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "no certificates of authorities are on this machine{why}: install its package `ca-certificates`, or name a file in \
             SSL_CERT_FILE"
        ));
    }
    let roots = found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned());
    Ok(ROOTS.get_or_init(|| roots.into()).clone())
}

/// The end of the chain that makes a connection: who comes here has one, with TLS where that is wanted, and nothing has been sent yet.
#[derive(Debug, Clone)]
struct Connected {
    target: Uri,
    yet: Arc<AtomicBool>,
}

impl<In: Transport> Connector<In> for Connected {
    type Out = In;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<In>, ureq::Error> {
        // The connection to a proxy comes by here as well; it is not yet one to the server.
        if details.uri.authority() == self.target.authority() {
            self.yet.store(true, Ordering::Relaxed);
        }
        Ok(chained)
    }
}

#[cfg(test)]
mod tests;
