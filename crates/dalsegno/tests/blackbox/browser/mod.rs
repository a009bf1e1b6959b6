//! The dashboard in a real browser, over the real daemon.

mod chromium;
mod live;

use std::process::Output;

use crate::http::Api;
use crate::project::{Daemon, Project};
use chromium::Browser;

const FRONT: &str = "polling: {interval_ms: 200}
agent: {kind: scripted, script: agent.yaml, max_retry_backoff_ms: 50}
handoff: {state: Human Review}
";

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
        let project = Project::new(&format!("{FRONT}{front}"), agent);
        for issue in issues {
            project.issue(issue, "state: Todo");
        }
        let daemon = project.daemon();
        let at = format!("http://{}", Api::of(&project, &daemon).address);
        let mut scene = Self { project, daemon, browser, at };
        scene.log_in();
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
        self.browser.wait("the page", "document.querySelector('main')");
    }
}
