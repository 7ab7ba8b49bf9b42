//! Whether the store can be read and written now, as probes ask.

use std::time::Duration;

use super::{Store, writer::CommitWriter};

/// Whether the store answers a read and takes a change within `time`, and the writer runs.
pub(crate) async fn is_available(store: &dyn Store, writer: &CommitWriter, time: Duration) -> bool {
    let reads_and_writes = async {
        store.ping().await?;
        store.check_writable().await
    };
    let checked = tokio::time::timeout(time, reads_and_writes).await;
    matches!(checked, Ok(Ok(()))) && writer.is_running()
}
