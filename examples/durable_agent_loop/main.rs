//! An agent loop that may be killed anywhere.
//!
//! It asks a model, runs the tools that the model wants, tells it the results, and so on until the model is done. Each
//! question and each tool is a *durable effect*: its intent is recorded before it is done, its outcome after. When the
//! process dies, the next one runs the very same code from the top: what has an outcome is told from the record, what has an
//! intent alone is settled by the policy that the effect declares, and everything else is done for the first time.
//!
//! Look at [`Agent::tool`]: which policy fits depends on what the other side can do, and that is all there is to decide.
//!
//! ```sh
//! cargo run -p dalsegno-examples --bin durable_agent_loop -- --kill-after 14   # any number from 1 to 24
//! cargo run -p dalsegno-examples --bin durable_agent_loop                      # goes on
//! cargo run -p dalsegno-examples --bin durable_agent_loop                      # replays all of it
//! ```
//!
//! Records and what the "remote" systems saw are in `target/durable-agent-loop`, or in `--dir DIR`. Remove the directory to begin anew.

#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

mod model;
mod remote;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dalsegno_durable::{
    Command, DurableError, EffectError, EffectHost, ExecutionScope, InDoubt, Probed, Scope, StoredHost,
};
use dalsegno_examples::fuse::Fuse;
use dalsegno_store::SqliteDurable;
use serde_json::{Value, json};

use crate::model::{Answer, Message, Model, ToolCall};
use crate::remote::Remote;

/// Questions to the model before it is given up. Everything has a limit, a model that never is done most of all.
const QUESTIONS: usize = 16;

const USAGE: &str = "usage: durable_agent_loop [--dir DIR] [--kill-after N]";

struct Options {
    dir: PathBuf,
    kill_after: Option<u32>,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self { dir: PathBuf::from("target/durable-agent-loop"), kill_after: None };
        while let Some(word) = words.next() {
            match (word.as_str(), words.next()) {
                ("--dir", Some(dir)) => options.dir = PathBuf::from(dir),
                ("--kill-after", Some(number)) => options.kill_after = Some(number.parse()?),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse(std::env::args().skip(1))?;
    std::fs::create_dir_all(&options.dir)?;
    let host = open(&options.dir)?;

    // The whole of this identifies the work. Another turn would be other work, whatever its effects are called.
    let scope = host.scoped(ExecutionScope::turn("holiday", "turn-1")).await?;
    let agent = Agent {
        scope,
        model: Model::new(options.dir.join("model-bill.jsonl")),
        remote: Remote::new(&options.dir),
        fuse: Fuse::new(options.kill_after),
        replayed: AtomicU32::new(0),
        executed: AtomicU32::new(0),
    };
    let said = agent.work("Book me a train to where the sun shines, and tell Ada.").await?;
    println!("the model is done: {said}");

    // Nothing of this turn is executed any more. Its records are told until the retention is over, so a run after this one
    // replays everything.
    agent.scope.end().await?;
    println!("replayed {}, executed {}", agent.replayed.into_inner(), agent.executed.into_inner());
    println!("{} points to kill it at", agent.fuse.passed());
    Ok(())
}

struct Agent<'h> {
    scope: Scope<'h>,
    model: Model,
    remote: Remote,
    fuse: Fuse,
    replayed: AtomicU32,
    executed: AtomicU32,
}

impl Agent<'_> {
    /// The loop. It keeps no state of its own on disk: the conversation follows from the recorded outcomes.
    async fn work(&self, task: &str) -> Result<String, DurableError> {
        let mut conversation = vec![Message { from: "user".to_owned(), said: json!(task) }];
        for question in 1..=QUESTIONS {
            let answer = self.ask(question, &conversation).await?;
            conversation.push(Message { from: "model".to_owned(), said: json!(answer) });
            match answer {
                Answer::Done(text) => return Ok(text),
                Answer::Tools(calls) => {
                    for (number, call) in calls.iter().enumerate() {
                        // Keys come from the place in the loop, so that the next process makes the same ones.
                        let said = self.tool(&format!("tool/{question}/{number}"), call).await?;
                        conversation.push(Message { from: call.tool.clone(), said });
                    }
                }
            }
        }
        Ok(format!("no end after {QUESTIONS} questions"))
    }

