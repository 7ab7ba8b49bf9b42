//! What a shopper typed, as the terms to look up.

use std::collections::HashSet;

use super::{
    fold::fold,
    language::TextRules,
    terms::{
        FIRST_MARK, MAX_PREFIX_TERM_CHARS, PREFIX_MARK, SKU_MARK, STEM_MARK, run_terms, sku_term,
    },
    words::{Token, split_units},
};

/// The most words of a query that count. Each costs time.
const MAX_WORDS: usize = 16;

/// How well a term matches a word of the query, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MatchKind {
    /// The word is a whole SKU.
    Sku,
    /// The same word.
    Exact,
    /// Another form of the word: `mugs` for `mug`.
    Stem,
    /// The word begins so.
    Prefix,
    /// One letter is wrong, or two are swapped.
    OneTypo,
    /// Two typos.
    TwoTypos,
}

/// A word of a query: what it matches. One match is enough.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct QueryWord {
    /// Terms that match as they are.
    pub terms: Vec<(String, MatchKind)>,
    /// Terms that match by their beginning.
    pub prefixes: Vec<(String, MatchKind)>,
    /// The word that may have typos.
    pub typos: Option<Typos>,
}

/// A word with typos.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Typos {
    /// The word.
    pub word: String,
    /// The most typos, 1 or 2.
    pub max: u8,
    /// Whether only the beginning of a term need match.
    pub prefix: bool,
}

/// The text of a search. A product must match every word.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TextQuery {
    /// The words, at most 16. Without any, nothing matches.
    pub words: Vec<QueryWord>,
    /// The term of the SKU that the whole text may be. Its product comes first.
    pub sku: Option<String>,
}

impl TextRules {
    /// Parses the text of a search. `None` if it is blank.
    #[must_use]
    pub fn parse_query(&self, text: &str) -> Option<TextQuery> {
        let folded = fold(text.trim());
        if folded.is_empty() {
            return None;
        }
        let typed = TypedText::parse(&folded, |word| self.is_stop_word(word));
        let words = (0..typed.tokens.len()).flat_map(|at| self.search_words(&typed, at));
        let mut words: Vec<QueryWord> = words.collect();
        remove_repeats(&mut words);
        Some(TextQuery { words, sku: Some(sku_term(&folded)) })
    }

    /// Parses the text typed so far. Each word of a suggestion may be incomplete. `None` if it is
    /// blank.
    #[must_use]
    pub fn parse_typed(&self, text: &str) -> Option<TextQuery> {
        let folded = fold(text.trim());
        if folded.is_empty() {
            return None;
        }
        let typed = TypedText::parse(&folded, |_| false);
        let words = (0..typed.tokens.len()).flat_map(|at| typed_words(&typed, at));
        let mut words: Vec<QueryWord> = words.collect();
        remove_repeats(&mut words);
        Some(TextQuery { words, sku: None })
    }

    fn search_words(&self, typed: &TypedText, at: usize) -> Vec<QueryWord> {
        let word = match typed.tokens.get(at) {
            Some(Token::Word(word)) => word,
            Some(Token::Run(run)) => return run_words(run),
            None => return Vec::new(),
        };
        let is_last = at + 1 == typed.tokens.len();
        let mut query = QueryWord::default();
        query.terms.push((format!("{SKU_MARK}{word}"), MatchKind::Sku));
        self.add_forms(&mut query, word, is_last);
        for (joined, ends_text) in typed.joined_words(at) {
            self.add_forms(&mut query, &joined, ends_text);
        }
        let letters = word.chars().count();
        // A wrong digit makes another part number.
        if letters >= 5 && !word.contains(char::is_numeric) {
            let max = if letters >= 9 { 2 } else { 1 };
            query.typos = Some(Typos { word: word.clone(), max, prefix: false });
        }
        vec![query]
    }

    fn add_forms(&self, query: &mut QueryWord, word: &str, may_be_incomplete: bool) {
        query.terms.push((word.to_owned(), MatchKind::Exact));
        if let Some(stem) = self.stem(word) {
            query.terms.push((format!("{STEM_MARK}{stem}"), MatchKind::Stem));
            if stem != word {
                query.terms.push((stem, MatchKind::Stem));
            }
        }
        if may_be_incomplete {
            add_prefix(query, "", word);
        }
    }
}

/// Each word of a suggestion matches by prefix, the first one best at the beginning of the name.
fn typed_words(typed: &TypedText, at: usize) -> Vec<QueryWord> {
    let word = match typed.tokens.get(at) {
        Some(Token::Word(word)) => word,
        Some(Token::Run(run)) => return run_words(run),
        None => return Vec::new(),
    };
    let mut query = QueryWord::default();
    let joined = typed.joined_words(at).into_iter().map(|(joined, _)| joined);
    for word in std::iter::once(word.clone()).chain(joined) {
        add_prefix(&mut query, "", &word);
        if at == 0 {
            let first = query.prefixes.len();
            let terms = query.terms.len();
            add_prefix(&mut query, FIRST_MARK, &word);
            let best = |(_, kind): &mut (String, MatchKind)| *kind = MatchKind::Exact;
            query.prefixes.iter_mut().skip(first).for_each(best);
            query.terms.iter_mut().skip(terms).for_each(best);
        }
    }
    if word.chars().count() >= 4 {
        query.typos = Some(Typos { word: word.clone(), max: 1, prefix: true });
    }
    vec![query]
}

/// Adds the terms that begin with `word`, after `mark`.
fn add_prefix(query: &mut QueryWord, mark: &str, word: &str) {
    if word.chars().count() <= MAX_PREFIX_TERM_CHARS {
        query.terms.push((format!("{mark}{PREFIX_MARK}{word}"), MatchKind::Prefix));
    } else {
        query.prefixes.push((format!("{mark}{word}"), MatchKind::Prefix));
    }
}

