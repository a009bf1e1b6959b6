//! Programs that show the durable library. Each is a binary of this package:
//!
//! - `durable_agent_loop`: an agent loop that may be killed anywhere.
//! - `release_train`: a saga: tag, upload, publish, announce, each done once, or undone.
//! - `webhook_wait`: a program that waits for somebody's answer, over restarts.
//!
//! The guides are `docs/durable.md` and `docs/sagas.md`; their code is compiled, and run where it can be, by the tests of this package.

#[cfg(doctest)]
#[doc = include_str!("../docs/durable.md")]
struct Guide;

#[cfg(doctest)]
#[doc = include_str!("../docs/sagas.md")]
struct SagaGuide;

pub mod fuse;

// The guide's code uses it, and nothing else here.
#[cfg(test)]
use dalsegno_testkit as _;
