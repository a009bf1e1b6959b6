//! The crash harness: a real child process that is killed with SIGKILL at a numbered point, started again
//! without a kill, and judged. Points are walked one by one, or sampled by a seed.
//!
//! The child counts its points itself (`DALSEGNO_CRASH_AT=<n>` kills it at the n-th, debug builds only);
//! the harness only says which one. A test that starts itself again as the child calls [`arm`] and [`tell_passed`] there.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Environment variable that names the points of a walk: `all`, or `sample:<count>:<seed>`.
pub const WALK_VARIABLE: &str = "DALSEGNO_CRASH_WALK";

/// Environment variable that names the point at which a child that calls [`arm`] is killed.
pub const AT_VARIABLE: &str = "DALSEGNO_CRASH_AT";
/// What stands before the count of points in a child's output.
const PASSED: &str = "passed points: ";

/// Makes this process kill itself at the point that the environment names. To be called first by a child of [`run_child`].
///
/// # Panics
/// In a release build, which has no points.
pub fn arm() {
    #[cfg(debug_assertions)]
    {
        let at = std::env::var(AT_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
        dalsegno_engine::crash::arm(at, |_, _| {
            // SIGKILL cannot be refused: nothing after this line runs.
            let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
        });
    }
    #[cfg(not(debug_assertions))]
    panic!("a release build has no crash points");
}

/// Says how many points this process has passed. To be called last by a child of [`run_child`].
#[expect(clippy::print_stdout, reason = "the parent reads it there")]
pub fn tell_passed() {
    #[cfg(debug_assertions)]
    println!("{PASSED}{}", dalsegno_engine::crash::passed());
}

/// Runs a child to its end or to its kill.
///
/// # Panics
/// When it ends in another way; the message has what it said.
pub fn run_child(command: &mut std::process::Command, how: Kill) -> Ran {
    use std::os::unix::process::ExitStatusExt;

    match how {
        Kill::Never => command.env_remove(AT_VARIABLE),
        Kill::At(point) => command.env(AT_VARIABLE, point.to_string()),
    };
    let (output, said) = match command.output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            (output, said)
        }
        Err(error) => panic!("the child could not be started: {error}"),
    };
    if output.status.signal() == Some(nix::sys::signal::Signal::SIGKILL as i32) {
        return Ran::Killed;
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the child ended with {}; it said:\n{said}\n{complaint}", output.status);
    let points = said.lines().find_map(|line| line.split_once(PASSED)?.1.trim().parse().ok());
    Ran::ToItsEnd { points }
}

/// Which points are walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Points {
    /// Each one.
    All,
    /// So many, chosen by the seed.
    Sample {
        /// How many.
        count: u64,
        /// Chooses them.
        seed: u64,
    },
}

impl Points {
    /// What the environment asks for; a sample of `count` by a fixed seed when it asks for nothing.
    ///
    /// # Panics
    /// When the variable holds something else than described at [`WALK_VARIABLE`].
    #[must_use]
    pub fn from_environment(count: u64) -> Self {
        let Ok(text) = std::env::var(WALK_VARIABLE) else { return Self::Sample { count, seed: 20_261 } };
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            ["all"] => Self::All,
            ["sample", count, seed] => match (count.parse(), seed.parse()) {
                (Ok(count), Ok(seed)) => Self::Sample { count, seed },
                _ => panic!("{WALK_VARIABLE}={text}: count and seed are numbers"),
            },
            _ => panic!("{WALK_VARIABLE}={text}: expected `all` or `sample:<count>:<seed>`"),
        }
    }
}

/// How a child is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// To its end.
    Never,
    /// Killed at this point, from 1.
    At(u64),
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// By itself; it passed this many points, if it said so.
    ToItsEnd {
        /// Points passed.
        points: Option<u64>,
    },
    /// By the kill.
    Killed,
}

/// What a walk did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// Points that a run without a kill passes.
    pub points: u64,
    /// Points at which a child was killed.
    pub killed: u64,
}

