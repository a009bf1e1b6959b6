#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dalsegno_core::{AgentKind, AgentPolicy, TrackerPolicy, WebhookPolicy, WorkspacePolicy};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::*;

/// Of the vectors that GitHub and Atlassian publish.
const SECRET: &str = "It's a Secret to Everybody";
/// Of the vector of Standard Webhooks.
const SIGNING_TOKEN: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NOW: Timestamp = Timestamp(1_614_265_330_000);

fn policy(tracker: &str, services: &[&str]) -> Policy {
    let webhook = |service: &&str| ((*service).to_owned(), WebhookPolicy { secret: "$HOOK".to_owned() });
    let agent = AgentPolicy::of(AgentKind::Scripted);
    Policy {
        tracker: TrackerPolicy { kind: tracker.to_owned(), ..TrackerPolicy::default() },
        webhooks: services.iter().map(webhook).collect::<BTreeMap<_, _>>(),
        ..Policy::of("/p", WorkspacePolicy::of("/w", "."), agent)
    }
}

fn webhooks(secret: &'static str) -> LocalWebhooks {
    LocalWebhooks::with_environment(Arc::new(move |name| (name == "HOOK").then(|| secret.to_owned())))
}

fn delivery(service: &str, headers: &[(&str, &str)], body: &str) -> Delivery {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Delivery { service: service.to_owned(), headers, body: body.as_bytes().to_vec() }
}

/// Read with `secret`, where the tracker is the service itself.
fn read(delivery: &Delivery, secret: &'static str, now: Timestamp) -> Result<Heard, Failure> {
    webhooks(secret).read(&policy(&delivery.service, &[&delivery.service]), delivery, now)
}

fn code(delivery: &Delivery, secret: &'static str) -> String {
    read(delivery, secret, NOW).unwrap_err().code
}

