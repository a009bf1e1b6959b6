//! Keys, as far as the model needs them.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Esc,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Backspace,
    Left,
    /// Ctrl-C.
    Interrupt,
    /// None that means anything here.
    Other,
}

#[expect(clippy::wildcard_enum_match_arm, reason = "other keys stay what they are")]
impl Key {
    /// The letters of vi as what they move.
    pub(super) fn as_arrow(self) -> Self {
        match self {
            Self::Char('j') => Self::Down,
            Self::Char('k') => Self::Up,
            Self::Char('g') => Self::Home,
            Self::Char('G') => Self::End,
            _ => self,
        }
    }

    /// What it moves when the end comes first.
    pub(super) fn turned(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
            Self::PageUp => Self::PageDown,
            Self::PageDown => Self::PageUp,
            Self::Home => Self::End,
            Self::End => Self::Home,
            _ => self,
        }
    }
}

impl From<KeyEvent> for Key {
    #[expect(clippy::wildcard_enum_match_arm, reason = "most keys mean nothing here")]
    fn from(event: KeyEvent) -> Self {
        let control = event.modifiers.contains(KeyModifiers::CONTROL);
        match event.code {
            KeyCode::Char('c') if control => Self::Interrupt,
            KeyCode::Char('d') if control => Self::PageDown,
            KeyCode::Char('u') if control => Self::PageUp,
            KeyCode::Char(_) if control || event.modifiers.contains(KeyModifiers::ALT) => Self::Other,
            KeyCode::Char(letter) => Self::Char(letter),
            KeyCode::Enter => Self::Enter,
            KeyCode::Esc => Self::Esc,
            KeyCode::Up => Self::Up,
            KeyCode::Down => Self::Down,
            KeyCode::PageUp => Self::PageUp,
            KeyCode::PageDown => Self::PageDown,
            KeyCode::Home => Self::Home,
            KeyCode::End => Self::End,
            KeyCode::Backspace => Self::Backspace,
            KeyCode::Left => Self::Left,
            _ => Self::Other,
        }
    }
}
