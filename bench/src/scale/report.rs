//! The tables: for each load and number of connections, a column for each node count.

use std::{collections::BTreeMap, time::Duration};

use super::{
    driver::Window,
    options::{LoadKind, ScaleOptions},
};
use crate::samples::Samples;

/// One window with what it measures.
pub struct Measurement {
    pub round: usize,
    pub nodes: usize,
    pub load: LoadKind,
    pub connections: usize,
    pub window: Window,
}

/// A row's label and how to read its figure.
type Row = (&'static str, fn(&Window) -> f64);

const ROWS: [Row; 8] = [
    ("rate/s", |window| window.rate),
    ("p50 ms", |window| window.p50),
    ("p99 ms", |window| window.p99),
    ("slowest node / even share", |window| window.slowest_share),
    ("aborted transactions, %", |window| window.aborted_percent),
    ("aborted transactions/s", |window| window.aborted_rate),
    ("mongod, us each", |window| window.mongod_time),
    ("nodes, us each", |window| window.nodes_time),
];

/// Those that are compared with the first node count, round by round.
const COMPARED_ROWS: [Row; 4] = [
    ("rate, times", |window| window.rate),
    ("p50, times", |window| window.p50),
    ("p99, times", |window| window.p99),
    ("mongod, times", |window| window.mongod_time),
];

pub fn print_report(options: &ScaleOptions, measurements: &[Measurement]) {
    for load in &options.loads {
        for connections in &options.connections {
            let of_table: Vec<&Measurement> = measurements
                .iter()
                .filter(|one| one.load == *load && one.connections == *connections)
                .collect();
            println!("\n{load}, {connections} connections, {} ms each way", options.delay_ms);
            print_table(options, &of_table);
            print_short_windows(options, &of_table);
        }
    }
}

fn print_table(options: &ScaleOptions, measurements: &[&Measurement]) {
    let of_count = |nodes: usize| measurements.iter().filter(move |one| one.nodes == nodes);
    print_row("nodes", options.nodes.iter().map(ToString::to_string));
    for (label, figure) in ROWS {
        let cell = |nodes: &usize| {
            Samples::new(of_count(*nodes).map(|one| figure(&one.window))).to_string()
        };
        print_row(label, options.nodes.iter().map(cell));
    }
    let first = options.nodes.first().copied().unwrap_or(1);
    for (label, figure) in COMPARED_ROWS {
        let of_first = |round: usize| {
            of_count(first)
                .find(|one| one.round == round)
                .map_or(f64::NAN, |one| figure(&one.window))
        };
        let cell = |nodes: &usize| {
            let times = of_count(*nodes).map(|one| figure(&one.window) / of_first(one.round));
            Samples::new(times).to_string()
        };
        print_row(label, options.nodes.iter().map(cell));
    }
    let errors = |nodes: &usize| {
        let mut sums = BTreeMap::<&str, usize>::new();
        for (status, count) in of_count(*nodes).flat_map(|one| &one.window.errors) {
            *sums.entry(status).or_default() += count;
        }
        let texts: Vec<_> = sums.iter().map(|(status, sum)| format!("{status}: {sum}")).collect();
        if texts.is_empty() { "0".to_owned() } else { texts.join(", ") }
    };
    print_row("errors, all rounds", options.nodes.iter().map(errors));
}

fn print_row(label: &str, cells: impl Iterator<Item = String>) {
    let cells: String = cells.map(|cell| format!(" {cell:23} |")).collect();
    println!("| {label:25} |{cells}");
}

fn print_short_windows(options: &ScaleOptions, measurements: &[&Measurement]) {
    let shortest = measurements.iter().map(|one| one.window.length).min().unwrap_or_default();
    if shortest < options.window() - Duration::from_millis(1) {
        println!("some windows ended early for want of carts, the shortest after {shortest:.2?}");
    }
}
