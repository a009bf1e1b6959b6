//! All issue files together: identities, blockers, children.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dalsegno_core::{BlockerRef, Failure, Issue, IssueId, state_in};

use super::presence::{Look, Presence, head};
use super::record::{ReadProblem, Record, parse, read};

/// What is kept between two looks.
#[derive(Default)]
pub(super) struct Memory {
    /// Ids by lowercase identifier: what the journal knows and what was seen.
    ids: BTreeMap<String, String>,
    presence: Presence,
    files: BTreeMap<String, Cached>,
    /// The last whole version of a file, by lowercase identifier.
    last_good: BTreeMap<String, Arc<Record>>,
    /// Complaints that were logged, by identifier; each is logged once.
    logged: BTreeMap<String, String>,
}

struct Cached {
    stamp: (i64, i64, i64, i64, u64, u64),
    parsed: Result<Arc<Record>, String>,
}

/// One consistent view of the folder.
pub(super) struct Board {
    /// Issues that can be read, by identifier.
    pub(super) issues: Vec<Issue>,
    /// Issues that are there and cannot be read.
    pub(super) broken: Vec<Broken>,
}

/// An issue that is there and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its identity, as far as it is known.
    pub id: IssueId,
    /// Name of its file without `.md`.
    pub identifier: String,
    /// Why it cannot be read.
    pub reason: String,
}

impl Memory {
    pub(super) fn remember(&mut self, known: &[(IssueId, String)]) {
        for (id, identifier) in known {
            self.ids.insert(identifier.to_lowercase(), id.as_str().to_owned());
        }
        self.presence.remember(known.iter().map(|(_, identifier)| identifier.clone()));
    }

    /// Looks at the folder. `poll`: the look counts towards the agreement of two polls.
    pub(super) fn look(&mut self, dir: &Path, terminal: &[String], poll: bool) -> Result<Board, Failure> {
        let position = head(dir);
        let names = identifiers(dir)?;
        let files = names.as_ref().map(|names| names.keys().cloned().collect());
        self.presence.admit(Look { files, head: position }, poll).map_err(|why| {
            Failure::retryable("tracker_request", why)
                .hint("Put the files back, or wait: two polls that see the same are believed.")
        })?;
        let names = names.unwrap_or_default();
        one_case_each(&names)?;
        self.files.retain(|name, _| names.contains_key(name));
        let present: BTreeSet<String> = names.keys().map(|name| name.to_lowercase()).collect();
        self.last_good.retain(|name, _| present.contains(name));
        self.logged.retain(|name, _| names.contains_key(name));

        let mut records = Vec::new();
        let mut broken = Vec::new();
        for (identifier, path) in &names {
            match self.record(identifier, path) {
                Some(Ok(record)) => records.push(record),
                Some(Err(reason)) => broken.push((identifier.clone(), reason)),
                None => {}
            }
        }
        let identified = self.identify(records, &mut broken);
        self.log(&broken);
        let broken: Vec<Broken> = broken
            .into_iter()
            .map(|(identifier, reason)| {
                let id = self.ids.get(&identifier.to_lowercase()).cloned().unwrap_or_else(|| identifier.clone());
                Broken { id: IssueId(id), identifier, reason }
            })
            .collect();
        let issues = self.relate(identified, &broken, terminal);
        Ok(Board { issues, broken })
    }

    /// The name of the one file that had this id at the last look and has it still. A look at one file instead of all; `None`: only a
    /// look at all tells.
    pub(super) fn still_named(&mut self, dir: &Path, id: &IssueId) -> Option<String> {
        if !self.presence.rests_at(&head(dir)) {
            return None;
        }
        let names = self.ids.iter().filter(|(_, known)| known.as_str() == id.as_str()).map(|(name, _)| name);
        let seen = names.filter_map(|name| self.last_good.get(name)).map(|record| record.identifier.clone());
        let [identifier] = <[String; 1]>::try_from(seen.collect::<Vec<_>>()).ok()?;
        let record = self.record(&identifier, &dir.join(format!("{identifier}.md")))?.ok()?;
        record.id.as_ref().is_none_or(|own| own == id.as_str()).then_some(identifier)
    }

