//! The ids of new orders, which differ in the bits that make an order's number.

use std::time::Duration;

use uuid::Uuid;

use super::number::COUNTER_BITS;
use crate::domain::{clock::Timestamp, ids::OrderId};

/// How many processes can make order ids at the same time. The lower half of the bits that an
/// order's number has besides its millisecond tells them apart.
pub const ORDER_ID_WORKERS: u64 = 1 << WORKER_BITS;

/// How many order ids one process can make with the same millisecond.
pub const ORDER_IDS_PER_MILLISECOND: u64 = 1 << (COUNTER_BITS - WORKER_BITS);

/// How long a lease lasts. A process takes the next one only when it places an order after that,
/// and what is left of its last one is lost when it stops.
const LEASE_DURATION: Duration = Duration::from_secs(600);

const WORKER_BITS: u32 = 10;
const COUNTER_MASK: u64 = ORDER_IDS_PER_MILLISECOND - 1;

/// The permission to make order ids with a worker number and the milliseconds of a period. The
/// store gives each pair of a worker number and a millisecond to one process only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderIdLease {
    /// Below [`ORDER_ID_WORKERS`].
    pub worker: u64,
    /// The beginning of the period, which is part of it.
    pub from: Timestamp,
    /// The end of the period, which is not part of it.
    pub until: Timestamp,
}

impl OrderIdLease {
    /// A lease that begins at this time.
    #[must_use]
    pub fn starting_at(worker: u64, from: Timestamp) -> Self {
        Self { worker, from, until: from.saturating_add(LEASE_DURATION) }
    }
}

/// Makes order ids under leases, each id greater than the one before.
///
/// Their numbers are unique by construction, so no index has to find duplicates. A number stands
/// for the millisecond, the worker number and the counter of an id, 40, 10 and 10 bits that no two
/// ids have in common:
///
/// - Two processes never have the same worker number and the same millisecond: the leases of a
///   worker number do not overlap, whatever the clocks of the processes say, and an id's
///   millisecond is one of its lease.
/// - Within a process, the milliseconds of ids never go back, even if the clock does. Ids of one
///   millisecond have successive counters, and after [`ORDER_IDS_PER_MILLISECOND`] of them, the
///   next millisecond is used, ahead of the clock.
/// - A restarted process has a new lease, so it repeats nothing.
///
/// So up to [`ORDER_ID_WORKERS`] processes can place orders at the same time, each up to 1,024,000
/// a second, until the milliseconds repeat in 2059.
///
/// The counter of a millisecond starts at random, so it does not tell how many orders there were.
#[derive(Debug, Default)]
pub struct OrderIdGenerator {
    lease: Option<OrderIdLease>,
    /// The millisecond of the last id.
    last: Timestamp,
    /// How many ids have this millisecond.
    issued: u64,
    /// The counter of its first id.
    first_counter: u64,
    /// Sorts the ids of a millisecond.
    sequence: u64,
}

impl OrderIdGenerator {
    /// The earliest time at which a new lease is of use.
    #[must_use]
    pub fn lease_start(&self, now: Timestamp) -> Timestamp {
        now.max(Timestamp::from_millis(self.last.as_millis().saturating_add(1)))
    }

    /// Replaces the lease.
    pub const fn renew(&mut self, lease: OrderIdLease) {
        self.lease = Some(lease);
    }

    /// The next id. `None` without a lease for this time. `random` makes ids hard to guess.
    pub fn next_id(&mut self, now: Timestamp, random: u64) -> Option<OrderId> {
        let lease = self.lease?;
        let mut at = now.max(self.last).max(lease.from);
        if at == self.last && self.issued >= ORDER_IDS_PER_MILLISECOND {
            at = Timestamp::from_millis(at.as_millis().saturating_add(1));
        }
        if at >= lease.until {
            return None;
        }
        if at > self.last {
            self.last = at;
            self.issued = 0;
            self.first_counter = random >> 32 & COUNTER_MASK;
            // Of 22 bits, the highest is left for counting.
            self.sequence = random >> 43;
        }
        let counter = (self.first_counter + self.issued) & COUNTER_MASK;
        self.issued += 1;
        self.sequence += 1;
        let number_bits = (lease.worker % ORDER_ID_WORKERS) << COUNTER_MASK.count_ones() | counter;
        Some(order_id(at, self.sequence, number_bits, random & u64::from(u32::MAX)))
    }
}

