//! The command line.

mod admin;
mod arguments;
mod audit;
mod backup;
mod completions;
mod health;
mod import;
mod login;
mod password_input;
mod remote_admin;
mod serve;
mod server;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser as _;

use self::arguments::{
    AdminArguments, Arguments, AuditArguments, BackupArguments, Command, CompletionsArguments,
    ImportArguments, LoginArguments, LogoutArguments, ManArguments, RestoreArguments,
};
use crate::{app, config::Settings, http, telemetry::Telemetry};

/// Runs the command line. The exit code is 0 on success, 1 when the command fails, and 2 when the
/// arguments or settings are invalid.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Command::Completions(wanted)) => return exit_code(completions::print(wanted)),
        Some(Command::Man(wanted)) => return exit_code(completions::print_man(wanted)),
        Some(Command::Openapi) => return exit_code(print_openapi()),
        Some(Command::Asyncapi) => return exit_code(print_asyncapi()),
        _ => {}
    }
    let settings = match Settings::load(arguments.config.as_deref()) {
        Ok(settings) => settings,
        Err(error) => return usage_error(&error.to_string()),
    };
    if let Err(error) = app::broker_uri(&settings) {
        return usage_error(&error.to_string());
    }
    match &arguments.command {
        Some(Command::Config) => return exit_code(print_settings(&settings)),
        Some(Command::Health) => return exit_code(health::run(&settings)),
        Some(Command::Backup(backup)) => return exit_code(backup::back_up(&settings, backup)),
        Some(Command::Restore(restore)) => return exit_code(backup::restore(&settings, restore)),
        Some(Command::Login(login)) => return exit_code(login::run(&settings, login)),
        Some(Command::Logout(logout)) => return exit_code(login::run_logout(&settings, logout)),
        _ => {}
    }
    let telemetry = match Telemetry::start(&settings.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return usage_error(&format!("{error:#}")),
    };
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    let result = match &arguments.command {
        Some(Command::Import(import)) => import::run(&settings, import),
        Some(Command::Admin(admin)) => admin::run(&settings, admin),
        Some(Command::Audit(audit)) => audit::run(&settings, audit),
        // The others have returned.
        _ => serve::run(&settings),
    };
    telemetry.shut_down();
    exit_code(result)
}

fn print_settings(settings: &Settings) -> anyhow::Result<()> {
    print_line("# Read from these sources; the last one wins:")?;
    for source in settings.sources() {
        print_line(&format!("#   {source}"))?;
    }
    print_line(&format!("\n{}", settings.redacted_toml()))
}

fn print_openapi() -> anyhow::Result<()> {
    print_line(&http::openapi_json()?)
}

fn print_asyncapi() -> anyhow::Result<()> {
    print_line(&http::asyncapi_json()?)
}

/// Writes a line to standard output. A closed pipe, as after `| head`, is not an error.
pub(crate) fn print_line(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// A number and its noun, such as `1 line` or `2 lines`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

fn usage_error(message: &str) -> ExitCode {
    print_error(message);
    ExitCode::from(2)
}

fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a line to standard error, and ignores that it may be closed.
fn print_error(message: &str) {
    drop(writeln!(io::stderr(), "souk: {message}"));
}

/// Runs `work` in an actix system, with a separate runtime for the drivers that outlives it.
pub(crate) fn run_in_system<F: Future<Output = anyhow::Result<()>>>(
    work: impl FnOnce(tokio::runtime::Handle) -> F,
) -> anyhow::Result<()> {
    // Runtimes panic when they can open no file.
    app::require_descriptors()?;
    let drivers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("souk-driver")
        .enable_all()
        .build()?;
    let system = actix_rt::System::new();
    let result = system.block_on(work(drivers.handle().clone()));
    actix_rt::System::current().stop();
    // After a failed start, dropping the system polls actors for the first time, and their timers
    // need a runtime.
    let _timers = drivers.enter();
    drop(system);
    result
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn nouns_agree_with_their_number() {
        let counted = [0, 1, 2].map(|number| count(number, "line"));
        assert_eq!(counted, ["0 lines", "1 line", "2 lines"]);
    }
}