    // `None`: it went away between the listing and the look.
    fn record(&mut self, identifier: &str, path: &Path) -> Option<Result<Arc<Record>, String>> {
        let meta = fs::symlink_metadata(path).ok()?;
        let stamp = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec(), meta.size(), meta.ino());
        if let Some(cached) = self.files.get(identifier)
            && cached.stamp == stamp
        {
            return Some(cached.parsed.clone());
        }
        let parsed = match read(path) {
            Ok((bytes, meta)) => parse(identifier, &bytes, &meta).map(Arc::new),
            Err(ReadProblem::Gone) => return None,
            Err(ReadProblem::Unusable(why)) => Err(why),
        };
        // A file that was just written may be written again without its times moving on.
        let settled = meta.modified().ok().and_then(|at| at.elapsed().ok()).is_some_and(|age| age.as_millis() > 2_000);
        if settled {
            self.files.insert(identifier.to_owned(), Cached { stamp, parsed: parsed.clone() });
        } else {
            self.files.remove(identifier);
        }
        Some(parsed)
    }

    // The id of the front matter, else the one that this name had, else the name.
    fn identify(
        &mut self,
        records: Vec<Arc<Record>>,
        broken: &mut Vec<(String, String)>,
    ) -> Vec<(IssueId, Arc<Record>)> {
        let mut by_id: BTreeMap<String, Vec<Arc<Record>>> = BTreeMap::new();
        for record in records {
            let known = self.ids.get(&record.identifier.to_lowercase());
            let id = record.id.clone().or_else(|| known.cloned()).unwrap_or_else(|| record.identifier.clone());
            by_id.entry(id).or_default().push(record);
        }
        let mut out = Vec::new();
        let mut claimed = Vec::new();
        for (id, mut sharers) in by_id {
            if sharers.len() > 1 {
                // A copied file: the name that had this id before keeps it.
                let names: Vec<_> = sharers.iter().map(|record| record.identifier.clone()).collect();
                let owner = names.iter().position(|name| self.ids.get(&name.to_lowercase()) == Some(&id));
                let kept = owner.map(|at| sharers.swap_remove(at));
                for record in sharers {
                    let others: Vec<_> = names.iter().filter(|name| **name != record.identifier).cloned().collect();
                    let reason = format!("it has the same id as {}; give it one of its own", others.join(", "));
                    broken.push((record.identifier.clone(), reason));
                }
                sharers = kept.into_iter().collect();
            }
            for record in sharers {
                claimed.push((record.identifier.to_lowercase(), id.clone()));
                self.last_good.insert(record.identifier.to_lowercase(), Arc::clone(&record));
                out.push((IssueId(id.clone()), record));
            }
        }
        self.ids.extend(claimed);
        out
    }

    fn log(&mut self, broken: &[(String, String)]) {
        for (identifier, reason) in broken {
            if self.logged.get(identifier) != Some(reason) {
                tracing::warn!(issue_identifier = %identifier, %reason, "an issue file cannot be read and is left out");
                self.logged.insert(identifier.clone(), reason.clone());
            }
        }
        self.logged.retain(|identifier, _| broken.iter().any(|(name, _)| name == identifier));
    }

    fn relate(&self, records: Vec<(IssueId, Arc<Record>)>, broken: &[Broken], terminal: &[String]) -> Vec<Issue> {
        let mut states: BTreeMap<String, (IssueId, String, Option<String>)> = BTreeMap::new();
        let mut open_children: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (id, record) in &records {
            let key = record.identifier.to_lowercase();
            states.insert(key, (id.clone(), record.identifier.clone(), Some(record.state.clone())));
            if let Some(parent) = &record.parent
                && !state_in(&record.state, terminal)
            {
                open_children.entry(parent.to_lowercase()).or_default().insert(record.identifier.clone());
            }
        }
        for Broken { id, identifier, .. } in broken {
            let key = identifier.to_lowercase();
            // What cannot be read now counts as it was when it could.
            if let Some(record) = self.last_good.get(&key)
                && let Some(parent) = &record.parent
                && !state_in(&record.state, terminal)
            {
                open_children.entry(parent.to_lowercase()).or_default().insert(identifier.clone());
            }
            states.entry(key).or_insert((id.clone(), identifier.clone(), None));
        }
        let mut issues: Vec<Issue> = records
            .into_iter()
            .map(|(id, record)| {
                let mut reasons = Vec::new();
                let blocked_by = record.blocked_by.iter().map(|name| resolve(name, &states, terminal, &mut reasons));
                let blocked_by: Vec<BlockerRef> = blocked_by.collect();
                if let Some(children) = open_children.get(&record.identifier.to_lowercase()) {
                    let names: Vec<_> = children.iter().take(10).cloned().collect();
                    reasons.push(format!("has open children: {}", names.join(", ")));
                }
                Issue {
                    id,
                    native_ref: Some(serde_json::json!({ "file": format!("{}.md", record.identifier) })),
                    identifier: record.identifier.clone(),
                    title: record.title.clone(),
                    description: record.description.clone(),
                    priority: record.priority,
                    state: record.state.clone(),
                    branch_name: None,
                    url: None,
                    assignee_id: record.assignee.clone(),
                    labels: record.labels.clone(),
                    blocked_by,
                    parent: record.parent.clone(),
                    dispatchable: reasons.is_empty(),
                    undispatchable_reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
                    created_at: record.created_at,
                    updated_at: record.updated_at,
                }
            })
            .collect();
        issues.sort_by(|a, b| a.identifier.cmp(&b.identifier));
        issues
    }
}

