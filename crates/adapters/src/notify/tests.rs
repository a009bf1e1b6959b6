#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver as Heard, sync_channel};

use dalsegno_core::{
    AgentKind, AgentPolicy, Effect, EffectId, EffectRequest, Issue, Notice, NotifyPolicy, Policy, Timestamp, Topic,
    WorkspacePolicy,
};
use tokio_util::sync::CancellationToken;

use super::*;

fn notice() -> Notice {
    Notice {
        number: 7,
        topic: Topic::Parked,
        issue: "i1".into(),
        identifier: "DS-1".to_owned(),
        title: "A title".to_owned(),
        text: "why".to_owned(),
        url: None,
        at: Timestamp(0),
    }
}

fn message() -> Notification {
    Notification { id: "journal-n7".to_owned(), notices: vec![notice()], missed: 2 }
}

fn context(receiver: &Receiver, dir: &str) -> Context {
    let agent = AgentPolicy::of(AgentKind::Scripted);
    let entry = NotifyPolicy { receiver: receiver.clone(), on: Topic::ALL.to_vec() };
    let policy = Policy { notify: vec![entry], ..Policy::of(dir, WorkspacePolicy::of("/w", "."), agent) };
    let request = EffectRequest {
        id: EffectId(1),
        key: "issue/i1/notify/7/1".to_owned(),
        attempt: 1,
        issue: Issue::new("i1", "DS-1", "A title", ""),
        run: None,
        policy: Arc::new(policy),
        policy_hash: "policy".into(),
        workspace: None,
        known_branch: None,
        grants: Vec::new(),
        restored: false,
        unwanted: false,
        effect: Effect::Notify { receiver: receiver.clone(), notices: vec![notice()], missed: 2 },
    };
    Context {
        request: Arc::new(request),
        mark: format!("journal/notice-{}", std::process::id()),
        secret_names: vec!["PATH_TO_NOWHERE".to_owned()],
        cancel: CancellationToken::new(),
    }
}

/// Answers one request with `status`, and hands out what it heard.
fn answering(status: &'static str) -> (String, Heard<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook/hunter2", listener.local_addr().unwrap());
    let (tell, heard) = sync_channel(1);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = Vec::new();
        let mut part = [0; 4096];
        loop {
            let read = stream.read(&mut part).unwrap();
            text.extend_from_slice(&part[..read]);
            let whole = String::from_utf8_lossy(&text).into_owned();
            let (head, body) = whole.split_once("\r\n\r\n").unwrap_or((&whole, ""));
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if read == 0 || length.is_some_and(|length: usize| body.len() >= length) {
                break;
            }
        }
        let _ = stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes());
        tell.send(String::from_utf8_lossy(&text).into_owned()).unwrap();
    });
    (url, heard)
}

fn notifier(url: &str) -> LocalNotifier {
    let url = url.to_owned();
    LocalNotifier::with_environment(Arc::new(move |name| match name {
        "URL" => Some(url.clone()),
        "KEY" => Some("key".to_owned()),
        _ => None,
    }))
}

fn webhook(secret: bool) -> Receiver {
    Receiver::Webhook { address: "$URL".to_owned(), secret: secret.then(|| "$KEY".to_owned()) }
}

async fn tell(url: &str, receiver: &Receiver) -> Result<(), Failure> {
    notifier(url).notify(&context(receiver, "/"), receiver, &message()).await
}

#[tokio::test]
async fn a_webhook_gets_the_message_its_id_and_a_signature_that_fits_its_body() {
    let (url, heard) = answering("204 No Content");
    tell(&url, &webhook(true)).await.unwrap();
    let heard = heard.recv().unwrap();
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    assert!(head.starts_with("post /hook/hunter2 ") && !head.contains("authorization"), "{head}");
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
    assert_eq!(header("dalsegno-id").as_deref(), Some("journal-n7"));
    let at = header("dalsegno-timestamp").unwrap().parse().unwrap();
    let signed = webhook::headers("x", Some("key"), at, body).pop().unwrap().1;
    assert_eq!(header("dalsegno-signature"), Some(signed));
    let told: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&told["id"], &told["missed"], &told["schema_version"]), (&json!("journal-n7"), &json!(2), &json!(1)));
    assert_eq!(
        told["notices"],
        json!([{"topic": "parked", "issue": "DS-1", "title": "A title", "text": "why", "url": null, "at": "1970-01-01T00:00:00.000Z"}])
    );
}

#[tokio::test]
async fn slack_gets_text() {
    let (url, heard) = answering("200 OK");
    tell(&url, &Receiver::Slack { address: "$URL".to_owned() }).await.unwrap();
    assert!(heard.recv().unwrap().contains("*DS-1* :double_vertical_bar: is parked — A title: why"));
}

#[tokio::test]
async fn what_a_receiver_answers_decides_whether_it_is_told_again_and_its_address_is_in_no_failure() {
    for (status, code, retryable) in [
        ("503 Service Unavailable", "notify_failed", true),
        ("429 Too Many Requests", "notify_failed", true),
        ("302 Found", "notify_refused", false),
        ("410 Gone", "notify_refused", false),
    ] {
        let (url, _heard) = answering(status);
        let failure = tell(&url, &webhook(false)).await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), (code, retryable), "{status}");
        assert!(!failure.to_string().contains("hunter2"), "{failure}");
    }
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failure = tell(&format!("http://{gone}/hunter2"), &webhook(false)).await.unwrap_err();
    assert!(failure.retryable && !failure.to_string().contains("hunter2"), "{failure}");
}

#[test]
fn what_is_not_there_or_no_url_is_refused_before_anything_is_told() {
    let preflight = |url: &str, receiver: Receiver| {
        notifier(url).preflight(&context(&receiver, "/").request.policy).map_err(|failure| failure.code)
    };
    let code = |code: &str| Err(code.to_owned());
    assert_eq!(preflight("https://example.org/hook?key=1", webhook(true)), Ok(()));
    assert_eq!(preflight("", webhook(false)), code("missing_notify_secret"));
    assert_eq!(preflight("http://example.org/", webhook(false)), code("invalid_config"), "it could be read on the way");
    let nameless = Receiver::Webhook { address: "https://a/".to_owned(), secret: Some("$NOT_SET".to_owned()) };
    assert_eq!(preflight("", nameless), code("missing_notify_secret"));
    let policy = context(&webhook(true), "/").request.policy.clone();
    assert_eq!(notifier("x").secret_environment_names(&policy), ["URL", "KEY"]);
}

#[tokio::test]
async fn a_command_reads_the_message_and_its_end_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    let run = |command: &str| Receiver::Command { command: command.to_owned() };
    let told = run("cat > told.json");
    notifier("").notify(&context(&told, place), &told, &message()).await.unwrap();
    let text = std::fs::read_to_string(dir.path().join("told.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["id"], "journal-n7");
    let fails = run("echo no such bell >&2; exit 3");
    let failure = notifier("").notify(&context(&fails, place), &fails, &message()).await.unwrap_err();
    assert!(failure.retryable && failure.message.contains("no such bell"), "{failure}");
}
