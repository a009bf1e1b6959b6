//! What programs are told of the API is true: methods, and the shape of every answer, to the last field.

use axum::body::{Body, to_bytes};
use axum::http::{Method, StatusCode};
use dalsegno_api::Cursor;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{TOKEN, World, request};

pub(crate) async fn document(router: &axum::Router) -> Value {
    crate::world::get(router, "/api/v1/openapi.json").await.body
}

/// Holds a value against a shape; fields that the shape does not name are an error here, though clients would ignore them.
pub(crate) fn check(document: &Value, shape: &Value, value: &Value, at: &str) -> Result<(), String> {
    if let Some(name) = shape["$ref"].as_str() {
        return check(document, document.pointer(name.trim_start_matches('#')).unwrap(), value, at);
    }
    if let Some(ways) = shape["oneOf"].as_array() {
        let tried: Vec<String> = ways.iter().filter_map(|way| check(document, way, value, at).err()).collect();
        return if tried.len() + 1 == ways.len() {
            Ok(())
        } else {
            Err(format!("{at}: none or too many fit: {tried:?}"))
        };
    }
    let (properties, required) = object(document, shape);
    let types: Vec<&str> = match &shape["type"] {
        Value::String(one) => vec![one],
        Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) if properties.is_empty() => return Ok(()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => vec!["object"],
    };
    let fits = match value {
        Value::Null => types.contains(&"null"),
        Value::Bool(_) => types.contains(&"boolean"),
        Value::Number(number) => types.contains(&"number") || (types.contains(&"integer") && !number.is_f64()),
        Value::String(_) => types.contains(&"string"),
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                check(document, &shape["items"], item, &format!("{at}/{n}"))?;
            }
            types.contains(&"array")
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let at = format!("{at}/{name}");
                match properties.iter().find(|(known, _)| known == name) {
                    Some((_, shape)) => check(document, shape, value, &at)?,
                    None if shape["additionalProperties"].is_object() => {
                        check(document, &shape["additionalProperties"], value, &at)?
                    }
                    None if properties.is_empty() => {}
                    None => return Err(format!("{at} is not described")),
                }
            }
            if let Some(missing) = required.iter().find(|name| !fields.contains_key(*name)) {
                return Err(format!("{at} has no {missing}"));
            }
            types.contains(&"object")
        }
    };
    if fits { Ok(()) } else { Err(format!("{at} is {value}, not {types:?}")) }
}

/// All properties of a shape, those that it takes from others among them, and the names of those that are required.
pub(crate) fn object(document: &Value, shape: &Value) -> (Vec<(String, Value)>, Vec<String>) {
    let mut properties: Vec<(String, Value)> = Vec::new();
    let mut required: Vec<String> = Vec::new();
    for part in shape["allOf"].as_array().into_iter().flatten() {
        let part = part["$ref"].as_str().map_or(part, |name| document.pointer(name.trim_start_matches('#')).unwrap());
        let (more, wanted) = object(document, part);
        properties.extend(more);
        required.extend(wanted);
    }
    properties.extend(
        shape["properties"].as_object().into_iter().flatten().map(|(name, shape)| (name.clone(), shape.clone())),
    );
    required.extend(shape["required"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
    (properties, required)
}

/// The shape of an answer of this status: by the status itself, else by its range.
pub(crate) fn shape<'a>(document: &'a Value, path: &str, method: &str, status: StatusCode) -> Option<&'a Value> {
    let responses = &document["paths"][path][method]["responses"];
    let range = format!("{}XX", status.as_u16() / 100);
    let response = [status.as_str(), &range].into_iter().map(|key| &responses[key]).find(|found| found.is_object())?;
    Some(&response["content"]["application/json"]["schema"])
}

