//! Places for plain reads of the store: whoever changes something reads, too, and must not wait behind a flood of them.

use std::time::Duration;

use tokio::sync::Semaphore;

use crate::{error::Error, store::Unavailable};

/// Most reads at a time, those that wait for a connection to the store included.
const PLACES: usize = 1024;

/// Places for plain reads.
pub struct Reads(Semaphore);

impl Default for Reads {
    fn default() -> Self {
        Self(Semaphore::new(PLACES))
    }
}

impl Reads {
    /// Reads, if there is a place.
    ///
    /// # Errors
    /// `overloaded`, at once: too many read. `store_unavailable`: the store does not answer, or not in time.
    pub async fn run<T>(
        &self,
        within: Duration,
        read: impl Future<Output = Result<T, Unavailable>>,
    ) -> Result<T, Error> {
        let _place = self.0.try_acquire().map_err(|_| Error::overloaded())?;
        tokio::time::timeout(within, read).await.unwrap_or(Err(Unavailable)).map_err(Error::from)
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
    async fn a_flood_of_reads_is_refused_at_once_and_leaves_no_trace() {
        let reads = Reads::default();
        {
            let mut flood: Vec<_> = (0..PLACES)
                .map(|_| Box::pin(reads.run(MINUTE, pending::<Result<(), _>>())))
                .collect();
            assert!(flood.iter_mut().all(|read| read.now_or_never().is_none()));
            assert_eq!(
                reads.run(MINUTE, ready(Ok(1))).await.unwrap_err().code,
                ErrorCode::Overloaded
            );
        }
        let later = join_all((0..PLACES).map(|n| reads.run(MINUTE, ready(Ok(n))))).await;
        assert!(later.iter().all(Result::is_ok));
    }
}
