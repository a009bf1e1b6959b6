//! A release as a saga: check, tag, upload a draft, publish, announce.
//!
//! Until it is published, everything can be taken back: the tag is deleted, the draft is withdrawn. What is published stays, and then the
//! announcement must go out in the end. Kill it wherever you like, and start it again: it goes on from what is recorded, and no
//! system sees anything twice.
//!
//! ```sh
//! cargo run -p dalsegno-examples --bin release_train -- --kill-after 9            # any number
//! cargo run -p dalsegno-examples --bin release_train                              # goes on
//! cargo run -p dalsegno-examples --bin release_train -- --dir target/other --refuse publish   # is undone
//! ```
//!
//! Look at [`plan`]: which kind a step is, and how a doubt about it ends, is all that there is to decide. Records and what the "remote"
//! systems saw are in `target/release-train`, or in `--dir DIR`. Remove the directory to begin anew.

#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

mod remote;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use dalsegno_durable::StoredHost;
use dalsegno_durable::saga::{
    Dedup, Failure, Found, InvalidPlan, Rest, SagaHost, SagaPlan, Step, StepAnswer, StepCall, StepExecutor, output,
};
use dalsegno_examples::fuse::Fuse;
use dalsegno_store::SqliteDurable;
use serde_json::{Value, json};

use crate::remote::Remote;

const USAGE: &str = "usage: release_train [--dir DIR] [--kill-after N] [--refuse STEP]";

/// What is to be done, and what can be undone.
fn plan() -> Result<SagaPlan, InvalidPlan> {
    SagaPlan::sequence(
        "release",
        1,
        [
            // It looks, and changes nothing.
            Step::read("check"),
            // A tag that is there is there: making it again changes nothing.
            Step::compensatable("tag").dedup(Dedup::Natural).args(json!({"tag": "v1.0"})).undo(json!({"tag": "v1.0"})),
            // Each upload is a draft of its own, so whoever does not know whether it arrived looks for it.
            Step::compensatable("upload").probe().args(json!({"tag": "v1.0"})).undo(output("upload", "/draft")),
            // From here on there is no way back. Publishing twice would do no harm; but whoever can ask whether it is published can still turn
            // back when it is not.
            Step::pivot("publish").dedup(Dedup::Natural).probe().args(output("upload", "/draft")),
            // This system knows our keys, and posts nothing twice.
            Step::retriable("announce").dedup(Dedup::RemoteKey).args(json!({"text": "v1.0 is out"})),
        ],
    )
}

struct Train {
    remote: Remote,
    fuse: Arc<Fuse>,
    refuse: Option<String>,
}

impl Train {
    /// What did not work out by our own fault or the disk's: nobody knows how far it came.
    fn answer(result: std::io::Result<Value>) -> StepAnswer {
        result.map_or_else(|error| StepAnswer::unknown("remote_unreachable", error.to_string()), StepAnswer::Done)
    }
}

#[async_trait]
impl StepExecutor for Train {
    async fn act(&self, call: StepCall) -> StepAnswer {
        let step = call.step.as_str();
        self.fuse.point("before", step);
        if self.refuse.as_deref() == Some(step) {
            println!("refused  {step}");
            return StepAnswer::refused("refused", "somebody said no");
        }
        let key = &call.idempotency_key;
        let answer = match step {
            "check" => Ok(json!({"green": true})),
            "tag" => self.remote.tag(&call.args),
            "upload" => self.remote.upload(key),
            "publish" => self.remote.publish(&call.args),
            "announce" => self.remote.announce(key, &call.args),
            other => return StepAnswer::refused("unknown_step", format!("there is no step {other}")),
        };
        println!("did      {step}");
        self.fuse.point("after it was done, before that was recorded:", step);
        Self::answer(answer)
    }

    async fn undo(&self, call: StepCall) -> StepAnswer {
        let step = call.step.as_str();
        self.fuse.point("before the undo of", step);
        let answer = match step {
            "tag" => self.remote.untag(&call.args),
            "upload" => self.remote.withdraw(&call.args),
            other => return StepAnswer::refused("unknown_step", format!("{other} cannot be undone")),
        };
        println!("undid    {step}");
        self.fuse.point("after it was undone, before that was recorded:", step);
        Self::answer(answer)
    }

    async fn probe(&self, call: StepCall) -> Found {
        let found = match call.step.as_str() {
            "publish" => self.remote.find_published(&call.args),
            _ => self.remote.find_draft(&call.idempotency_key),
        };
        match found {
            Ok(Some(output)) => Found::Applied { output },
            Ok(None) => Found::NotApplied,
            Err(error) => Found::Inconclusive { failure: Failure::new("remote_unreachable", error.to_string()) },
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (mut dir, mut kill_after, mut refuse) = (PathBuf::from("target/release-train"), None, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match (word.as_str(), words.next()) {
            ("--dir", Some(value)) => dir = PathBuf::from(value),
            ("--kill-after", Some(value)) => kill_after = Some(value.parse()?),
            ("--refuse", Some(value)) => refuse = Some(value),
            _ => return Err(USAGE.into()),
        }
    }
    std::fs::create_dir_all(&dir)?;
    let store = Arc::new(SqliteDurable::open(&dir.join("sagas.db"))?);
    let fuse = Arc::new(Fuse::new(kill_after));
    let watched = Arc::clone(&fuse);
    let host = SagaHost::observed(StoredHost::new(store), move |_, entry| {
        let kinds: Vec<&str> = entry.events.iter().map(|event| event.kind()).collect();
        watched.point("after it was recorded:", &kinds.join(", "));
    });
    host.register("release", 1..=1, Arc::new(Train { remote: Remote::new(&dir), fuse: Arc::clone(&fuse), refuse }));

    // The id is the work: started again, it is the same saga, which goes on or tells its end.
    let saga = host.start("release-1.0", plan()?).await?;
    match saga.rest().await? {
        Rest::Ended(end) => println!("{}", end.as_str()),
        Rest::Parked => println!("parked; {}", host.view("release-1.0").await?.parked().join("; ")),
    }
    println!("{} points to kill it at", fuse.passed());
    Ok(())
}
