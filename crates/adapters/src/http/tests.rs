#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::*;

const LIMITS: Limits = Limits { connect: Duration::from_secs(5), call: Duration::from_secs(5) };
const TOKEN: &str = "sesame-1234";

/// Plays a server for one connection; what it was sent comes out of the channel.
fn serve(play: impl FnOnce(TcpStream) -> String + Send + 'static) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        sender.send(play(stream)).unwrap();
    });
    (port, receiver)
}

/// Reads a request without a body, or with one that ends in `}`.
fn request(stream: &mut impl std::io::Read) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).unwrap_or(0);
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        let whole = if text.starts_with("GET") { text.ends_with("\r\n\r\n") } else { text.ends_with('}') };
        if read == 0 || whole {
            return text;
        }
    }
}

/// Answers one request so.
fn answering(answer: &str) -> (u16, Receiver<String>) {
    let answer = answer.to_owned();
    serve(move |mut stream| {
        let text = request(&mut stream);
        stream.write_all(answer.as_bytes()).unwrap();
        text
    })
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn call(method: Method, url: String) -> Call {
    let body = (method != Method::Get).then(|| json!({"a": 1}).to_string());
    Call { method, url, headers: vec![("accept", "application/x".to_owned())], bearer: true, body }
}

fn secret() -> Secret {
    Secret::new(TOKEN).unwrap()
}

fn no_roots() -> Result<RootCerts, String> {
    Err("no roots here".to_owned())
}

fn ask(method: Method, url: String) -> Result<Answer, NoAnswer> {
    perform(&call(method, url), &secret(), LIMITS, no_roots)
}

fn is_not_sent(said: &Result<Answer, NoAnswer>) -> bool {
    matches!(said, Err(NoAnswer::NotSent(_)))
}

fn is_unanswered(said: &Result<Answer, NoAnswer>) -> bool {
    matches!(said, Err(NoAnswer::Unanswered(_)))
}

#[test]
fn a_call_has_its_headers_and_its_body() {
    let (port, seen) = answering(&ok("{\"b\": 2}"));
    let answer = ask(Method::Patch, format!("http://127.0.0.1:{port}/x?q=1")).unwrap();
    assert_eq!((answer.status, answer.verdict()), (200, Verdict::Done));
    assert_eq!(answer.json::<Value>().unwrap(), json!({"b": 2}));
    let seen = seen.recv().unwrap().to_lowercase();
    assert!(seen.starts_with("patch /x?q=1 http/1.1\r\n"), "{seen}");
    let agent = format!("user-agent: {USER_AGENT}");
    for line in [&format!("authorization: bearer {TOKEN}"), &agent, "accept: application/x", "{\"a\":1}"] {
        assert!(seen.contains(line), "{line} is not in {seen}");
    }
}

#[test]
fn what_never_left_is_not_sent() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let said = ask(Method::Post, format!("http://127.0.0.1:{free}/"));
    assert!(is_not_sent(&said), "refused: {said:?}");
    let said = ask(Method::Post, "https://no-such-host.invalid/".to_owned());
    assert!(is_not_sent(&said), "no authorities: {said:?}");
    let said =
        perform(&call(Method::Post, "https://no-such-host.invalid/".to_owned()), &secret(), LIMITS, || Ok(authority()));
    assert!(is_not_sent(&said), "no name: {said:?}");
}

#[test]
fn what_was_sent_and_not_answered_is_unanswered() {
    let (port, seen) = serve(|mut stream| request(&mut stream));
    let said = ask(Method::Post, format!("http://127.0.0.1:{port}/"));
    assert!(is_unanswered(&said), "cut: {said:?}");
    assert!(seen.recv().unwrap().contains("POST"));
    // Nobody reads, nobody answers, until the caller has gone.
    let (port, _seen) = serve(|mut stream| {
        let text = request(&mut stream);
        let _ = stream.read(&mut [0; 1]);
        text
    });
    let short = Limits { call: Duration::from_millis(200), ..LIMITS };
    let said = perform(&call(Method::Post, format!("http://127.0.0.1:{port}/")), &secret(), short, no_roots);
    assert!(is_unanswered(&said), "slow: {said:?}");
    let (port, _seen) = answering("no HTTP at all\r\n\r\n");
    let said = ask(Method::Post, format!("http://127.0.0.1:{port}/"));
    assert!(is_unanswered(&said), "garbage: {said:?}");
}

#[test]
fn an_answer_without_its_end_keeps_its_status() {
    let (port, _seen) = answering("HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\n{\"b\":");
    let answer = ask(Method::Post, format!("http://127.0.0.1:{port}/")).unwrap();
    assert_eq!((answer.status, answer.verdict()), (201, Verdict::Done));
    assert!(answer.json::<Value>().is_err());
}

#[test]
fn an_answer_that_is_too_long_is_not_read() {
    let (port, _seen) = serve(|mut stream| {
        let text = request(&mut stream);
        let length = usize::try_from(MAX_ANSWER_BYTES).unwrap() + 1;
        // The client hangs up before all of it is written.
        let _ = stream.write_all(ok(&" ".repeat(length)).as_bytes());
        text
    });
    let answer = ask(Method::Get, format!("http://127.0.0.1:{port}/")).unwrap();
    assert!(answer.json::<Value>().is_err());
}

