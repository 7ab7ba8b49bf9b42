//! Tests of the hasher and its threads.

use super::{super::hash_queue::HashClass, *};
use crate::error::ErrorCode;

const LOGIN: HashOrigin =
    HashOrigin { class: HashClass::Login, network: HashOrigin::OPERATOR.network };

fn single_thread_hasher(cost: u32) -> PasswordHasher {
    PasswordHasher::start(cost, NonZeroUsize::new(1))
}

fn password_from(text: &str) -> Password {
    Password::unvalidated(text.into())
}

fn distant_deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn hash(hasher: &PasswordHasher, text: &str) -> Result<String, Error> {
    hasher.hash(LOGIN, password_from(text), distant_deadline()).await
}

async fn verify(hasher: &PasswordHasher, text: &str, hash: Option<&str>) -> Result<bool, Error> {
    let hash = hash.map(str::to_owned);
    hasher.verify(LOGIN, password_from(text), hash, distant_deadline()).await
}

/// Occupies the only thread until the sender is used. Returns when the thread is occupied.
async fn block_thread(hasher: &PasswordHasher) -> std::sync::mpsc::Sender<()> {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (started, running) = oneshot::channel();
    let job = hasher.clone();
    actix::spawn(async move {
        let block = move || {
            started.send(()).unwrap();
            Ok(wait.recv().is_ok())
        };
        job.run_job(LOGIN, distant_deadline(), block).await
    });
    running.await.unwrap();
    go
}

#[actix::test]
async fn hash_verifies_only_its_password() {
    let hasher = single_thread_hasher(4);
    let hashed = hash(&hasher, "correct horse").await.unwrap();
    assert!(hasher.has_current_cost(&hashed));
    assert!(!single_thread_hasher(5).has_current_cost(&hashed));
    assert_eq!(verify(&hasher, "correct horse", Some(&hashed)).await, Ok(true));
    assert_eq!(verify(&hasher, "correct house", Some(&hashed)).await, Ok(false));
    assert_eq!(verify(&hasher, "correct horse", None).await, Ok(false));
    assert_eq!(hasher.run_count(), 4);
}

/// Otherwise a client that sends one request after the other is refused at a full share.
#[actix::test]
async fn place_is_free_when_the_caller_hears_of_the_result() {
    let hasher = single_thread_hasher(4);
    for _ in 0..200 {
        hash(&hasher, "correct horse").await.unwrap();
        assert_eq!(hasher.running_count(), 0);
    }
}

#[actix::test]
async fn every_comparison_does_the_same_work() {
    let old = hash(&single_thread_hasher(4), "correct horse").await.unwrap();
    let highest = hash(&single_thread_hasher(8), "correct horse").await.unwrap();
    let hasher = single_thread_hasher(6);
    let current = hash(&hasher, "correct horse").await.unwrap();
    let mut expected = 1 << 6;
    for _ in 0..2 {
        for hash in [None, Some(&*old), Some(&*current)] {
            for password in ["correct horse", "correct house"] {
                let before = hasher.work_units();
                let matches = verify(&hasher, password, hash).await.unwrap();
                assert_eq!(matches, hash.is_some() && password == "correct horse");
                assert_eq!(hasher.work_units() - before, expected, "{hash:?}");
            }
        }
        // The cost was higher once, and some accounts still have it.
        hasher.raise_reference_cost(&highest);
        expected = 1 << 8;
    }
    let before = hasher.work_units();
    assert_eq!(verify(&hasher, "correct horse", Some(&highest)).await, Ok(true));
    assert_eq!(hasher.work_units() - before, expected);
}

#[actix::test]
async fn overlong_password_is_rejected_not_truncated() {
    let hasher = single_thread_hasher(4);
    let hashed = hash(&hasher, &"x".repeat(71)).await.unwrap();
    let too_long = "x".repeat(72);
    assert_eq!(hash(&hasher, &too_long).await.unwrap_err().code, ErrorCode::Internal);
    assert_eq!(
        verify(&hasher, &too_long, Some(&hashed)).await.unwrap_err().code,
        ErrorCode::Internal
    );
}

#[actix::test]
async fn full_queue_rejects_and_expired_jobs_are_skipped() {
    let hasher = single_thread_hasher(4);
    let go = block_thread(&hasher).await;
    let late = Instant::now() + Duration::from_secs(1);
    let waiting: Vec<_> = (1..=7)
        .map(|_| {
            let hasher = hasher.clone();
            actix::spawn(async move { hasher.verify(LOGIN, password_from("x"), None, late).await })
        })
        .collect();
    while hasher.waiting_count() < 7 {
        tokio::task::yield_now().await;
    }
    assert_eq!(verify(&hasher, "x", None).await, Err(Error::overloaded()));
    tokio::time::sleep_until(late.into()).await;
    go.send(()).unwrap();
    for job in waiting {
        assert_eq!(job.await.unwrap(), Err(Error::overloaded()));
    }
    assert_eq!(hasher.run_count(), 1, "expired jobs do not run");
    assert_eq!(verify(&hasher, "x", None).await, Ok(false));
}

#[actix::test]
async fn job_that_would_miss_its_deadline_is_rejected() {
    let hasher = single_thread_hasher(4);
    hasher.pool.0.latency.record(Duration::from_secs(3600));
    let go = block_thread(&hasher).await;
    assert_eq!(verify(&hasher, "x", None).await, Err(Error::overloaded()), "it would take an hour");
    go.send(()).unwrap();
    while hasher.pool.0.lock_state().queue.expected_rounds(LOGIN).is_some() {
        tokio::task::yield_now().await;
    }
    assert!(hasher.pool.0.latency.total_for(1) > Duration::from_secs(60));
    verify(&hasher, "x", None).await.expect("an idle thread runs a job despite the estimate");
}

#[actix::test]
async fn panicking_job_does_not_kill_its_thread() {
    let hasher = single_thread_hasher(4);
    let panicking = || -> BcryptResult<()> { panic!("on purpose") };
    assert_eq!(hasher.run_job(LOGIN, distant_deadline(), panicking).await, Err(Error::internal()));
    verify(&hasher, "x", None).await.unwrap();
}

#[actix::test]
async fn threads_end_with_the_last_clone() {
    let hasher = single_thread_hasher(4);
    let shared = Arc::downgrade(&hasher.pool.0);
    drop(hasher);
    while shared.strong_count() > 0 {
        thread::yield_now();
    }
}
