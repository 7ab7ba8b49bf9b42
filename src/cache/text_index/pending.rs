//! Searches the changes that are not in the index yet.

use std::sync::Arc;

use super::{
    SearchField, TextMatch,
    compiled_query::{CompiledQuery, CompiledWord},
    scoring::{SKU_POINTS, match_points},
    text_key::TextKey,
    time_budget::{OutOfTime, TimeBudget},
};
use crate::domain::catalog::search::{MatchKind, TermList};

/// A change that is not in the index yet.
pub(super) struct Pending {
    pub(super) generation: u64,
    /// The text of the product; `None` if it was removed.
    pub(super) text: Option<Arc<PendingText>>,
}

/// The text of a product, as the index takes it.
pub(super) struct PendingText {
    pub(super) key: TextKey,
    pub(super) terms: TermList,
}

/// Adds the products that match to `matches`.
pub(super) fn search(
    pending: &[(u32, Option<Arc<PendingText>>)],
    field: SearchField,
    query: &CompiledQuery,
    budget: &mut TimeBudget,
    matches: &mut Vec<TextMatch>,
) -> Result<(), OutOfTime> {
    for (slot, text) in pending {
        let Some(text) = text else { continue };
        budget.use_steps(text.terms.len() * query.words.len() * 4)?;
        if let Some(score) = score(&text.terms, field, query) {
            matches.push(TextMatch { slot: *slot, score });
        }
    }
    Ok(())
}

fn score(terms: &TermList, field: SearchField, query: &CompiledQuery) -> Option<u32> {
    let words = (!query.words.is_empty()).then_some(());
    let words = words.and_then(|()| {
        query.words.iter().try_fold(0, |sum, word| match word_points(terms, field, word) {
            0 => None,
            points => Some(sum + u32::from(points)),
        })
    });
    let is_sku = query.sku.as_ref().is_some_and(|sku| terms.get(sku).is_some());
    match (words, is_sku) {
        (words, true) => Some(SKU_POINTS + words.unwrap_or(0)),
        (words, false) => words,
    }
}

/// The points of the best match, 0 without one.
fn word_points(terms: &TermList, field: SearchField, query: &CompiledWord) -> u16 {
    let known = query.word.terms.iter().filter_map(|(term, kind)| Some((*kind, terms.get(term)?)));
    let begun = query.word.prefixes.iter();
    let begun = begun.flat_map(|(text, kind)| terms.with_prefix(text).map(|place| (*kind, place)));
    let mistyped = query.typos.iter().flat_map(|automaton| {
        terms
            .iter()
            .filter(|(_, place)| match_points(field, MatchKind::Exact, *place) > 0)
            .filter_map(|(term, place)| Some((automaton.match_term(term.as_bytes())?, place)))
    });
    let matches = known.chain(begun).chain(mistyped);
    matches.map(|(kind, place)| match_points(field, kind, place)).max().unwrap_or(0)
}
