//! The crash suite's script and judge, without a crash: a play is judged good, and each way to spoil its ledger is found.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dalsegno_durable::key::Secret;
use dalsegno_durable::{DurableStore, EffectHost, HostOptions, MemoryStore, StoredHost};
use dalsegno_testkit::conformance::durable::crash::{Recorded, World, judge, play};
use serde_json::{Value, json};

async fn played(store: &MemoryStore, world: &World) {
    let stores = [(); 3].map(|()| Arc::new(store.another()));
    let owners = stores.each_ref().map(Arc::downgrade);
    {
        let [one, two, sweeper] = stores.map(|store| store as Arc<dyn DurableStore>);
        let host = |store, retention| -> Arc<dyn EffectHost> {
            Arc::new(StoredHost::with(store, HostOptions { retention, ..HostOptions::default() }))
        };
        let (hour, none) = (Duration::from_secs(3_600), Duration::ZERO);
        play(world, &host(one, hour), &host(two, hour), &*host(sweeper, none)).await;
    }
    // Tasks that held a store end when the runtime comes to them.
    while owners.iter().any(|owner| owner.strong_count() > 0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn ledger(path: &Path) -> MemoryStore {
    let store = MemoryStore::new(Secret::new([7; 32]));
    // The store in memory cannot be looked at from beside; that is for hosts that claim durability.
    let world = World::new(path, |_, _| Recorded::Intent, |_| {});
    played(&store, &world).await;
    store
}

#[tokio::test]
async fn a_play_is_judged_good_and_played_again_without_an_effect() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.jsonl");
    let store = ledger(&path).await;
    judge(&World::frozen(&path));
    played(&store, &World::frozen(&path)).await;
    let world = World::new(&path, |_, _| Recorded::Nothing, |_| {});
    played(&store, &world).await;
    judge(&World::frozen(&path));
}

type Spoil<'s> = &'s dyn Fn(&mut Vec<Value>);

#[tokio::test]
async fn a_spoiled_ledger_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.jsonl");
    ledger(&path).await;
    let good: Vec<Value> =
        std::fs::read_to_string(&path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |line: &Value, kind: &str, at: &str, what: &str| line["line"] == kind && line[at] == what;
    let place = |kind: &str, at: &str, what: &str| good.iter().position(|line| of(line, kind, at, what)).unwrap();
    let last = good.len() - 1;
    let spoil: [(&str, Spoil<'_>); 9] = [
        ("not through", &|lines| drop(lines.pop())),
        ("without an intent", &|lines| lines[place("entered", "key", "pay")]["recorded"] = json!("nothing")),
        ("with an outcome", &|lines| lines[place("entered", "key", "pay")]["recorded"] = json!("outcome")),
        ("ran after it was told", &|lines| {
            let again = lines[place("entered", "key", "plan")].clone();
            lines.insert(last, again);
        }),
        ("two keys of one effect", &|lines| {
            let at = place("entered", "key", "busy");
            lines[at]["idempotency_key"] = json!("another");
        }),
        ("done twice", &|lines| {
            let at =
                lines.iter().position(|line| line["line"] == "applied" && line["output"]["did"] == "mail").unwrap();
            let mut again = lines[at].clone();
            again["idempotency_key"] = json!("another");
            lines.insert(at, again);
        }),
        ("told otherwise", &|lines| {
            let mut other = lines[place("told", "what", "pay")].clone();
            other["value"] = json!({"output": 1});
            lines.insert(last, other);
        }),
        ("lost", &|lines| drop(lines.remove(place("told", "what", "busy")))),
        ("slept anew", &|lines| {
            let mut other = lines[place("due", "what", "nap")].clone();
            other["at"] = json!(1);
            lines.insert(last, other);
        }),
    ];
    for (what, spoil) in spoil {
        let mut lines = good.clone();
        spoil(&mut lines);
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let spoiled = dir.path().join("spoiled.jsonl");
        std::fs::write(&spoiled, text).unwrap();
        let judged = std::panic::catch_unwind(|| judge(&World::frozen(&spoiled)));
        assert!(judged.is_err(), "{what}: not found");
    }
}
