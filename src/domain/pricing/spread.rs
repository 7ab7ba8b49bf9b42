//! Spreads an amount over several lines, to the last minor unit.

/// What a line gets of an amount that is spread over several.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// The line's part, in relation to the others'.
    pub(super) weight: i128,
    /// The most it can get.
    pub(super) most: i128,
}

/// Spreads amounts, and keeps its buffers from one to the next.
#[derive(Default)]
pub(super) struct Spreader {
    parts: Vec<i128>,
    /// The remainders, the largest first, with the positions of their shares.
    order: Vec<(i128, usize)>,
}

impl Spreader {
    /// Spreads `amount` over `shares` by weight and returns each one's part. Parts are rounded
    /// down, and what is left goes to the largest remainders, of equal ones to the first. The sum
    /// is `amount` unless that is more than all can get.
    pub(super) fn spread(&mut self, amount: i128, shares: &[Share]) -> &[i128] {
        let Self { parts, order } = self;
        parts.clear();
        let whole: i128 = shares.iter().map(|share| share.weight).sum();
        match shares {
            _ if whole <= 0 => parts.resize(shares.len(), 0),
            // What most carts have: nothing is divided.
            [only] => parts.push(amount.min(only.most)),
            _ => spread_over_several(amount, shares, whole, parts, order),
        }
        parts
    }
}

fn spread_over_several(
    amount: i128,
    shares: &[Share],
    whole: i128,
    parts: &mut Vec<i128>,
    order: &mut Vec<(i128, usize)>,
) {
    let product = |share: &Share| amount.saturating_mul(share.weight);
    parts.extend(shares.iter().map(|share| (product(share) / whole).min(share.most)));
    let mut left = amount - parts.iter().sum::<i128>();
    if left <= 0 {
        return;
    }
    order.clear();
    let remainders = shares.iter().map(|share| -(product(share) % whole));
    order.extend(remainders.zip(0..));
    order.sort_unstable();
    while left > 0 {
        let before = left;
        for (_, at) in &*order {
            if let (Some(part), Some(share)) = (parts.get_mut(*at), shares.get(*at))
                && left > 0
                && *part < share.most
            {
                *part += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_to_the_largest_remainders_and_never_above_the_most() {
        let even = |weight| Share { weight, most: weight };
        let mut spreader = Spreader::default();
        let mut spread = |amount, shares: &[Share]| spreader.spread(amount, shares).to_vec();
        assert_eq!(spread(2, &[even(1), even(1), even(1)]), [1, 1, 0]);
        assert_eq!(spread(10, &[even(1), even(50), even(49)]), [0, 5, 5]);
        // A third of 5 and two thirds: 1.67 and 3.33.
        assert_eq!(spread(5, &[even(4), even(8)]), [2, 3]);
        let capped = [Share { weight: 100, most: 1 }, Share { weight: 1, most: 9 }];
        assert_eq!(spread(4, &capped), [1, 3]);
        assert_eq!(spread(4, &[even(0), even(0)]), [0, 0]);
        assert_eq!(spread(9, &[even(1), even(2)]), [1, 2], "no more than all can get");
        assert_eq!([3, 9].map(|amount| spread(amount, &[even(5)])), [[3], [5]]);
        assert_eq!(spread(9, &[Share { weight: 0, most: 5 }]), [0]);
        assert_eq!(spread(9, &[]), []);
    }
}
