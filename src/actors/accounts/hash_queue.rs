//! Decides which password is hashed next, and which request is refused when too many wait.
//!
//! Hashing is what a stranger can use up most cheaply. So each class of requests has a share of it
//! that the others cannot take, new passwords keep at most half of the threads, and within a class
//! networks take turns: one network with many requests delays another by one hash, not by all of
//! them. When a class is full, the network that holds the most loses its newest request.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
};

/// The maximum number of requests of a class per thread, running and waiting.
const MAX_LOGINS_PER_THREAD: usize = 16;

/// The same for new passwords.
const MAX_NEW_PASSWORDS_PER_THREAD: usize = 8;

/// What a password is hashed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HashClass {
    /// A login of an account at a network where it is known.
    KnownLogin,
    /// Any other login.
    Login,
    /// A registration, or another password for an account.
    NewPassword,
}

impl HashClass {
    const ALL: [Self; 3] = [Self::KnownLogin, Self::Login, Self::NewPassword];

    /// The name of the class, for metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::KnownLogin => "known_login",
            Self::Login => "login",
            Self::NewPassword => "new_password",
        }
    }

    /// The share of the hashes while other classes wait, too.
    const fn weight(self) -> usize {
        match self {
            Self::KnownLogin => 4,
            Self::Login => 2,
            Self::NewPassword => 1,
        }
    }

    const fn capacity(self, threads: usize) -> usize {
        match self {
            Self::KnownLogin | Self::Login => threads * MAX_LOGINS_PER_THREAD,
            Self::NewPassword => threads * MAX_NEW_PASSWORDS_PER_THREAD,
        }
    }

    /// How many threads may work on the class at once.
    fn max_threads(self, threads: usize) -> usize {
        match self {
            Self::KnownLogin | Self::Login => threads,
            Self::NewPassword => (threads / 2).max(1),
        }
    }
}

/// Whom a password is hashed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashOrigin {
    pub(super) class: HashClass,
    pub(super) network: IpAddr,
}

impl HashOrigin {
    /// The operator, whose requests nobody delays.
    pub(super) const OPERATOR: Self =
        Self { class: HashClass::KnownLogin, network: IpAddr::V4(Ipv4Addr::UNSPECIFIED) };

    /// A new password from this network.
    pub(super) const fn new_password(network: IpAddr) -> Self {
        Self { class: HashClass::NewPassword, network }
    }
}

/// The request was refused: its class, or its network, has too many.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct QueueFull;

/// How a request was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Push {
    /// There was room.
    Queued,
    /// Another request of the class was refused to make room.
    Evicted,
}

/// Waiting and running requests of all classes. `J` is what a thread runs.
pub(super) struct HashQueue<J> {
    threads: usize,
    classes: [ClassQueue<J>; 3],
}

struct ClassQueue<J> {
    class: HashClass,
    /// The waiting requests of each network, in the order of their turns.
    waiting: VecDeque<(IpAddr, VecDeque<J>)>,
    /// The networks whose requests are running.
    running: Vec<IpAddr>,
    /// What the class is owed by the others: smooth weighted round-robin.
    credit: i64,
}

impl<J> HashQueue<J> {
    /// An empty queue for this many threads.
    pub(super) fn new(threads: usize) -> Self {
        let classes = HashClass::ALL.map(|class| ClassQueue {
            class,
            waiting: VecDeque::new(),
            running: Vec::new(),
            credit: 0,
        });
        Self { threads, classes }
    }

    /// Adds a request. Dropping the request that makes room refuses it.
    pub(super) fn push(&mut self, origin: HashOrigin, job: J) -> Result<Push, QueueFull> {
        let capacity = origin.class.capacity(self.threads);
        self.class_mut(origin.class).push(origin.network, job, capacity)
    }

    /// The next request for a thread, which must call [`finish`](Self::finish) after it.
    pub(super) fn start_next(&mut self) -> Option<(HashOrigin, J)> {
        let threads = self.threads;
        let mut total = 0;
        let mut ready: Vec<_> =
            self.classes.iter_mut().filter(|class| class.is_ready(threads)).collect();
        for class in &mut ready {
            let weight = i64::try_from(class.class.weight()).unwrap_or(0);
            class.credit += weight;
            total += weight;
        }
        // Of several, the first.
        let next = ready.into_iter().rev().max_by_key(|class| class.credit)?;
        next.credit -= total;
        let (network, job) = next.pop()?;
        next.running.push(network);
        if next.waiting.is_empty() {
            next.credit = 0;
        }
        Some((HashOrigin { class: next.class, network }, job))
    }

    /// Ends a request that was started.
    pub(super) fn finish(&mut self, origin: HashOrigin) {
        let running = &mut self.class_mut(origin.class).running;
        if let Some(place) = running.iter().position(|network| *network == origin.network) {
            running.swap_remove(place);
        }
    }

