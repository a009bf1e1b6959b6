#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;
use std::io::Cursor;
use std::sync::Mutex;

use super::*;
use crate::client::{Client, Reply, Request};
use crate::error::ErrorDetail;

fn frames(text: &str) -> Vec<Frame> {
    let mut reader = FrameReader::new(Cursor::new(text.as_bytes().to_vec()));
    std::iter::from_fn(|| reader.next_frame().unwrap()).collect()
}

#[test]
fn frames_end_at_blank_lines_and_comments_are_passed_over() {
    let read =
        frames(": hello\n\nid: a\ndata: 1\n\n: beat\n\nid: b\r\nevent: x\r\ndata: 2\r\ndata:3\r\n\r\nid: c\ndata: cut");
    assert_eq!(
        read,
        [
            Frame { id: Some("a".into()), event: None, data: "1".into() },
            Frame { id: Some("b".into()), event: Some("x".into()), data: "2\n3".into() },
        ]
    );
}

#[test]
fn a_line_without_end_is_refused() {
    let endless = io::repeat(b'x');
    let mut reader = FrameReader::new(io::BufReader::new(endless));
    assert_eq!(reader.next_frame().unwrap_err().kind(), io::ErrorKind::InvalidData);
}

/// Plays one answer per connection, and notes what each was asked for.
struct Played {
    answers: Mutex<VecDeque<Result<String, ClientError>>>,
    asked: std::sync::Arc<Mutex<Vec<Option<String>>>>,
}

impl Transport for Played {
    fn send(&self, _: &Request) -> Result<Reply, ClientError> {
        Err(ClientError::local("unused", ""))
    }

    fn open(&self, _: &str, last: Option<&str>) -> Result<Box<dyn BufRead + Send>, ClientError> {
        self.asked.lock().unwrap().push(last.map(str::to_owned));
        match self.answers.lock().unwrap().pop_front() {
            Some(Ok(text)) => Ok(Box::new(Cursor::new(text.into_bytes()))),
            Some(Err(error)) => Err(error),
            None => Err(ClientError { status: Some(410), detail: ErrorDetail::new("cursor_gone", "") }),
        }
    }
}

fn event(seq: u64) -> String {
    let event = serde_json::json!({
        "cursor": format!("c{seq}"), "seq": seq, "at": "2026-01-01T00:00:00.000Z", "kind": "usage", "issue": null, "run": null,
        "action_id": null, "correlation_id": null, "caused_by": null, "data": {},
    });
    format!("id: c{seq}\ndata: {event}\n\n")
}

#[test]
fn a_cut_stream_goes_on_behind_the_last_event() {
    let asked = std::sync::Arc::default();
    let transport = Played {
        answers: Mutex::new(
            [
                Ok(event(1) + &event(2) + "id: c3\ndata: {\"cut"),
                Err(ClientError::local(code::DAEMON_UNREACHABLE, "")),
                Ok(event(3)),
            ]
            .into(),
        ),
        asked: std::sync::Arc::clone(&asked),
    };
    let client = Client::over(transport);
    let mut seen = Vec::new();
    let mut ended = None;
    for item in client.stream(&EventQuery::default()) {
        match item {
            Ok(event) => seen.push(event.seq),
            Err(error) => ended = Some(error.code().to_owned()),
        }
    }
    assert_eq!(seen, [1, 2, 3]);
    assert_eq!(ended.as_deref(), Some("cursor_gone"));
    let c = |id: &str| Some(id.to_owned());
    assert_eq!(*asked.lock().unwrap(), [None, c("c2"), c("c2"), c("c3")]);
}

#[test]
fn a_heartbeat_moves_on_what_is_asked_for_next() {
    let asked = std::sync::Arc::default();
    let transport = Played {
        answers: Mutex::new(
            [Ok(event(1) + ": still here\nid: c7\n\n: still here\nid: c9\n\n: still here\nid: c1"), Ok(event(12))]
                .into(),
        ),
        asked: std::sync::Arc::clone(&asked),
    };
    let client = Client::over(transport);
    let seen: Vec<u64> = client.stream(&EventQuery::default()).map_while(Result::ok).map(|event| event.seq).collect();
    assert_eq!(seen, [1, 12]);
    let c = |id: &str| Some(id.to_owned());
    assert_eq!(*asked.lock().unwrap(), [None, c("c9"), c("c12")]);
}
