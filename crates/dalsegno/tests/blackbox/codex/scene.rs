//! A project whose agent is the real Codex, and the model that it asks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use dalsegno_testkit::crash::Random;
use dalsegno_testkit::model::{ModelServer, Script, Tokens};
use dalsegno_testkit::parts::{self, Part};

use super::super::judge;
use super::super::project::Project;

/// WORKFLOW.md's front matter; `@CODEX@` becomes the command that starts Codex.
pub(crate) const FRONT: &str = r#"polling: {interval_ms: 100}
agent: {kind: codex, command: '@CODEX@', max_retry_backoff_ms: 200}
handoff: {checks: ["./test"], claim_state: In Progress, state: Human Review, comment: "done"}
"#;

/// Writes a file and commits it, as often as it is asked to.
pub(crate) const WORK: &str = "echo work > work.txt; git add -A; git commit -qm work; git log -1 --format=%s";

/// `all`, or `sample:<rows>:<seed>`.
const ROWS_VARIABLE: &str = "DALSEGNO_REAL";
/// Rows of a table that `cargo test` walks, and how they are chosen.
const SAMPLE: (usize, u64) = (3, 7);
/// Scenes side by side.
const THREADS: usize = 2;

/// The rows that are walked.
pub(crate) fn chosen<Row: Copy>(all: &[Row]) -> Vec<Row> {
    let text = std::env::var(ROWS_VARIABLE).unwrap_or_default();
    let parts: Vec<&str> = text.split(':').collect();
    let (count, seed) = match parts.as_slice() {
        [""] => SAMPLE,
        ["all"] => return all.to_vec(),
        ["sample", count, seed] => (count.parse().unwrap(), seed.parse().unwrap()),
        _ => panic!("{ROWS_VARIABLE}={text}: expected `all` or `sample:<rows>:<seed>`"),
    };
    let (mut random, mut left, mut taken) = (Random::new(seed), all.to_vec(), Vec::new());
    while taken.len() < count && !left.is_empty() {
        taken.push(left.swap_remove(usize::try_from(random.below(left.len() as u64)).unwrap()));
    }
    taken
}

/// Walks all rows, some at a time.
pub(crate) fn side_by_side<Row: Copy + Sync>(rows: &[Row], walk: impl Fn(Row) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::SeqCst)) {
                    walk(*row);
                }
            });
        }
    });
}

pub(crate) struct Scene {
    pub(crate) project: Project,
    pub(crate) model: ModelServer,
    pub(crate) codex: PathBuf,
}

impl Scene {
    /// A project with `./test`, which wants `work.txt`, and the issue DS-1, whose description names the model's script
    /// `issue`. `None`: there is no Codex here.
    pub(crate) fn new(front: &str, script: &str) -> Option<Self> {
        let Part { program: codex, .. } = parts::codex()?;
        let model = ModelServer::start(Script::parse(script).unwrap()).unwrap();
        let project = Project::new("", "default: []\n");
        fs::write(project.root().join("test"), "#!/bin/sh\ntest -s work.txt\n").unwrap();
        project.git(&project.root(), &["add", "test"]);
        project.git(&project.root(), &["update-index", "--chmod=+x", "test"]);
        project.git(&project.root(), &["commit", "-qm", "a test"]);
        project.git(&project.root(), &["push", "-q", "origin", "main"]);
        let scene = Self { project, model, codex };
        scene.front(front, &format!("exec {} --disable plugins app-server", scene.codex.display()));
        let home = scene.home();
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("config.toml"), scene.config()).unwrap();
        let issue = "---\ntitle: The issue DS-1 [[script:issue]]\nstate: Todo\n---\nIt has to be done.\n";
        fs::write(scene.project.issue_file("DS-1"), issue).unwrap();
        Some(scene)
    }

    /// Writes WORKFLOW.md with this command.
    pub(crate) fn front(&self, front: &str, command: &str) {
        self.project.front(&front.replace("@CODEX@", command));
    }

    /// The model says something else from now on, at the same address. Its count starts over.
    pub(crate) fn other_model(&mut self, script: &str) {
        let port = self.model.url().rsplit_once(':').unwrap().1.parse().unwrap();
        let script = Script::parse(script).unwrap();
        // On another port, so that the old one comes free.
        self.model = ModelServer::start(Script::default()).unwrap();
        let started = RefCell::new(None);
        self.project.wait_until("the model's port", || {
            let server = ModelServer::start_at(port, script.clone(), None).ok();
            server.map(|server| started.replace(Some(server))).is_some()
        });
        self.model = started.into_inner().unwrap();
    }

    /// Where Codex keeps its sessions: below the daemon's own home.
    pub(crate) fn home(&self) -> PathBuf {
        home(&self.project.dir)
    }

    fn config(&self) -> String {
        format!(
            r#"model = "scripted"
model_provider = "scripted"
check_for_update_on_startup = false
[analytics]
enabled = false
[feedback]
enabled = false
[model_providers.scripted]
name = "scripted"
base_url = "{}/v1"
wire_api = "responses"
request_max_retries = 3
stream_max_retries = 3
stream_idle_timeout_ms = 60000
"#,
            self.model.url()
        )
    }

    /// Tokens that the model told.
    pub(crate) fn told(&self) -> Tokens {
        self.model.usage().get("scripted").map_or(Tokens::ZERO, |reported| reported.all)
    }

    /// Tokens that the journal has: input and output.
    pub(crate) fn journaled(&self) -> (u64, u64) {
        let show = self.project.json(&["issue", "show", "DS-1", "--json"]);
        let figure = |name: &str| show["usage"][name].as_u64().unwrap();
        (figure("input_tokens"), figure("output_tokens"))
    }

    /// The journal's figures are the model's.
    pub(crate) fn usage_agrees(&self) {
        let told = self.told();
        assert_eq!(self.journaled(), (told.input, told.output), "journal and model count differently");
        let status = self.project.json(&["status", "--json"]);
        assert_eq!(status["codex_totals"]["input_tokens"], told.input, "{status}");
    }

    /// How often each prompt is in the histories of Codex.
    pub(crate) fn prompts(&self) -> BTreeMap<String, u32> {
        prompts(&self.project.dir)
    }

    /// DS-1 is handed over, once; nothing was asked twice; nothing is left.
    pub(crate) fn handed_off(&self) {
        judge::handed_off_once(&self.project, &["DS-1"]);
        judge::no_gap(&self.project);
        judge::at_rest(&self.project);
        let prompts = self.prompts();
        assert!(!prompts.is_empty(), "no prompt is in any history: the check looks at the wrong place");
        assert!(prompts.values().all(|count| *count == 1), "prompts that arrived were sent again: {prompts:?}");
    }

    /// Kinds of the journal's events that are of this kind.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.project.events().iter().filter(|event| event.kind == kind).count()
    }
}

fn home(dir: &Path) -> PathBuf {
    dir.join("home/.codex")
}

/// How often each prompt is in the histories of the Codex whose project is in `dir`.
pub(crate) fn prompts(dir: &Path) -> BTreeMap<String, u32> {
    let mut seen = BTreeMap::new();
    for text in files(home(dir).join("sessions")) {
        for line in text.lines() {
            let item: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            if item["type"] != "response_item" || item["payload"]["role"] != "user" {
                continue;
            }
            for rest in line.split("<!-- dalsegno:").skip(1) {
                let marker: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
                *seen.entry(marker).or_default() += 1;
            }
        }
    }
    seen
}

fn files(folder: PathBuf) -> Vec<String> {
    let (mut texts, mut folders) = (Vec::new(), vec![folder]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                texts.push(fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    texts
}
