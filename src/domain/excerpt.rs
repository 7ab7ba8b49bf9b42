//! Excerpts of what a client sent, for messages and logs.

use std::borrow::Cow;

/// The longest excerpt, in characters, without its ellipsis.
pub const MAX_EXCERPT_CHARS: usize = 64;

/// The beginning of `text`, on one line: at most [`MAX_EXCERPT_CHARS`] characters, then an ellipsis
/// if there are more. Characters that a reader cannot see, or that reorder what is beside them, are
/// escaped as Rust does.
#[must_use]
pub fn excerpt(text: &str) -> Cow<'_, str> {
    excerpt_of(text, MAX_EXCERPT_CHARS)
}

/// The same with at most `max` characters.
pub(super) fn excerpt_of(text: &str, max: usize) -> Cow<'_, str> {
    let end = text.char_indices().nth(max).map_or(text.len(), |(index, _)| index);
    let shown = text.get(..end).unwrap_or_default();
    if end == text.len() && !shown.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(shown.len());
    let mut length = 0;
    for character in text.chars() {
        let hidden = is_hidden(character);
        let width = if hidden { character.escape_default().count() } else { 1 };
        if length + width > max {
            escaped.push('…');
            break;
        }
        length += width;
        if hidden {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Control characters, line separators, and the invisible characters that format text.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_text_stays() {
        for text in ["", "name", "größe", &"é".repeat(MAX_EXCERPT_CHARS)] {
            assert!(matches!(excerpt(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn long_text_ends_on_a_character_with_an_ellipsis() {
        for character in ["x", "é", "茶", "🫖"] {
            let shown = excerpt_of(&character.repeat(9), 8).into_owned();
            assert_eq!(shown, character.repeat(8) + "…");
        }
    }

    #[test]
    fn hidden_characters_are_escaped() {
        assert_eq!(excerpt("a\n\u{0}\u{1b}[31m\u{202e}b"), "a\\n\\u{0}\\u{1b}[31m\\u{202e}b");
        let controls = excerpt(&"\u{0}".repeat(60_000)).into_owned();
        assert_eq!(controls, "\\u{0}".repeat(12) + "…");
    }
}
