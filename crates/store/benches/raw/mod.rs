//! What the disk can do, for the ratios of the benchmarks beside this.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Writes of 4 KiB with `fdatasync` per second: overwriting so many blocks of a preallocated file, and appending. Each is measured for `limit`.
pub(crate) fn rates(dir: &Path, limit: Duration, blocks: u64) -> (f64, f64) {
    const BLOCK: [u8; 4096] = [7; 4096];
    let path = dir.join("raw");
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path).unwrap();
    for block in 0..blocks {
        file.write_all_at(&BLOCK, block * 4096).unwrap();
    }
    file.sync_all().unwrap();
    let rate = |file: &File, wrap: u64| {
        let start = Instant::now();
        let mut count = 0;
        while start.elapsed() < limit {
            file.write_all_at(&BLOCK, (count % wrap) * 4096).unwrap();
            file.sync_data().unwrap();
            count += 1;
        }
        count as f64 / start.elapsed().as_secs_f64()
    };
    let overwrite = rate(&file, blocks);
    file.set_len(0).unwrap();
    file.sync_all().unwrap();
    let append = rate(&file, u64::MAX);
    std::fs::remove_file(&path).unwrap();
    (overwrite, append)
}
