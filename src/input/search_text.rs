//! The text of a product search, as clients send it over any transport.

use crate::domain::validation::ValidationErrors;

/// The maximum number of words in a search: each word is compared with every product.
const MAX_QUERY_WORDS: usize = 10;
const MAX_QUERY_CHARS: usize = 200;

/// Returns the search text in lowercase and validates its length.
pub(crate) fn parse_query_text(q: &str, errors: &mut ValidationErrors) -> String {
    if q.chars().count() > MAX_QUERY_CHARS {
        errors.add("q", "too_long", format!("q has more than {MAX_QUERY_CHARS} characters"));
    }
    q.to_lowercase()
}

/// Returns the words of a search text, each once, and validates their number.
pub(crate) fn parse_query_words(q: &str, errors: &mut ValidationErrors) -> Vec<String> {
    let mut words: Vec<String> =
        parse_query_text(q, errors).split_whitespace().map(str::to_owned).collect();
    words.sort_unstable();
    words.dedup();
    if words.len() > MAX_QUERY_WORDS {
        errors.add(
            "q",
            "too_many",
            format!("q has {} words; at most {MAX_QUERY_WORDS} are allowed", words.len()),
        );
    }
    words
}