#[test]
fn a_redirect_is_an_answer_and_not_followed() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = other.local_addr().unwrap();
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let answer = format!("HTTP/1.1 {status}\r\nlocation: http://{place}/x\r\ncontent-length: 0\r\n\r\n");
        for method in [Method::Get, Method::Post] {
            let (port, _seen) = answering(&answer);
            let answer = ask(method, format!("http://127.0.0.1:{port}/")).unwrap();
            assert_eq!(answer.verdict(), Verdict::Refused);
        }
    }
    other.set_nonblocking(true).unwrap();
    assert!(other.accept().is_err(), "the other place was called");
}

#[test]
fn statuses_mean_what_they_say() {
    for (line, verdict, wait) in [
        ("404 Not Found\r\n", Verdict::Refused, None),
        ("429 Too Many\r\nretry-after: 7\r\n", Verdict::Refused, Some(7)),
        ("500 Sorry\r\n", Verdict::Unclear, None),
        ("503 Later\r\nretry-after: 3\r\n", Verdict::Unclear, Some(3)),
    ] {
        let (port, _seen) = answering(&format!("HTTP/1.1 {line}content-length: 0\r\n\r\n"));
        let answer = ask(Method::Post, format!("http://127.0.0.1:{port}/")).unwrap();
        assert_eq!((answer.verdict(), answer.retry_after_s()), (verdict, wait), "{line}");
    }
}

#[test]
fn the_token_is_in_no_error_and_no_debug() {
    let http = Http::new(secret(), LIMITS);
    assert!(!format!("{http:?}").contains(TOKEN));
    let (port, _seen) = answering(&ok(&format!("\"{TOKEN}\"")));
    let answer = ask(Method::Get, format!("http://127.0.0.1:{port}/")).unwrap();
    let wrong = answer.json::<u32>().unwrap_err();
    assert!(wrong.contains(WITHHELD) && !wrong.contains(TOKEN), "{wrong}");
    assert_eq!(answer.quoted(&format!("you sent\n{TOKEN}")), format!("you sent {WITHHELD}"));
    let Err(NoAnswer::NotSent(why)) = ask(Method::Get, format!("http://127.0.0.1:1/{TOKEN}?{TOKEN}")) else {
        panic!("port 1 answers")
    };
    assert!(!why.contains(TOKEN), "{why}");
    for text in ["", "  ", "two words", "line\nbreak", "ümlaut"] {
        assert_eq!(Secret::new(text), None, "{text:?}");
    }
}

#[test]
fn a_token_goes_over_tls_or_not_beyond_this_machine() {
    for (url, checked) in [
        ("https://api.example.org/v3/", "https://api.example.org/v3"),
        (" http://127.0.0.1:80 ", "http://127.0.0.1:80"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://localhost", "http://localhost"),
    ] {
        assert_eq!(checked_url(url).as_deref(), Ok(checked));
    }
    for url in [
        "http://example.org",
        "http://127.0.0.1.example.org",
        "https://me:pw@example.org",
        "https://example.org/?a=b",
        "https://example.org/#a",
        "ftp://127.0.0.1",
        "example.org",
        "/v3",
        "",
    ] {
        assert!(checked_url(url).is_err(), "{url}");
    }
}

#[test]
fn parts_of_urls_are_encoded() {
    assert_eq!(encoded("a/b c&d=é#-._~"), "a%2Fb%20c%26d%3D%C3%A9%23-._~");
}

fn authority() -> RootCerts {
    [Certificate::from_pem(include_bytes!("testdata/authority.pem")).unwrap()].into()
}

/// A server with TLS for one connection, whose certificate the test's authority has signed.
fn serve_tls() -> (u16, Receiver<String>) {
    serve(|stream| {
        let certificate = CertificateDer::from_pem_slice(include_bytes!("testdata/server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("testdata/server.key.pem")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        let text = request(&mut stream);
        let _ = stream.write_all(ok("{}").as_bytes());
        text
    })
}

#[test]
fn a_server_whose_authority_is_trusted_gets_the_call() {
    let (port, seen) = serve_tls();
    let url = format!("https://localhost:{port}/x");
    let answer = perform(&call(Method::Get, url), &secret(), LIMITS, || Ok(authority())).unwrap();
    assert_eq!(answer.json::<Value>().unwrap(), json!({}));
    assert!(seen.recv().unwrap().contains(TOKEN));
}

#[test]
fn a_server_that_cannot_prove_who_it_is_gets_nothing() {
    let (port, seen) = serve_tls();
    let url = format!("https://localhost:{port}/x");
    let said = perform(&call(Method::Post, url), &secret(), LIMITS, || Ok(RootCerts::new_with_certs(&[])));
    assert!(is_not_sent(&said), "{said:?}");
    assert_eq!(seen.recv().unwrap(), "");
    let (port, seen) = serve(|mut stream| {
        stream.write_all(b"220 no TLS here\r\n").unwrap();
        request(&mut stream)
    });
    let url = format!("https://localhost:{port}/x");
    let said = perform(&call(Method::Get, url), &secret(), LIMITS, || Ok(authority()));
    assert!(is_not_sent(&said), "{said:?}");
    assert!(!seen.recv().unwrap().contains(TOKEN));
}
