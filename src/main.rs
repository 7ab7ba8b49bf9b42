//! The `souk` binary; `souk::cli` has the commands.

use mimalloc::MiMalloc;

/// Gives freed memory back to the system. The system's allocator keeps most of what the index of a
/// large catalog frees, since several threads allocate at the same time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    souk::cli::run()
}
