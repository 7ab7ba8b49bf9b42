//! The `souk` binary; `souk::cli` has the commands.

/// A request makes a few dozen small allocations. The C library's allocator makes reads a fifth
/// slower than this one, and keeps more memory after a burst of connections.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    souk::cli::run()
}
