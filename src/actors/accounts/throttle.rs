//! How many failed logins a minute one account, or one address, may have.
//!
//! Attempts under way count as failed until they are decided, so that guessing in parallel gains nothing. An attempt that would be
//! one too many only because of others under way waits for them: ten people who log in at once behind one address are no attack.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use crate::domain::{
    account::{Email, one_caller},
    clock::Timestamp,
};

/// How long a failure counts.
const WINDOW: Duration = Duration::from_secs(60);

/// Most accounts and addresses watched at once.
const MAX_WATCHED: usize = 100_000;

/// What attempts are counted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// An account, whether there is one or not.
    Account(Email),
    /// Where attempts come from.
    Origin(IpAddr),
}

impl Subject {
    /// What a login by `email` from `address` counts for.
    pub(super) fn of(email: Option<&Email>, address: IpAddr) -> Vec<Self> {
        let origin = one_caller(address);
        email.cloned().map(Self::Account).into_iter().chain([Self::Origin(origin)]).collect()
    }
}

/// What becomes of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may go on; `forgive` or `fail` must follow.
    Granted,
    /// It depends on attempts that are under way.
    Wait,
    /// There were too many; in so many seconds it may be tried again.
    Refused { retry_after: u64 },
}

/// Failures of one account or address within one window.
#[derive(Debug, Clone, Copy)]
struct Record {
    since: Timestamp,
    failed: u32,
    under_way: u32,
}

impl Record {
    fn is_over(&self, now: Timestamp) -> bool {
        // A clock that was set back must not lock anyone out for longer.
        now < self.since || now >= self.since.plus(WINDOW)
    }

    fn failed_at(&self, now: Timestamp) -> u32 {
        if self.is_over(now) { 0 } else { self.failed }
    }
}

/// The counts. Time is handed in.
#[derive(Debug)]
pub(super) struct Throttle {
    limit: u32,
    max_watched: usize,
    records: HashMap<Subject, Record>,
    swept: Timestamp,
}

