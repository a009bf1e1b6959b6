//! The real binary with the real Codex. Only the language model is scripted, on loopback.

mod handoff;
mod kills;
mod kills_of_actions;
mod limits;
mod loopback;
mod proxy;
mod restarts;
mod scene;

pub(crate) use scene::side_by_side;
