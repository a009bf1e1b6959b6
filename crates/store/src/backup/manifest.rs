//! The manifest: what a backup is of, and the hash of each of its files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::StoreError;

/// Name of the file.
pub(super) const FILE: &str = "manifest.json";
/// Version of backups that is written; a newer one is refused.
const VERSION: u32 = 1;
const FORMAT: &str = "dalsegno-backup";
/// A manifest of some hundred thousand files.
const MOST_BYTES: u64 = 256 << 20;

/// What a backup is of, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// `dalsegno-backup`.
    pub format: String,
    /// Version of the layout.
    pub version: u32,
    /// Version of the program that made it.
    pub program: String,
    /// When it was made, in milliseconds since the epoch.
    pub made_at: i64,
    /// Identity of the journal.
    pub journal_id: String,
    /// Its last event.
    pub through: u64,
    /// Epoch of the daemon that wrote last.
    pub epoch: u64,
    /// Version of the tables.
    pub schema: u32,
    /// Every file but this one, by its path in the backup.
    pub files: BTreeMap<String, Entry>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its length.
    pub bytes: u64,
    /// SHA-256, in hexadecimal.
    pub sha256: String,
}

/// The first field of every version.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

impl Manifest {
    pub(super) fn new(program: &str, made_at: i64, files: BTreeMap<String, Entry>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            program: program.to_owned(),
            made_at,
            journal_id: String::new(),
            through: 0,
            epoch: 0,
            schema: crate::schema::SCHEMA_VERSION,
            files,
        }
    }

    /// Reads the manifest of a backup.
    ///
    /// # Errors
    /// [`StoreError::Missing`] where there is none, [`StoreError::FutureSchema`], [`StoreError::Corrupt`].
    pub fn read(backup: &Path) -> Result<Self, StoreError> {
        let path = backup.join(FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(StoreError::Missing(format!("{} is no backup: it has no {FILE}", backup.display())));
            }
            Err(error) => return Err(StoreError::io(&path, &error)),
        };
        let mut text = String::new();
        file.take(MOST_BYTES).read_to_string(&mut text).map_err(|error| StoreError::io(&path, &error))?;
        Self::parse(&path, &text)
    }

    /// What the manifest at `path` says.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, StoreError> {
        let damaged = |why: String| StoreError::Corrupt(format!("{}: {why}", path.display()));
        let head: Head = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
        if head.format != FORMAT {
            return Err(damaged(format!("it is of a {}", head.format)));
        }
        if head.version > VERSION {
            return Err(StoreError::FutureSchema { what: "backup", found: head.version, known: VERSION });
        }
        serde_json::from_str(text).map_err(|error| damaged(error.to_string()))
    }

    /// That the backup has these files and no others, each as it was.
    pub(super) fn verify(&self, backup: &Path) -> Result<(), StoreError> {
        let found = hashes(backup)?;
        let damaged = |name: &str, how: &str| Err(StoreError::Corrupt(format!("in the backup, {name} {how}")));
        for (name, entry) in &self.files {
            match found.get(name) {
                None => return damaged(name, "is missing"),
                Some(is) if is != entry => return damaged(name, "is not what its manifest says"),
                Some(_) => {}
            }
        }
        match found.keys().find(|name| !self.files.contains_key(*name)) {
            Some(name) => damaged(name, "is not in its manifest"),
            None => Ok(()),
        }
    }
}

/// Every file below `dir`, but for the manifest and the mark of what is unfinished.
pub(super) fn hashes(dir: &Path) -> Result<BTreeMap<String, Entry>, StoreError> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let here = dir.join(&folder);
        let io = |error: io::Error| StoreError::io(&here, &error);
        for entry in std::fs::read_dir(&here).map_err(io)? {
            let entry = entry.map_err(io)?;
            let path = folder.join(entry.file_name());
            let Some(name) = path.to_str() else {
                return Err(StoreError::Corrupt(format!("{} has a name that is no text", path.display())));
            };
            let kind = entry.file_type().map_err(io)?;
            if kind.is_dir() {
                folders.push(path);
            } else if !kind.is_file() {
                return Err(StoreError::Corrupt(format!("{name} is neither a file nor a directory")));
            } else if name != FILE && name != super::UNFINISHED {
                let hash = hash(&entry.path()).map_err(|error| StoreError::io(&entry.path(), &error))?;
                found.insert(name.to_owned(), hash);
            }
        }
    }
    Ok(found)
}

fn hash(path: &Path) -> io::Result<Entry> {
    let mut file = File::open(path)?;
    let (mut sum, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = file.read(&mut buffer)?;
        let Some(read) = buffer.get(..length).filter(|read| !read.is_empty()) else { break };
        sum.update(read);
        bytes += length as u64;
    }
    Ok(Entry { bytes, sha256: hex::encode(sum.finalize()) })
}
