//! The scripted model, asked as agents ask it.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use dalsegno_testkit::model::{ModelServer, Script, Tokens};
use serde_json::{Value, json};

const SCRIPT: &str = r#"
default: [{answer: [{say: "nothing asked"}]}]
write:
  - answer: [{say: "I write it, and look."}, {run: "echo hi > made.txt"}]
    tokens: {input: 900, cached: 500, output: 20}
    rate_limit: {used_percent: 42.5, window_minutes: 300, reset_at: 1900000000}
  - answer: [{say: Done.}]
limit: [{answer: [{say: finally}], fail: {status: 429, times: 2, headers: {retry-after: "1"}}, rate_limit: {used_percent: 100, window_minutes: 300, reset_at: 1900000000}}]
never: [{fail: {status: 429}}]
full: [{fail: {status: 503}}]
cut: [{answer: [{say: "this is cut somewhere"}], end: cut}]
hang: [{answer: [{say: "this hangs somewhere"}], end: hang}]
failed: [{end: {failed: {code: usage_not_included, message: no plan}}}]
short: [{answer: [{say: half}], end: {incomplete: {reason: max_output_tokens}}}]
escalate: [{answer: [{escalate: {command: make install, justification: it has to}}]}]
"#;

struct Reply {
    status: u16,
    headers: ureq::http::HeaderMap,
    /// What could be read, and whether it ended as it should.
    text: String,
    ended: bool,
}

fn agent() -> ureq::Agent {
    let limit = Some(Duration::from_secs(60));
    ureq::Agent::config_builder().http_status_as_error(false).proxy(None).timeout_global(limit).build().into()
}

fn ask(server: &ModelServer, path: &str, body: &Value) -> Reply {
    let url = format!("{}{path}", server.url());
    let request = agent().post(url).header("authorization", "Bearer very-secret").content_type("application/json");
    let mut reply = request.send(body.to_string()).unwrap();
    let mut bytes = Vec::new();
    let ended = std::io::Read::read_to_end(&mut reply.body_mut().as_reader(), &mut bytes).is_ok();
    let text = String::from_utf8(bytes).unwrap();
    Reply { status: reply.status().as_u16(), headers: reply.headers().clone(), text, ended }
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// The data of a stream's events.
    fn events(&self) -> Vec<Value> {
        let data = self.text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

fn server() -> ModelServer {
    ModelServer::start(Script::parse(SCRIPT).unwrap()).unwrap()
}

fn responses(script: &str, stream: bool) -> Value {
    let parameters = json!({"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]});
    json!({
        "model": "m", "stream": stream, "tools": [{"type": "function", "name": "exec_command", "parameters": parameters}],
        "input": [{"type": "message", "role": "user",
                   "content": [{"type": "input_text", "text": format!("go [[script:{script}]]")}]}],
    })
}

fn chat(script: &str, stream: bool) -> Value {
    let parameters = json!({"type": "object", "properties": {"command": {"type": "string"}}});
    json!({
        "model": "m", "stream": stream, "tools": [{"type": "function", "function": {"name": "bash", "parameters": parameters}}],
        "messages": [{"role": "system", "content": "be good"}, {"role": "user", "content": format!("go [[script:{script}]]")}],
    })
}

fn messages(script: &str, stream: bool) -> Value {
    json!({
        "model": "m", "stream": stream, "max_tokens": 100,
        "tools": [{"name": "Bash", "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": format!("go [[script:{script}]]")}]}],
    })
}

#[test]
fn responses_are_streamed_and_whole() {
    let server = server();
    let events = ask(&server, "/v1/responses", &responses("write", true)).events();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds.first(), Some(&"response.created"));
    assert_eq!(kinds.iter().filter(|kind| **kind == "response.output_text.delta").count(), 4);
    assert_eq!(kinds.iter().filter(|kind| **kind == "response.output_item.done").count(), 2);
    let said: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(said, "I write it, and look.");
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["usage"]["input_tokens"], 900);
    assert_eq!(last["response"]["usage"]["input_tokens_details"]["cached_tokens"], 500);
    let call = &last["response"]["output"][1];
    assert_eq!(
        (&call["name"], &call["arguments"]),
        (&json!("exec_command"), &json!(r#"{"cmd":"echo hi > made.txt"}"#))
    );

    let mut next = responses("write", false);
    let output = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "fine"});
    next["input"].as_array_mut().unwrap().extend([call.clone(), output]);
    let whole = ask(&server, "/v1/responses", &next).json();
    assert_eq!(whole["output"][0]["content"][0]["text"], "Done.");

    let reported = server.usage()["m"];
    assert_eq!(reported.all, Tokens { input: 1000, cached: 500, output: 30 });
    assert_eq!(reported.side, Tokens::ZERO);
}

