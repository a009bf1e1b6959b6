//! Requests that are made up from the document, and from much that it does not allow: no answer is a fault of ours, and each is as the
//! document says.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::{Body, to_bytes};
use dalsegno_api::Cursor;
use dalsegno_testkit::crash::Random;
use serde_json::{Map, Value, json};
use tower::ServiceExt as _;

use crate::document::{check, document, object, shape};
use crate::world::{TOKEN, World, request};

const SEED: u64 = 7;
/// Requests of each route and method.
const EACH: u32 = 300;
/// A token may ask so often of one router before it is told to wait.
const FRESH: u32 = 50;
/// What only an admin or somebody with a secret gets into, and what there is none of here.
const CLOSED: [&str; 4] = ["/login", "/api/v1/tokens", "/api/v1/webhooks/{tracker}", "/api/v1/sagas/{id}"];
const WORDS: [&str; 24] = [
    "",
    "DS-1",
    "ds-4",
    "Ünï/6",
    "run-1",
    "run-2",
    "run-9.handoff",
    "act-1",
    "act-2",
    "github",
    "jira",
    "issue",
    "daemon",
    "cancel",
    "0",
    "-1",
    "1",
    "18446744073709551616",
    "1e400",
    "null",
    "\u{0}\r\n",
    "../../etc",
    "a b&c=d#e?f",
    "\u{202e}\u{10ffff}",
];

fn word(random: &mut Random) -> String {
    match random.below(12) {
        0 => "x".repeat(usize::try_from(random.below(400)).unwrap()),
        1 => Cursor::event("journal-a", random.below(20)).to_string(),
        2 => Cursor::event("journal-b", 3).to_string(),
        _ => WORDS[usize::try_from(random.below(WORDS.len() as u64)).unwrap()].to_owned(),
    }
}

/// Anything at all.
fn junk(random: &mut Random, depth: u32) -> Value {
    match random.below(if depth == 0 { 7 } else { 9 }) {
        0 => Value::Null,
        1 => json!(random.below(2) == 0),
        2 => json!(i64::MIN),
        3 => json!(u64::MAX),
        4 => json!(0.5e-300),
        5 | 6 => json!(word(random)),
        7 => (0..random.below(4)).map(|_| junk(random, depth - 1)).collect(),
        _ => Value::Object((0..random.below(4)).map(|_| (word(random), junk(random, depth - 1))).collect()),
    }
}

/// A value of this shape; a wild one more or less.
fn made(document: &Value, of: &Value, random: &mut Random, wild: bool, depth: u32) -> Value {
    if depth == 0 || (wild && random.below(12) == 0) {
        return junk(random, 3);
    }
    if let Some(name) = of["$ref"].as_str() {
        return made(document, document.pointer(name.trim_start_matches('#')).unwrap(), random, wild, depth);
    }
    if let Some(some) = of["enum"].as_array() {
        return some[usize::try_from(random.below(some.len() as u64)).unwrap()].clone();
    }
    let (properties, required) = object(document, of);
    let kind = of["type"].as_str().or_else(|| of["type"][0].as_str());
    match kind {
        Some("string") => json!(word(random)),
        Some("integer" | "number") => json!(random.below(3)),
        Some("boolean") => json!(random.below(2) == 0),
        Some("array") => (0..random.below(3)).map(|_| made(document, &of["items"], random, wild, depth - 1)).collect(),
        Some("object") if properties.is_empty() => {
            Value::Object((0..random.below(3)).map(|_| (word(random), junk(random, 2))).collect())
        }
        _ if properties.is_empty() => junk(random, 2),
        _ => {
            let mut fields = Map::new();
            for (name, of) in properties {
                let wanted =
                    if required.contains(&name) { !wild || random.below(10) > 0 } else { random.below(10) < 4 };
                if wanted {
                    // What a name that is made up would hardly ever hit.
                    let known = [("kind", "issue"), ("id", "DS-1"), ("action_kind", "release")]
                        .into_iter()
                        .find(|(field, _)| *field == name);
                    let value = match known {
                        Some((_, value)) if random.below(3) > 0 => json!(value),
                        _ => made(document, &of, random, wild, depth - 1),
                    };
                    fields.insert(name, value);
                }
            }
            if wild && random.below(10) == 0 {
                fields.insert(word(random), junk(random, 2));
            }
            Value::Object(fields)
        }
    }
}

