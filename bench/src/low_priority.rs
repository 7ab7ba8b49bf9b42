//! Threads for clients that stand for other machines.

use tokio::runtime::{Builder, Runtime};

/// A runtime whose threads have the lowest priority. Real load comes from other machines; here, its
/// clients must not take the processor from the shop and from whoever measures it.
pub fn low_priority_runtime() -> std::io::Result<Runtime> {
    let lower_priority = || match rustix::process::nice(19) {
        Ok(_) => {}
        Err(error) => eprintln!("failed to lower the priority of the clients: {error}"),
    };
    Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(lower_priority)
        .enable_all()
        .build()
}
