//! Query strings and path segments, checked.

use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use dalsegno_api::code;

use crate::problem::Problem;

/// Longest identifier, id, name or word that is looked at, in bytes.
const MAX_WORD: usize = 256;

/// The query string as pairs. Each route takes what it knows; [`Params::done`] refuses the rest.
#[derive(Debug)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map_err(|error| {
            let hint = "write it as name=value pairs, percent-encoded";
            Problem::new(StatusCode::BAD_REQUEST, code::INVALID_QUERY, error.to_string(), hint)
        })?;
        Ok(Self { pairs })
    }
}

/// The pairs of a form's body.
pub(crate) fn pairs_of(body: &[u8]) -> Result<Vec<(String, String)>, Problem> {
    let text = std::str::from_utf8(body).unwrap_or("%");
    let uri = axum::http::Uri::try_from(format!("/?{text}")).ok();
    let pairs = uri.and_then(|uri| Query::<Vec<(String, String)>>::try_from_uri(&uri).ok()).map(|Query(pairs)| pairs);
    pairs.ok_or_else(|| {
        let hint = "send application/x-www-form-urlencoded, as a browser does";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code::INVALID_BODY, "the body is no form", hint)
    })
}

impl Params {
    /// No query string: for a route that is asked from within.
    pub(crate) fn none() -> Self {
        Self { pairs: Vec::new() }
    }

    /// Takes the value of `name`; an empty one counts as absent.
    pub(crate) fn take(&mut self, name: &str) -> Result<Option<String>, Problem> {
        Ok(self.given(name)?.filter(|value| !value.is_empty()))
    }

    fn given(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let mut found = None;
        while let Some(at) = self.pairs.iter().position(|(known, _)| known == name) {
            let (_, value) = self.pairs.swap_remove(at);
            if found.replace(value).is_some() {
                return Err(Problem::parameter(name, "is there twice", "give it once"));
            }
        }
        Ok(found)
    }

    /// Takes a short word.
    pub(crate) fn word(&mut self, name: &str) -> Result<Option<String>, Problem> {
        match self.take(name)? {
            Some(word) if word.len() > MAX_WORD || word.contains(char::is_control) => Err(Problem::parameter(
                name,
                "is too long or holds control characters",
                "give a name as the lists show it",
            )),
            word => Ok(word),
        }
    }

    /// Takes `limit`, from 1 to `most`.
    pub(crate) fn limit(&mut self, default: usize, most: usize) -> Result<usize, Problem> {
        let Some(text) = self.given("limit")? else { return Ok(default) };
        match text.parse() {
            Ok(limit) if (1..=most).contains(&limit) => Ok(limit),
            _ => Err(Problem::parameter("limit", "is out of range", &format!("give a number from 1 to {most}"))),
        }
    }

    /// Refuses what no one took: a misspelt filter must not look like an answer.
    pub(crate) fn done(self) -> Result<(), Problem> {
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().filter(|character| !character.is_control()).take(40).collect();
                let message = format!("this route has no query parameter `{name}`");
                Err(Problem::new(StatusCode::BAD_REQUEST, code::UNKNOWN_PARAMETER, message, "check its spelling"))
            }
        }
    }
}

/// The one segment of the path that names an issue or a run.
#[derive(Debug)]
pub(crate) struct Key(pub(crate) String);

/// The two segments of the path that name a run and something of it.
#[derive(Debug)]
pub(crate) struct Keys(pub(crate) String, pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(key) = Path::<String>::from_request_parts(parts, state).await.map_err(unreadable)?;
        name(key).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Keys {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path((one, other)) =
            Path::<(String, String)>::from_request_parts(parts, state).await.map_err(unreadable)?;
        Ok(Self(name(one)?, name(other)?))
    }
}

fn name(key: String) -> Result<String, Problem> {
    if key.len() > MAX_WORD || key.contains(char::is_control) {
        return Err(invalid_path("the name in the path is too long or holds control characters".to_owned()));
    }
    Ok(key)
}

fn unreadable(rejection: PathRejection) -> Problem {
    if let PathRejection::FailedToDeserializePathParams(error) = &rejection
        && matches!(error.kind(), ErrorKind::InvalidUtf8InPathParam { .. })
    {
        return invalid_path("the name in the path is not UTF-8".to_owned());
    }
    invalid_path(rejection.to_string())
}

fn invalid_path(message: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, code::INVALID_PATH, message, "give a name as the lists show it")
}