#[test]
fn chat_completions_are_streamed_and_whole() {
    let server = server();
    let reply = ask(&server, "/v1/chat/completions", &chat("write", true));
    assert!(reply.text.ends_with("data: [DONE]\n\n"));
    let events = reply.events();
    let said: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, "I write it, and look.");
    let calls: Vec<&Value> =
        events.iter().filter_map(|event| event.pointer("/choices/0/delta/tool_calls/0/function")).collect();
    assert_eq!(calls, [&json!({"name": "bash", "arguments": r#"{"command":"echo hi > made.txt"}"#})]);
    assert!(events.iter().any(|event| event["choices"][0]["finish_reason"] == "tool_calls"));
    assert_eq!(events.last().unwrap()["usage"]["prompt_tokens"], 900);

    let mut next = chat("write", false);
    next["messages"].as_array_mut().unwrap().push(json!({"role": "tool", "tool_call_id": "c", "content": "fine"}));
    let whole = ask(&server, "/v1/chat/completions", &next).json();
    assert_eq!(whole["choices"][0]["message"]["content"], "Done.");
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    assert_eq!(server.usage()["m"].all, Tokens { input: 1000, cached: 500, output: 30 });
}

#[test]
fn messages_are_streamed_and_whole() {
    let server = server();
    let events = ask(&server, "/v1/messages?beta=true", &messages("write", true)).events();
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], 400);
    assert_eq!(events[0]["message"]["usage"]["cache_read_input_tokens"], 500);
    let said: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(said, "I write it, and look.");
    let input: String = events.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
    assert_eq!(input, r#"{"command":"echo hi > made.txt"}"#);
    assert!(events.iter().any(|event| event["delta"]["stop_reason"] == "tool_use"));
    assert_eq!(events.last().unwrap()["type"], "message_stop");

    let mut next = messages("write", false);
    let result = json!({"type": "tool_result", "tool_use_id": "t", "content": "fine"});
    let note = json!({"type": "text", "text": "a reminder of the client's own"});
    next["messages"].as_array_mut().unwrap().push(json!({"role": "user", "content": [result, note]}));
    let whole = ask(&server, "/v1/messages", &next).json();
    assert_eq!((&whole["content"][0]["text"], &whole["stop_reason"]), (&json!("Done."), &json!("end_turn")));
    assert_eq!(server.usage()["m"].all, Tokens { input: 1000, cached: 500, output: 30 });

    let counted = ask(&server, "/v1/messages/count_tokens", &next).json();
    assert_eq!(counted, json!({"input_tokens": 100}));
    assert_eq!(server.requests().len(), 2, "counting is no model call");
}

#[test]
fn a_limit_is_told_with_its_headers_and_lifted_after_some_tries_of_the_same_prompt() {
    let server = server();
    for _ in 0..2 {
        let reply = ask(&server, "/v1/responses", &responses("limit", true));
        assert_eq!((reply.status, reply.header("retry-after")), (429, "1"));
        assert_eq!(reply.header("x-codex-primary-used-percent"), "100");
        assert_eq!(reply.json()["error"]["code"], "rate_limit_exceeded");
    }
    let mut other = responses("limit", true);
    other["input"][0]["content"][0]["text"] = json!("another prompt [[script:limit]]");
    assert_eq!(ask(&server, "/v1/responses", &other).status, 429, "each prompt is counted apart");
    assert_eq!(ask(&server, "/v1/responses", &responses("limit", true)).status, 200);
    for _ in 0..4 {
        assert_eq!(ask(&server, "/v1/messages", &messages("never", true)).json()["error"]["type"], "rate_limit_error");
    }
    assert_eq!(ask(&server, "/v1/chat/completions", &chat("full", false)).status, 503);
    assert_eq!(server.usage()["m"].all, Tokens { input: 100, cached: 0, output: 10 }, "failures cost nothing");
}

#[test]
fn rate_limits_come_with_a_good_answer_too() {
    let server = server();
    let reply = ask(&server, "/v1/responses", &responses("write", true));
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("x-codex-primary-used-percent"), "42.5");
    assert_eq!(reply.header("x-codex-primary-window-minutes"), "300");
    assert_eq!(reply.header("x-codex-primary-reset-at"), "1900000000");
}

#[test]
fn a_cut_response_has_a_beginning_and_no_end() {
    let server = server();
    for (path, body) in [
        ("/v1/responses", responses("cut", true)),
        ("/v1/chat/completions", chat("cut", true)),
        ("/v1/messages", messages("cut", true)),
        ("/v1/chat/completions", chat("cut", false)),
    ] {
        let reply = ask(&server, path, &body);
        assert_eq!(reply.status, 200);
        assert!(!reply.ended, "{path} ended with {}", reply.text);
    }
    assert_eq!(ask(&server, "/v1/responses", &responses("write", true)).status, 200, "the server goes on");
}

#[test]
fn errors_inside_a_response_have_their_code() {
    let server = server();
    let failed = ask(&server, "/v1/responses", &responses("failed", true)).events();
    assert_eq!(failed.last().unwrap()["type"], "response.failed");
    assert_eq!(failed.last().unwrap()["response"]["error"]["code"], "usage_not_included");
    assert!(server.usage().is_empty());
    let short = ask(&server, "/v1/responses", &responses("short", true)).events();
    assert_eq!(short.last().unwrap()["type"], "response.incomplete");
    assert_eq!(short.last().unwrap()["response"]["incomplete_details"]["reason"], "max_output_tokens");
    let error = ask(&server, "/v1/messages", &messages("failed", true)).events();
    assert_eq!(error.last().unwrap()["type"], "error");
}

#[test]
fn an_escalated_command_says_why() {
    let server = server();
    let whole = ask(&server, "/v1/responses", &responses("escalate", false)).json();
    let arguments: Value = serde_json::from_str(whole["output"][0]["arguments"].as_str().unwrap()).unwrap();
    let expected =
        json!({"cmd": "make install", "sandbox_permissions": "require_escalated", "justification": "it has to"});
    assert_eq!(arguments, expected);
}

#[test]
fn side_calls_get_plain_text_and_are_counted_apart() {
    let server = server();
    let mut title = chat("write", false);
    title.as_object_mut().unwrap().remove("tools");
    let whole = ask(&server, "/v1/chat/completions", &title).json();
    assert_eq!(whole["choices"][0]["message"]["content"], "A scripted title");
    ask(&server, "/v1/chat/completions", &chat("default", false));
    let reported = server.usage()["m"];
    assert_eq!((reported.all.input, reported.side.input), (200, 100));
    let sides: Vec<bool> = server.requests().iter().map(|asked| asked.side).collect();
    assert_eq!(sides, [true, false]);
}

#[test]
fn a_gate_holds_the_answer_until_it_is_released() {
    let server = server();
    let gate = server.hold("write", 0);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&server, "/v1/responses", &responses("write", true)));
        gate.wait_arrived(1);
        let asked = server.wait_asked(1);
        assert_eq!((asked.script.as_str(), asked.step, asked.path.as_str()), ("write", 0, "/v1/responses"));
        assert_eq!(asked.headers["authorization"], "withheld");
        assert!(server.usage().is_empty(), "nothing is told while it is held");
        assert_eq!(ask(&server, "/v1/responses", &responses("default", false)).status, 200, "others go on");
        gate.release();
        assert_eq!(asking.join().unwrap().status, 200);
    });
    assert_eq!(ask(&server, "/v1/responses", &responses("write", true)).status, 200);
}

