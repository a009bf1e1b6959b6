//! The table of docs/actions.md: which kind of action is accepted in which status, and how it is refused elsewhere. Read by the tests that
//! walk it, here in the machine and over HTTP against the real daemon.

const DOCUMENT: &str = include_str!("../../../../docs/actions.md");

/// Kinds of actions of a row, and what becomes of them.
pub(crate) struct Row {
    pub(crate) kinds: Vec<&'static str>,
    /// Where they are accepted; empty: anywhere.
    accepted: Vec<&'static str>,
    refusals: Vec<Refused>,
}

struct Refused {
    /// Where; empty: wherever else.
    places: Vec<&'static str>,
    code: &'static str,
    words: &'static str,
}

impl Row {
    /// `None`: it is accepted there; else the code, and words of the reason.
    pub(crate) fn refused(&self, place: &str) -> Option<(&'static str, &'static str)> {
        if self.accepted.is_empty() || self.accepted.contains(&place) {
            return None;
        }
        let named = self.refusals.iter().find(|refused| refused.places.contains(&place));
        let refused = named.or_else(|| self.refusals.iter().find(|refused| refused.places.is_empty()));
        refused.map(|Refused { code, words, .. }| (*code, *words))
    }
}

/// The rows of the document.
pub(crate) fn rows() -> Vec<Row> {
    let (_, section) = DOCUMENT.split_once("## In which status\n").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("a section after it");
    let lines = section.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<Row> = lines.map(row).collect();
    assert!(rows.len() > 10, "the table is not where it is looked for");
    rows
}

fn row(line: &'static str) -> Row {
    let cells: Vec<&'static str> = line.trim_matches('|').split('|').collect();
    let [kinds, accepted, refused] = cells[..] else { panic!("three cells: {line}") };
    let refusals = refused.split(';').filter(|part| part.contains('`')).map(|part| {
        let (places, rest) = part.split_once(": ").unwrap_or(("", part));
        let words = rest.split('"').nth(1).unwrap_or_else(|| panic!("words in quotes: {part}"));
        Refused { places: quoted(places), code: quoted(rest)[0], words }
    });
    Row { kinds: quoted(kinds), accepted: quoted(accepted), refusals: refusals.collect() }
}

/// What is in backquotes.
fn quoted(cell: &'static str) -> Vec<&'static str> {
    cell.split('`').skip(1).step_by(2).collect()
}
