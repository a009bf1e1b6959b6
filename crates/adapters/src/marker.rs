//! Markers: what we find again what we wrote by, as a comment of HTML that trackers and forges do not show.

/// How our markers begin.
pub(crate) const MARKER: &str = "<!-- dalsegno:";

/// The line that carries a marker.
pub(crate) fn line(marker: &str) -> String {
    format!("{MARKER}{marker} -->")
}

/// Whether the marker's line is a line of the text. Who wrote the text is another question, and has to be asked as well.
pub(crate) fn is_in(text: &str, marker: &str) -> bool {
    let line = line(marker);
    // Trimmed at its end: what passed through a browser has other line ends.
    text.lines().any(|found| found.trim_end() == line)
}

/// The text with everything that looks like a marker of ours made visible.
pub(crate) fn neutralised(body: &str) -> String {
    let mut out = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find("<!--") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let inner = from.get(4..).unwrap_or_default();
        let ours = inner.trim_start().get(..9).is_some_and(|word| word.eq_ignore_ascii_case("dalsegno:"));
        out.push_str(if ours { "&lt;!--" } else { "<!--" });
        rest = inner;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_as_a_line_of_its_own_alone() {
        let line = line("c0ffee");
        assert!(is_in(&format!("Text.\r\n\r\n{line}\r\n"), "c0ffee"));
        assert!(!is_in(&format!("Text.\n\n{line}"), "c0ffe"));
        assert!(!is_in(&format!("> {line}"), "c0ffee"));
        assert!(!is_in(&neutralised(&line), "c0ffee"));
        assert!(!is_in("c0ffee", "c0ffee"));
    }
}