#[tokio::test]
async fn answers_have_the_shape_that_the_document_says() {
    let world = World::new();
    let workspace = json!({"path": "/w/DS-1", "branch": "b", "base_commit": "ba5e"});
    world.commit("workspace_ready", Some("DS-1"), Some("run-2"), json!({"workspace": workspace}));
    let router = world.router();
    let document = document(&router).await;
    let gone = Cursor::event("journal-b", 7).to_string();
    let action = |kind: &str, id: &str| {
        json!({"schema_version": 1, "action_kind": kind, "target": {"kind": "issue", "id": id}}).to_string()
    };
    let (taken, refused, unknown) = (action("release", "DS-1"), action("release", "DS-4"), action("release", "DS-9"));
    let (odd, one_of_many) = (action("odd", "DS-1"), action("release", "DS-1001"));
    let asked: Vec<(&str, &str, String, &str)> = vec![
        ("get", "/healthz", "/healthz".to_owned(), ""),
        ("get", "/readyz", "/readyz".to_owned(), ""),
        ("get", "/api/v1/openapi.json", "/api/v1/openapi.json".to_owned(), ""),
        ("get", "/api/v1/capabilities", "/api/v1/capabilities".to_owned(), ""),
        ("post", "/api/v1/login-links", "/api/v1/login-links".to_owned(), ""),
        ("get", "/api/v1/tokens", "/api/v1/tokens".to_owned(), ""),
        ("get", "/api/v1/state", "/api/v1/state".to_owned(), ""),
        ("post", "/api/v1/refresh", "/api/v1/refresh".to_owned(), ""),
        ("post", "/api/v1/refresh", "/api/v1/refresh".to_owned(), "no JSON"),
        ("get", "/api/v1/issues", "/api/v1/issues".to_owned(), ""),
        ("get", "/api/v1/issues", "/api/v1/issues?limit=0".to_owned(), ""),
        ("get", "/api/v1/issues/{id}", "/api/v1/issues/DS-1".to_owned(), ""),
        ("get", "/api/v1/issues/{id}", "/api/v1/issues/DS-5".to_owned(), ""),
        ("get", "/api/v1/{identifier}", "/api/v1/DS-4".to_owned(), ""),
        ("get", "/api/v1/issues/{id}/explain", "/api/v1/issues/DS-3/explain".to_owned(), ""),
        ("get", "/api/v1/issues/{id}/runs", "/api/v1/issues/DS-1/runs".to_owned(), ""),
        ("post", "/api/v1/actions", "/api/v1/actions".to_owned(), &taken),
        ("post", "/api/v1/actions", "/api/v1/actions".to_owned(), &refused),
        ("post", "/api/v1/actions", "/api/v1/actions".to_owned(), &unknown),
        ("post", "/api/v1/actions", "/api/v1/actions".to_owned(), &odd),
        ("post", "/api/v1/actions", "/api/v1/actions".to_owned(), &one_of_many),
        ("post", "/api/v1/actions", "/api/v1/actions".to_owned(), "{}"),
        ("get", "/api/v1/actions/{id}", "/api/v1/actions/act-1".to_owned(), ""),
        ("get", "/api/v1/actions/{id}", "/api/v1/actions/act-2".to_owned(), ""),
        ("post", "/api/v1/webhooks/{tracker}", "/api/v1/webhooks/github".to_owned(), "{}"),
        ("post", "/api/v1/webhooks/{tracker}", "/api/v1/webhooks/jira".to_owned(), "{}"),
        ("get", "/api/v1/usage", "/api/v1/usage".to_owned(), ""),
        ("get", "/api/v1/budget", "/api/v1/budget".to_owned(), ""),
        ("get", "/api/v1/runs", "/api/v1/runs".to_owned(), ""),
        ("get", "/api/v1/runs/{id}", "/api/v1/runs/run-1".to_owned(), ""),
        ("get", "/api/v1/runs/{id}/transcript", "/api/v1/runs/run-2/transcript".to_owned(), ""),
        ("get", "/api/v1/runs/{id}/effects", "/api/v1/runs/run-2/effects".to_owned(), ""),
        ("get", "/api/v1/runs/{id}/diff", "/api/v1/runs/run-2/diff".to_owned(), ""),
        ("get", "/api/v1/runs/{id}/files", "/api/v1/runs/run-2/files".to_owned(), ""),
        ("get", "/api/v1/runs/{id}/files/{file}", "/api/v1/runs/run-2/files/1-0-none.log".to_owned(), ""),
        ("get", "/api/v1/sagas/{id}", "/api/v1/sagas/run-9.handoff".to_owned(), ""),
        ("get", "/api/v1/events", "/api/v1/events".to_owned(), ""),
        ("get", "/api/v1/events", format!("/api/v1/events?after={gone}"), ""),
        ("get", "/api/v1/events/stream", format!("/api/v1/events/stream?after={gone}"), ""),
    ];
    for (method, path, target, body) in asked {
        for token in [true, false] {
            let mut request = request(&method.to_uppercase(), &target);
            if token {
                request = request.header("authorization", format!("Bearer {TOKEN}"));
            }
            let answer = router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
            let status = answer.status();
            let bytes = to_bytes(answer.into_body(), 1 << 24).await.unwrap();
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            let shape = shape(&document, path, method, status).unwrap_or_else(|| panic!("{path} answers {status}"));
            assert!(shape.is_object(), "{path} {status}");
            assert_eq!(check(&document, shape, &value, ""), Ok(()), "{method} {target} {status}: {value}");
        }
    }
}

#[tokio::test]
async fn a_webhook_that_is_taken_has_its_shape() {
    let router = World::new().router();
    let document = document(&router).await;
    for body in ["DS-1", "DS-1", "other"] {
        let request = request("POST", "/api/v1/webhooks/github").header("x-mark", "right").header("x-id", body);
        let answer = crate::world::send(&router, request.body(Body::from(body)).unwrap()).await;
        let shape = shape(&document, "/api/v1/webhooks/{tracker}", "post", answer.status).unwrap();
        assert!(answer.status.is_success() && shape["$ref"].is_string(), "{}", answer.body);
        assert_eq!(check(&document, shape, &answer.body, ""), Ok(()), "{}", answer.body);
    }
}

#[tokio::test]
async fn every_method_that_is_described_is_served_and_no_other() {
    let router = World::new().router();
    let document = document(&router).await;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let target = path
                .replace("{id}", "DS-1")
                .replace("{identifier}", "DS-1")
                .replace("{tracker}", "github")
                .replace("{file}", "f");
            let answer =
                router.clone().oneshot(request(method.as_str(), &target).body(Body::empty()).unwrap()).await.unwrap();
            let described = methods.get(method.as_str().to_lowercase()).is_some();
            assert_eq!(answer.status() != StatusCode::METHOD_NOT_ALLOWED, described, "{method} {path}");
        }
    }
}

#[test]
fn the_check_itself_finds_what_is_wrong() {
    let shape = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": ["string", "null"]}, "b": {"type": "integer"}}});
    for (value, fits) in [
        (json!({"a": null, "b": 1}), true),
        (json!({"a": "x"}), true),
        (json!({"b": 1}), false),
        (json!({"a": 1}), false),
        (json!({"a": "x", "b": 1.5}), false),
        (json!({"a": "x", "c": 1}), false),
        (json!([]), false),
    ] {
        assert_eq!(check(&Value::Null, &shape, &value, "").is_ok(), fits, "{value}");
    }
}