/// A UUIDv7 (RFC 9562, section 5.7): the millisecond, 22 bits that sort, 20 bits for the number,
/// and 32 random bits.
fn order_id(at: Timestamp, sequence: u64, number_bits: u64, random: u64) -> OrderId {
    const VERSION: u64 = 7 << 12;
    const VARIANT: u64 = 2 << 62;
    let millisecond = u64::try_from(at.as_millis()).unwrap_or(0);
    let high = millisecond << 16 | VERSION | (sequence >> 10 & 0xfff);
    let low = VARIANT | (sequence & 0x3ff) << 52 | number_bits << 32 | random;
    Uuid::from_u64_pair(high, low).into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::order::OrderNumber;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_764_000_000_000 + millis)
    }

    /// Numbers that look random, and are the same in each run (splitmix64).
    fn random(mut state: u64) -> impl FnMut() -> u64 {
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        }
    }

    fn generator(worker: u64, from: Timestamp) -> OrderIdGenerator {
        let mut generator = OrderIdGenerator::default();
        generator.renew(OrderIdLease::starting_at(worker, from));
        generator
    }

    #[test]
    fn numbers_are_unique_among_workers_of_one_millisecond() {
        let mut random = random(1);
        let mut numbers = HashSet::new();
        for worker in 0..ORDER_ID_WORKERS {
            let mut generator = generator(worker, at(0));
            for _ in 0..ORDER_IDS_PER_MILLISECOND {
                let id = generator.next_id(at(0), random()).unwrap();
                assert!(numbers.insert(OrderNumber::of(id)), "worker {worker}");
            }
        }
    }

    #[test]
    fn ids_rise_and_numbers_lead_back_to_them() {
        let mut random = random(2);
        let mut generator = generator(1023, at(0));
        let (mut last, mut numbers) = (OrderId::from(Uuid::nil()), HashSet::new());
        // The clock stands still, jumps ahead, and is set back.
        let clock = [0, 0, 1, 2, 2, 500, 499, 0, 3, 501, 501];
        for now in clock.into_iter().flat_map(|now| std::iter::repeat_n(at(now), 700)) {
            let id = generator.next_id(now, random()).unwrap();
            assert!(id > last, "{id} after {last}");
            assert!(numbers.insert(OrderNumber::of(id)), "{id}");
            let (version, variant) = (id.as_uuid().get_version_num(), id.as_uuid().get_variant());
            assert_eq!((version, variant), (7, uuid::Variant::RFC4122));
            let (first, end) = OrderNumber::of(id).id_range();
            assert!(first <= id.as_uuid() && id.as_uuid() < end, "{id} {first} {end}");
            last = id;
        }
    }

    #[test]
    fn ids_have_the_milliseconds_of_their_lease() {
        let mut random = random(3);
        let mut generator = OrderIdGenerator::default();
        assert_eq!(generator.next_id(at(0), random()), None);
        // The store's newest order may be ahead of this clock.
        generator.renew(OrderIdLease { worker: 5, from: at(10), until: at(12) });
        let ids = std::iter::from_fn(|| generator.next_id(at(0), random())).take(5000);
        let milliseconds: Vec<u128> = ids.map(|id| id.as_uuid().as_u128() >> 80).collect();
        let per_millisecond = usize::try_from(ORDER_IDS_PER_MILLISECOND).unwrap();
        let [first, second] = [10, 11].map(|millis| at(millis).as_millis().unsigned_abs().into());
        assert_eq!(
            milliseconds,
            [vec![first; per_millisecond], vec![second; per_millisecond]].concat()
        );
        assert_eq!(generator.lease_start(at(0)), at(12));
        assert_eq!(generator.lease_start(at(50)), at(50));
        assert_eq!(generator.next_id(at(50), random()), None);
    }

    #[test]
    fn counters_do_not_tell_how_many_orders_there_are() {
        let mut random = random(4);
        let mut generator = generator(0, at(0));
        let mut counters = HashSet::new();
        for millis in 0..1000 {
            let id = generator.next_id(at(millis), random()).unwrap();
            counters.insert(OrderNumber::place_of(id) & COUNTER_MASK);
        }
        assert!(counters.len() > 500, "{} of 1024", counters.len());
    }
}
