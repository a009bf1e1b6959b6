//! The dashboard in a real browser, over the real daemon.

mod acts;
mod chromium;
mod live;
mod many;
mod pictures;
mod usable;

use std::process::Output;

use serde_json::Value;

use crate::http::Api;
use crate::project::{Daemon, Project};
use chromium::Browser;

const FRONT: &str = "polling: {interval_ms: 200}
agent: {kind: scripted, script: agent.yaml, max_retry_backoff_ms: 50}
handoff: {state: Human Review}
";
/// A turn that lasts until the test says so.
const SLOW: &str = r#"
default:
  - [ {say: "I look around"}, {sh: "echo begun > begun.txt; until test -e ../../go; do sleep 0.05; done"}, {say: "And now I know"},
      {sh: "until test -e ../../end; do sleep 0.05; done; echo work > work.txt && git add -A && git commit -qm work"} ]
  - [ {sh: "until test -e ../../end; do sleep 0.05; done; echo work > work.txt && git add -A && git commit -qm work || true"} ]
"#;

/// A daemon over a project, and a browser that is logged in and shows the board.
struct Scene {
    project: Project,
    daemon: Daemon,
    browser: Browser,
    at: String,
}

impl Scene {
    /// `None`: there is no browser here, and the test should return.
    fn new(front: &str, agent: &str, issues: &[&str]) -> Option<Self> {
        let browser = Browser::start()?;
        let project = Project::new(front, agent);
        for issue in issues {
            project.issue(issue, "state: Todo");
        }
        let daemon = project.daemon();
        let at = format!("http://{}", Api::of(&project, &daemon).address);
        let mut scene = Self { project, daemon, browser, at };
        scene.log_in();
        Some(scene)
    }

    /// One issue whose agent works until the test says so.
    fn slow() -> Option<Self> {
        let scene = Self::new(FRONT, SLOW, &["DS-1"])?;
        scene.project.wait_for("DS-1", "running");
        scene.project.wait_until("the agent is at work", || scene.project.workspace("DS-1").join("begun.txt").exists());
        Some(scene)
    }

    /// Lets the browser in by a one-time link, as a person would.
    fn log_in(&mut self) {
        let Output { stdout, .. } = self.project.output(&["open", "--print"]);
        let link = String::from_utf8(stdout).unwrap();
        self.browser.open(link.trim());
        self.browser.wait("the board", "location.pathname === '/' && document.querySelector('.board')");
    }

    fn open(&mut self, path: &str) {
        let url = format!("{}{path}", self.at);
        self.browser.open(&url);
        let there = format!("location.href === {} && document.querySelector('main')", Value::from(url));
        self.browser.wait("the page", &there);
    }

    /// Lets the agent's turn go on, or end.
    fn let_go(&self, name: &str) {
        std::fs::write(self.project.dir.join(name), "").unwrap();
    }

    /// Fills the form of an action, sends it, and answers what its receipt says once the action has ended.
    fn act(&mut self, kind: &str, target: &str, fields: &[(&str, &str)]) -> String {
        self.send(kind, target, fields);
        let done = format!(
            "document.querySelector('#receipt b')?.textContent === {} && /completed|failed/.test(document.querySelector('#receipt').textContent)",
            Value::from(kind.replace('_', " "))
        );
        self.browser.wait(&format!("the receipt of {kind}"), &done);
        self.browser.eval("document.querySelector('#receipt').innerText").as_str().unwrap().to_owned()
    }

    /// Fills the form of an action and sends it, saying yes where it is asked about.
    fn send(&mut self, kind: &str, target: &str, fields: &[(&str, &str)]) {
        let form = format!("#act-{kind}-{target}");
        self.browser.wait(&form, &format!("document.querySelector({})", Value::from(form.as_str())));
        self.browser.eval(&format!("document.querySelector('{form}').closest('details')?.setAttribute('open', '')"));
        for (name, value) in fields {
            let set = format!("document.querySelector('{form} [name={name}]').value = {}", Value::from(*value));
            self.browser.eval(&set);
        }
        self.browser.click(&format!("{form} button"));
        if self.browser.eval(&format!("document.querySelector('{form}').dataset.confirm !== undefined")) == true {
            self.browser.click("dialog .danger");
        }
    }
}
