//! The `souk` binary; `souk::cli` has the commands.

fn main() -> std::process::ExitCode {
    souk::cli::run()
}