#[tokio::test]
async fn it_outlives_clients_that_go_away_and_ends_in_async_code() {
    let server = server();
    let body = responses("hang", true).to_string();
    let mut stream = tokio::net::TcpStream::connect(server.url().trim_start_matches("http://")).await.unwrap();
    let request = format!(
        "POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    server.asked(1).await;
    let mut first = [0; 16];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut first).await.unwrap();
    drop(stream);
    let gate = server.hold("write", 0);
    let gone = tokio::net::TcpStream::connect(server.url().trim_start_matches("http://")).await.unwrap();
    drop(gone);
    drop(gate);
    let address = server.url();
    let reply = tokio::task::spawn_blocking(move || {
        let reply = ask(&server, "/v1/responses", &responses("write", true));
        (reply.status, server)
    });
    let (status, server) = reply.await.unwrap();
    assert_eq!(status, 200);
    drop(server);
    assert!(address.starts_with("http://127.0.0.1:"));
}

#[test]
fn what_is_too_long_or_no_json_is_refused() {
    let server = server();
    let mut long = responses("write", true);
    long["instructions"] = json!("x".repeat(33 << 20));
    // The answer may come before all is sent, and the client then notices only that the connection is closed.
    let refused = agent().post(format!("{}/v1/responses", server.url())).send(long.to_string());
    assert!(refused.is_err() || refused.is_ok_and(|reply| reply.status() == 413));
    let reply = agent().post(format!("{}/v1/messages", server.url())).send("{").unwrap();
    assert_eq!(reply.status(), 400);
    let reply = agent().get(format!("{}/v1/models", server.url())).call().unwrap();
    assert_eq!(reply.status(), 200);
    assert!(server.requests().is_empty());
}

#[test]
fn a_script_with_a_word_that_is_not_known_is_refused() {
    assert!(Script::parse("a: [{answr: []}]").is_err_and(|problem| problem.contains("answr")));
    let json = r#"{"a": [{"answer": [{"call": {"tool": "x", "arguments": {"n": 1}}}], "end": "hang"}]}"#;
    assert_eq!(Script::parse(json).unwrap().steps("a").len(), 1);
}
