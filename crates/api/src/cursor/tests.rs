#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn a_cursor_survives_its_text() {
    for journal in ["", "j", "j2", "j-3", "9f86d081-884c-7d65", "with ünicode"] {
        for seq in [0, 1, 255, 256, 1_000_000, u64::MAX] {
            let cursor = Cursor::event(journal, seq);
            let text = cursor.to_string();
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'), "{text}");
            assert_eq!(text.parse::<Cursor>().unwrap(), cursor);
            assert_eq!(cursor.position_like(&Cursor::event(journal, 7)), Some(seq));
        }
    }
}

#[test]
fn a_cursor_of_another_journal_or_run_is_told() {
    let events = Cursor::event("a", 3);
    assert_eq!(events.position_like(&Cursor::event("b", 3)), None);
    assert_eq!(events.position_like(&Cursor::transcript("a", "run-1", 3)), None);
    assert_eq!(Cursor::transcript("a", "run-2", 3).position_like(&Cursor::transcript("a", "run-1", 0)), None);
}

#[test]
fn every_changed_character_is_noticed() {
    let text = Cursor::event("journal-1", 42).to_string();
    for at in 0..text.len() {
        for other in ALPHABET {
            let mut bytes = text.clone().into_bytes();
            if bytes[at] == *other {
                continue;
            }
            bytes[at] = *other;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(changed.parse::<Cursor>().is_err(), "{changed} passes for {text}");
        }
        assert!(text[..at].parse::<Cursor>().is_err(), "cut at {at}");
    }
}

#[test]
fn what_is_no_cursor_is_an_error_and_no_panic() {
    assert_eq!("".parse::<Cursor>(), Err(CursorError::Text));
    assert_eq!("a b".parse::<Cursor>(), Err(CursorError::Text));
    assert_eq!("é".parse::<Cursor>(), Err(CursorError::Text));
    assert_eq!("A".repeat(MAX_TEXT + 1).parse::<Cursor>(), Err(CursorError::Text));
    assert_eq!(encode(&[9, 0, 0, 0, 0]).parse::<Cursor>(), Err(CursorError::Format(9)));
    assert_eq!(encode(&[FORMAT, 1, 2]).parse::<Cursor>(), Err(CursorError::Damaged));
}
