//! A headless Chromium, spoken to over a pipe in its own protocol: no driver in between, no port that somebody else could take.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use dalsegno_testkit::parts;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::project::PATIENCE;

/// Messages of the browser that wait to be read.
const WAITING: usize = 4_096;
/// It has its ends of the pipe as 3 and 4; the shell puts them there.
const ON_A_PIPE: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;
const ARGUMENTS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
];

/// A browser with one page, and a profile that is gone afterwards.
pub(crate) struct Browser {
    child: Child,
    pipe: ChildStdin,
    messages: Receiver<Value>,
    asked: u64,
    session: Option<String>,
    _profile: TempDir,
}

impl Browser {
    /// Starts it. `None`: there is none here, and the test should return.
    pub(crate) fn start() -> Option<Self> {
        let program = parts::chromium()?.program;
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", ON_A_PIPE])
            .arg(program)
            .args(ARGUMENTS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pipe = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let (sender, messages) = sync_channel(WAITING);
        thread::spawn(move || {
            let mut bytes = Vec::new();
            while lines.read_until(0, &mut bytes).is_ok_and(|count| count > 0) {
                bytes.pop();
                let Ok(message) = serde_json::from_slice::<Value>(&bytes) else { return };
                bytes.clear();
                // What nobody asked for is not kept: pages are looked at, not listened to.
                if message["id"].is_u64() && sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self { child, pipe, messages, asked: 0, session: None, _profile: profile };
        let targets = browser.call("Target.getTargets", json!({}));
        let target = targets["targetInfos"].as_array().unwrap().iter().find(|target| target["type"] == "page");
        let target = target.map(|target| target["targetId"].clone());
        let target = target
            .unwrap_or_else(|| browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone());
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        browser.call("Page.enable", json!({}));
        browser.look(Look::Desk, false);
        Some(browser)
    }

    /// Asks the browser, and waits for its answer.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.ask(method, params).unwrap_or_else(|problem| panic!("{method}: {problem}"))
    }

    fn ask(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.asked += 1;
        let mut message = json!({"id": self.asked, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.pipe.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut answer = self.messages.recv_timeout(PATIENCE).expect("the browser answers");
            if answer["id"] == self.asked {
                let problem = answer["error"].take();
                return if problem.is_null() { Ok(answer["result"].take()) } else { Err(problem) };
            }
        }
    }

    /// Opens an address, and waits until it is loaded.
    pub(crate) fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
        self.wait(
            &format!("{url} to be loaded"),
            "document.readyState === 'complete' && location.href !== 'about:blank'",
        );
    }

    /// What a script of the test comes to, in the page.
    pub(crate) fn eval(&mut self, script: &str) -> Value {
        self.evaluated(script).unwrap_or_else(|problem| panic!("{script}: {problem}"))
    }

    fn evaluated(&mut self, script: &str) -> Result<Value, Value> {
        let params = json!({"expression": script, "returnByValue": true, "awaitPromise": true, "userGesture": true});
        // No answer comes from a page that is replaced while it is asked.
        let mut answer = self.ask("Runtime.evaluate", params)?;
        if answer["exceptionDetails"].is_null() {
            Ok(answer["result"]["value"].take())
        } else {
            Err(answer["exceptionDetails"]["exception"]["description"].take())
        }
    }

    /// Waits until a script comes to something true.
    pub(crate) fn wait(&mut self, what: &str, script: &str) {
        let begun = Instant::now();
        loop {
            // While a page is being replaced there is nothing to ask.
            let found = self.evaluated(script).unwrap_or_default();
            if !matches!(found, Value::Null | Value::Bool(false)) && found != "" && found != 0 {
                return;
            }
            if begun.elapsed() > PATIENCE {
                let page = self.text();
                panic!("waited in vain for {what}; the page is:\n{page}");
            }
            thread::sleep(Duration::from_millis(30));
        }
    }

    /// Waits until the page shows these words.
    pub(crate) fn wait_for(&mut self, words: &str) {
        self.wait(words, &format!("document.body.innerText.includes({})", Value::from(words)));
    }

    /// What a person reads on the page.
    pub(crate) fn text(&mut self) -> String {
        self.eval("document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Presses the only thing that a selector finds, as a mouse would.
    pub(crate) fn click(&mut self, selector: &str) {
        // What is still being laid out moves away from under the pointer.
        let settled =
            format!("document.readyState === 'complete' && document.querySelector({})", Value::from(selector));
        self.wait(selector, &settled);
        let place = self.eval(&format!(
            "(() => {{ const node = document.querySelector({}); node.scrollIntoView({{block: 'center'}}); const box = node.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()",
            Value::from(selector)
        ));
        for (kind, buttons) in [("mousePressed", 1), ("mouseReleased", 0)] {
            let params = json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "buttons": buttons, "clickCount": 1});
            self.call("Input.dispatchMouseEvent", params);
        }
    }

    /// Types into what has the focus.
    pub(crate) fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Presses a key: `Tab`, `Enter`, `Escape`, or a letter.
    pub(crate) fn key(&mut self, key: &str) {
        let (code, number, text) = match key {
            "Tab" => ("Tab".to_owned(), 9, None),
            "Enter" => ("Enter".to_owned(), 13, Some("\r".to_owned())),
            "Escape" => ("Escape".to_owned(), 27, None),
            " " => ("Space".to_owned(), 32, Some(" ".to_owned())),
            letter => {
                let number = letter.to_uppercase().bytes().next().unwrap();
                (format!("Key{}", letter.to_uppercase()), u32::from(number), Some(letter.to_owned()))
            }
        };
        for kind in ["keyDown", "keyUp"] {
            let mut params = json!({"type": kind, "key": key, "code": code, "windowsVirtualKeyCode": number});
            if let (Some(text), "keyDown") = (&text, kind) {
                params["text"] = text.as_str().into();
            }
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// How large the window is, and whether the person likes it dark.
    pub(crate) fn look(&mut self, look: Look, dark: bool) {
        let (width, height, mobile) = match look {
            Look::Desk => (1440, 900, false),
            Look::Phone => (390, 844, true),
        };
        let scheme = if dark { "dark" } else { "light" };
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Whether pages may run scripts; what a test asks for runs all the same.
    pub(crate) fn scripts(&mut self, allowed: bool) {
        self.call("Emulation.setScriptExecutionDisabled", json!({"value": !allowed}));
    }

    /// A picture of the page, at most this many pixels high.
    pub(crate) fn picture(&mut self, file: &Path, height: u64) {
        let metrics = self.call("Page.getLayoutMetrics", json!({}));
        let size = &metrics["cssContentSize"];
        let height = size["height"].as_f64().unwrap().min(f64::from(u32::try_from(height).unwrap()));
        let clip = json!({"x": 0, "y": 0, "width": size["width"], "height": height, "scale": 1});
        let params = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let answer = self.call("Page.captureScreenshot", params);
        let bytes = base64::engine::general_purpose::STANDARD.decode(answer["data"].as_str().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A size of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// On a desk.
    Desk,
    /// 390 pixels wide.
    Phone,
}
