//! Kept files as readers get them: by their receipts, or not at all.

use dalsegno_engine::KeptFile;

use super::{DIRECTORY, disk, rows};
use crate::error::StoreError;
use crate::open::Store;

impl Store {
    /// The files of a run whose batches are committed.
    pub(crate) fn files_of_run(&self, run: &str, limit: usize) -> Result<Vec<KeptFile>, StoreError> {
        let most = u32::try_from(limit).unwrap_or(u32::MAX);
        let entries = self.pool.with(|db| Ok(rows::entries_of_run(db, run, most)?))?;
        let committed = entries.into_iter().filter(|entry| entry.is_committed());
        Ok(committed.map(|entry| KeptFile { receipt: entry.receipt(), name: entry.name, lost: entry.voided }).collect())
    }

    /// What is in a file, if that is what its receipt says.
    pub(crate) fn file_content(&self, file: &str) -> Result<Option<Result<Vec<u8>, String>>, StoreError> {
        let found = self.pool.with(|db| Ok(rows::entry(db, file)?))?;
        let Some(entry) = found.filter(rows::Entry::is_committed) else { return Ok(None) };
        if let Some(why) = entry.voided {
            return Ok(Some(Err(why)));
        }
        let directory = self.state_dir.join(DIRECTORY);
        let content =
            disk::content(&directory, &entry).map_err(|error| StoreError::io(&directory.join(file), &error))?;
        Ok(Some(match content {
            Some(Ok(content)) => Ok(content),
            Some(Err(())) => Err("it is not what its receipt says".to_owned()),
            None => Err("it is not there".to_owned()),
        }))
    }
}
