//! Reads the e-mail addresses of accounts for many checkouts at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::Instant,
};

use super::{Store, StoreUnavailable};
use crate::domain::{account::Email, ids::UserId};

/// The most addresses that one read asks for, so that no caller waits for a long one.
const MAX_READ: usize = 100;

/// The time from the beginning of a read to that of the next one, for each caller that the read
/// answers. On a busy shop a read then answers many callers. A caller that comes later after the
/// last read does not wait.
const INTERVAL_PER_CALLER: Duration = Duration::from_micros(500);

/// The longest interval on the embedded store, and on a shared one, to which a read is a request:
/// always a small part of the time that a commit takes.
const MAX_INTERVAL: Duration = Duration::from_millis(1);
const MAX_INTERVAL_OF_SHARED_STORE: Duration = Duration::from_millis(5);

type Answer = Result<Option<Email>, StoreUnavailable>;
type Emails = Result<HashMap<UserId, Email>, StoreUnavailable>;

/// Reads addresses from the store. A busy shop reads seldom: callers that come during a read share
/// the next one. An address is never older than the call.
pub struct AccountEmails {
    store: Arc<dyn Store>,
    reads: SharedReads,
}

impl AccountEmails {
    /// Reads from `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        let max_interval =
            if store.is_shared() { MAX_INTERVAL_OF_SHARED_STORE } else { MAX_INTERVAL };
        Self { store, reads: SharedReads::new(max_interval) }
    }

    /// The e-mail address of an account, as it is now; `None` without an account.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn find(&self, user: UserId) -> Answer {
        self.reads.find(user, |users| self.store.find_emails(users)).await
    }
}

/// Reads that callers share, one at a time.
struct SharedReads {
    max_interval: Duration,
    waiting: Mutex<Vec<Waiting>>,
    /// Held by the caller that reads for all: when the next read may begin.
    reading: tokio::sync::Mutex<Option<Instant>>,
}

/// A caller that waits for an address.
struct Waiting {
    user: UserId,
    answer: oneshot::Sender<Answer>,
}

impl SharedReads {
    fn new(max_interval: Duration) -> Self {
        Self { max_interval, waiting: Mutex::default(), reading: tokio::sync::Mutex::default() }
    }

    /// Finds an address. The caller runs `read` for itself and those that wait with it, unless
    /// another caller does.
    async fn find<F>(&self, user: UserId, read: impl Fn(Vec<UserId>) -> F) -> Answer
    where
        F: Future<Output = Emails>,
    {
        loop {
            let (sender, mut answer) = oneshot::channel();
            self.lock_waiting().push(Waiting { user, answer: sender });
            let answered = tokio::select! {
                biased;
                answered = &mut answer => answered.ok(),
                mut next = self.reading.lock() => {
                    self.read_until_answered(&mut answer, &mut next, &read).await
                }
            };
            // The caller that read for this one may have been dropped in the middle of it.
            if let Some(answered) = answered {
                return answered;
            }
        }
    }

    /// Reads for those who wait, the first ones first, until `answer` has arrived. Nobody else
    /// reads meanwhile.
    async fn read_until_answered<F>(
        &self,
        answer: &mut oneshot::Receiver<Answer>,
        next: &mut Option<Instant>,
        read: &impl Fn(Vec<UserId>) -> F,
    ) -> Option<Answer>
    where
        F: Future<Output = Emails>,
    {
        loop {
            match answer.try_recv() {
                Ok(answered) => return Some(answered),
                Err(TryRecvError::Closed) => return None,
                Err(TryRecvError::Empty) => {}
            }
            if let Some(next) = *next {
                tokio::time::sleep_until(next).await;
            }
            let waiting = self.take_waiting();
            let callers = u32::try_from(waiting.len()).unwrap_or(u32::MAX);
            *next =
                Some(Instant::now() + self.max_interval.min(INTERVAL_PER_CALLER * callers.max(1)));
            let found = read(waiting.iter().map(|waiting| waiting.user).collect()).await;
            for Waiting { user, answer } in waiting {
                let email = found.as_ref().map(|emails| emails.get(&user).cloned());
                // The caller may have given up.
                let _ = answer.send(email.map_err(|error| *error));
            }
        }
    }

    fn take_waiting(&self) -> Vec<Waiting> {
        let mut waiting = self.lock_waiting();
        // Those who have given up need no answer.
        waiting.retain(|waiting| !waiting.answer.is_closed());
        let taken = waiting.len().min(MAX_READ);
        waiting.drain(..taken).collect()
    }

    fn lock_waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    /// A store in which every account has an address. A read waits until it is let through.
    struct SlowStore {
        reads: SharedReads,
        permits: Semaphore,
        /// How many addresses each read asks for.
        asked: Mutex<Vec<usize>>,
    }

    impl SlowStore {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                reads: SharedReads::new(MAX_INTERVAL),
                permits: Semaphore::new(0),
                asked: Mutex::default(),
            })
        }

        fn spawn_find(self: &Arc<Self>, user: UserId) -> tokio::task::JoinHandle<Answer> {
            let store = Arc::clone(self);
            tokio::spawn(async move { store.reads.find(user, |users| store.read(users)).await })
        }

        async fn read(&self, users: Vec<UserId>) -> Emails {
            self.asked.lock().unwrap().push(users.len());
            self.permits.acquire().await.unwrap().forget();
            Ok(users.into_iter().map(|user| (user, email_of(user))).collect())
        }

        async fn wait_until_begun(&self, reads: usize) {
            while self.asked.lock().unwrap().len() < reads {
                tokio::task::yield_now().await;
            }
        }

        async fn wait_until_waiting(&self, callers: usize) {
            while self.reads.lock_waiting().len() < callers {
                tokio::task::yield_now().await;
            }
        }
    }

    fn email_of(user: UserId) -> Email {
        Email::from_stored(format!("{user}@example.com"))
    }

    #[tokio::test]
    async fn callers_during_a_read_share_the_next_ones() {
        let store = SlowStore::new();
        let first = UserId::new();
        let mut finds = vec![(first, store.spawn_find(first))];
        store.wait_until_begun(1).await;
        for _ in 0..150 {
            let user = UserId::new();
            finds.push((user, store.spawn_find(user)));
        }
        store.wait_until_waiting(150).await;
        store.permits.add_permits(3);
        for (user, find) in finds {
            assert_eq!(find.await.unwrap(), Ok(Some(email_of(user))));
        }
        assert_eq!(*store.asked.lock().unwrap(), [1, 100, 50]);
    }

    #[tokio::test]
    async fn caller_outlives_the_one_that_read_for_it() {
        let store = SlowStore::new();
        let before = store.spawn_find(UserId::new());
        store.wait_until_begun(1).await;
        let reader = store.spawn_find(UserId::new());
        store.wait_until_waiting(1).await;
        let user = UserId::new();
        let other = store.spawn_find(user);
        store.wait_until_waiting(2).await;
        let gone = store.spawn_find(UserId::new());
        store.wait_until_waiting(3).await;
        gone.abort();
        gone.await.unwrap_err();
        store.permits.add_permits(1);
        before.await.unwrap().unwrap();
        store.wait_until_begun(2).await;
        reader.abort();
        store.permits.add_permits(1);
        assert_eq!(other.await.unwrap(), Ok(Some(email_of(user))));
        // Without the one that has given up.
        assert_eq!(*store.asked.lock().unwrap(), [1, 2, 1]);
    }
}
