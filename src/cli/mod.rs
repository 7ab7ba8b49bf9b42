//! The command line.

mod admin;
mod audit;
mod health;
mod import;
mod serve;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::{app, broker, config::Settings, http, telemetry::Telemetry};

/// A commerce backend: accounts, catalog, stock, carts, checkout, orders, and their events.
#[derive(Parser)]
#[command(
    name = "souk",
    version,
    after_help = "\
Settings are read from config/default.toml, config/<SOUK_ENV>.toml, .env, and environment
variables such as SOUK__HTTP__BIND; the last one wins. `souk config` prints the result."
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server (default).
    Serve,
    /// Create or update products from an NDJSON or CSV file.
    Import(ImportArguments),
    /// Create an admin account, or promote an existing account.
    Admin(AdminArguments),
    /// Check stock against its movements and the orders.
    Audit(AuditArguments),
    /// Ask the node on this machine, which has the same settings, whether it is ready.
    Health,
    /// Print the effective settings, with secrets hidden.
    Config,
    /// Print the OpenAPI document.
    Openapi,
    /// Print the AsyncAPI document.
    Asyncapi,
}

/// Arguments of `souk import`.
#[derive(clap::Args)]
#[command(after_help = "\
A line with the SKU of an existing product updates that product; any other line creates one.
Invalid lines are reported and do not stop the import.

An import that was interrupted continues where it stopped when the same command is run again. Until
it is complete, FILE.souk-import says how far it is.

Without --server, the import opens the store itself; stop a server on the embedded store first.

Exit code: 0 if every line was imported, 1 if any line failed.")]
pub(crate) struct ImportArguments {
    /// The file to import: .ndjson, .jsonl, .csv or .tsv.
    file: PathBuf,
    /// Upload the file to a running server, with an admin's access token in SOUK_TOKEN.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Check every line and print what would be done, without changing anything.
    #[arg(long)]
    dry_run: bool,
    /// Ignore unknown columns and members instead of rejecting them.
    #[arg(long)]
    ignore_unknown: bool,
    /// Import from the first line, even if an import of this file was interrupted.
    #[arg(long)]
    restart: bool,
}

/// Arguments of `souk admin`.
#[derive(clap::Args)]
#[command(after_help = "\
A new account gets a generated password, which is printed once, unless --password-stdin is given.
An existing account keeps its password.")]
pub(crate) struct AdminArguments {
    /// The e-mail address of the account.
    email: String,
    /// Read the password of the new account from standard input.
    #[arg(long)]
    password_stdin: bool,
    /// Give the account a new password, which is printed once. Its sessions end, and a block is
    /// lifted. Its role stays.
    #[arg(long, conflicts_with = "password_stdin")]
    reset_password: bool,
}

/// Arguments of `souk audit`.
#[derive(clap::Args)]
#[command(after_help = "\
Without --repair, the audit only reports. With it, every correction is a movement with the reason
`audit`:

  on_hand   is kept, since it is the most recent count; an `adjusted` movement corrects the ledger
  reserved  becomes what open orders need, by a `reserved` or `released` movement
  orders    get the movements that they lack

With --deep, the database checks itself first: SQLite its whole file, MongoDB each collection in the
background. Damage is printed, and nothing is repaired then; restore a backup.

Gaps in the sequence of movements, and movements of an unknown order, are only reported.

Stop the server to audit the embedded store, or use POST /api/admin/audit while it runs. On MongoDB,
the audit can run beside the servers.

Exit code: 0 if there are no findings, 1 if there are any, even if all were corrected.")]
pub(crate) struct AuditArguments {
    /// Write correcting movements.
    #[arg(long)]
    repair: bool,
    /// Also check the database itself, page by page, and its indexes.
    #[arg(long)]
    deep: bool,
}

/// Runs the command line. The exit code is 0 on success, 1 when the command fails, and 2 when the
/// arguments or settings are invalid.
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
    if let Err(error) = app::broker_uri(&settings) {
        return usage_error(&error.to_string());
    }
    if let Some(Command::Config) = arguments.command {
        return exit_code(print_line(&settings.redacted_toml()));
    }
    if let Some(Command::Health) = arguments.command {
        return exit_code(health::run(&settings));
    }
    let telemetry = match Telemetry::start(&settings.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return usage_error(&format!("{error:#}")),
    };
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    let result = match arguments.command.unwrap_or(Command::Serve) {
        Command::Import(import) => import::run(&settings, &import),
        Command::Admin(admin) => admin::run(&settings, &admin),
        Command::Audit(audit) => audit::run(&settings, &audit),
        Command::Serve
        | Command::Health
        | Command::Config
        | Command::Openapi
        | Command::Asyncapi => serve::run(&settings),
    };
    telemetry.shut_down();
    exit_code(result)
}

fn print_openapi() -> anyhow::Result<()> {
    print_line(&http::openapi_document().to_pretty_json()?)
}

fn print_asyncapi() -> anyhow::Result<()> {
    print_line(&serde_json::to_string_pretty(&broker::asyncapi::build_document())?)
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
