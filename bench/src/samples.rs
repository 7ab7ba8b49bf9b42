//! Repeated measurements and how they are printed.

use std::fmt;

/// Repeated measurements of one quantity.
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn new(values: impl IntoIterator<Item = f64>) -> Self {
        Self(values.into_iter().collect())
    }
}

/// Writes `median (min to max)`.
impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let digits = if at(0) < 100.0 { 2 } else { 0 };
        let (low, middle, high) = (at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1)));
        write!(f, "{middle:.digits$} ({low:.digits$} to {high:.digits$})")
    }
}
