//! `/runs/{id}/files/{file}`: what a check said, whole.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dalsegno_api as api;
use dalsegno_api::Check;
use maud::{Markup, html};

use super::board::encoded;
use super::parts::{bytes, moment};
use super::{Page, Place, Sorry, checks};
use crate::app::App;
use crate::guard::Caller;
use crate::params::{Key, Keys, Params};
use crate::problem::Problem;
use crate::routes::{files, runs};

/// Bytes of a text that a page shows: the end. What a check said is shorter.
const SHOWN: usize = 4 << 20;

pub(super) async fn page(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Keys(run, file): Keys,
) -> Response {
    match gather(app, caller, run, file).await {
        Ok((status, page)) => (status, page).into_response(),
        Err(problem) => Sorry(problem, caller).into_response(),
    }
}

async fn gather(app: App, caller: Caller, run: String, file: String) -> Result<(StatusCode, Page), Problem> {
    let (kept, content) = files::look(&app, caller, &run, &file).await?;
    let run = runs::one(State(app.clone()), Extension(caller), Key(run), Params::none()).await?.0;
    let of_run = checks::of_run(&app, caller, &run.id).await?;
    let is_this = |check: &&Check| check.said.as_ref().is_some_and(|said| said.file == file);
    let check = of_run.iter().find(is_this);
    let (status, text) = match content {
        Ok(text) => (StatusCode::OK, Ok(text)),
        Err(why) => {
            let problem = Problem::file_lost(&kept.name, &why);
            (problem.status(), Err(problem))
        }
    };
    let title = check.map_or(kept.name.as_str(), Check::title);
    let body = html! {
        article.run {
            p.crumb {
                a href="/" { "Board" } " / " a href={ "/issues/" (encoded(&run.issue)) } { (run.issue) }
                " / " a href={ "/runs/" (encoded(&run.id)) } { (run.id) } " / " (kept.name)
            }
            h1 { (title) }
            (facts(&run.id, &kept, check, text.is_ok()))
            @match &text {
                Ok(text) => (shown(text, &kept.sha256)),
                Err(problem) => section.trouble {
                    p { b { (problem.detail().message) } " " code { (problem.detail().code) } }
                    @if let Some(hint) = &problem.detail().hint { p { (hint) } }
                },
            }
        }
    };
    // What is kept never changes: there is nothing to follow.
    Ok((status, Page { title: format!("{title} · {}", run.id), place: Place::Elsewhere, caller, head: None, body }))
}

fn facts(run: &str, kept: &api::KeptFile, check: Option<&Check>, there: bool) -> Markup {
    html! {
        p.facts {
            @if let Some(check) = check {
                (checks::verdict(check))
                @if let Some(commit) = &check.commit { " on " code { (checks::short(commit)) } }
                @if let Some(at) = &check.at { " · " (moment(at)) }
                " · "
            }
            (bytes(kept.bytes))
            @if there {
                " · " a href={ "/api/v1/runs/" (encoded(run)) "/files/" (encoded(&kept.file)) } { "as plain text" }
                " · " a href="#end" { "to its end" }
            }
        }
    }
}

fn shown(text: &str, sha256: &str) -> Markup {
    let begin = text.len().saturating_sub(SHOWN);
    let begin = (begin..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    html! {
        @if begin > 0 { p.more { "Only the end is shown here. All of it is there as plain text." } }
        // A browser leaves out a first line that is empty.
        pre.text.output { "\n" (text.get(begin..).unwrap_or_default()) }
        p #end.more { "The end of what it said; as its receipt says, sha-256 " code { (sha256) } }
    }
}
