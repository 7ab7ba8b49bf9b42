//! The text of a product search, as clients send it over any transport.

use crate::domain::validation::ValidationErrors;

const MAX_QUERY_CHARS: usize = 200;

/// Returns the search text, or an empty one and an error if it is too long.
pub(crate) fn parse_query_text<'a>(q: &'a str, errors: &mut ValidationErrors) -> &'a str {
    if q.chars().count() > MAX_QUERY_CHARS {
        errors.add("q", "too_long", format!("q has more than {MAX_QUERY_CHARS} characters"));
        return "";
    }
    q
}
