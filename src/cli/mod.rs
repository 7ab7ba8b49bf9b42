//! The command line.

mod admin;
mod import;
mod serve;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::{config::Settings, http, telemetry};

/// A commerce core: accounts, catalog, stock and carts.
#[derive(Parser)]
#[command(name = "souk", version, after_help = "Settings: config/default.toml, config/$SOUK_ENV.toml, SOUK__SECTION__KEY.")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the shop (the default).
    Serve,
    /// Create and update products from a file, by sku.
    Import(ImportArguments),
    /// Make an admin: a new account, or one that exists.
    Admin(AdminArguments),
    /// Show the settings in effect, secrets hidden.
    Config,
    /// Print the OpenAPI document.
    Openapi,
}

/// What `souk import` takes.
#[derive(clap::Args)]
pub(crate) struct ImportArguments {
    /// A .ndjson or .csv file.
    file: PathBuf,
    /// Send the file to a running server, with an admin's token in SOUK_TOKEN, instead of opening the store.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
}

/// What `souk admin` takes.
#[derive(clap::Args)]
pub(crate) struct AdminArguments {
    /// The account's e-mail address.
    email: String,
    /// Read the password from standard input; without it one is made and printed once.
    #[arg(long)]
    password_stdin: bool,
}

/// Reads the command line and does what it says. Exit codes: 0, 1 for what failed, 2 for what was asked wrongly.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Openapi) = arguments.command {
        return finish(openapi());
    }
    let settings = match Settings::load() {
        Ok(settings) => settings,
        Err(error) => return usage(&error.to_string()),
    };
    if let Some(Command::Config) = arguments.command {
        return finish(say(&settings.redacted_toml()));
    }
    if let Some(refusal) = settings.unsupported() {
        return usage(&refusal);
    }
    telemetry::init(&settings.telemetry);
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    finish(match arguments.command.unwrap_or(Command::Serve) {
        Command::Import(import) => import::run(&settings, &import),
        Command::Admin(admin) => admin::run(&settings, &admin),
        Command::Serve | Command::Config | Command::Openapi => serve::run(&settings),
    })
}

fn openapi() -> anyhow::Result<()> {
    say(&http::document().to_pretty_json()?)
}

/// Writes to standard output; a reader that has gone, like `head`, is no fault.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn usage(message: &str) -> ExitCode {
    complain(message);
    ExitCode::from(2)
}

fn finish(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// One line on standard error, which may be gone.
fn complain(message: &str) {
    drop(writeln!(io::stderr(), "souk: {message}"));
}

/// Runs `work` in an actix system, beside a runtime for the drivers that outlives it.
pub(crate) fn in_system<F: Future<Output = anyhow::Result<()>>>(
    work: impl FnOnce(tokio::runtime::Handle) -> F,
) -> anyhow::Result<()> {
    let drivers =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("souk-driver").enable_all().build()?;
    let system = actix_rt::System::new();
    let done = system.block_on(work(drivers.handle().clone()));
    actix_rt::System::current().stop();
    // An actor that had no turn before a start failed gets it as it is dropped, and may want a timer.
    let _timers = drivers.enter();
    drop(system);
    done
}
