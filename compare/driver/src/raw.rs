//! The disk's own rate: write 4 KiB, `fdatasync`, again.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

const BLOCK: [u8; 4_096] = [0x5a; 4_096];
/// Blocks of the file that is overwritten.
const BLOCKS: u64 = 4_096;
const TIME: Duration = Duration::from_millis(400);

/// Syncs per second.
pub struct Raw {
    /// Over blocks that are there already.
    pub overwrite: f64,
    /// At the end of a file that grows.
    pub append: f64,
}

impl Raw {
    /// Between this and another measurement.
    pub fn mean(&self, other: &Self) -> Self {
        let mean = |one: f64, two: f64| f64::midpoint(one, two);
        Self { overwrite: mean(self.overwrite, other.overwrite), append: mean(self.append, other.append) }
    }
}

/// Measures both, in this directory.
pub fn measure(dir: &Path) -> io::Result<Raw> {
    let path = dir.join("raw");
    let mut file = File::create(&path)?;
    for _ in 0..BLOCKS {
        file.write_all(&BLOCK)?;
    }
    file.sync_all()?;
    let overwrite = rate(|n| file.write_all_at(&BLOCK, n % BLOCKS * 4_096).and_then(|()| file.sync_data()))?;
    let mut file = File::create(&path)?;
    let append = rate(|_| file.write_all(&BLOCK).and_then(|()| file.sync_data()))?;
    std::fs::remove_file(&path)?;
    Ok(Raw { overwrite, append })
}

fn rate(mut once: impl FnMut(u64) -> io::Result<()>) -> io::Result<f64> {
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < TIME {
        once(count)?;
        count += 1;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