/// Kills a child at the chosen points, each in a fresh scene; runs it to its end afterwards, and judges the scene.
///
/// `threads` scenes are walked side by side.
///
/// # Panics
/// When a child cannot be killed where it should, does not come to its end afterwards, or `judge` panics; the message
/// names the point.
pub fn walk<S: Send>(
    points: Points,
    threads: usize,
    fresh: impl Fn() -> S + Sync,
    run: impl Fn(&S, Kill) -> Ran + Sync,
    judge: impl Fn(&S, Kill) + Sync,
) -> Walked {
    let scene = fresh();
    let total = match run(&scene, Kill::Never) {
        Ran::ToItsEnd { points: Some(total) } => total,
        ran @ (Ran::ToItsEnd { points: None } | Ran::Killed) => {
            panic!("a run without a kill must come to its end and count its points, and it ended with {ran:?}")
        }
    };
    judge(&scene, Kill::Never);
    drop(scene);
    let chosen = chosen(points, total);
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let killed = Mutex::new(0_u64);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !failed.load(Ordering::SeqCst) {
                    let index = usize::try_from(next.fetch_add(1, Ordering::SeqCst)).unwrap_or(usize::MAX);
                    let Some(point) = chosen.get(index) else { return };
                    let guard = FailureFlag { failed: &failed, point: *point };
                    let scene = fresh();
                    if run(&scene, Kill::At(*point)) == Ran::Killed {
                        *killed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += 1;
                        match run(&scene, Kill::Never) {
                            Ran::ToItsEnd { .. } => {}
                            Ran::Killed => panic!("the restarted child did not come to its end"),
                        }
                    }
                    judge(&scene, Kill::At(*point));
                    std::mem::forget(guard);
                }
            });
        }
    });
    let killed = *killed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    assert!(killed > 0, "a walk that kills nobody shows nothing");
    Walked { points: total, killed }
}

/// Says which point failed when its thread unwinds.
struct FailureFlag<'a> {
    failed: &'a AtomicBool,
    point: u64,
}

impl Drop for FailureFlag<'_> {
    fn drop(&mut self) {
        self.failed.store(true, Ordering::SeqCst);
        #[expect(clippy::print_stderr, reason = "the number of the failing point is what a person needs")]
        {
            eprintln!("crash walk: point {} failed", self.point);
        }
    }
}

fn chosen(points: Points, total: u64) -> Vec<u64> {
    match points {
        Points::All => (1..=total).collect(),
        Points::Sample { count, seed } => {
            let mut random = Random::new(seed);
            let mut left: Vec<u64> = (1..=total).collect();
            let mut taken = Vec::new();
            while !left.is_empty() && (taken.len() as u64) < count {
                let index = usize::try_from(random.below(left.len() as u64)).unwrap_or(0);
                taken.push(left.swap_remove(index));
            }
            taken
        }
    }
}

/// SplitMix64: the same seed chooses the same things everywhere.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends, and nobody iterates over it")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; zero when `limit` is zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next() % limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_the_same_for_the_same_seed_and_within_bounds() {
        let sample = chosen(Points::Sample { count: 5, seed: 7 }, 40);
        assert_eq!(sample, chosen(Points::Sample { count: 5, seed: 7 }, 40));
        assert_ne!(sample, chosen(Points::Sample { count: 5, seed: 8 }, 40));
        assert_eq!(sample.len(), 5);
        assert!(sample.iter().all(|point| (1..=40).contains(point)));
        assert_eq!(chosen(Points::All, 3), [1, 2, 3]);
        assert_eq!(chosen(Points::Sample { count: 9, seed: 1 }, 3).len(), 3);
    }

    #[test]
    fn a_walk_kills_at_each_point_and_judges_each_scene() {
        let judged = Mutex::new(Vec::new());
        let walked = walk(
            Points::All,
            2,
            || (),
            |(), kill| match kill {
                Kill::Never => Ran::ToItsEnd { points: Some(4) },
                Kill::At(_) => Ran::Killed,
            },
            |(), kill| judged.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(kill),
        );
        assert_eq!(walked, Walked { points: 4, killed: 4 });
        assert_eq!(judged.into_inner().unwrap_or_default().len(), 5);
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_scene_that_is_judged_bad_fails_the_walk() {
        let finished = |(): &(), kill| match kill {
            Kill::Never => Ran::ToItsEnd { points: Some(2) },
            Kill::At(_) => Ran::Killed,
        };
        walk(
            Points::All,
            1,
            || (),
            finished,
            |(), kill| {
                if kill == Kill::At(2) {
                    std::panic::resume_unwind(Box::new("bad"));
                }
            },
        );
    }
}
