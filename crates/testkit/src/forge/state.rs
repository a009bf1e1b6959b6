//! The pull requests of one repository.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Somebody who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Name.
    pub login: &'static str,
    /// What stays when the name changes.
    pub id: u64,
    /// What it proves itself with.
    pub token: &'static str,
    /// No person: it cannot ask who it is.
    pub app: bool,
}

/// A pull request, as the fake keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPull {
    /// From 1.
    pub number: u64,
    /// Login of who opened it.
    pub author: String,
    /// Id of who opened it.
    pub author_id: u64,
    /// Owner of the repository that the head is in.
    pub head_owner: String,
    /// Branch with the work.
    pub head: String,
    /// Branch that it is to go into.
    pub base: String,
    /// One line.
    pub title: String,
    /// Markdown.
    pub body: String,
    /// Not yet to be reviewed.
    pub draft: bool,
    /// Neither closed nor merged.
    pub open: bool,
    /// Its work is in the base.
    pub merged: bool,
}

/// What somebody opens by other means than the API.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Who.
    pub author: Account,
    /// Branch with the work.
    pub head: String,
    /// The head is in a repository of the author's own.
    pub fork: bool,
    /// Markdown.
    pub body: String,
    /// Not yet to be reviewed.
    pub draft: bool,
}

/// Everything that outlives the fake.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) owner: String,
    pub(crate) default_branch: String,
    pub(crate) pulls: Vec<StoredPull>,
}

impl State {
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("fresh");
        fs::write(&fresh, serde_json::to_vec(self)?)?;
        fs::rename(fresh, path)
    }

    pub(crate) fn get(&self, number: u64) -> Option<&StoredPull> {
        self.pulls.iter().find(|pull| pull.number == number)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut StoredPull> {
        self.pulls.iter_mut().find(|pull| pull.number == number)
    }

    /// Adds it under the next number, and answers that.
    pub(crate) fn add(&mut self, mut pull: StoredPull) -> u64 {
        pull.number = self.pulls.last().map_or(0, |last| last.number) + 1;
        let number = pull.number;
        self.pulls.push(pull);
        number
    }

    pub(crate) fn open(&mut self, opened: &Opened) -> u64 {
        let Opened { author, head, fork, body, draft } = opened;
        self.add(StoredPull {
            number: 0,
            author: author.login.to_owned(),
            author_id: author.id,
            head_owner: if *fork { author.login.to_owned() } else { self.owner.clone() },
            head: head.clone(),
            base: self.default_branch.clone(),
            title: "Theirs".to_owned(),
            body: body.clone(),
            draft: *draft,
            open: true,
            merged: false,
        })
    }

    pub(crate) fn close(&mut self, number: u64) {
        if let Some(pull) = self.get_mut(number) {
            pull.open = false;
        }
    }

    pub(crate) fn merge(&mut self, number: u64) {
        if let Some(pull) = self.get_mut(number) {
            (pull.open, pull.merged, pull.draft) = (false, true, false);
        }
    }
}
