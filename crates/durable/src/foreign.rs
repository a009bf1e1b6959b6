//! Every parser of this crate that meets bytes of others, behind one door: for whoever feeds them nonsense (`cargo xtask fuzz`).
//! What they make of it is thrown away; that they end, and do not panic, is what is looked at.

use crate::clock::Timestamp;
use crate::key::Secret;
use crate::saga::SagaMachine;
use crate::saga::event::Entry;
use crate::scope::ExecutionScope;
use crate::wait::WaitKey;

/// A parser and its name.
pub type Reader = (&'static str, fn(&[u8]));

/// All of them; each has a corpus of its name in `fuzz/corpus`.
pub const READERS: &[Reader] = &[("wait_key", wait_key), ("saga_log", saga_log)];

/// Has the parser of that name read these bytes; there may be none of that name.
pub fn read(name: &str, bytes: &[u8]) {
    READERS.iter().filter(|(known, _)| *known == name).for_each(|(_, reader)| reader(bytes));
}

/// The key of a wait, and that of a scope, which is in it. What is one is written as it was read.
fn wait_key(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let secret = Secret::new([7; 32]);
    drop(WaitKey::from_text(text).verify(&secret));
    if let Some(scope) = ExecutionScope::from_key(text) {
        assert!(ExecutionScope::from_key(&scope.key()) == Some(scope), "a scope reads back as another: {text}");
    }
}

/// The log of a saga, an entry a line, as far as it goes; and what comes next in it.
fn saga_log(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n');
    let entries: Vec<Entry> = lines.map_while(|line| serde_json::from_slice(line).ok()).collect();
    let (epoch, now) = (1 << 40, Timestamp(1 << 41));
    let Ok(mut machine) = SagaMachine::resume("saga", &entries, epoch, now) else { return };
    machine.wake(now);
    drop((machine.questions(), machine.due()));
    if let Some(unsaved) = machine.batch() {
        drop(machine.calls(unsaved.saved()));
    }
}
