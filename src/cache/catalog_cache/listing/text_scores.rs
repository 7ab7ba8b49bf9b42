//! The best of the products that match a text.

use std::{cmp::Reverse, collections::BinaryHeap};

use roaring::RoaringBitmap;

use super::{Listing, pages::ListedProduct};
use crate::{cache::text_index::TextMatch, domain::ids::ProductId};

/// If at least one product in `MANY_SHARE` matches, their slots are collected as bits.
const MANY_SHARE: usize = 256;

/// The products that match the text of a search, in no order.
pub(in crate::cache::catalog_cache) struct TextScores {
    pub(super) matches: Vec<TextMatch>,
    pub(super) shares: NameShares,
    pub(super) slots: RoaringBitmap,
}

/// What the share of the query in a name adds to its score: among equals, the name with the fewest
/// further words is best.
pub(super) struct NameShares([u8; 256]);

impl NameShares {
    /// The most that it adds.
    const MAX: u32 = 99;

    fn new(query_words: usize) -> Self {
        Self(std::array::from_fn(|words| {
            let words = words.max(1);
            u8::try_from(query_words.min(words) * Self::MAX as usize / words).unwrap_or(0)
        }))
    }

    /// The score of a match, before its share is known, as if its name was only the query.
    const fn most(score: u32) -> u32 {
        score.saturating_mul(Self::MAX + 1).saturating_add(Self::MAX)
    }

    fn add_to(&self, score: u32, words: u8) -> u32 {
        let share = self.0.get(usize::from(words)).copied().unwrap_or(0);
        score.saturating_mul(Self::MAX + 1).saturating_add(u32::from(share))
    }
}

impl Listing {
    /// What a search needs to know of the matches of its text, which has some words.
    pub(in crate::cache::catalog_cache) fn score_text(
        &self,
        matches: Vec<TextMatch>,
        query_words: usize,
    ) -> TextScores {
        let slots = if matches.len() * MANY_SHARE < self.products.len() {
            matches.iter().map(|found| found.slot).collect()
        } else {
            bitmap_of_slots(&matches, self.products.len())
        };
        TextScores { matches, shares: NameShares::new(query_words), slots }
    }

    /// The `limit` best of `text` that come after the score and id in `after` and whose slots
    /// `includes`; see [`Self::best_matches`].
    pub(super) fn best_of_text(
        &self,
        text: &TextScores,
        after: Option<(i64, ProductId)>,
        limit: usize,
        includes: impl Fn(u32) -> bool,
    ) -> Vec<ListedProduct> {
        let is_listed = |score: u32, id: ProductId, slot: u32| {
            after.is_none_or(|after| (i64::from(score), id) < after) && includes(slot)
        };
        let score = |found: &TextMatch, least: u32| {
            (NameShares::most(found.score) >= least).then(|| {
                let words = self.name_words.get(found.slot as usize).copied().unwrap_or(0);
                text.shares.add_to(found.score, words)
            })
        };
        self.best(&text.matches, limit, score, is_listed)
    }

    /// The `limit` matches with the highest scores, of equal scores the newest.
    pub(in crate::cache::catalog_cache) fn best_matches(
        &self,
        matches: &[TextMatch],
        limit: usize,
    ) -> Vec<ListedProduct> {
        self.best(matches, limit, |found, _| Some(found.score), |_, _, _| true)
    }

    /// The `limit` best matches. `score` may return nothing if the score is below a least one.
    fn best(
        &self,
        matches: &[TextMatch],
        limit: usize,
        score: impl Fn(&TextMatch, u32) -> Option<u32>,
        is_listed: impl Fn(u32, ProductId, u32) -> bool,
    ) -> Vec<ListedProduct> {
        let mut best = BinaryHeap::with_capacity(limit + 1);
        // The last of a full page.
        let mut last: Option<(u32, ProductId)> = None;
        // Backwards, so that the newest products are first: others that are equal then lose.
        for found in self.with_pauses(matches.iter().rev()) {
            let least = last.map_or(0, |(score, _)| score);
            let Some(score) = score(found, least).filter(|score| *score >= least) else { continue };
            // Most products are ruled out by their neighbors, whose newest one is at hand.
            if let Some((least, id)) = last
                && score == least
                && self.newest_near(found.slot) <= Some(id)
            {
                continue;
            }
            // Identifiers sort by their time.
            let Some(id) = self.id(found.slot) else { continue };
            if last.is_some_and(|last| (score, id) <= last) || !is_listed(score, id, found.slot) {
                continue;
            }
            if best.len() >= limit {
                best.pop();
            }
            best.push(Reverse((score, id, found.slot)));
            if best.len() >= limit {
                last = best.peek().map(|Reverse((score, id, _))| (*score, *id));
            }
        }
        let best = best.into_sorted_vec().into_iter();
        best.map(|Reverse((score, _, slot))| ListedProduct { slot, score }).collect()
    }
}

fn bitmap_of_slots(matches: &[TextMatch], slots: usize) -> RoaringBitmap {
    let mut bytes = vec![0_u8; slots / 8 + 1];
    for found in matches {
        if let Some(byte) = bytes.get_mut(found.slot as usize / 8) {
            *byte |= 1 << (found.slot % 8);
        }
    }
    RoaringBitmap::from_lsb0_bytes(0, &bytes)
}
