//! The stock of one product: its ledger orders all changes, and each response is a sum of
//! movements.

use std::collections::BTreeMap;

use super::{Outcome, Placed, Span, change, in_real_time, read};

/// Stock in a response. Changes in one transaction share a version and show the combined result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shown {
    pub(crate) version: u64,
    pub(crate) on_hand: i64,
}

/// A requested change with a unique reference.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) span: Span,
    pub(crate) reference: String,
    pub(crate) delta: i64,
    pub(crate) outcome: Outcome<Shown>,
}

/// A read that must reflect everything acknowledged before it.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) span: Span,
    pub(crate) shown: Shown,
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
    pub(crate) changes: Vec<Asked>,
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
        for asked in &self.changes {
            let sequence = sequences.get(&*asked.reference).copied();
            match (&asked.outcome, sequence) {
                (Outcome::Done(shown), Some(sequence)) => {
                    // The change is at its own position, and its response shows the whole version.
                    placed.extend([
                        change(asked.span, sequence),
                        read(asked.span, places[&shown.version]),
                    ]);
                }
                (Outcome::Unknown, Some(sequence)) => {
                    placed.push(change(asked.span.open(), sequence))
                }
                (Outcome::Refused | Outcome::Unknown, None) => {}
                (Outcome::Done(_), None) => return Err(format!("not in the ledger: {asked:?}")),
                (Outcome::Refused, Some(_)) => {
                    return Err(format!("in the ledger, though refused: {asked:?}"));
                }
            }
        }
        placed.extend(self.reads.iter().map(|seen| read(seen.span, places[&seen.shown.version])));
        in_real_time(&placed)
    }

    /// The ledger line of each reference; every line must match one request.
    fn sequences(&self) -> Result<BTreeMap<&str, u64>, String> {
        let asked: BTreeMap<&str, i64> =
            self.changes.iter().map(|asked| (&*asked.reference, asked.delta)).collect();
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
            if asked.get(reference) != Some(&movement.delta) {
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
        let done: Vec<(Shown, u64)> = self
            .changes
            .iter()
            .filter_map(|asked| match asked.outcome {
                Outcome::Done(shown) => Some((shown, sequences.get(&*asked.reference).copied()?)),
                Outcome::Refused | Outcome::Unknown => None,
            })
            .collect();
        let mut seen: BTreeMap<u64, i64> = BTreeMap::new();
        for shown in
            done.iter().map(|(shown, _)| *shown).chain(self.reads.iter().map(|read| read.shown))
        {
            if let Some(other) =
                seen.insert(shown.version, shown.on_hand).filter(|other| *other != shown.on_hand)
            {
                return Err(format!(
                    "version {} was shown as {} and as {other}",
                    shown.version, shown.on_hand
                ));
            }
        }
        // A change that applied without a response counts as unknown, so `done` may have gaps.
        let mut places = BTreeMap::new();
        let mut before = 0;
        for (version, on_hand) in seen {
            let least = done
                .iter()
                .filter(|(shown, _)| shown.version <= version)
                .map(|(_, sequence)| *sequence)
                .max();
            let least = least.unwrap_or(0).max(before + 1);
            let beyond = done
                .iter()
                .filter(|(shown, _)| shown.version > version)
                .map(|(_, sequence)| *sequence)
                .min();
            let beyond = beyond.unwrap_or(u64::MAX);
            let place = self
                .sums()
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
    fn sums(&self) -> impl Iterator<Item = (u64, i64)> {
        self.ledger.iter().scan(0, |sum, movement| {
            *sum += movement.delta;
            Some((movement.sequence, *sum))
        })
    }
}
