//! Catches panics. Uncaught, a panic would end the task, or the thread and every actor on it.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::error::Error;

/// Runs `work`. If it panics, returns the result of `on_panic`.
pub(crate) async fn catch_panic<T>(
    work: impl Future<Output = T>,
    on_panic: impl FnOnce() -> T,
) -> T {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| on_panic())
}

/// Runs a command of `actor`. A panic is logged and becomes an internal error.
pub(crate) async fn guarded_command<T>(
    actor: &str,
    command: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    catch_panic(command, || {
        tracing::error!(actor, "a command panicked; the actor continues");
        Err(Error::internal())
    })
    .await
}

/// Runs one iteration of a periodic task. A panic is logged and becomes `None`, so that the task
/// continues.
pub(crate) async fn guarded_tick<T>(task: &str, tick: impl Future<Output = T>) -> Option<T> {
    catch_panic(async { Some(tick.await) }, || {
        tracing::error!(task, "a background task panicked; it runs again at its next tick");
        None
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    #[tokio::test]
    async fn panic_becomes_a_value() {
        assert_eq!(catch_panic(async { panic!("in the work") }, || 7).await, 7);
        assert_eq!(catch_panic(async { 3 }, || 7).await, 3);
    }

    #[tokio::test]
    async fn panic_in_a_command_becomes_an_internal_error() {
        let result = guarded_command::<()>("test", async { panic!("in the command") }).await;
        assert_eq!(result.unwrap_err().code, ErrorCode::Internal);
    }

    #[tokio::test]
    async fn panic_ends_only_its_own_tick() {
        let tick =
            async |number: u32| guarded_tick("test", async move { assert_ne!(number, 1) }).await;
        assert_eq!((tick(0).await, tick(1).await, tick(2).await), (Some(()), None, Some(())));
    }
}
