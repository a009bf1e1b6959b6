//! A small three-way merge by lines.

/// What `ours` and `theirs` both make of `base`; `None` when they change the same lines differently.
pub(super) fn merge(base: &[u8], ours: &[u8], theirs: &[u8]) -> Option<Vec<u8>> {
    let (base, ours, theirs) = (lines(base), lines(ours), lines(theirs));
    let a = Change::between(&base, &ours);
    let b = Change::between(&base, &theirs);
    if a.text == b.text && (a.start, a.end) == (b.start, b.end) {
        return Some(theirs.concat());
    }
    let (first, second) = if (a.start, a.end) <= (b.start, b.end) { (a, b) } else { (b, a) };
    // Two insertions at one place are no conflict: both are kept.
    if first.end > second.start {
        return None;
    }
    let mut out: Vec<&[u8]> = Vec::new();
    out.extend(base.get(..first.start)?);
    out.extend(&first.text);
    if first.text.last().is_some_and(|line| !line.ends_with(b"\n")) {
        out.push(b"\n");
    }
    out.extend(base.get(first.end..second.start)?);
    out.extend(&second.text);
    out.extend(base.get(second.end..)?);
    Some(out.concat())
}

/// The one region in which two texts differ.
struct Change<'a> {
    start: usize,
    end: usize,
    text: Vec<&'a [u8]>,
}

impl<'a> Change<'a> {
    fn between(base: &[&[u8]], new: &[&'a [u8]]) -> Self {
        let start = base.iter().zip(new).take_while(|(a, b)| a == b).count();
        let room = base.len().min(new.len()) - start;
        let tail = base.iter().rev().zip(new.iter().rev()).take(room).take_while(|(a, b)| a == b).count();
        let text = new.get(start..new.len() - tail).unwrap_or_default().to_vec();
        Self { start, end: base.len() - tail, text }
    }
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

#[cfg(test)]
mod tests {
    use super::merge;

    #[test]
    fn changes_in_different_places_are_both_kept() {
        let merged = merge(b"a\nb\nc\nd\n", b"A\nb\nc\nd\n", b"a\nb\nc\nD\nE\n");
        assert_eq!(merged.as_deref(), Some(&b"A\nb\nc\nD\nE\n"[..]));
        let merged = merge(b"a\n", b"a\nx\n", b"a\ny\n");
        assert_eq!(merged.as_deref(), Some(&b"a\nx\ny\n"[..]));
        let merged = merge(b"a\nb\n", b"a\nb\n", b"a\n");
        assert_eq!(merged.as_deref(), Some(&b"a\n"[..]));
    }

    #[test]
    fn the_same_lines_changed_differently_are_a_conflict() {
        assert_eq!(merge(b"a\nb\n", b"x\nb\n", b"y\nb\n"), None);
        assert_eq!(merge(b"a\nb\n", b"x\nb\n", b"x\nb\n").as_deref(), Some(&b"x\nb\n"[..]));
    }
}