impl Throttle {
    /// `limit` failures a minute; 0 switches it off.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            max_watched: MAX_WATCHED,
            records: HashMap::new(),
            swept: Timestamp::default(),
        }
    }

    /// Begins an attempt that counts for `subjects`, if all of them have one left.
    pub(super) fn admit(&mut self, subjects: &[Subject], now: Timestamp) -> Admission {
        if self.limit == 0 {
            return Admission::Granted;
        }
        let records = || subjects.iter().filter_map(|subject| self.records.get(subject));
        let spent = records().filter(|record| record.failed_at(now) >= self.limit);
        if let Some(until) = spent.map(|record| record.since.plus(WINDOW)).max() {
            let millis =
                u64::try_from(until.as_millis().saturating_sub(now.as_millis())).unwrap_or(0);
            return Admission::Refused { retry_after: millis.div_ceil(1000).max(1) };
        }
        if records()
            .any(|record| record.failed_at(now).saturating_add(record.under_way) >= self.limit)
        {
            return Admission::Wait;
        }
        for subject in subjects {
            self.record(subject, now).under_way += 1;
        }
        Admission::Granted
    }

    /// Ends an attempt that did not fail.
    pub(super) fn forgive(&mut self, subjects: &[Subject]) {
        for subject in subjects {
            let Some(record) = self.records.get_mut(subject) else { continue };
            record.under_way = record.under_way.saturating_sub(1);
            if record.under_way == 0 && record.failed == 0 {
                self.records.remove(subject);
            }
        }
    }

    /// Ends an attempt that failed.
    pub(super) fn fail(&mut self, subjects: &[Subject], now: Timestamp) {
        if self.limit == 0 {
            return;
        }
        for subject in subjects {
            let record = self.record(subject, now);
            record.under_way = record.under_way.saturating_sub(1);
            record.failed = record.failed.saturating_add(1);
        }
    }

    /// The record of `subject`, with a window that is open.
    fn record(&mut self, subject: &Subject, now: Timestamp) -> &mut Record {
        if !self.records.contains_key(subject) {
            self.make_room(now);
        }
        let record = self.records.entry(subject.clone()).or_insert(Record {
            since: now,
            failed: 0,
            under_way: 0,
        });
        if record.failed == 0 || record.is_over(now) {
            *record = Record { since: now, failed: 0, ..*record };
        }
        record
    }

    fn make_room(&mut self, now: Timestamp) {
        let full = self.records.len() >= self.max_watched;
        if full || now < self.swept || now >= self.swept.plus(WINDOW) {
            self.swept = now;
            self.records.retain(|_, record| record.under_way > 0 || !record.is_over(now));
        }
        while self.records.len() >= self.max_watched {
            let Some(oldest) = self
                .records
                .iter()
                .min_by_key(|(_, record)| record.since)
                .map(|(subject, _)| subject.clone())
            else {
                return;
            };
            self.records.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn after(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    fn subjects(email: &str, address: &str) -> Vec<Subject> {
        Subject::of(Some(&Email::parse(email).unwrap()), address.parse().unwrap())
    }

    fn fail_once(throttle: &mut Throttle, subjects: &[Subject], now: Timestamp) {
        assert_eq!(throttle.admit(subjects, now), Admission::Granted);
        throttle.fail(subjects, now);
    }

    #[test]
    fn failures_are_limited_by_account_and_by_origin() {
        let mut throttle = Throttle::new(3);
        for second in 0..3 {
            fail_once(&mut throttle, &subjects("ada@example.com", "10.0.0.1"), after(second));
        }
        let refused = |seconds| Admission::Refused { retry_after: seconds };
        assert_eq!(
            throttle.admit(&subjects("ada@example.com", "10.0.0.2"), after(20)),
            refused(40),
            "the account, from elsewhere"
        );
        assert_eq!(
            throttle.admit(&subjects("bob@example.com", "10.0.0.1"), after(59)),
            refused(1),
            "the origin, for another account"
        );
        assert_eq!(
            throttle.admit(&subjects("bob@example.com", "10.0.0.2"), after(20)),
            Admission::Granted
        );
        assert_eq!(
            throttle.admit(&subjects("ada@example.com", "10.0.0.1"), after(60)),
            Admission::Granted,
            "a minute later"
        );
    }

    #[test]
    fn attempts_under_way_count_until_they_are_decided() {
        let mut throttle = Throttle::new(2);
        let ada = subjects("ada@example.com", "10.0.0.1");
        assert_eq!(throttle.admit(&ada, START), Admission::Granted);
        assert_eq!(throttle.admit(&ada, START), Admission::Granted);
        assert_eq!(throttle.admit(&ada, START), Admission::Wait);
        throttle.forgive(&ada);
        assert_eq!(throttle.admit(&ada, START), Admission::Granted);
        throttle.fail(&ada, START);
        assert_eq!(throttle.admit(&ada, START), Admission::Wait);
        throttle.fail(&ada, START);
        assert_eq!(throttle.admit(&ada, START), Admission::Refused { retry_after: 60 });
        assert_eq!(
            throttle.admit(&subjects("bob@example.com", "10.0.0.2"), after(60)),
            Admission::Granted,
            "sweeps"
        );
        assert_eq!(throttle.records.len(), 2);
    }

    #[test]
    fn a_slow_attempt_outlives_its_window() {
        let mut throttle = Throttle::new(1);
        let ada = subjects("ada@example.com", "10.0.0.1");
        assert_eq!(throttle.admit(&ada, START), Admission::Granted);
        assert_eq!(throttle.admit(&ada, after(61)), Admission::Wait);
        throttle.fail(&ada, after(90));
        assert_eq!(throttle.admit(&ada, after(149)), Admission::Refused { retry_after: 1 });
        assert_eq!(
            throttle.admit(&ada, START),
            Admission::Granted,
            "a clock set back locks nobody out"
        );
    }

    #[test]
    fn successes_leave_nothing_behind_and_zero_switches_off() {
        let mut throttle = Throttle::new(1);
        let ada = subjects("ada@example.com", "10.0.0.1");
        assert_eq!(throttle.admit(&ada, START), Admission::Granted);
        throttle.forgive(&ada);
        assert!(throttle.records.is_empty());
        let mut off = Throttle::new(0);
        for _ in 0..100 {
            fail_once(&mut off, &ada, START);
        }
        assert!(off.records.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let mut throttle = Throttle { max_watched: 10, ..Throttle::new(5) };
        for n in 0..100_u8 {
            let origin = Subject::of(None, IpAddr::from([10, 0, 0, n]));
            fail_once(&mut throttle, &origin, START.plus(Duration::from_millis(n.into())));
            assert!(throttle.records.len() <= 10);
        }
        assert!(throttle.records.contains_key(&Subject::Origin([10, 0, 0, 99].into())));
        assert!(
            !throttle.records.contains_key(&Subject::Origin([10, 0, 0, 0].into())),
            "the oldest go first"
        );
    }

    #[test]
    fn an_origin_is_what_one_customer_has() {
        let origin = |address: &str| Subject::of(None, address.parse().unwrap());
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:2"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:10.0.0.1"), origin("10.0.0.1"));
    }
}
