//! The adapters against the suites and against the real world: processes, files, repositories.

mod agent;
