//! Streams over a real socket, read by the real client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use dalsegno_api::{Client, Cursor, EventQuery, FrameReader, HttpTransport, Transport};
use dalsegno_gateway::{Limits, serve};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{TOKEN, World};

struct Served {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

async fn served(world: &Arc<World>, limits: Limits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(serve(listener, world.app_with(limits), shutdown.clone()));
    Served { address, shutdown, task }
}

impl Served {
    fn transport(&self) -> HttpTransport {
        HttpTransport::new(&format!("http://{}", self.address), Some(TOKEN.to_owned()))
    }

    fn client(&self) -> Client {
        Client::over(self.transport())
    }

    /// A connection on which the stream was asked for and nothing was read.
    fn raw(&self) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let request = "GET /api/v1/events/stream HTTP/1.1\r\nhost: localhost\r\n\r\n";
        socket.write_all(request.as_bytes()).unwrap();
        socket
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn take(client: &Client, query: &EventQuery, count: usize) -> Vec<u64> {
    client.stream(query).take(count).map(|event| event.unwrap().seq).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_as_they_are_committed() {
    let world = World::new();
    let served = served(&world, Limits::default()).await;
    let (first, first_seen) = tokio::sync::oneshot::channel();
    let client = served.client();
    let reader = tokio::task::spawn_blocking(move || {
        let query = EventQuery::default();
        let mut stream = client.stream(&query);
        let mut seen: Vec<u64> = stream.by_ref().take(10).map(|event| event.unwrap().seq).collect();
        first.send(()).unwrap();
        seen.extend(stream.take(5).map(|event| event.unwrap().seq));
        seen
    });
    first_seen.await.unwrap();
    for _ in 0..5 {
        world.commit("usage", None, None, json!({}));
    }
    assert_eq!(reader.await.unwrap(), (1..=15).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_without_gap_or_repeat_while_events_are_committed() {
    const EVENTS: u64 = 500;
    let world = World::empty();
    let served = served(&world, Limits { stream_page: 7, ..Limits::default() }).await;
    let transport = served.transport();
    let writer = {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            for n in 0..EVENTS {
                world.commit("usage", None, None, json!({"n": n}));
                tokio::task::yield_now().await;
            }
        })
    };
    // Every connection is dropped after a few events, at another place each time.
    let seen = blocking(move || {
        let mut seen: Vec<u64> = Vec::new();
        let mut last: Option<String> = None;
        let mut connections = 0_usize;
        while (seen.len() as u64) < EVENTS {
            connections += 1;
            let lines = transport.open("/api/v1/events/stream", last.as_deref()).unwrap();
            let mut frames = FrameReader::new(lines);
            for _ in 0..(connections % 13 + 1).min(usize::try_from(EVENTS).unwrap() - seen.len()) {
                let frame = frames.next_frame().unwrap().unwrap();
                let event: Value = serde_json::from_str(&frame.data).unwrap();
                assert_eq!(event["cursor"].as_str(), frame.id.as_deref());
                seen.push(event["seq"].as_u64().unwrap());
                last = frame.id;
            }
        }
        seen
    })
    .await;
    writer.await.unwrap();
    assert_eq!(seen, (1..=EVENTS).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn last_event_id_wins_over_after() {
    let world = World::new();
    let served = served(&world, Limits::default()).await;
    let transport = served.transport();
    let first = blocking(move || {
        let target = format!("/api/v1/events/stream?after={}", Cursor::event("journal-a", 2));
        let last = Cursor::event("journal-a", 8).to_string();
        let mut frames = FrameReader::new(transport.open(&target, Some(&last)).unwrap());
        serde_json::from_str::<Value>(&frames.next_frame().unwrap().unwrap().data).unwrap()
    })
    .await;
    assert_eq!(first["seq"], 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_stream_gives_what_matches() {
    let world = World::new();
    let served = served(&world, Limits { stream_page: 2, ..Limits::default() }).await;
    let client = served.client();
    let query = EventQuery { issue: Some("ds-1".to_owned()), ..EventQuery::default() };
    assert_eq!(blocking(move || take(&client, &query, 5)).await, [2, 4, 6, 8, 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_misses_nothing_and_is_not_read_ahead_for() {
    const EVENTS: u64 = 4_000;
    let world = World::empty();
    let served = served(&world, Limits::default()).await;
    let socket = served.raw();
    let filler = "x".repeat(8 * 1024);
    for _ in 0..EVENTS {
        // The text of a `title` is open to everybody.
        world.commit("usage", None, None, json!({"title": filler}));
    }
    // 32 MiB are committed; the sockets' buffers hold a part of that, and the server holds one page.
    assert!(world.reads.furthest() < EVENTS, "the server reads ahead of its reader");
    let seen = blocking(move || {
        let mut seen = 0_u64;
        for line in BufReader::new(socket).lines() {
            let line = line.unwrap();
            if let Some(data) = line.strip_prefix("data: ") {
                let event: Value = serde_json::from_str(data).unwrap();
                seen += 1;
                assert_eq!(event["seq"].as_u64(), Some(seen));
                if seen == EVENTS {
                    break;
                }
            }
        }
        seen
    })
    .await;
    assert_eq!(seen, EVENTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_clients_see_the_same() {
    const EVENTS: u64 = 300;
    let world = World::empty();
    let served = served(&world, Limits::default()).await;
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let client = served.client();
            tokio::task::spawn_blocking(move || take(&client, &EventQuery::default(), usize::try_from(EVENTS).unwrap()))
        })
        .collect();
    for n in 0..EVENTS {
        world.commit("usage", None, None, json!({"n": n}));
        tokio::task::yield_now().await;
    }
    for client in clients {
        assert_eq!(client.await.unwrap(), (1..=EVENTS).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_counted_and_given_back() {
    let world = World::new();
    let served = served(&world, Limits { streams: 1, heartbeat: Duration::from_millis(5), ..Limits::default() }).await;
    let transport = served.transport();
    blocking(move || {
        let mut first = transport.open("/api/v1/events/stream", None).unwrap();
        let mut line = String::new();
        first.read_line(&mut line).unwrap();
        let refused = transport.open("/api/v1/events/stream", None).err().unwrap();
        assert_eq!((refused.status, refused.code()), (Some(503), "too_many_streams"));
        drop(first);
        // The server notices at its next heartbeat; the client comes again until then.
        let client = Client::over(transport);
        assert_eq!(take(&client, &EventQuery::default(), 1), [1]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_stream_beats() {
    let world = World::empty();
    let served = served(&world, Limits { heartbeat: Duration::from_millis(5), ..Limits::default() }).await;
    let transport = served.transport();
    let comments = blocking(move || {
        let lines = transport.open("/api/v1/events/stream", None).unwrap().lines();
        lines.map(Result::unwrap).filter(|line| !line.is_empty()).take(5).collect::<Vec<_>>()
    })
    .await;
    let id = format!("id: {}", Cursor::event("journal-a", 0));
    assert_eq!(comments, [": dalsegno", ": still here", &id, ": still here", &id]);
}

/// Events that its filter does not match go by all the time; after retention took them, it still knows where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_stream_that_saw_nothing_goes_on_where_it_was_after_retention() {
    let world = World::new();
    let limits = Limits { heartbeat: Duration::from_millis(50), ..Limits::default() };
    let served = served(&world, limits).await;
    let target = "/api/v1/events/stream?kind=parked";
    let start = Cursor::event("journal-a", 1).to_string();
    let (transport, from) = (served.transport(), start.clone());
    let passing = {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            // More often than it beats.
            loop {
                world.commit("usage", None, None, json!({}));
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    };
    let (last, kept) = blocking(move || {
        let lines = transport.open(target, Some(&from)).unwrap().lines().map(Result::unwrap);
        let ids = lines.filter_map(|line| line.strip_prefix("id: ").map(str::to_owned));
        let last = ids.take(3).last().unwrap();
        let position = last.parse::<Cursor>().unwrap().position_like(&Cursor::event("journal-a", 0)).unwrap();
        (last, position + 1)
    })
    .await;
    passing.abort();
    assert!(kept > 11, "the beats moved on: {kept}");
    world.reads.prune(kept);
    let parked = world.commit("parked", Some("DS-1"), None, json!({}));
    let transport = served.transport();
    let next = blocking(move || {
        let gone = transport.open(target, Some(&start)).err().unwrap();
        assert_eq!((gone.status, gone.code()), (Some(410), "cursor_gone"), "where it began is not kept any more");
        let mut frames = FrameReader::new(transport.open(target, Some(&last)).unwrap());
        serde_json::from_str::<Value>(&frames.next_frame().unwrap().unwrap().data).unwrap()
    })
    .await;
    assert_eq!(next["seq"], parked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_retention_overtakes_is_told_and_not_skipped_ahead() {
    let world = World::new();
    let served = served(&world, Limits::default()).await;
    let client = served.client();
    let (first, first_seen) = tokio::sync::oneshot::channel();
    let reader = tokio::task::spawn_blocking(move || {
        let query = EventQuery::default();
        let mut stream = client.stream(&query);
        let seen: Vec<u64> = stream.by_ref().take(10).map(|event| event.unwrap().seq).collect();
        first.send(()).unwrap();
        (seen, stream.next().unwrap(), stream.next())
    });
    first_seen.await.unwrap();
    // As if many events came and went before the stream looked: 11 and 12 are gone when the head moves.
    world.reads.overtake(crate::world::NOW, 3);
    world.head.send_replace(13);
    let (seen, error, after) = reader.await.unwrap();
    assert_eq!(seen, (1..=10).collect::<Vec<_>>());
    let error = error.unwrap_err();
    assert_eq!((error.status, error.code()), (Some(410), "cursor_gone"));
    assert!(error.detail.oldest.is_some());
    assert!(after.is_none(), "the stream is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_open_streams() {
    let world = World::new();
    let served = served(&world, Limits::default()).await;
    let transport = served.transport();
    let (first, first_seen) = tokio::sync::oneshot::channel();
    let reader = tokio::task::spawn_blocking(move || {
        let mut frames = FrameReader::new(transport.open("/api/v1/events/stream", None).unwrap());
        for _ in 0..10 {
            frames.next_frame().unwrap().unwrap();
        }
        first.send(()).unwrap();
        frames.next_frame().unwrap()
    });
    first_seen.await.unwrap();
    served.shutdown.cancel();
    assert_eq!(reader.await.unwrap(), None);
    served.task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_capped() {
    let world = World::new();
    let served = served(&world, Limits::default()).await;
    let status = blocking(move || {
        let mut socket = TcpStream::connect(served.address).unwrap();
        let mut request = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n".to_owned();
        for n in 0..200 {
            request.push_str(&format!("x-{n}: y\r\n"));
        }
        request.push_str("\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).unwrap();
        line
    })
    .await;
    assert!(status.starts_with("HTTP/1.1 431"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_connects_and_says_nothing_is_let_go_of() {
    let world = World::new();
    let limits = Limits { patience: Duration::from_millis(50), connections: 1, ..Limits::default() };
    let address = served(&world, limits).await.address;
    let answer = blocking(move || {
        let mut silent = TcpStream::connect(address).unwrap();
        // The only place is taken until then.
        let mut other = TcpStream::connect(address).unwrap();
        assert_eq!(silent.read(&mut [0; 1]).unwrap_or(0), 0, "nothing was to be said");
        other.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        other.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = tokio::time::timeout(Duration::from_secs(20), answer).await.expect("it is let go of");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
