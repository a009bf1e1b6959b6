//! Text for terminals: clean, aligned, coloured where it helps.

/// Foreign text without control characters, on one line: no title and no agent moves the cursor of a terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|character| if matches!(character, '\n' | '\t') { ' ' } else { character })
        .filter(visible)
        .collect()
}

/// Foreign text without control characters, line by line.
pub(crate) fn clean_lines(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(|line| line.replace('\t', "    ").chars().filter(visible).collect())
}

/// Direction marks are left out, too: they turn a line into another one.
fn visible(character: &char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most `most` characters.
pub(crate) fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Text in lines of at most `width` characters, broken between words; at most `most` lines.
pub(crate) fn wrapped(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let count = lines.len();
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(line) if count == most => {
                *line = short(&format!("{line} …"), width);
                break;
            }
            _ => lines.push(short(word, width)),
        }
    }
    lines
}

/// A commit, as people read it.
pub(crate) fn commit(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// A number of tokens, as people read it.
pub(crate) fn count(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => format!("{}.{}k", number / 1_000, number % 1_000 / 100),
        _ => format!("{}.{}M", number / 1_000_000, number % 1_000_000 / 100_000),
    }
}

/// A number of bytes, as people read it: in powers of 1,024.
pub(crate) fn bytes(number: u64) -> String {
    match number {
        0..1_024 => format!("{number} B"),
        1_024..1_048_576 => format!("{}.{} KiB", number / 1_024, number % 1_024 * 10 / 1_024),
        _ => format!("{}.{} MiB", number / 1_048_576, number % 1_048_576 * 10 / 1_048_576),
    }
}

/// Columns of the terminal; a fixed number where the output goes elsewhere.
pub(crate) fn columns() -> usize {
    const ELSEWHERE: usize = 160;
    const LEAST: usize = 60;
    terminal_size::terminal_size_of(std::io::stdout())
        .map_or(ELSEWHERE, |(terminal_size::Width(columns), _)| usize::from(columns).max(LEAST))
}

/// Milliseconds from `start` to `end`; `None` when one of them is no time.
pub(crate) fn ms_between(start: &str, end: &str) -> Option<i64> {
    let ms = |time: &str| time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    Some(ms(end)? - ms(start)?)
}

/// A short span of time: tenths of a second below a minute.
pub(crate) fn fine_span(ms: i64) -> String {
    match ms {
        ..0 => "0.0s".to_owned(),
        0..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        _ => span(ms / 1_000),
    }
}

