//! The `souk` binary; see `souk::cli`.

fn main() -> std::process::ExitCode {
    souk::cli::run()
}
