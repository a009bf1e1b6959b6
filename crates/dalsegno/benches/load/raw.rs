//! The disk's own rate: a 4 KiB write and `fdatasync`, overwriting a preallocated file.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

const BLOCK: [u8; 4096] = [7; 4096];
const BLOCKS: u64 = 4_096;
const LIMIT: Duration = Duration::from_millis(700);

/// Synced writes in a second.
pub(crate) fn overwrite_per_s(dir: &Path) -> f64 {
    let path = dir.join("raw");
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path).unwrap();
    for block in 0..BLOCKS {
        file.write_all_at(&BLOCK, block * 4_096).unwrap();
    }
    file.sync_all().unwrap();
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < LIMIT {
        file.write_all_at(&BLOCK, (count % BLOCKS) * 4_096).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    std::fs::remove_file(&path).unwrap();
    rate
}
