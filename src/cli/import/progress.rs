//! The progress of an import on standard error: a bar on a terminal, otherwise a line every few
//! seconds.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::super::print_error;
use crate::http::ImportPosition;

/// The time between two lines if standard error is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Reports the progress of an import.
pub(super) struct Progress {
    /// `None` if standard error is not a terminal.
    bar: Option<ProgressBar>,
    meter: Meter,
    reported_at: Instant,
}

impl Progress {
    /// Starts to measure. `file_length` is in bytes, 0 if it is unknown.
    pub(super) fn new(file_length: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| new_bar(file_length));
        let now = Instant::now();
        let meter = Meter { file_length, started_at: now, first: None, last: None };
        Self { bar, meter, reported_at: now }
    }

    /// Reports how much is imported, and how many lines of that in this run.
    pub(super) fn update(&mut self, position: ImportPosition, lines: u64) {
        let now = Instant::now();
        self.meter.record(now, position, lines);
        if let Some(bar) = &self.bar {
            bar.set_position(position.bytes);
            bar.set_message(self.meter.describe());
        } else if let Some(line) = self.next_line(now) {
            print_error(&line);
        }
    }

    /// The line to print at `now`, if it is time for one.
    fn next_line(&mut self, now: Instant) -> Option<String> {
        if now.duration_since(self.reported_at) < LINE_INTERVAL {
            return None;
        }
        self.reported_at = now;
        Some(self.meter.describe())
    }

    /// Prints a line.
    pub(super) fn print(&self, text: &str) {
        self.suspend(|| print_error(text));
    }

    /// Hides the bar while `print` writes to the terminal.
    pub(super) fn suspend<R>(&self, print: impl FnOnce() -> R) -> R {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Removes the bar and prints how long the import took, if it has imported anything.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.meter.first.is_some() {
            print_error(&self.meter.summarize());
        }
    }
}

fn new_bar(file_length: u64) -> ProgressBar {
    let bar = ProgressBar::new(file_length);
    // The template is constant, and its failure leaves the default one.
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Measures the rate of an import.
struct Meter {
    file_length: u64,
    started_at: Instant,
    /// The first lines of this run: a run that continues another one reads over its lines first.
    first: Option<Sample>,
    last: Option<Sample>,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    bytes: u64,
    lines: u64,
}

impl Meter {
    fn record(&mut self, now: Instant, position: ImportPosition, lines: u64) {
        let sample = Sample { at: now, bytes: position.bytes, lines };
        if lines > 0 {
            self.first.get_or_insert(sample);
        }
        self.last = Some(sample);
    }

    /// Lines and bytes per second since the first lines.
    fn rates(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.first?, self.last?);
        let seconds = last.at.duration_since(first.at).as_secs_f64();
        let per_second = |amount: u64| {
            #[expect(clippy::cast_precision_loss, reason = "a rate is approximate")]
            let amount = amount as f64;
            amount / seconds
        };
        (seconds > 0.0 && last.bytes > first.bytes)
            .then(|| (per_second(last.lines - first.lines), per_second(last.bytes - first.bytes)))
    }

    /// Such as `34 %, 170,000 lines, 21,300/s, 16 s left`.
    fn describe(&self) -> String {
        let (lines, bytes) = self.last.map_or((0, 0), |sample| (sample.lines, sample.bytes));
        let mut parts = Vec::new();
        let percent = bytes.saturating_mul(100).checked_div(self.file_length);
        parts.extend(percent.map(|percent| format!("{percent} %")));
        parts.push(count_lines(lines));
        if let Some((lines_per_second, bytes_per_second)) = self.rates() {
            parts.push(format!("{}/s", group_digits(round(lines_per_second))));
            if self.file_length > 0 {
                #[expect(clippy::cast_precision_loss, reason = "the time left is approximate")]
                let left = self.file_length.saturating_sub(bytes) as f64;
                parts.push(format!("{} left", format_seconds(round(left / bytes_per_second))));
            }
        }
        parts.join(", ")
    }

    /// Such as `500,000 lines in 23.5 s, 21,300/s`.
    fn summarize(&self) -> String {
        let lines = count_lines(self.last.map_or(0, |sample| sample.lines));
        let end = self.last.map_or(self.started_at, |sample| sample.at);
        let seconds = end.duration_since(self.started_at).as_secs_f64();
        let rate = self.rates().map_or_else(String::new, |(lines_per_second, _)| {
            format!(", {}/s", group_digits(round(lines_per_second)))
        });
        format!("{lines} in {seconds:.1} s{rate}")
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and a conversion that does not fit saturates"
)]
fn round(number: f64) -> u64 {
    number.round() as u64
}

fn count_lines(number: u64) -> String {
    format!("{} line{}", group_digits(number), if number == 1 { "" } else { "s" })
}

/// `1234567` as `1,234,567`.
fn group_digits(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `75` as `1 min 15 s`.
fn format_seconds(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter_after(samples: &[(u64, u64, u64)], file_length: u64) -> Meter {
        let started_at = Instant::now();
        let mut meter = Meter { file_length, started_at, first: None, last: None };
        for (seconds, bytes, lines) in samples {
            let now = started_at + Duration::from_secs(*seconds);
            meter.record(now, ImportPosition { line: 0, bytes: *bytes }, *lines);
        }
        meter
    }

    #[test]
    fn progress_has_the_rate_and_the_time_left() {
        let meter = meter_after(&[(1, 2_000, 20), (101, 202_000, 2_020_020)], 1_002_000);
        assert_eq!(meter.describe(), "20 %, 2,020,020 lines, 20,200/s, 6 min 40 s left");
        assert_eq!(meter.summarize(), "2,020,020 lines in 101.0 s, 20,200/s");
    }

    #[test]
    fn line_is_printed_every_few_seconds() {
        let meter = meter_after(&[(1, 10, 1)], 100);
        let started_at = meter.started_at;
        let mut progress = Progress { bar: None, meter, reported_at: started_at };
        let lines = [4, 5, 6, 9, 10, 21, 25]
            .map(|seconds| progress.next_line(started_at + Duration::from_secs(seconds)).is_some());
        assert_eq!(lines, [false, true, false, false, true, true, false]);
    }

    #[test]
    fn lines_of_an_earlier_run_do_not_count_toward_the_rate() {
        let samples = [(1, 0, 0), (9, 0, 0), (10, 500_000, 1_000), (20, 600_000, 2_000)];
        let meter = meter_after(&samples, 1_000_000);
        assert_eq!(meter.describe(), "60 %, 2,000 lines, 100/s, 40 s left");
    }

    #[test]
    fn unknown_parts_are_left_out() {
        assert_eq!(meter_after(&[], 100).describe(), "0 %, 0 lines");
        assert_eq!(meter_after(&[(1, 10, 1)], 100).describe(), "10 %, 1 line");
        assert_eq!(meter_after(&[(1, 10, 1), (3, 30, 3)], 0).describe(), "3 lines, 1/s");
        assert_eq!(meter_after(&[(1, 10, 1)], 0).summarize(), "1 line in 1.0 s");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            [0, 999, 1_000, 12_345_678].map(group_digits),
            ["0", "999", "1,000", "12,345,678"]
        );
        assert_eq!([59, 75, 7_380].map(format_seconds), ["59 s", "1 min 15 s", "2 h 3 min"]);
    }
}
