//! The `souk` binary; `souk::cli` has the commands.

/// A request makes a few dozen small allocations, and several threads allocate at the same time.
/// The C library's allocator makes reads a fifth slower than this one, and keeps most of what a
/// burst of connections or the index of a large catalog has freed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    souk::cli::run()
}
