//! Rounding half up.

/// `amount / divisor`, rounded half up. Both are 0 or more; 0 if `divisor` is.
pub(super) const fn divide_half_up(amount: i128, divisor: i128) -> i128 {
    if divisor <= 0 {
        return 0;
    }
    let rest = amount % divisor;
    amount / divisor + if rest >= divisor - rest { 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_up() {
        let rounded = |(amount, divisor)| divide_half_up(amount, divisor);
        let cases = [(0, 3), (1, 3), (1, 2), (3, 2), (5, 3), (4, 3), (7, 0)];
        assert_eq!(cases.map(rounded), [0, 0, 1, 2, 2, 1, 0]);
    }
}