    /// About how many hashes in sequence it takes until a new request has its own, if the classes
    /// that wait now go on waiting. `None` if a thread is free for it.
    pub(super) fn expected_rounds(&self, origin: HashOrigin) -> Option<usize> {
        let running: usize = self.classes.iter().map(|class| class.running.len()).sum();
        let class = self.class(origin.class);
        let max_threads = origin.class.max_threads(self.threads);
        if class.waiting.is_empty() && running < self.threads && class.running.len() < max_threads {
            return None;
        }
        let contending =
            |class: &&ClassQueue<J>| class.class == origin.class || !class.waiting.is_empty();
        let weights: usize =
            self.classes.iter().filter(contending).map(|class| class.class.weight()).sum();
        let ahead = class.jobs_before(origin.network) + class.running.len();
        let hashes = ((ahead + 1) * weights).div_ceil(origin.class.weight());
        let threads = if weights == origin.class.weight() { max_threads } else { self.threads };
        Some(hashes.div_ceil(threads.max(1)))
    }

    /// How many requests of each class wait for a thread, and how many run.
    pub(super) fn lengths(&self) -> [(HashClass, usize, usize); 3] {
        self.classes
            .each_ref()
            .map(|class| (class.class, class.waiting_count(), class.running.len()))
    }

    /// How many requests wait for a thread.
    #[cfg(test)]
    pub(super) fn waiting_count(&self) -> usize {
        self.classes.iter().map(ClassQueue::waiting_count).sum()
    }

    fn class(&self, class: HashClass) -> &ClassQueue<J> {
        let [known_login, login, new_password] = &self.classes;
        match class {
            HashClass::KnownLogin => known_login,
            HashClass::Login => login,
            HashClass::NewPassword => new_password,
        }
    }

    fn class_mut(&mut self, class: HashClass) -> &mut ClassQueue<J> {
        let [known_login, login, new_password] = &mut self.classes;
        match class {
            HashClass::KnownLogin => known_login,
            HashClass::Login => login,
            HashClass::NewPassword => new_password,
        }
    }
}

impl<J> ClassQueue<J> {
    fn is_ready(&self, threads: usize) -> bool {
        !self.waiting.is_empty() && self.running.len() < self.class.max_threads(threads)
    }

    fn running_of(&self, network: IpAddr) -> usize {
        self.running.iter().filter(|running| **running == network).count()
    }

    fn waiting_of(&self, network: IpAddr) -> usize {
        self.waiting.iter().find(|(other, _)| *other == network).map_or(0, |(_, jobs)| jobs.len())
    }

    /// The waiting requests that are served before a new one of `network`.
    fn jobs_before(&self, network: IpAddr) -> usize {
        let own = self.waiting_of(network);
        self.waiting
            .iter()
            .map(|(other, jobs)| if *other == network { own } else { jobs.len().min(own + 1) })
            .sum()
    }

    fn waiting_count(&self) -> usize {
        self.waiting.iter().map(|(_, jobs)| jobs.len()).sum()
    }

    fn push(&mut self, network: IpAddr, job: J, capacity: usize) -> Result<Push, QueueFull> {
        let own = self.waiting_of(network) + self.running_of(network);
        // No network has more than half of a class.
        if own >= capacity.div_ceil(2) {
            return Err(QueueFull);
        }
        let is_full = self.waiting_count() + self.running.len() >= capacity;
        if is_full && !self.evict_newest(own) {
            return Err(QueueFull);
        }
        match self.waiting.iter_mut().find(|(other, _)| *other == network) {
            Some((_, jobs)) => jobs.push_back(job),
            None => self.waiting.push_back((network, VecDeque::from([job]))),
        }
        Ok(if is_full { Push::Evicted } else { Push::Queued })
    }

    /// Drops the newest request of the network with the most, if it has at least two more than
    /// `own`: then both are better balanced after it.
    fn evict_newest(&mut self, own: usize) -> bool {
        let held = |(network, jobs): &(IpAddr, VecDeque<J>)| jobs.len() + self.running_of(*network);
        let longest = self.waiting.iter().enumerate().max_by_key(|(_, entry)| held(entry));
        let Some((place, entry)) = longest else { return false };
        if held(entry) < own + 2 {
            return false;
        }
        if let Some((_, jobs)) = self.waiting.get_mut(place) {
            jobs.pop_back();
            if jobs.is_empty() {
                self.waiting.remove(place);
            }
        }
        true
    }

