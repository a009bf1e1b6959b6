//! Webhooks in, with a real daemon that would read its tracker once an hour.

use std::fs;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;

use super::http::{Answer, Api};
use super::project::{Daemon, HOOK_SECRET, Project};

const FRONT: &str = "  webhooks: {github: {secret: $HOOK_SECRET}}
workspace: {root: ../workspaces}
polling: {interval_ms: 3600000}
agent: {kind: scripted, script: agent.yaml}
handoff: {state: Human Review}
";
const AGENT: &str = "default:\n  - [ {sh: \"env > seen.env; git add -A && git commit -qm work\"} ]\n";

/// A daemon that has read its tracker, and found nothing there.
fn settled(project: &Project) -> (Daemon, Api) {
    let daemon = project.daemon();
    let api = Api::of(project, &daemon);
    project.wait_until("it is ready", || api.open("GET", "/readyz").status == 200);
    // A reading that was asked for is answered before another one can be asked for as the first.
    let first = || api.trusted("POST", "/api/v1/refresh").body["coalesced"] == json!(false);
    project.wait_until("the tracker is read", first);
    project.wait_until("it is read again", first);
    (daemon, api)
}

/// As a service sends it through a tunnel.
fn webhook(api: &Api, id: &str, secret: &str, body: &str) -> Answer {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
    let length = body.len().to_string();
    let headers = [
        ("host", "tunnel.example"),
        ("content-type", "application/json"),
        ("content-length", length.as_str()),
        ("x-github-event", "issues"),
        ("x-github-delivery", id),
        ("x-hub-signature-256", signature.as_str()),
    ];
    api.raw("POST", "/api/v1/webhooks/github", &headers, body)
}

/// A daemon with an issue that it has not seen, although forged webhooks told it of one.
///
/// The last reading that was asked for may still be under way, and see what came meanwhile. That is rare, and what a forged
/// one begins is not: so it counts when it happens to three daemons.
fn forged_to(body: &str) -> (Project, Daemon, Api) {
    for _ in 0..3 {
        let project = Project::new(FRONT, AGENT);
        let (daemon, api) = settled(&project);
        project.issue("DS-1", "state: Todo");
        for (id, secret) in [("d-1", "another secret"), ("d-2", ""), ("d-3", "hook-secret-0123456788")] {
            let forged = webhook(&api, id, secret, body);
            assert_eq!((forged.status, forged.code()), (401, "webhook_signature"));
        }
        // Time enough for whatever a forged one could have begun.
        std::thread::sleep(Duration::from_millis(1_500));
        if project.status("DS-1").is_none() {
            return (project, daemon, api);
        }
    }
    panic!("nobody was to look");
}

#[test]
fn a_signed_webhook_has_an_issue_taken_up_at_once_and_a_forged_one_does_not() {
    let body = json!({"action": "opened", "issue": {"id": 1, "number": 1}}).to_string();
    let (project, mut daemon, api) = forged_to(&body);

    let taken = webhook(&api, "d-1", HOOK_SECRET, &body);
    assert_eq!((taken.status, &taken.body), (202, &json!({"status": "accepted", "looks_at": "tracker"})));
    project.wait_for("DS-1", "handed_off");
    let again = webhook(&api, "d-1", HOOK_SECRET, &body);
    assert_eq!((again.status, &again.body), (200, &json!({"status": "duplicate"})));

    let seen = fs::read_to_string(project.workspace("DS-1").join("seen.env")).unwrap();
    assert!(seen.contains("DALSEGNO_RUN=") && !seen.contains(HOOK_SECRET), "the agent was given the secret");
    assert!(!project.events().iter().any(|event| event.data.to_string().contains(HOOK_SECRET)));
    daemon.stop();
    assert!(!fs::read_to_string(project.dir.join("daemon.log")).unwrap().contains(HOOK_SECRET));
}

#[test]
fn after_a_sigkill_webhooks_are_heard_as_before() {
    let project = Project::new(FRONT, AGENT);
    let (mut daemon, api) = settled(&project);
    let body = json!({"issue": {"id": 1}}).to_string();
    project.issue("DS-1", "state: Todo");
    assert_eq!(webhook(&api, "d-1", HOOK_SECRET, &body).status, 202);
    daemon.kill();
    // What it had heard of is found by the next one, which reads the tracker at its start.
    let (mut daemon, api) = settled(&project);
    project.wait_for("DS-1", "handed_off");
    project.issue("DS-2", "state: Todo");
    // It knows no deliveries of the last one: one that comes again costs a look.
    assert_eq!(webhook(&api, "d-1", HOOK_SECRET, &body).status, 202);
    project.wait_for("DS-2", "handed_off");
    for issue in ["DS-1", "DS-2"] {
        let ended =
            |event: &&dalsegno_engine::EventRow| event.kind == "run_ended" && event.issue.as_deref() == Some(issue);
        assert_eq!(project.events().iter().filter(ended).count(), 1, "{issue} was worked on once");
    }
    daemon.stop();
}

#[test]
fn a_reload_hears_another_service_and_a_secret_that_is_not_there_stops_a_start() {
    let project = Project::new(FRONT, AGENT);
    let (mut daemon, api) = settled(&project);
    let gitlab = |token: &str| {
        let headers = [("host", "tunnel.example"), ("content-length", "2"), ("x-gitlab-token", token)];
        api.raw("POST", "/api/v1/webhooks/gitlab", &headers, "{}")
    };
    let not_yet = gitlab(HOOK_SECRET);
    assert_eq!((not_yet.status, not_yet.code()), (404, "webhook_not_configured"));
    project.front(&FRONT.replace("github", "gitlab"));
    project.wait_until("it is heard", || gitlab(HOOK_SECRET).status == 202);
    assert_eq!(gitlab("another").status, 401);
    assert_eq!(webhook(&api, "d-1", HOOK_SECRET, "{}").code(), "webhook_not_configured");

    // Without its secret the last good file stays in force.
    project.front(&FRONT.replace("$HOOK_SECRET", "$NOT_SET"));
    project.wait_for_event("workflow_rejected");
    assert_eq!(gitlab(HOOK_SECRET).status, 202);
    daemon.stop();
    let refused = project.output(&["run", "--once", "--port", "0"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("error[missing_webhook_secret]"), "{words}");
}
