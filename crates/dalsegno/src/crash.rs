//! Lets a test kill this process with SIGKILL at a point with a number or a name. Debug builds only.

#[cfg(debug_assertions)]
mod armed {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::getpid;

    use crate::settings::env;

    /// Arms the point that the environment names.
    pub(crate) fn arm() {
        if let Ok(at) = std::env::var(env::CRASH_AT) {
            dalsegno_engine::crash::arm(at.as_str(), |name, number| {
                tracing::warn!(name, number, "killed at a crash point");
                // SIGKILL cannot be refused: nothing after this line runs.
                let _ = kill(getpid(), Signal::SIGKILL);
            });
        }
    }

    /// Says how many points were passed, to whoever wants to walk them.
    pub(crate) fn count() {
        if let Some(path) = std::env::var_os(env::CRASH_COUNT) {
            let _ = std::fs::write(path, dalsegno_engine::crash::passed().to_string());
        }
    }
}

#[cfg(debug_assertions)]
pub(crate) use armed::{arm, count};

#[cfg(not(debug_assertions))]
pub(crate) fn arm() {}

#[cfg(not(debug_assertions))]
pub(crate) fn count() {}