fn body(document: &Value, operation: &Value, random: &mut Random) -> Vec<u8> {
    let of = &operation["requestBody"]["content"]["application/json"]["schema"];
    match random.below(10) {
        0 => vec![0xff, 0xfe, b'{'],
        1 => "[".repeat(10_000).into_bytes(),
        2 => vec![b' '; 70_000],
        3 => Vec::new(),
        _ if of.is_object() => {
            let wild = random.below(2) == 0;
            serde_json::to_vec(&made(document, of, random, wild, 6)).unwrap()
        }
        _ => serde_json::to_vec(&junk(random, 3)).unwrap(),
    }
}

fn target(path: &str, operation: &Value, random: &mut Random) -> String {
    let coded = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let (mut target, mut query) = (path.to_owned(), Vec::new());
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        match parameter["in"].as_str() {
            Some("path") => {
                let text = match (name, random.below(20)) {
                    (_, 0) => "%ff%c0".to_owned(),
                    // What a name that is made up would hardly ever hit.
                    ("file", 1..10) => "7-0-check-2.log".to_owned(),
                    _ => coded(&word(random)),
                };
                target = target.replace(&format!("{{{name}}}"), &text);
            }
            Some("query") if random.below(3) == 0 => query.push(format!("{name}={}", coded(&word(random)))),
            _ => {}
        }
    }
    if random.below(15) == 0 {
        query.push(format!("{}={}", coded(&word(random)), coded(&word(random))));
    }
    if query.is_empty() { target } else { format!("{target}?{}", query.join("&")) }
}

/// Asks, and holds the answer against the document. Answers the status.
async fn ask(
    router: &Router,
    document: &Value,
    path: &str,
    method: &str,
    operation: &Value,
    random: &mut Random,
) -> Option<u16> {
    let target = target(path, operation, random);
    let mut asked = request(&method.to_uppercase(), &target);
    if random.below(5) != 0 {
        asked = asked.header("authorization", format!("Bearer {TOKEN}"));
    }
    if random.below(4) == 0 {
        asked = asked.header("last-event-id", word(random));
    }
    let sent = body(document, operation, random);
    let what = format!("{method} {target} {}", String::from_utf8_lossy(&sent[..sent.len().min(600)]));
    // What is no request in HTTP at all is refused before the routes.
    let asked = asked.body(Body::from(if method == "post" { sent } else { Vec::new() })).ok()?;
    let answer = router.clone().oneshot(asked).await.unwrap();
    let status = answer.status();
    assert!(!status.is_server_error() && !status.is_redirection(), "{status}: {what}");
    let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned()).unwrap_or_default();
    let responses = &operation["responses"];
    let range = format!("{}XX", status.as_u16() / 100);
    let told =
        [status.as_str(), &range].into_iter().map(|key| &responses[key]["content"]).find(|found| found.is_object());
    let kinds: Vec<&String> =
        told.unwrap_or_else(|| panic!("{status} is not described: {what}")).as_object().unwrap().keys().collect();
    assert!(kinds.iter().any(|told| kind.starts_with(told.as_str())), "{status} is of {kind:?}, not {kinds:?}: {what}");
    if kind.starts_with("application/json") {
        let bytes = to_bytes(answer.into_body(), 1 << 24).await.unwrap();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let shape = shape(document, path, method, status).unwrap();
        assert_eq!(check(document, shape, &value, ""), Ok(()), "{status}: {what}: {value}");
    }
    Some(status.as_u16())
}

#[tokio::test]
async fn whatever_is_asked_no_answer_is_a_fault_and_each_is_described() {
    let mut random = Random::new(SEED);
    let mut router = World::new().router();
    let document = document(&router).await;
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let mut told: BTreeMap<u16, u32> = BTreeMap::new();
            for _ in 0..EACH {
                asked += 1;
                if asked % FRESH == 0 {
                    router = World::new().router();
                }
                if let Some(status) = ask(&router, &document, path, method, operation, &mut random).await {
                    *told.entry(status).or_default() += 1;
                }
            }
            let (good, bad) = told.keys().copied().partition::<Vec<u16>, _>(|status| *status < 300);
            let takes = operation["parameters"].is_array() || operation["requestBody"].is_object();
            assert!(!takes || !bad.is_empty(), "{method} {path} takes everything: {told:?}");
            assert!(!good.is_empty() || CLOSED.contains(&path.as_str()), "{method} {path} takes nothing: {told:?}");
            assert!(!told.contains_key(&429), "{method} {path}: the tests ask too often of one router");
        }
    }
}
