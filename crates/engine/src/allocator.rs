//! What thousands of issues took while they were looked at is given back to the system.
//!
//! glibc keeps what is freed between pieces that are still in use, and every thread has a store of its own: after a look at many issues as
//! much is kept as the issues themselves take.

use dalsegno_core::SeenIssues;

/// Fewer issues leave nothing behind that is worth the walk.
const MANY: usize = 1_000;

/// Gives back the issues of a look, if this is the last hold on them. Takes as long as to compare them, so it is not for the loop.
pub(crate) fn give_back(seen: SeenIssues) {
    let many = seen.count() >= MANY;
    drop(seen);
    if many {
        trim();
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    #[expect(
        unsafe_code,
        reason = "the one call to the allocator itself; it takes no pointer, and may be made from any thread at any time"
    )]
    // SAFETY: a function of the C library without preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
