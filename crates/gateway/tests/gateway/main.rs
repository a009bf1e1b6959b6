//! The gateway over doubles of its ports: every route, every refusal, every cursor, and streams over a real socket.
#![allow(clippy::unwrap_used, reason = "tests")]

mod access;
mod changes;
mod cursors;
mod document;
mod files;
mod made_up;
mod pages;
mod routes;
mod streams;
mod webhooks;
mod world;
