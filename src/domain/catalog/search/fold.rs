//! Folds text, so that its case, accents, width and composition do not matter.

use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use icu_properties::{CodePointMapData, props::GeneralCategory};

/// Folds `text` to lower case without accents, in one width and composition. Any apostrophe becomes
/// `'`, and any hyphen `-`.
#[must_use]
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let plain = text.chars().filter(|c| !is_invisible(*c)).map(unify_sign);
    let mut folded = String::with_capacity(text.len());
    let decomposed = DecomposingNormalizerBorrowed::new_nfkd().normalize_iter(plain);
    for c in decomposed.flat_map(char::to_lowercase).filter(|c| !is_accent(*c)) {
        match replace_letter(c) {
            Some(letters) => folded.push_str(letters),
            None => folded.push(c),
        }
    }
    ComposingNormalizerBorrowed::new_nfc().normalize(&folded).into_owned()
}

/// Characters that only control how others are shown.
const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
    )
}

const fn unify_sign(c: char) -> char {
    match c {
        '\u{60}' | '\u{b4}' | '\u{2bc}' | '\u{2b9}' | '\u{2018}'..='\u{201b}' | '\u{2032}' => '\'',
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        _ => c,
    }
}

/// Latin, Greek and Cyrillic accents, and the optional vowel signs of Arabic and Hebrew. Marks of
/// other scripts distinguish words.
const fn is_accent(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5c7}' | '\u{610}'..='\u{61a}'
        | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// Letters that differ from others by more than an accent.
const fn replace_letter(c: char) -> Option<&'static str> {
    Some(match c {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'ø' => "o",
        'đ' | 'ð' => "d",
        'þ' => "th",
        'ł' => "l",
        'ħ' => "h",
        'ı' => "i",
        'ς' => "σ",
        'ى' => "ي",
        'ـ' => "",
        _ => return None,
    })
}

/// Whether `c` belongs to a word: letters, digits, and the marks on them.
pub(super) fn is_word_char(c: char) -> bool {
    c.is_alphanumeric()
        || (!c.is_ascii()
            && matches!(
                CodePointMapData::<GeneralCategory>::new().get(c),
                GeneralCategory::NonspacingMark | GeneralCategory::SpacingMark
            ))
}

/// Whether `c` belongs to a script that does not separate words, or only phrases: Chinese,
/// Japanese, Korean, Thai, Lao, Khmer and Burmese.
pub(super) const fn is_unsegmented(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1100}'..='\u{11ff}'
        | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{2fdf}' | '\u{3005}'..='\u{3007}'
        | '\u{3021}'..='\u{3029}' | '\u{3031}'..='\u{303b}' | '\u{3041}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{a960}'..='\u{a97f}'
        | '\u{ac00}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn case_accents_width_and_composition_are_folded() {
        for (text, folded) in [
            ("MINT Tea", "mint tea"),
            ("Hígado", "higado"),
            ("I\u{301}stanbul", "istanbul"),
            ("İstanbul", "istanbul"),
            ("ılık", "ilik"),
            ("cafe\u{301}", "cafe"),
            ("Straße", "strasse"),
            ("SMØRREBRØD", "smorrebrod"),
            ("Łódź", "lodz"),
            ("ＬＥＤ　１２", "led 12"),
            ("Tim’s", "tim's"),
            ("Timʼs", "tim's"),
            ("wi‑fi", "wi-fi"),
            ("soft\u{ad}hyphen", "softhyphen"),
            ("ﬁne", "fine"),
            ("ΣΊΣΥΦΟΣ", "σισυφοσ"),
            ("ёлка", "елка"),
            ("قَهْوَة", "قهوة"),
            ("ｶﾞﾗｽ", "ガラス"),
            ("ガラス", "ガラス"),
            ("한글", "한글"),
            ("हिन्दी", "हिन्दी"),
        ] {
            assert_eq!(fold(text), folded, "{text}");
            assert_eq!(fold(folded), folded, "folding is idempotent");
        }
    }
}