    /// Asks the model. A question that was cut is asked again: it changes nothing, and may be paid twice.
    async fn ask(&self, question: usize, conversation: &[Message]) -> Result<Answer, DurableError> {
        let key = &format!("model/{question}");
        let seen = Seen::default();
        let command = Command::LlmCall { request: json!({ "messages": conversation }) };
        let answer = self
            .scope
            .effect(key, command)
            .run(async |_| {
                seen.executed();
                self.fuse.point("before", key);
                let answer = self.model.ask(conversation)?;
                self.fuse.point("after the answer, before it was recorded:", key);
                Ok(answer)
            })
            .await?;
        self.note(key, &seen);
        Ok(answer)
    }

    /// Runs a tool. Its policy follows from what the other side can do.
    async fn tool(&self, key: &str, call: &ToolCall) -> Result<Value, DurableError> {
        let seen = &Seen::default();
        let (fuse, remote) = (&self.fuse, &self.remote);
        let done = |answer: Value| {
            fuse.point("after it was done, before that was recorded:", key);
            Ok::<Value, EffectError>(answer)
        };
        let begin = || {
            seen.executed();
            fuse.point("before", key);
        };
        let external = |system: &str| Command::External { system: system.to_owned(), request: call.arguments.clone() };
        let answer = match call.tool.as_str() {
            // It reads: run it again.
            "weather" => {
                let command = Command::ToolCall { tool: call.tool.clone(), arguments: call.arguments.clone() };
                let city = call.arguments["city"].as_str().unwrap_or_default();
                let effect = self.scope.effect(key, command).in_doubt(InDoubt::Rerun);
                effect
                    .run(async |_| {
                        begin();
                        done(Remote::weather(city))
                    })
                    .await?
            }
            // It writes, and the other side deduplicates: send it again under the same key.
            "book" => {
                let effect = self.scope.effect(key, external("bookings")).in_doubt(InDoubt::SameKey);
                effect
                    .run(async |attempt| {
                        begin();
                        done(remote.book(&attempt.idempotency_key, &call.arguments)?)
                    })
                    .await?
            }
            // It writes, and the other side can only be searched: look first.
            "mail" => {
                let effect = self.scope.effect(key, external("mail")).probe(async |attempt| {
                    seen.probed();
                    match remote.find_mail(&attempt.idempotency_key) {
                        Ok(Some(mail)) => Probed::Applied(mail),
                        Ok(None) => Probed::NotApplied,
                        Err(error) => Probed::Inconclusive(error),
                    }
                });
                effect
                    .run(async |attempt| {
                        begin();
                        done(remote.send(&attempt.idempotency_key, &call.arguments)?)
                    })
                    .await?
            }
            // A model makes things up. That is no failure of the program: the model is told.
            unknown => json!({ "error": format!("there is no tool {unknown}") }),
        };
        self.note(key, seen);
        Ok(answer)
    }

    /// Says what became of an effect, and passes the point behind it.
    fn note(&self, key: &str, seen: &Seen) {
        let (executed, probed) = (seen.executed.load(Ordering::Relaxed) > 0, seen.probed.load(Ordering::Relaxed) > 0);
        let (count, word) = match (executed, probed) {
            (false, false) => (&self.replayed, "replayed"),
            (false, true) => (&self.replayed, "found   "),
            (true, _) => (&self.executed, "executed"),
        };
        count.fetch_add(1, Ordering::Relaxed);
        println!("{word} {key}");
        self.fuse.point("after", key);
    }
}

/// Whether an effect's own code was called in this process. Only an example wants to know.
#[derive(Default)]
struct Seen {
    executed: AtomicU32,
    probed: AtomicU32,
}

impl Seen {
    fn executed(&self) {
        self.executed.fetch_add(1, Ordering::Relaxed);
    }

    fn probed(&self) {
        self.probed.fetch_add(1, Ordering::Relaxed);
    }
}

fn open(dir: &Path) -> Result<StoredHost, Box<dyn Error>> {
    Ok(StoredHost::new(Arc::new(SqliteDurable::open(&dir.join("effects.db"))?)))
}
