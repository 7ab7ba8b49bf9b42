//! The command line.

mod admin;
mod audit;
mod import;
mod serve;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::{app, broker, config::Settings, http, telemetry};

/// A commerce core: accounts, catalog, stock, carts, checkout and orders, and the events of them.
#[derive(Parser)]
#[command(
    name = "souk",
    version,
    after_help = "Settings: config/default.toml, config/$SOUK_ENV.toml, SOUK__SECTION__KEY."
)]
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
    /// Compare stock with its movements and with the orders, and say what is off.
    Audit(AuditArguments),
    /// Show the settings in effect, secrets hidden.
    Config,
    /// Print the OpenAPI document.
    Openapi,
    /// Print the AsyncAPI document.
    Asyncapi,
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

/// What `souk audit` takes.
#[derive(clap::Args)]
#[command(after_help = "\
Exit code: 0 when all agrees, 1 when something was off, also when it was corrected.

Where they disagree, on_hand is what the stock says: it was counted last, and is what is sold from. Its ledger gets an `adjusted`
movement. reserved is what open orders need, by a `reserved` or `released` movement. What is missing of an order's movements is
written in its name. All of them have the reason `audit`. Gaps in the numbers of movements, and movements of an order that is not
there, are told but not corrected.

On the embedded store the shop has to be stopped; to audit an open one: POST /api/admin/audit. On MongoDB this runs beside it.")]
pub(crate) struct AuditArguments {
    /// Write movements that make things agree again.
    #[arg(long)]
    repair: bool,
}

/// Reads the command line and does what it says. Exit codes: 0, 1 for what failed, 2 for what was asked wrongly.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Openapi) => return exit_code(print_openapi()),
        Some(Command::Asyncapi) => return exit_code(print_asyncapi()),
        _ => {}
    }
    let settings = match Settings::load() {
        Ok(settings) => settings,
        Err(error) => return usage_error(&error.to_string()),
    };
    if let Err(refusal) = app::broker_uri(&settings) {
        return usage_error(&refusal.to_string());
    }
    if let Some(Command::Config) = arguments.command {
        return exit_code(print_line(&settings.redacted_toml()));
    }
    if let Some(refusal) = settings.unsupported_setting() {
        return usage_error(&refusal);
    }
    telemetry::init_logging(&settings.telemetry);
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    exit_code(match arguments.command.unwrap_or(Command::Serve) {
        Command::Import(import) => import::run(&settings, &import),
        Command::Admin(admin) => admin::run(&settings, &admin),
        Command::Audit(audit) => audit::run(&settings, &audit),
        Command::Serve | Command::Config | Command::Openapi | Command::Asyncapi => {
            serve::run(&settings)
        }
    })
}

fn print_openapi() -> anyhow::Result<()> {
    print_line(&http::openapi_document().to_pretty_json()?)
}

fn print_asyncapi() -> anyhow::Result<()> {
    print_line(&serde_json::to_string_pretty(&broker::asyncapi::build_document())?)
}

/// Writes to standard output; a reader that has gone, like `head`, is no fault.
pub(crate) fn print_line(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn usage_error(message: &str) -> ExitCode {
    print_error(message);
    ExitCode::from(2)
}

fn exit_code(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// One line on standard error, which may be gone.
fn print_error(message: &str) {
    drop(writeln!(io::stderr(), "souk: {message}"));
}

/// Runs `work` in an actix system, beside a runtime for the drivers that outlives it.
pub(crate) fn run_in_system<F: Future<Output = anyhow::Result<()>>>(
    work: impl FnOnce(tokio::runtime::Handle) -> F,
) -> anyhow::Result<()> {
    let drivers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("souk-driver")
        .enable_all()
        .build()?;
    let system = actix_rt::System::new();
    let done = system.block_on(work(drivers.handle().clone()));
    actix_rt::System::current().stop();
    // An actor that had no turn before a start failed gets it as it is dropped, and may want a timer.
    let _timers = drivers.enter();
    drop(system);
    done
}