/// Text in grey, for what is there to be found and not to be read.
pub(crate) fn dim(text: &str, color: bool) -> String {
    if color && !text.is_empty() { format!("\u{1b}[2m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Text that stands out.
pub(crate) fn bold(text: &str, color: bool) -> String {
    if color { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// A span of time, as people read it.
pub(crate) fn span(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{}s", seconds.max(0)),
        60..600 => format!("{}m {}s", seconds / 60, seconds % 60),
        600..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A time as seen from now: `3m ago`, `in 20s`. Text that is no time stays as it is.
pub(crate) fn relative(time: &str) -> String {
    match seconds_until(time) {
        Some(seconds) if seconds > 0 => format!("in {}", span(seconds)),
        Some(seconds) => format!("{} ago", span(-seconds)),
        None => clean(time),
    }
}

/// The span from `start` to `end`, or to now.
pub(crate) fn lasted(start: &str, end: Option<&str>) -> String {
    let Some(since_start) = seconds_until(start) else { return "-".to_owned() };
    let since_end = end.and_then(seconds_until).unwrap_or(0);
    span(since_end - since_start)
}

/// The time of day, for lines that follow each other.
pub(crate) fn clock(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime("%m-%d %H:%M:%S").to_string(),
        Err(_) => clean(time),
    }
}

fn seconds_until(time: &str) -> Option<i64> {
    let time = time.parse::<jiff::Timestamp>().ok()?;
    Some(time.as_second() - jiff::Timestamp::now().as_second())
}

/// A colour that goes with a status, an outcome or a verdict.
fn colour(word: &str) -> Option<&'static str> {
    match word {
        "running" | "handing_off" | "forward" | "doing" => Some("36"),
        "handed_off" | "completed" | "done" | "committed" | "pass" | "passes" => Some("32"),
        "parked" | "failed" | "fail" | "FAILS" => Some("31"),
        "waiting_retry" | "waiting_quota" | "waiting_question" | "waiting_approval" | "paused" | "interrupted"
        | "awaiting_approval" | "in_doubt" | "backward" | "undone" | "compensated" | "abandoned" | "skipped" => {
            Some("33")
        }
        "canceled" | "idle" => Some("2"),
        _ => None,
    }
}

/// Rows under a heading, in columns as wide as their widest cell.
pub(crate) struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heading: &[&'static str]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; foreign text is cleaned here.
    pub(crate) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { clean(cell) }).collect());
    }

    /// The lines.
    pub(crate) fn lines(&self, color: bool) -> Vec<String> {
        let wide = |text: &str| text.chars().count();
        let widths: Vec<usize> = self
            .heading
            .iter()
            .enumerate()
            .map(|(column, name)| {
                let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| wide(cell));
                cells.max().unwrap_or(0).max(wide(name))
            })
            .collect();
        let heading: Vec<String> = self.heading.iter().map(|name| (*name).to_owned()).collect();
        let line = |cells: &[String], paint: &dyn Fn(&str) -> Option<&'static str>| {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(&widths) {
                let padding = " ".repeat(width - wide(cell).min(*width) + 2);
                match paint(cell).filter(|_| color) {
                    Some(code) => line += &format!("\u{1b}[{code}m{cell}\u{1b}[0m{padding}"),
                    None => line += &format!("{cell}{padding}"),
                }
            }
            line.trim_end().to_owned()
        };
        let mut lines = vec![line(&heading, &|_| Some("2"))];
        lines.extend(self.rows.iter().map(|row| line(row, &colour)));
        lines
    }
}

/// A word in the colour that goes with it.
pub(crate) fn painted(word: &str, color: bool) -> String {
    match colour(word).filter(|_| color) {
        Some(code) => format!("\u{1b}[{code}m{}\u{1b}[0m", clean(word)),
        None => clean(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(clean("a\u{1b}[31mb\nc\td\u{202e}e\u{9b}f\r"), "a[31mb c def");
        assert_eq!(clean_lines("a\tb\u{7}\nc").collect::<Vec<_>>(), ["a    b", "c"]);
    }

    #[test]
    fn columns_are_aligned_and_colours_do_not_count() {
        let mut table = Table::new(&["ISSUE", "STATUS", "TITLE"]);
        table.row(["DS-1", "running", "Ünï"]);
        table.row(["DS-100", "", "x"]);
        assert_eq!(table.lines(false), ["ISSUE   STATUS   TITLE", "DS-1    running  Ünï", "DS-100  -        x"]);
        assert_eq!(table.lines(true)[1], "DS-1    \u{1b}[36mrunning\u{1b}[0m  Ünï");
    }

    #[test]
    fn numbers_and_spans_are_short() {
        assert_eq!([bytes(1_023), bytes(1_536), bytes(1_258_291)], ["1023 B", "1.5 KiB", "1.1 MiB"]);
        assert_eq!([count(999), count(1_250), count(2_345_678)], ["999", "1.2k", "2.3M"]);
        assert_eq!(
            [span(-5), span(61), span(601), span(3_700), span(90_000)],
            ["0s", "1m 1s", "10m", "1h 1m", "1d 1h"]
        );
        assert_eq!(short("abcdef", 4), "abc…");
        assert_eq!(wrapped("one two three four", 9, 9), ["one two", "three", "four"]);
        assert_eq!(wrapped("one two three four", 9, 2), ["one two", "three …"]);
        assert_eq!(wrapped("", 9, 2), Vec::<String>::new());
        assert_eq!(lasted("2026-01-01T00:00:00Z", Some("2026-01-01T00:12:00Z")), "12m");
        assert_eq!([fine_span(-1), fine_span(1_250), fine_span(720_000)], ["0.0s", "1.2s", "12m"]);
        assert_eq!(ms_between("2026-01-01T00:00:00.250Z", "2026-01-01T00:00:01Z"), Some(750));
        assert_eq!(ms_between("", "2026-01-01T00:00:01Z"), None);
        assert_eq!(relative("no time"), "no time");
    }
}
