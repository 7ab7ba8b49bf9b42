//! How far a node has stopped.

/// Whether a node takes requests, and whether it says so. A phase is never followed by an earlier
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopPhase {
    /// It serves requests.
    Running,
    /// It serves requests, and tells load balancers that it is not ready.
    NotReady,
    /// It finishes the requests in progress.
    Draining,
}
