//! Splits folded text into words.

use super::fold::{is_unsegmented, is_word_char};

/// The most characters of a word that count.
const MAX_WORD_CHARS: usize = 64;
/// The most words that hyphens may join: an ISBN has five parts, and many part numbers six.
const MAX_JOINED_WORDS: usize = 6;

/// A word, or a part of a text without spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A word without its apostrophes.
    Word(String),
    /// A run of a script that does not separate words.
    Run(Vec<char>),
}

/// Tokens without a space between them: `t-shirt` has two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Unit {
    pub(super) tokens: Vec<Token>,
    /// The parts of words that apostrophes separate, without single letters at the ends.
    pub(super) elided: Vec<String>,
}

impl Unit {
    /// The words as one, such as `tshirt`, if there are several of them and nothing else.
    pub(super) fn joined(&self) -> Option<String> {
        let count = self.tokens.len();
        if !(2..=MAX_JOINED_WORDS).contains(&count) {
            return None;
        }
        self.tokens
            .iter()
            .map(|token| match token {
                Token::Word(word) => Some(word.as_str()),
                Token::Run(_) => None,
            })
            .collect::<Option<String>>()
            .filter(|joined| joined.chars().count() <= MAX_WORD_CHARS)
    }

    fn push_word(&mut self, word: &mut String) {
        if word.contains('\'') {
            // `n` is a word of `rock'n'roll`, but `s` is none of `men's`.
            let last = word.split('\'').count().saturating_sub(1);
            let parts = word.split('\'').enumerate().filter(|(number, part)| {
                part.chars().count() > 1 || (!part.is_empty() && (1..last).contains(number))
            });
            self.elided.extend(parts.map(|(_, part)| part.to_owned()));
            word.retain(|c| c != '\'');
        }
        if word.len() > MAX_WORD_CHARS
            && let Some((end, _)) = word.char_indices().nth(MAX_WORD_CHARS)
        {
            word.truncate(end);
        }
        if !word.is_empty() {
            self.tokens.push(Token::Word(std::mem::take(word)));
        }
    }

    fn push_run(&mut self, run: &mut Vec<char>) {
        if !run.is_empty() {
            self.tokens.push(Token::Run(std::mem::take(run)));
        }
    }
}

/// Signs that join the words on both sides.
const fn is_joiner(c: char) -> bool {
    matches!(c, '-' | '.' | '_' | '&' | '+')
}

/// Splits folded text into units.
pub(super) fn split_units(folded: &str) -> Vec<Unit> {
    let mut units = Vec::new();
    let (mut unit, mut word, mut run) = (Unit::default(), String::new(), Vec::new());
    let mut rest = folded;
    let mut after_word = false;
    loop {
        // Most words are ASCII.
        let plain = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        if let Some((letters, others)) = rest.split_at_checked(plain).filter(|_| plain > 0) {
            unit.push_run(&mut run);
            word.push_str(letters);
            (rest, after_word) = (others, true);
        }
        let mut chars = rest.chars();
        let Some(c) = chars.next() else { break };
        rest = chars.as_str();
        let before_word = chars.next().is_some_and(is_word_char);
        if is_unsegmented(c) && is_word_char(c) {
            unit.push_word(&mut word);
            run.push(c);
        } else if is_word_char(c) || (c == '\'' && after_word && before_word) {
            unit.push_run(&mut run);
            word.push(c);
        } else {
            unit.push_word(&mut word);
            unit.push_run(&mut run);
            let joins = is_joiner(c) && after_word && before_word;
            if !joins && !unit.tokens.is_empty() {
                units.push(std::mem::take(&mut unit));
            }
        }
        after_word = is_word_char(c);
    }
    unit.push_word(&mut word);
    unit.push_run(&mut run);
    if !unit.tokens.is_empty() {
        units.push(unit);
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> String {
        let show = |token: &Token| match token {
            Token::Word(word) => word.clone(),
            Token::Run(run) => run.iter().collect(),
        };
        let units = split_units(text);
        let units = units.iter().map(|unit| unit.tokens.iter().map(show).collect::<Vec<_>>());
        units.map(|tokens| tokens.join("+")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn words_are_split_at_signs_and_hyphens_join_them() {
        for (text, wanted) in [
            ("mint tea", "mint tea"),
            ("bolt, 100x", "bolt 100x"),
            ("t-shirt", "t+shirt"),
            ("t - shirt", "t shirt"),
            ("-t-shirt-", "t+shirt"),
            ("tim's o'neil 'quoted'", "tims oneil quoted"),
            ("3.5mm and/or h&m", "3+5mm and or h+m"),
            ("a--b", "a b"),
            ("noir咖啡壶 pot", "noir+咖啡壶 pot"),
            ("", ""),
            ("!?* ()", ""),
        ] {
            assert_eq!(split(text), wanted, "{text}");
        }
        assert_eq!(split_units("l'eau")[0].elided, ["eau"]);
        assert_eq!(split_units("rock'n'roll")[0].elided, ["rock", "n", "roll"]);
        assert!(
            split_units("men's")[0].elided == ["men"] && split_units("o'n")[0].elided.is_empty()
        );
        assert_eq!(split_units("t-shirt")[0].joined().unwrap(), "tshirt");
        assert_eq!(split_units("978-3-16-148410-0")[0].joined().unwrap(), "9783161484100");
        assert_eq!(split_units("a-b-c-d-e-f-g")[0].joined(), None);
    }
}
