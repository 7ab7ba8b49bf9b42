//! The stock of one product: its ledger orders all changes, and each response is a sum of
//! movements.

use std::collections::BTreeMap;

use super::{Outcome, Placed, Span, change, check_real_time_order, read};

/// Stock in a response. Changes in one transaction share a version and show the combined result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct View {
    pub(crate) version: u64,
    pub(crate) on_hand: i64,
}

/// A requested change with a unique reference.
#[derive(Debug, Clone)]
pub(crate) struct ChangeRequest {
    pub(crate) span: Span,
    pub(crate) reference: String,
    pub(crate) delta: i64,
    pub(crate) outcome: Outcome<View>,
}

/// A read that must reflect everything acknowledged before it.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) span: Span,
    pub(crate) view: View,
}

/// A line of the ledger.
#[derive(Debug, Clone)]
pub(crate) struct Movement {
    pub(crate) sequence: u64,
    pub(crate) reference: Option<String>,
    pub(crate) delta: i64,
}

/// Everything that clients know about the stock of one product.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) changes: Vec<ChangeRequest>,
    pub(crate) reads: Vec<Read>,
    /// The complete ledger at the end, oldest first. Its first line is the opening stock.
    pub(crate) ledger: Vec<Movement>,
}

impl History {
    /// Returns a description of the first inconsistency.
    pub(crate) fn check(&self) -> Result<(), String> {
        let sequences = self.sequences()?;
        let places = self.places(&sequences)?;
        let mut placed: Vec<Placed> = Vec::new();
        for request in &self.changes {
            let sequence = sequences.get(&*request.reference).copied();
            match (&request.outcome, sequence) {
                (Outcome::Done(view), Some(sequence)) => {
                    // The change is at its own position, and its response shows the whole version.
                    placed.extend([
                        change(request.span, sequence),
                        read(request.span, places[&view.version]),
                    ]);
                }
                (Outcome::Unknown, Some(sequence)) => {
                    placed.push(change(request.span.open(), sequence))
                }
                (Outcome::Refused | Outcome::Unknown, None) => {}
                (Outcome::Done(_), None) => return Err(format!("not in the ledger: {request:?}")),
                (Outcome::Refused, Some(_)) => {
                    return Err(format!("in the ledger, though refused: {request:?}"));
                }
            }
        }
        placed.extend(self.reads.iter().map(|seen| read(seen.span, places[&seen.view.version])));
        check_real_time_order(&placed)
    }

    /// The ledger line of each reference; every line must match one request.
    fn sequences(&self) -> Result<BTreeMap<&str, u64>, String> {
        let request: BTreeMap<&str, i64> =
            self.changes.iter().map(|request| (&*request.reference, request.delta)).collect();
        let mut sequences = BTreeMap::new();
        for (expected, movement) in (1..).zip(&self.ledger) {
            if movement.sequence != expected {
                return Err(format!("line {expected} of the ledger is {movement:?}"));
            }
            let Some(reference) = movement.reference.as_deref() else {
                if expected == 1 {
                    continue;
                }
                return Err(format!("not requested: {movement:?}"));
            };
            if request.get(reference) != Some(&movement.delta) {
                return Err(format!("not requested: {movement:?}"));
            }
            if sequences.insert(reference, expected).is_some() {
                return Err(format!("made twice: {movement:?}"));
            }
        }
        Ok(sequences)
    }

    /// The last ledger line that each version includes.
    fn places(&self, sequences: &BTreeMap<&str, u64>) -> Result<BTreeMap<u64, u64>, String> {
        let done: Vec<(View, u64)> = self
            .changes
            .iter()
            .filter_map(|request| match request.outcome {
                Outcome::Done(view) => Some((view, sequences.get(&*request.reference).copied()?)),
                Outcome::Refused | Outcome::Unknown => None,
            })
            .collect();
        let mut seen: BTreeMap<u64, i64> = BTreeMap::new();
        for view in
            done.iter().map(|(view, _)| *view).chain(self.reads.iter().map(|read| read.view))
        {
            if let Some(other) =
                seen.insert(view.version, view.on_hand).filter(|other| *other != view.on_hand)
            {
                return Err(format!(
                    "version {} was shown as {} and as {other}",
                    view.version, view.on_hand
                ));
            }
        }
        // A change that applied without a response counts as unknown, so `done` may have gaps.
        let mut places = BTreeMap::new();
        let mut before = 0;
        for (version, on_hand) in seen {
            let least = done
                .iter()
                .filter(|(view, _)| view.version <= version)
                .map(|(_, sequence)| *sequence)
                .max();
            let least = least.unwrap_or(0).max(before + 1);
            let beyond = done
                .iter()
                .filter(|(view, _)| view.version > version)
                .map(|(_, sequence)| *sequence)
                .min();
            let beyond = beyond.unwrap_or(u64::MAX);
            let place = self
                .running_totals()
                .find(|(sequence, sum)| (least..beyond).contains(sequence) && *sum == on_hand);
            let Some((place, _)) = place else {
                return Err(format!(
                    "version {version} with {on_hand} units is no sum of movements at its place"
                ));
            };
            places.insert(version, place);
            before = place;
        }
        Ok(places)
    }

    /// The stock on hand after each ledger line.
    fn running_totals(&self) -> impl Iterator<Item = (u64, i64)> {
        self.ledger.iter().scan(0, |sum, movement| {
            *sum += movement.delta;
            Some((movement.sequence, *sum))
        })
    }
}