fn run_words(run: &[char]) -> Vec<QueryWord> {
    let word = |term| QueryWord { terms: vec![(term, MatchKind::Exact)], ..QueryWord::default() };
    run_terms(run).into_iter().map(word).collect()
}

fn remove_repeats(words: &mut Vec<QueryWord>) {
    // What stands for the word itself comes first, before what it is joined with.
    let identity = |word: &QueryWord| word.terms.first().or(word.prefixes.first()).cloned();
    let mut seen = HashSet::new();
    // The last of two equal words also matches by prefix, so that one is kept.
    words.reverse();
    words.retain(|word| seen.insert(identity(word)));
    words.reverse();
    words.truncate(MAX_WORDS);
}

/// The words of a text, and which ones a hyphen joins.
struct TypedText {
    tokens: Vec<Token>,
    /// The first and last token of each group that a hyphen joins, and the joined word.
    groups: Vec<(usize, usize, String)>,
}

impl TypedText {
    /// Splits folded text. `is_optional` words are left out, unless they are last.
    fn parse(folded: &str, is_optional: impl Fn(&str) -> bool) -> Self {
        let mut units = split_units(folded);
        let last = units.len().saturating_sub(1);
        let mut position = 0;
        units.retain(|unit| {
            let at = position;
            position += 1;
            at == last || !matches!(&unit.tokens[..], [Token::Word(word)] if is_optional(word))
        });
        let mut text = Self { tokens: Vec::new(), groups: Vec::new() };
        for unit in units {
            let joined = unit.joined();
            let first = text.tokens.len();
            text.tokens.extend(unit.tokens);
            if let Some(joined) = joined {
                text.groups.push((first, text.tokens.len() - 1, joined));
            }
            if text.tokens.len() > MAX_WORDS * 2 {
                break;
            }
        }
        text.tokens.truncate(MAX_WORDS * 2);
        text
    }

    /// The word at `at` written together with its neighbors, and whether that ends the text:
    /// `t shirt` also matches `tshirt`.
    fn joined_words(&self, at: usize) -> Vec<(String, bool)> {
        let word = |at: usize| match self.tokens.get(at) {
            Some(Token::Word(word)) => Some(word.as_str()),
            _ => None,
        };
        let pair = |first: usize| {
            let joined = format!("{}{}", word(first)?, word(first + 1)?);
            Some((joined, first + 2 == self.tokens.len()))
        };
        let pairs = at.checked_sub(1).and_then(pair).into_iter().chain(pair(at));
        let groups = self.groups.iter().filter(|(first, last, _)| (*first..=*last).contains(&at));
        let groups = groups.map(|(_, last, word)| (word.clone(), last + 1 == self.tokens.len()));
        let mut joined: Vec<(String, bool)> = pairs.chain(groups).collect();
        joined.sort_unstable();
        joined.dedup();
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<TextQuery> {
        TextRules::new(&"en".parse().unwrap()).parse_query(text)
    }

    fn exact_terms(text: &str) -> Vec<Vec<String>> {
        let exact = |word: QueryWord| {
            let terms = word.terms.into_iter().filter(|(_, kind)| *kind == MatchKind::Exact);
            terms.map(|(term, _)| term).collect()
        };
        parse(text).unwrap().words.into_iter().map(exact).collect()
    }

    #[test]
    fn words_are_looked_up_alone_and_joined() {
        assert_eq!(exact_terms("Mint"), [["mint"]]);
        assert_eq!(exact_terms("T-Shirt"), [["t", "tshirt"], ["shirt", "tshirt"]]);
        assert_eq!(exact_terms("t shirt"), exact_terms("t-shirt"));
        assert_eq!(exact_terms("men's"), [["mens"]]);
        assert_eq!(exact_terms("咖啡壶"), [["咖啡"], ["啡壶"]]);
        assert_eq!(exact_terms("cup of tea"), [["cup", "cuptea"], ["tea", "cuptea"]]);
        assert_eq!(exact_terms("of"), [["of"]]);
    }

    #[test]
    fn each_word_typed_counts_and_repeats_do_not() {
        let rules = TextRules::new(&"en".parse().unwrap());
        let words = |text| rules.parse_typed(text).unwrap().words.len();
        for (text, wanted) in [
            ("z m dress", 3),
            ("24/7", 2),
            ("h&m", 2),
            ("no 5", 2),
            ("mint tea", 2),
            ("go go", 1),
            ("mint tea mint", 2),
            ("t-shirt t shirt", 2),
        ] {
            assert_eq!(words(text), wanted, "{text}");
        }
    }

    #[test]
    fn blank_text_is_no_query_and_signs_match_nothing() {
        assert_eq!(parse("  "), None);
        assert_eq!(parse("?!").unwrap().words, []);
    }

    #[test]
    fn typos_depend_on_the_length() {
        let max = |text| parse(text).unwrap().words[0].typos.as_ref().map(|typos| typos.max);
        assert_eq!(max("mint"), None);
        assert_eq!(max("libary"), Some(1));
        assert_eq!(max("yirgachefe"), Some(2));
        assert_eq!(max("sku017"), None);
    }

    #[test]
    fn number_of_words_is_bounded() {
        let text: String = (0..100).map(|n| format!("w{n} ")).collect();
        assert_eq!(parse(&text).unwrap().words.len(), MAX_WORDS);
        assert_eq!(parse(&"same ".repeat(40)).unwrap().words.len(), 1);
        let chars: String = ('\u{4e00}'..'\u{4f00}').collect();
        assert_eq!(parse(&chars).unwrap().words.len(), MAX_WORDS);
    }
}
