//! Limits concurrent direct reads of the store, so that a flood of them does not delay the reads
//! that writes need.

use std::time::Duration;

use tokio::sync::Semaphore;

use crate::{error::Error, store::StoreUnavailable};

/// The maximum number of concurrent reads, including those that wait for a connection.
const MAX_CONCURRENT_READS: usize = 1024;

/// Limits concurrent direct reads of the store.
pub struct ReadLimiter(Semaphore);

impl Default for ReadLimiter {
    fn default() -> Self {
        Self(Semaphore::new(MAX_CONCURRENT_READS))
    }
}

impl ReadLimiter {
    /// Runs `read` with a time limit, unless too many reads are running.
    ///
    /// # Errors
    /// `overloaded` at once if too many reads are running; `store_unavailable` if the store fails
    /// or exceeds the time limit.
    pub async fn run<T>(
        &self,
        within: Duration,
        read: impl Future<Output = Result<T, StoreUnavailable>>,
    ) -> Result<T, Error> {
        let _permit = self.0.try_acquire().map_err(|_| Error::overloaded())?;
        tokio::time::timeout(within, read)
            .await
            .unwrap_or(Err(StoreUnavailable))
            .map_err(Error::from)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::{FutureExt, future::join_all};

    use super::*;
    use crate::error::ErrorCode;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn excess_reads_are_rejected_and_permits_are_released() {
        let reads = ReadLimiter::default();
        {
            let mut flood: Vec<_> = (0..MAX_CONCURRENT_READS)
                .map(|_| Box::pin(reads.run(MINUTE, pending::<Result<(), _>>())))
                .collect();
            assert!(flood.iter_mut().all(|read| read.now_or_never().is_none()));
            assert_eq!(
                reads.run(MINUTE, ready(Ok(1))).await.unwrap_err().code,
                ErrorCode::Overloaded
            );
        }
        let later =
            join_all((0..MAX_CONCURRENT_READS).map(|n| reads.run(MINUTE, ready(Ok(n))))).await;
        assert!(later.iter().all(Result::is_ok));
    }
}