fn resolve(
    name: &str,
    states: &BTreeMap<String, (IssueId, String, Option<String>)>,
    terminal: &[String],
    reasons: &mut Vec<String>,
) -> BlockerRef {
    match states.get(&name.to_lowercase()) {
        Some((id, identifier, state)) => {
            match state {
                Some(state) if state_in(state, terminal) => {}
                Some(state) => reasons.push(format!("blocked by {identifier}, which is in {state}")),
                None => reasons.push(format!("blocked by {identifier}, whose file cannot be read")),
            }
            BlockerRef { id: Some(id.clone()), identifier: Some(identifier.clone()), state: state.clone() }
        }
        None => {
            reasons.push(format!("blocked by {name}, and there is no such issue"));
            BlockerRef { id: None, identifier: Some(name.to_owned()), state: None }
        }
    }
}

// Files by identifier; `None`: no folder.
fn identifiers(dir: &Path) -> Result<Option<BTreeMap<String, PathBuf>>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::retryable("tracker_request", format!("{} cannot be read: {error}", dir.display()))
            .hint("Look at the folder's permissions and at tracker.provider.path.")
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut out = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        // Hidden files and everything with another ending are editors' and ours.
        let Some(identifier) = name.to_str().and_then(|name| name.strip_suffix(".md")) else { continue };
        let hidden = identifier.is_empty() || identifier.starts_with(['.', '#']);
        let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if hidden || folder || identifier.eq_ignore_ascii_case("readme") || identifier.trim() != identifier {
            continue;
        }
        out.insert(identifier.to_owned(), entry.path());
    }
    Ok(Some(out))
}

fn one_case_each(names: &BTreeMap<String, PathBuf>) -> Result<(), Failure> {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for name in names.keys() {
        if let Some(other) = seen.insert(name.to_lowercase(), name) {
            return Err(Failure::retryable(
                "tracker_response",
                format!("two issues differ only by case: {other}.md and {name}.md"),
            )
            .hint("Rename one of the two files."));
        }
    }
    Ok(())
}
