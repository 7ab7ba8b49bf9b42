//! One cart: each version is one change and shows the sum of all changes up to it.

use std::collections::BTreeMap;

use super::{Outcome, Placed, Span, change, check_real_time_order, read};

/// Products and quantities.
pub(crate) type Lines = BTreeMap<String, u64>;

/// A requested change. A `Set` must change the quantity, because a no-op makes no version.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// Adds this many units.
    Add(String, u64),
    /// Sets the quantity of an existing line.
    Set(String, u64),
}

/// A cart in a response.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    pub(crate) version: u64,
    pub(crate) lines: Lines,
}

#[derive(Debug, Clone)]
pub(crate) struct ChangeRequest {
    pub(crate) span: Span,
    pub(crate) change: Change,
    pub(crate) outcome: Outcome<View>,
}

/// A read that must reflect everything acknowledged before it.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) span: Span,
    pub(crate) view: View,
}

/// Everything that clients know about one cart, which starts untouched.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) changes: Vec<ChangeRequest>,
    pub(crate) reads: Vec<Read>,
}

impl Change {
    /// The cart after this change; `None` if the change is impossible.
    fn apply(&self, lines: &Lines) -> Option<Lines> {
        let mut after = lines.clone();
        match self {
            Self::Add(product, quantity) => *after.entry(product.clone()).or_default() += quantity,
            Self::Set(product, quantity) => *after.get_mut(product)? = *quantity,
        }
        Some(after)
    }
}

impl History {
    /// Returns a description of the first inconsistency.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut placed: Vec<Placed> =
            self.reads.iter().map(|seen| read(seen.span, seen.view.version)).collect();
        let mut known_changes = BTreeMap::new();
        for request in &self.changes {
            let Outcome::Done(view) = &request.outcome else { continue };
            placed.push(change(request.span, view.version));
            if let Some(other) = known_changes.insert(view.version, &request.change) {
                return Err(format!(
                    "version {} was given to {:?} and to {other:?}",
                    view.version, request.change
                ));
            }
        }
        check_real_time_order(&placed)?;
        let seen = self.seen()?;
        let mut search = Search { known_changes, seen, unknown: self.unknown(&placed), reached: 0 };
        if search.explains_from(1, &Lines::new()) {
            return Ok(());
        }
        Err(format!(
            "version {} is not the sum of the requested changes: {search:?}",
            search.reached
        ))
    }

    /// The content of each version that a client saw.
    fn seen(&self) -> Result<BTreeMap<u64, &Lines>, String> {
        let untouched = const { &Lines::new() };
        let mut seen = BTreeMap::from([(0, untouched)]);
        let done = self.changes.iter().filter_map(|request| match &request.outcome {
            Outcome::Done(view) => Some(view),
            Outcome::Refused | Outcome::Unknown => None,
        });
        for view in done.chain(self.reads.iter().map(|read| &read.view)) {
            if let Some(other) =
                seen.insert(view.version, &view.lines).filter(|other| **other != view.lines)
            {
                return Err(format!(
                    "version {} was shown as {:?} and as {other:?}",
                    view.version, view.lines
                ));
            }
        }
        Ok(seen)
    }

    /// Changes with an unknown outcome, each with the first version that it can have made.
    fn unknown(&self, placed: &[Placed]) -> Vec<Unknown<'_>> {
        let unknown = self.changes.iter().filter(|request| request.outcome == Outcome::Unknown);
        unknown
            .map(|request| {
                let before = placed.iter().filter(|one| one.span.ended < request.span.begun);
                let earliest = before.map(|one| one.place.number).max().unwrap_or(0) + 1;
                Unknown { change: &request.change, earliest, made: false }
            })
            .collect()
    }
}

#[derive(Debug)]
struct Unknown<'a> {
    change: &'a Change,
    earliest: u64,
    made: bool,
}

/// A search for the changes that explain each version.
#[derive(Debug)]
struct Search<'a> {
    /// The known change of each version.
    known_changes: BTreeMap<u64, &'a Change>,
    seen: BTreeMap<u64, &'a Lines>,
    unknown: Vec<Unknown<'a>>,
    reached: u64,
}

impl Search<'_> {
    /// Whether all versions from `version` on can be explained, starting from `lines`.
    fn explains_from(&mut self, version: u64, lines: &Lines) -> bool {
        self.reached = self.reached.max(version);
        if self.seen.last_key_value().is_none_or(|(last, _)| version > *last) {
            return true;
        }
        if let Some(change) = self.known_changes.get(&version) {
            let after = change.apply(lines);
            return after.is_some_and(|after| {
                self.matches_seen(version, &after) && self.explains_from(version + 1, &after)
            });
        }
        let mut tried: Vec<&Change> = Vec::new();
        for place in 0..self.unknown.len() {
            let Unknown { change, earliest, made } = self.unknown[place];
            // Equal changes are interchangeable, so one attempt is enough.
            if made || earliest > version || tried.contains(&change) {
                continue;
            }
            tried.push(change);
            let Some(after) = change.apply(lines).filter(|after| self.matches_seen(version, after))
            else {
                continue;
            };
            self.unknown[place].made = true;
            if self.explains_from(version + 1, &after) {
                return true;
            }
            self.unknown[place].made = false;
        }
        false
    }

    fn matches_seen(&self, version: u64, lines: &Lines) -> bool {
        self.seen.get(&version).is_none_or(|seen| *seen == lines)
    }
}
