//! What a siege measures, and how it is printed.

use std::{collections::BTreeMap, time::Duration};

use super::client::NO_RESPONSE;

/// The most that the buyers' 99th percentile may grow.
const MAX_RATIO: f64 = 5.0;

/// Responses by status.
pub type Statuses = BTreeMap<u16, u64>;

/// The requests of honest buyers.
#[derive(Default)]
pub struct Outcomes {
    latencies: BTreeMap<&'static str, Vec<Duration>>,
    refused: BTreeMap<(&'static str, u16), u64>,
}

impl Outcomes {
    pub fn record(&mut self, kind: &'static str, status: u16, latency: Duration) {
        self.latencies.entry(kind).or_default().push(latency);
        if !(200..300).contains(&status) {
            *self.refused.entry((kind, status)).or_default() += 1;
        }
    }

    pub fn extend(&mut self, other: Self) {
        for (kind, latencies) in other.latencies {
            self.latencies.entry(kind).or_default().extend(latencies);
        }
        for (key, count) in other.refused {
            *self.refused.entry(key).or_default() += count;
        }
    }

    /// The number of requests that were refused or not answered.
    pub fn refused(&self) -> u64 {
        self.refused.values().sum()
    }

    /// The number of requests.
    pub fn count(&self) -> usize {
        self.latencies.values().map(Vec::len).sum()
    }

    /// Prints the latencies of each kind of request.
    pub fn print(&self) {
        for (kind, latencies) in &self.latencies {
            let sorted = self.sorted(Some(kind));
            let [p50, p99] = [50, 99].map(|percent| percentile(&sorted, percent));
            println!("  {kind:<10} {:>9} p50 {p50:>8.1} ms p99 {p99:>8.1} ms", latencies.len());
        }
    }

    /// The sorted latencies of one kind of request, or of all.
    fn sorted(&self, kind: Option<&str>) -> Vec<Duration> {
        let wanted = self.latencies.iter().filter(|(name, _)| kind.is_none_or(|k| k == **name));
        let mut latencies: Vec<_> = wanted.flat_map(|(_, all)| all).copied().collect();
        latencies.sort_unstable();
        latencies
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default().as_secs_f64() * 1000.0
}

fn describe(statuses: &Statuses) -> String {
    let name = |status: u16| match status {
        NO_RESPONSE => "no response".to_owned(),
        status => status.to_string(),
    };
    let counts = statuses.iter().map(|(status, count)| format!("{}: {count}", name(*status)));
    counts.collect::<Vec<_>>().join(", ")
}

pub fn print_floods(answered: &BTreeMap<&'static str, Statuses>) {
    println!("\nwhat the floods were answered");
    for (flood, statuses) in answered {
        println!("  {flood:<20} {}", describe(statuses));
    }
}

pub fn print_buyers(quiet: &Outcomes, siege: &Outcomes) {
    println!(
        "\nbuyers           quiet    p50 ms    p99 ms        siege    p50 ms    p99 ms    ratio"
    );
    let kinds = siege.latencies.keys().copied().map(Some);
    for kind in kinds.chain([None]) {
        let (before, during) = (quiet.sorted(kind), siege.sorted(kind));
        let [p50, p99] = [50, 99].map(|percent| percentile(&before, percent));
        let [siege_p50, siege_p99] = [50, 99].map(|percent| percentile(&during, percent));
        println!(
            "  {:<10} {:>9} {p50:>9.1} {p99:>9.1} {:>12} {siege_p50:>9.1} {siege_p99:>9.1} {:>8.1}",
            kind.unwrap_or("all"),
            before.len(),
            during.len(),
            siege_p99 / p99
        );
    }
    let ratio = percentile(&siege.sorted(None), 99) / percentile(&quiet.sorted(None), 99);
    let verdict = if ratio <= MAX_RATIO { "holds" } else { "fails" };
    println!("  p99 at most {MAX_RATIO} times the quiet value: {verdict}");
    for (name, outcomes) in [("quiet", quiet), ("siege", siege)] {
        println!("  refused, {name}: {}", outcomes.refused());
        for ((kind, status), count) in &outcomes.refused {
            println!("    {kind}: {}", describe(&Statuses::from([(*status, *count)])));
        }
    }
}
