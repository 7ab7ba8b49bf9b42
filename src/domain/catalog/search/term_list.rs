//! A sorted list of terms in one piece of memory.

use super::terms::Place;

/// The terms of a product, each with the most important place where it occurs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TermList {
    buffer: String,
    /// Sorted by text, without repeats.
    terms: Vec<Term>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Term {
    start: u32,
    end: u32,
    /// The first bytes of the text as a number, which sorts as they do.
    head: u64,
    place: Place,
}

fn head(text: &[u8]) -> u64 {
    if let Some(bytes) = text.first_chunk() {
        return u64::from_be_bytes(*bytes);
    }
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
    u64::from_be_bytes(bytes)
}

impl TermList {
    /// How many different terms there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.terms.len()
    }

    /// Whether there are no terms.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The place of a term.
    #[must_use]
    pub fn get(&self, text: &str) -> Option<Place> {
        let found = self.terms.binary_search_by(|term| self.text(*term).cmp(text));
        found.ok().and_then(|at| self.terms.get(at)).map(|term| term.place)
    }

    /// The terms with their places, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Place)> {
        self.terms.iter().map(|term| (self.text(*term), term.place))
    }

    /// The places of the terms that begin with `prefix`.
    pub fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = Place> {
        let first = self.terms.partition_point(|term| self.text(*term) < prefix);
        let terms = self.terms.iter().skip(first);
        terms.take_while(move |term| self.text(**term).starts_with(prefix)).map(|term| term.place)
    }

    fn text(&self, term: Term) -> &str {
        self.buffer.get(term.start as usize..term.end as usize).unwrap_or_default()
    }

    /// Makes room for some terms with some bytes of text.
    pub(super) fn reserve(&mut self, terms: usize, bytes: usize) {
        self.terms.reserve(terms);
        self.buffer.reserve(bytes);
    }

    /// Adds a term, in parts. The list is sorted by [`Self::finish`].
    pub(super) fn push(&mut self, parts: &[&str], place: Place) {
        let start = self.end();
        parts.iter().for_each(|part| self.buffer.push_str(part));
        let end = self.end();
        let head = head(self.buffer.as_bytes().get(start as usize..).unwrap_or_default());
        self.terms.push(Term { start, end, head, place });
    }

    fn end(&self) -> u32 {
        u32::try_from(self.buffer.len()).unwrap_or(u32::MAX)
    }

    /// Sorts the terms, and keeps the most important place of each.
    pub(super) fn finish(mut self) -> Self {
        let mut terms = std::mem::take(&mut self.terms);
        terms.sort_unstable_by(|a, b| {
            let by_text = || self.text(*a).cmp(self.text(*b));
            a.head.cmp(&b.head).then_with(by_text).then_with(|| b.place.cmp(&a.place))
        });
        terms.dedup_by(|a, b| a.head == b.head && self.text(*a) == self.text(*b));
        self.terms = terms;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_sorted_and_keep_their_best_place() {
        let mut list = TermList::default();
        list.push(&["tea"], Place::Description);
        list.push(&["%", "te"], Place::Labels);
        list.push(&["te", "a"], Place::Name);
        list.push(&["tear"], Place::Attributes);
        let list = list.finish();
        let terms: Vec<_> = list.iter().collect();
        assert_eq!(
            terms,
            [("%te", Place::Labels), ("tea", Place::Name), ("tear", Place::Attributes)]
        );
        assert_eq!((list.get("tea"), list.get("te")), (Some(Place::Name), None));
        assert_eq!(list.with_prefix("tea").count(), 2);
        assert_eq!(list.with_prefix("z").count(), 0);
        assert_eq!((list.len(), list.is_empty()), (3, false));
    }
}
