//! The dashboard: pages that the daemon renders itself, over the same reads and conversions as the API. Readable without a script; with one
//! they follow the event stream and change in place.
//!
//! # Invariants
//! - A page shows a caller what the API would tell the same caller, and no more: it is made from the API's own answers.
//! - Foreign text is text: everything is escaped, and the pages run no script and load nothing but their own.

mod act;
mod board;
mod change;
mod chart;
mod checks;
mod daemon;
mod issue;
mod log;
mod parts;
mod run;
mod saga;
mod said;
mod usage;

pub(crate) use act::foreign as foreign_fields;

use axum::Router;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use maud::{DOCTYPE, Markup, html};

use crate::app::App;
use crate::guard::Caller;
use crate::problem::Problem;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("live.js");
/// Nothing from elsewhere, and nothing inline.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The routes of all pages.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(board::page))
        .route("/issues/{id}", get(issue::page))
        .route("/runs/{id}", get(run::page))
        .route("/runs/{id}/files/{file}", get(said::page))
        .route("/events", get(log::page))
        .route("/usage", get(usage::page))
        .route("/daemon", get(daemon::page))
        .route("/act", post(act::act))
        .route("/assets/{name}", get(asset))
}

async fn asset(Path(name): Path<String>) -> Response {
    let (kind, text) = match name.as_str() {
        "style.css" => ("text/css; charset=utf-8", STYLE),
        "live.js" => ("text/javascript; charset=utf-8", SCRIPT),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    ([(CONTENT_TYPE, kind)], text).into_response()
}

/// Where a page belongs in the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Board,
    Events,
    Usage,
    Daemon,
    Elsewhere,
}

/// A whole page.
struct Page {
    title: String,
    place: Place,
    caller: Caller,
    /// Cursor of the journal that the page shows; where its script goes on from.
    head: Option<String>,
    body: Markup,
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let Self { title, place, caller, head, body } = self;
        let markup = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · Dalsegno" }
                    link rel="stylesheet" href="/assets/style.css";
                    link rel="icon" href="data:,";
                    script src="/assets/live.js" defer {}
                }
                body data-head=[head] {
                    a.skip href="#main" { "Skip to the content" }
                    header.top {
                        a.brand href="/" { (sign()) " Dalsegno" }
                        nav aria-label="Pages" {
                            (link_to("/", "Board", place == Place::Board))
                            (link_to("/events", "Events", place == Place::Events))
                            (link_to("/usage", "Usage", place == Place::Usage))
                            (link_to("/daemon", "Daemon", place == Place::Daemon))
                        }
                        p.live role="status" aria-live="polite" { "as of now" }
                    }
                    main #main tabindex="-1" {
                        @if !caller.reads() {
                            p.hint { "You see the overview. " code { "dalsegno open" } " lets this browser see contents and act." }
                        }
                        (body)
                    }
                }
            }
        };
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        (headers, markup.into_string()).into_response()
    }
}

/// The sign from which the player goes on.
fn sign() -> Markup {
    html! {
        svg.sign viewBox="0 0 24 24" width="20" height="20" aria-hidden="true" {
            path d="M16.5 6.5c-1-2.4-6.8-2.6-7 .8-.2 3.6 6.4 4 6.2 8-.2 3.6-6.200 3.600-7.700 1" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" {}
            path d="M19 3 5 21" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" {}
            circle cx="6" cy="10.500" r="1.500" fill="currentColor" {}
            circle cx="18" cy="13.500" r="1.500" fill="currentColor" {}
        }
    }
}

fn link_to(href: &str, words: &str, here: bool) -> Markup {
    html! { a href=(href) aria-current=[here.then_some("page")] { (words) } }
}

/// What a page says when there is nothing to show.
struct Sorry(Problem, Caller);

impl IntoResponse for Sorry {
    fn into_response(self) -> Response {
        let Self(problem, caller) = self;
        let (status, detail) = (problem.status(), problem.detail().clone());
        let body = html! {
            section.sorry {
                h1 { (detail.message) }
                @if let Some(hint) = &detail.hint { p { (hint) } }
                p { code { (detail.code) } }
                p { a href="/" { "Back to the board" } }
            }
        };
        let page = Page { title: "Not here".to_owned(), place: Place::Elsewhere, caller, head: None, body };
        (status, page).into_response()
    }
}