    /// Takes the next request of the network whose turn it is.
    fn pop(&mut self) -> Option<(IpAddr, J)> {
        let (network, mut jobs) = self.waiting.pop_front()?;
        let job = jobs.pop_front()?;
        if !jobs.is_empty() {
            self.waiting.push_back((network, jobs));
        }
        Some((network, job))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    fn origin(class: HashClass, number: u8) -> HashOrigin {
        HashOrigin { class, network: network(number) }
    }

    /// Runs everything on one thread; returns the order.
    fn drain(queue: &mut HashQueue<u32>) -> Vec<(HashClass, u32)> {
        std::iter::from_fn(|| {
            let (origin, job) = queue.start_next()?;
            queue.finish(origin);
            Some((origin.class, job))
        })
        .collect()
    }

    /// Of how many requests the class accepts how many.
    fn push_many(queue: &mut HashQueue<u32>, class: HashClass, networks: u8, count: u8) -> usize {
        let push = |n: &u8| queue.push(origin(class, n % networks), u32::from(*n)).is_ok();
        (0..count).filter(push).count()
    }

    #[test]
    fn logins_get_through_a_flood_of_registrations() {
        for networks in [1, 20] {
            let mut queue = HashQueue::new(1);
            let accepted = push_many(&mut queue, HashClass::NewPassword, networks, 40);
            assert_eq!(accepted, if networks == 1 { 4 } else { 8 });
            assert_eq!(push_many(&mut queue, HashClass::Login, 14, 14), 14);
            let order = drain(&mut queue);
            assert_eq!(order.len(), 14 + accepted, "every accepted request is served");
            let mut logins = 0;
            for (place, (class, _)) in order.iter().enumerate() {
                logins += usize::from(*class == HashClass::Login);
                assert!(logins == 14 || logins * 3 >= place, "two logins per registration");
            }
        }
    }

    #[test]
    fn every_class_has_its_share() {
        let mut queue = HashQueue::new(1);
        for class in HashClass::ALL {
            push_many(&mut queue, class, 20, 8);
        }
        let first: Vec<_> = drain(&mut queue).into_iter().take(7).collect();
        let share = |class| first.iter().filter(|(other, _)| *other == class).count();
        assert_eq!(HashClass::ALL.map(share), [4, 2, 1]);
        assert_eq!(first[0].0, HashClass::KnownLogin);
    }

    #[test]
    fn networks_take_turns_and_the_largest_is_refused_first() {
        let mut queue = HashQueue::new(1);
        for job in 0..8 {
            queue.push(origin(HashClass::Login, 1), job).unwrap();
        }
        assert_eq!(queue.push(origin(HashClass::Login, 1), 8), Err(QueueFull), "half of the class");
        for job in 10..18 {
            queue.push(origin(HashClass::Login, 2), job).unwrap();
        }
        queue.push(origin(HashClass::Login, 3), 20).expect("another makes room");
        let order: Vec<_> = drain(&mut queue).into_iter().map(|(_, job)| job).collect();
        assert_eq!(order[..3], [0, 10, 20], "one hash for each network");
        assert_eq!(order.len(), 16);
        assert!(!order.contains(&17) || !order.contains(&7), "the newest of the most");
    }

    #[test]
    fn full_class_of_equals_refuses_the_next() {
        let mut queue = HashQueue::new(1);
        assert_eq!(push_many(&mut queue, HashClass::Login, 16, 16), 16);
        assert_eq!(queue.push(origin(HashClass::Login, 200), 0), Err(QueueFull));
        queue.push(origin(HashClass::KnownLogin, 200), 0).unwrap();
    }

    #[test]
    fn new_passwords_keep_at_most_half_of_the_threads() {
        let mut queue = HashQueue::new(4);
        push_many(&mut queue, HashClass::NewPassword, 20, 20);
        let started: Vec<_> = std::iter::from_fn(|| queue.start_next()).collect();
        assert_eq!(started.len(), 2);
        assert_eq!(queue.expected_rounds(origin(HashClass::Login, 1)), None);
        assert!(queue.expected_rounds(origin(HashClass::NewPassword, 99)) > Some(5));
        queue.push(origin(HashClass::Login, 1), 0).unwrap();
        assert_eq!(queue.start_next().unwrap().0.class, HashClass::Login);
        assert_eq!(queue.start_next(), None);
        queue.finish(started[0].0);
        assert_eq!(queue.start_next().unwrap().0.class, HashClass::NewPassword);
    }

    #[test]
    fn expected_rounds_grow_with_the_own_requests() {
        let mut queue = HashQueue::new(1);
        let (ada, bob) = (origin(HashClass::Login, 1), origin(HashClass::Login, 2));
        assert_eq!(queue.expected_rounds(ada), None);
        for job in 0..6 {
            queue.push(ada, job).unwrap();
        }
        queue.start_next().unwrap();
        assert_eq!(queue.expected_rounds(ada), Some(7));
        assert_eq!(queue.expected_rounds(bob), Some(3), "a running one, one of theirs, its own");
    }
}
