//! `POST /api/v1/login-links` and `GET /login`: how a browser gets a session.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::header::{CONTENT_TYPE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use dalsegno_api::{LoginLink, code};

use crate::access::{Gate, LINK_LIFE, SESSION_LIFE};
use crate::app::{Access, App};
use crate::guard::{self, Caller, Identity, LOGIN_PATH};
use crate::params::Params;
use crate::problem::Problem;

/// Leads on from a page of ours: after a redirect, a browser that came by a link elsewhere would not send the cookie.
const PAGE: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"0; url=/\">\
                    <title>Dalsegno</title><p>You are logged in. <a href=\"/\">Go on</a></p></html>\n";

pub(crate) async fn make_link(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(identity): Extension<Identity>,
    params: Params,
) -> Result<(StatusCode, Json<LoginLink>), Problem> {
    caller.must_read()?;
    params.done()?;
    let Identity { name: _, owner, by_cookie } = identity;
    let (Some(owner), false) = (owner, by_cookie) else {
        let hint = "ask with the token itself: `dalsegno open`, or `Authorization: Bearer <token>`";
        let message = "a session makes no login link";
        return Err(Problem::new(StatusCode::FORBIDDEN, code::ROLE_TOO_LOW, message, hint));
    };
    let secret = gate(&app)?.make_link(owner).map_err(no_randomness)?;
    let link = LoginLink { path: format!("{LOGIN_PATH}?code={secret}"), expires_in_s: LINK_LIFE.as_secs() };
    Ok((StatusCode::CREATED, Json(link)))
}

pub(crate) async fn log_in(
    State(app): State<App>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<impl IntoResponse, Problem> {
    let link = params.word("code")?.unwrap_or_default();
    params.done()?;
    let Some(secret) = gate(&app)?.log_in(&link).map_err(no_randomness)? else {
        let hint = "make another one with `dalsegno open`: a link works once, within a minute";
        let message = "the login link was used before, is over, or is of another daemon";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, code::LOGIN_LINK_INVALID, message, hint));
    };
    let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    // Elsewhere than on loopback it is sent over TLS alone, which a proxy speaks.
    let secure = if guard::name_of(host).is_some_and(guard::is_loopback) { "" } else { "; Secure" };
    let (name, life) = (guard::cookie_name(&headers), SESSION_LIFE.as_secs());
    let cookie = format!("{name}={secret}; Path=/; Max-Age={life}; HttpOnly; SameSite=Strict{secure}");
    Ok(([(SET_COOKIE, cookie), (CONTENT_TYPE, "text/html; charset=utf-8".to_owned())], PAGE))
}

fn gate(app: &App) -> Result<&Gate, Problem> {
    match &*app.access {
        Access::Guarded(gate) => Ok(gate),
        Access::Everybody => Err(Problem::internal()),
    }
}

fn no_randomness(error: getrandom::Error) -> Problem {
    let hint = "see to the limits of the operating system, and try again";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code::NO_RANDOMNESS, error.to_string(), hint)
}
