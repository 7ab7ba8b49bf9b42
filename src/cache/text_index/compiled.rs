//! A query, ready to be compared with terms.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::automaton::TypoAutomaton;
use crate::domain::catalog::search::{MatchKind, Place, QueryWord, TextQuery};

/// A query, ready to be compared with terms.
pub(crate) struct CompiledQuery {
    pub(super) words: Vec<CompiledWord>,
    pub(super) sku: Option<String>,
}

/// A word of a query. One match is enough.
pub(super) struct CompiledWord {
    pub(super) word: QueryWord,
    pub(super) typos: Option<TypoAutomaton>,
}

impl CompiledQuery {
    /// Compiles `query`, with or without typos.
    pub(crate) fn new(query: &TextQuery, with_typos: bool) -> Self {
        let compile = |word: &QueryWord| CompiledWord {
            typos: word.typos.as_ref().filter(|_| with_typos).and_then(TypoAutomaton::new),
            word: word.clone(),
        };
        Self { words: query.words.iter().map(compile).collect(), sku: query.sku.clone() }
    }
}

/// What the product with the SKU gets that the whole query is.
pub(super) const SKU_POINTS: u32 = 10_000_000;

/// The points for a match. A word without typos is worth more than any place of one with a typo.
pub(super) fn match_points(kind: MatchKind, place: Place) -> u16 {
    let place_points: u16 = match place {
        Place::Description => 100,
        Place::Attributes => 250,
        Place::Labels => 350,
        Place::Name => 500,
        Place::NameStart => 550,
    };
    match kind {
        MatchKind::Sku => 20_999,
        MatchKind::Exact => 20_000 + place_points,
        MatchKind::Stem => 20_000 + place_points / 25 * 24,
        MatchKind::Prefix => 20_000 + place_points / 5 * 4,
        MatchKind::OneTypo => 10_000 + place_points,
        MatchKind::TwoTypos => 1 + place_points,
    }
}

/// How often a term is written that occurs in `place`: the fewest times where most terms are.
pub(super) const fn frequency_of_place(place: Place) -> u8 {
    match place {
        Place::Description => 1,
        Place::Labels => 2,
        Place::Name => 3,
        Place::Attributes => 4,
        Place::NameStart => 5,
    }
}

/// The place that a term frequency stands for.
pub(super) const fn place_of_frequency(frequency: u32) -> Place {
    match frequency {
        0 | 1 => Place::Description,
        2 => Place::Labels,
        3 => Place::Name,
        4 => Place::Attributes,
        _ => Place::NameStart,
    }
}

/// A search used up its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfTime;

/// The processor time that a search may still use.
pub(crate) struct TimeBudget {
    end: Duration,
    steps: usize,
}

impl TimeBudget {
    /// The steps between two looks at the clock: about 20 µs of work.
    const STEPS: usize = 8192;

    /// A budget for the current thread.
    pub(crate) fn new(time: Duration) -> Self {
        Self { end: thread_time().saturating_add(time), steps: 0 }
    }

    /// Uses some steps, such as one for each product that is looked at.
    ///
    /// # Errors
    /// The time is used up.
    pub(crate) fn use_steps(&mut self, steps: usize) -> Result<(), OutOfTime> {
        self.steps += steps;
        if self.steps < Self::STEPS {
            return Ok(());
        }
        self.steps = 0;
        if thread_time() > self.end { Err(OutOfTime) } else { Ok(()) }
    }
}

/// The processor time of this thread, which does not grow while others run.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
