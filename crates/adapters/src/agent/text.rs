//! Text of agents, cut to the lengths that are kept.

/// Longest text of one transcript line.
pub(super) const MAX_LINE_BYTES: usize = 16 * 1024;

/// The text in pieces of a transcript line's length.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = String> + '_ {
    let mut rest = text;
    let mut first = true;
    std::iter::from_fn(move || {
        if rest.is_empty() && !first {
            return None;
        }
        first = false;
        let most = floor(rest, MAX_LINE_BYTES);
        let (begin, beyond) = rest.split_at(most);
        // Between lines where there are any: what is read line by line stays whole.
        let whole = begin.rfind('\n').filter(|_| !beyond.is_empty());
        let (piece, tail) = match whole {
            Some(at) => (begin.split_at(at).0, rest.split_at(at + 1).1),
            None => (begin, beyond),
        };
        rest = tail;
        Some(piece.to_owned())
    })
}

/// The begin of the text, with a word about what was left out.
pub(super) fn clip(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let (begin, rest) = text.split_at(floor(text, max.saturating_sub(40)));
    format!("{begin}… ({} bytes more)", rest.len())
}

/// Leaves the last `max` bytes, cut between characters.
pub(super) fn keep_end(text: &mut String, max: usize) {
    let mut cut = text.len().saturating_sub(max);
    while !text.is_char_boundary(cut) {
        cut += 1;
    }
    text.drain(..cut);
}

/// The last character boundary at or before `max`.
fn floor(text: &str, max: usize) -> usize {
    let mut at = max.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
