//! The tables of effects and waits.

/// Their SQL, for every kind of database that has them.
///
/// `effects` and `outcomes` are written at their end: an intent is a row of the first, which never changes; what became of it
/// is a row of the second at the same place, and few intents are between the two. So many scopes that write at once share
/// the last pages of both tables, and a transaction of theirs is a few pages however many they are. That rules out any order or index by
/// scope. The effects of a scope are a chain instead, each row naming the one before (`previous`), and `scopes.head` is its
/// last. Heads are written now and then: `meta.heads_through` is the place up to which they are right, and whoever needs one looks through the
/// few rows behind it.
///
/// `pruned` holds chains whose scope is gone already, and which go in portions. `wait_ends` is the list that those who are parked
/// follow; an answer is not in it a second time (`terminal` is null then), because it may be large.
macro_rules! effects_tables {
    () => {
        "
CREATE TABLE scopes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    session TEXT,
    epoch INTEGER NOT NULL,
    owner TEXT NOT NULL,
    head INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;
CREATE INDEX scopes_by_session ON scopes (session) WHERE session IS NOT NULL;
CREATE INDEX scopes_by_end ON scopes (ended_at) WHERE ended_at IS NOT NULL;
CREATE TABLE effects (
    place INTEGER PRIMARY KEY,
    previous INTEGER NOT NULL,
    scope INTEGER NOT NULL,
    replay_key TEXT NOT NULL,
    kind TEXT NOT NULL,
    hash BLOB NOT NULL,
    content TEXT,
    provenance TEXT,
    epoch INTEGER NOT NULL,
    began_at INTEGER NOT NULL,
    due_at INTEGER
) STRICT;
CREATE TABLE outcomes (
    place INTEGER PRIMARY KEY,
    progress TEXT NOT NULL,
    state TEXT NOT NULL
) STRICT;
CREATE TABLE tombstones (
    digest BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;
CREATE TABLE pruned (
    scope INTEGER PRIMARY KEY,
    head INTEGER NOT NULL
) STRICT;
CREATE TABLE waits (
    scope INTEGER NOT NULL,
    identity TEXT NOT NULL,
    deadline INTEGER,
    terminal TEXT,
    PRIMARY KEY (scope, identity)
) STRICT, WITHOUT ROWID;
CREATE TABLE wait_ends (
    number INTEGER PRIMARY KEY,
    scope_key TEXT NOT NULL,
    identity TEXT NOT NULL,
    terminal TEXT
) STRICT;
CREATE TABLE revoked_sessions (
    session TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
INSERT INTO meta (key, value) VALUES ('heads_through', 0);
"
    };
}
pub(crate) use effects_tables;
