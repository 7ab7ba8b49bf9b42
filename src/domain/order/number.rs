//! Order numbers: what people call an order by.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use crate::domain::ids::OrderId;

/// The number of an order, such as `7KQ2-M9XF-4T0D`.
///
/// It is computed from the order's id, so it needs neither a counter that nodes share nor an index.
/// It holds the millisecond and the lowest counter bits of the id, in an order that tells nobody
/// how many orders there are. [`OrderIdGenerator`](super::OrderIdGenerator) says why no two orders
/// have the same number: it gives their ids different bits here, and what follows can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OrderNumber(u64);

/// The text is no order number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no order number")]
pub struct InvalidOrderNumber;

/// 2025-01-01T00:00:00Z, in milliseconds of the Unix epoch. 40 bits last until 2059.
const FIRST_MILLISECOND: u64 = 1_735_689_600_000;

pub(super) const COUNTER_BITS: u32 = 20;
const NUMBER_BITS: u32 = 60;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;

/// Spreads the numbers of successive orders. It is odd, so the multiplication can be undone.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15 & NUMBER_MASK;
const INVERSE: u64 = inverse_of(FACTOR);

/// Digits that are not confused when they are read out (Crockford's base 32).
const DIGITS: [char; 32] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'J',
    'K', 'M', 'N', 'P', 'Q', 'R', 'S', 'T', 'V', 'W', 'X', 'Y', 'Z',
];

/// The inverse of an odd number modulo 2^64: each step doubles the number of right bits.
const fn inverse_of(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut right_bits = 3;
    while right_bits < u64::BITS {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        right_bits *= 2;
    }
    inverse
}

impl OrderNumber {
    /// The number of the order with this id.
    #[must_use]
    pub const fn of(id: OrderId) -> Self {
        Self(Self::place_of(id).wrapping_mul(FACTOR) & NUMBER_MASK)
    }

    /// The millisecond and the counter bits of an id, which grow with the time of the order.
    pub(super) const fn place_of(id: OrderId) -> u64 {
        let (high, low) = id.as_uuid().as_u64_pair();
        let millisecond = (high >> 16).wrapping_sub(FIRST_MILLISECOND);
        // A UUIDv7 of one process ends with a counter of 42 bits and 32 random bits.
        let counter = (low >> 32) & ((1 << COUNTER_BITS) - 1);
        ((millisecond << COUNTER_BITS) | counter) & NUMBER_MASK
    }

    /// The smallest id with this number's millisecond, and the smallest of the next millisecond.
    #[must_use]
    pub const fn id_range(self) -> (Uuid, Uuid) {
        let place = self.0.wrapping_mul(INVERSE) & NUMBER_MASK;
        let millisecond = (place >> COUNTER_BITS) + FIRST_MILLISECOND;
        (Uuid::from_u64_pair(millisecond << 16, 0), Uuid::from_u64_pair((millisecond + 1) << 16, 0))
    }
}

impl fmt::Display for OrderNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in (0..3_u32).rev() {
            for digit in (0..4_u32).rev() {
                let value = (self.0 >> ((group * 4 + digit) * 5)) & 31;
                let digit = usize::try_from(value).ok().and_then(|value| DIGITS.get(value));
                write!(f, "{}", digit.unwrap_or(&'0'))?;
            }
            if group > 0 {
                f.write_str("-")?;
            }
        }
        Ok(())
    }
}

/// Accepts both cases, missing hyphens and blanks, and letters that look like digits.
impl FromStr for OrderNumber {
    type Err = InvalidOrderNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut number, mut digits) = (0_u64, 0);
        for letter in text.chars().filter(|letter| !matches!(letter, '-' | ' ')) {
            let letter = match letter.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                letter => letter,
            };
            let value = DIGITS.iter().position(|digit| *digit == letter);
            let value =
                value.and_then(|value| u64::try_from(value).ok()).ok_or(InvalidOrderNumber)?;
            digits += 1;
            if digits > 12 {
                return Err(InvalidOrderNumber);
            }
            number = number << 5 | value;
        }
        if digits == 12 { Ok(Self(number)) } else { Err(InvalidOrderNumber) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_of_one_process_are_unique_and_lead_back_to_their_ids() {
        let ids: Vec<OrderId> = (0..200_000).map(|_| OrderId::new()).collect();
        let numbers: HashSet<OrderNumber> = ids.iter().map(|id| OrderNumber::of(*id)).collect();
        assert_eq!(numbers.len(), ids.len());
        for id in ids.iter().step_by(997) {
            let number = OrderNumber::of(*id);
            let (first, end) = number.id_range();
            assert!(first <= id.as_uuid() && id.as_uuid() < end, "{id} {first} {end}");
            assert_eq!(number.to_string().parse(), Ok(number));
        }
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        let number = OrderNumber::of(OrderId::new());
        let text = number.to_string();
        assert_eq!((text.len(), text.matches('-').count()), (14, 2), "{text}");
        let spoken = text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
        assert_eq!(spoken.parse(), Ok(number));
        assert_eq!(text.replace('-', "").parse(), Ok(number));
        for wrong in ["", "7KQ2-M9XF-4T0", "7KQ2-M9XF-4T0DX", "7KQ2-M9XF-4T0U", "nonsense"] {
            assert_eq!(wrong.parse::<OrderNumber>(), Err(InvalidOrderNumber), "{wrong}");
        }
    }

    #[test]
    fn successive_numbers_do_not_count() {
        let first = OrderNumber::of(OrderId::new()).to_string();
        let second = OrderNumber::of(OrderId::new()).to_string();
        assert_ne!(first.get(..4), second.get(..4));
    }
}