fn signed(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn signed_hex(body: &str) -> String {
    hex::encode(signed(SECRET.as_bytes(), body.as_bytes()))
}

/// A delivery of each scheme as its service would send this body.
fn genuine(service: &str, body: &Value) -> (Delivery, &'static str) {
    let body = body.to_string();
    let hex = signed_hex(&body);
    let prefixed = format!("sha256={hex}");
    match service {
        "github" => {
            (delivery(service, &[("x-hub-signature-256", &prefixed), ("x-github-delivery", "d-1")], &body), SECRET)
        }
        "jira" => {
            let headers = [("x-hub-signature", prefixed.as_str()), ("x-atlassian-webhook-identifier", "d-1")];
            (delivery(service, &headers, &body), SECRET)
        }
        "linear" => (delivery(service, &[("linear-signature", &hex), ("linear-delivery", "d-1")], &body), SECRET),
        "forgejo" => {
            (delivery(service, &[("x-forgejo-signature", &hex), ("x-forgejo-delivery", "d-1")], &body), SECRET)
        }
        "gitlab token" => {
            (delivery("gitlab", &[("x-gitlab-token", SECRET), ("idempotency-key", "d-1")], &body), SECRET)
        }
        _ => {
            let key = BASE64_STANDARD.decode(&SIGNING_TOKEN[6..]).unwrap();
            let tag = BASE64_STANDARD.encode(signed(&key, format!("d-1.1614265330.{body}").as_bytes()));
            let shown = format!("v1,{tag}");
            let headers =
                [("webhook-id", "d-1"), ("webhook-timestamp", "1614265330"), ("webhook-signature", shown.as_str())];
            (delivery("gitlab", &headers, &body), SIGNING_TOKEN)
        }
    }
}

const SCHEMES: [&str; 6] = ["github", "jira", "linear", "forgejo", "gitlab token", "gitlab"];

fn sent_now(mut body: Value) -> Value {
    body["webhookTimestamp"] = json!(NOW.0);
    body
}

#[test]
fn published_vectors_are_believed() {
    // GitHub, "Validating webhook deliveries".
    let tag = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let github = delivery("github", &[("x-hub-signature-256", tag)], "Hello, World!");
    assert_eq!(code(&github, SECRET), "invalid_body", "signed, and no JSON");
    // Atlassian, of X-Hub-Signature.
    let tag = "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9";
    let jira = delivery("jira", &[("x-hub-signature", tag)], "Hello World!");
    assert_eq!(code(&jira, SECRET), "invalid_body", "signed, and no JSON");
    // Standard Webhooks, which GitLab follows.
    let headers = [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ];
    let gitlab = delivery("gitlab", &headers, r#"{"test": 2432232314}"#);
    let heard = read(&gitlab, SIGNING_TOKEN, NOW).unwrap();
    assert_eq!(heard, Heard { id: Some("msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned()), names: Vec::new() });
}

#[test]
fn an_issue_is_named_as_its_service_names_it() {
    let repository = json!({"full_name": "o/r"});
    let project = json!({"path_with_namespace": "g/p"});
    let issue = json!({"id": 9, "iid": 7});
    let linear = json!({"id": "u-1", "identifier": "ENG-1"});
    for (scheme, body, names) in [
        (
            "github",
            json!({"issue": {"id": 9, "node_id": "I_9", "number": 7}, "repository": repository}),
            &["I_9", "9", "o/r#7"][..],
        ),
        ("github", json!({"zen": "x", "repository": repository}), &[]),
        ("github", json!({"issue": {"id": "no number"}}), &[]),
        ("forgejo", json!({"issue": {"id": 9, "number": 7}, "repository": repository}), &["9", "o/r#7"]),
        ("gitlab", json!({"object_kind": "issue", "object_attributes": issue, "project": project}), &["9", "g/p#7"]),
        ("gitlab token", json!({"object_kind": "note", "object_attributes": {"id": 3}, "issue": issue}), &["9"]),
        ("gitlab token", json!({"object_kind": "push", "object_attributes": issue}), &[]),
        ("linear", sent_now(json!({"type": "Issue", "data": linear})), &["u-1", "ENG-1"]),
        (
            "linear",
            sent_now(json!({"type": "Comment", "data": {"id": "c", "issueId": "u-1", "issue": linear}})),
            &["u-1", "u-1", "ENG-1"],
        ),
        ("linear", sent_now(json!({"type": "Project", "data": {"id": "p"}})), &[]),
        ("jira", json!({"issue": {"id": "10002", "key": "TEST-3"}}), &["10002", "TEST-3"]),
        ("jira", json!({"issue": {"id": "1", "key": "x".repeat(300)}}), &["1"]),
        ("jira", json!([1]), &[]),
    ] {
        let (delivery, secret) = genuine(scheme, &body);
        let heard = read(&delivery, secret, NOW).unwrap();
        assert_eq!(
            (heard.id.as_deref(), heard.names),
            (Some("d-1"), names.iter().map(|name| (*name).to_owned()).collect()),
            "{scheme} {body}"
        );
    }
}

#[test]
fn what_is_changed_anywhere_is_not_believed() {
    for scheme in SCHEMES {
        let (genuine, secret) = genuine(scheme, &sent_now(json!({"issue": {"key": "A-1"}, "text": "ä b"})));
        assert!(read(&genuine, secret, NOW).is_ok(), "{scheme}");
        // A token says nothing of the body; all else does.
        for at in (0..genuine.body.len()).filter(|_| scheme != "gitlab token") {
            for flipped in [1, 0x80] {
                let mut changed = genuine.clone();
                changed.body[at] ^= flipped;
                assert_eq!(code(&changed, secret), "webhook_signature", "{scheme}: byte {at} of the body");
            }
        }
        let mut longer = genuine.clone();
        longer.body.push(b' ');
        let mut shorter = genuine.clone();
        shorter.body.pop();
        for changed in [longer, shorter].iter().filter(|_| scheme != "gitlab token") {
            assert_eq!(code(changed, secret), "webhook_signature", "{scheme}");
        }
        // The first header holds the signature, or a part of what is signed.
        let signature = if scheme == "gitlab" { 2 } else { 0 };
        let (name, value) = genuine.headers[signature].clone();
        for at in 0..value.len() {
            let mut bytes = value.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            let mut changed = genuine.clone();
            changed.headers[signature].1 = String::from_utf8(bytes).unwrap();
            assert_eq!(code(&changed, secret), "webhook_signature", "{scheme}: byte {at} of {name}");
        }
        for odd in [
            "",
            "sha256=",
            "sha1=00",
            "v1,",
            "v1",
            &value[..value.len() - 1],
            &format!("{value}0"),
            &format!("x{value}"),
        ] {
            let mut changed = genuine.clone();
            odd.clone_into(&mut changed.headers[signature].1);
            assert_eq!(code(&changed, secret), "webhook_signature", "{scheme}: {odd}");
        }
        let mut twice = genuine.clone();
        twice.headers.push((name.clone(), value.clone()));
        assert_eq!(code(&twice, secret), "webhook_signature", "{scheme}: two of {name}");
        let mut none = genuine.clone();
        none.headers.remove(signature);
        assert_eq!(code(&none, secret), "webhook_signature", "{scheme}: no {name}");
        assert_eq!(code(&genuine, "another"), "webhook_signature", "{scheme}: another secret");
    }
}

#[test]
fn a_signed_name_and_time_cannot_be_exchanged() {
    let (genuine, secret) = genuine("gitlab", &json!({}));
    for (at, other) in [(0, "d-2"), (1, "1614265331")] {
        let mut changed = genuine.clone();
        other.clone_into(&mut changed.headers[at].1);
        assert_eq!(code(&changed, secret), "webhook_signature");
    }
}

#[test]
fn one_of_several_signatures_is_enough_and_few_are_looked_at() {
    let (mut genuine, secret) = genuine("gitlab", &json!({}));
    let right = genuine.headers[2].1.clone();
    for (shown, fine) in [
        (format!("v1a,AAAA v1,AAAA {right}"), true),
        (format!("{right} v2,AAAA"), true),
        (format!("{}{right}", "v1,AAAA ".repeat(8)), false),
        (right.replace(',', " "), false),
    ] {
        genuine.headers[2].1 = shown;
        assert_eq!(read(&genuine, secret, NOW).is_ok(), fine, "{:?}", genuine.headers[2]);
    }
}

#[test]
fn where_there_is_a_signing_token_nothing_less_is_believed() {
    let body = json!({}).to_string();
    for shown in [SIGNING_TOKEN, SECRET] {
        let plain = delivery("gitlab", &[("x-gitlab-token", shown)], &body);
        assert_eq!(code(&plain, SIGNING_TOKEN), "webhook_signature");
    }
}

#[test]
fn what_is_older_than_its_time_is_refused() {
    for (scheme, limit_ms) in [("linear", 60_000), ("gitlab", 300_000)] {
        let (genuine, secret) = genuine(scheme, &sent_now(json!({})));
        for (off, fine) in [(limit_ms, true), (-limit_ms, true), (limit_ms + 1_000, false), (-limit_ms - 1_000, false)]
        {
            let read = read(&genuine, secret, Timestamp(NOW.0 + off));
            let code = read.err().map(|failure| failure.code);
            assert_eq!(code.as_deref(), (!fine).then_some("webhook_stale"), "{scheme} {off}");
        }
    }
    for body in [json!({}), json!({"webhookTimestamp": "1614265330000"}), json!([])] {
        let (timeless, secret) = genuine("linear", &body);
        assert_eq!(code(&timeless, secret), "webhook_stale", "{body}");
    }
}

#[test]
fn gitea_signs_under_its_own_names() {
    let body = json!({"issue": {"id": 9}}).to_string();
    let hex = signed_hex(&body);
    let gitea = delivery("forgejo", &[("x-gitea-signature", &hex), ("x-gitea-delivery", "d-1")], &body);
    assert_eq!(read(&gitea, SECRET, NOW).unwrap(), Heard { id: Some("d-1".to_owned()), names: vec!["9".to_owned()] });
}

#[test]
fn another_services_issue_is_not_the_trackers() {
    let (github, secret) = genuine("github", &json!({"issue": {"id": 9}}));
    let heard = webhooks(secret).read(&policy("local", &["github"]), &github, NOW).unwrap();
    assert_eq!(heard, Heard { id: Some("d-1".to_owned()), names: Vec::new() });
}

#[test]
fn without_a_key_in_the_policy_or_a_variable_nothing_is_heard() {
    let (github, secret) = genuine("github", &json!({}));
    for service in ["github", "linear", "no such", "GITHUB"] {
        let delivery = Delivery { service: service.to_owned(), ..github.clone() };
        let failure = webhooks(secret).read(&policy("local", &["jira"]), &delivery, NOW).unwrap_err();
        assert_eq!(failure.code, "webhook_not_configured", "{service}");
        assert!(failure.hint.is_some());
    }
    let unset = LocalWebhooks::with_environment(Arc::new(|_| Some("  ".to_owned())));
    let policy = policy("local", &["github"]);
    assert_eq!(unset.read(&policy, &github, NOW).unwrap_err().code, "missing_webhook_secret");
    assert_eq!(unset.preflight(&policy).unwrap_err().code, "missing_webhook_secret");
    assert!(webhooks(secret).preflight(&policy).is_ok());
    assert_eq!(webhooks(secret).secret_environment_names(&policy), ["HOOK"]);
}
