//! What the command line accepts.

use std::path::PathBuf;

use clap::{Parser, Subcommand, builder::NonEmptyStringValueParser};

use super::server::ServerUrl;

/// The version, with the commit that it was built from.
pub(crate) const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("SOUK_COMMIT"));

/// A commerce backend: accounts, catalog, stock, carts, checkout, orders, and their events.
#[derive(Parser)]
#[command(
    name = "souk",
    version = LONG_VERSION,
    after_help = "\
Settings have built-in defaults. config/default.toml, config/<SOUK_ENV>.toml, the file that --config
or SOUK_CONFIG names, .env, and environment variables such as SOUK__HTTP__BIND override them; the
last one wins. `souk config` prints the result, and what was read."
)]
pub(crate) struct Arguments {
    /// Read settings from this TOML file, too.
    #[arg(long, value_name = "FILE", global = true, value_hint = clap::ValueHint::FilePath)]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) config: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the server (default).
    Serve,
    /// Log in at a running server, and keep the token for other commands.
    Login(LoginArguments),
    /// End the session of `souk login`, and remove its token.
    Logout(LogoutArguments),
    /// Create or update products from an NDJSON or CSV file.
    Import(ImportArguments),
    /// Create an admin account, or promote an existing account.
    Admin(AdminArguments),
    /// Check stock against its movements and the orders.
    Audit(AuditArguments),
    /// Copy the embedded store and its secret into a new folder, while the shop runs.
    Backup(BackupArguments),
    /// Put a backup where the settings have the store.
    Restore(RestoreArguments),
    /// Ask the node on this machine, which has the same settings, whether it is ready.
    Health,
    /// Print the effective settings, with secrets hidden, and what they were read from.
    Config,
    /// Print the OpenAPI document.
    Openapi,
    /// Print the AsyncAPI document.
    Asyncapi,
    /// Print the completions of a shell.
    Completions(CompletionsArguments),
    /// Print the manual page.
    Man(ManArguments),
}

/// Arguments of `souk login`.
#[derive(clap::Args)]
#[command(after_help = "\
Asks for what is missing. Without a terminal, the e-mail address comes from --email or SOUK_EMAIL,
and the password from --password-stdin or SOUK_PASSWORD.

The token is kept in souk/logins.json below $XDG_CONFIG_HOME or ~/.config, readable by you alone. It
is renewed when it expires. `import`, `audit` and `admin` use it with --server.")]
pub(crate) struct LoginArguments {
    /// The server; by default the one on this machine that has the same settings.
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<ServerUrl>,
    /// The e-mail address of the account.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) email: Option<String>,
    /// Read the password from standard input.
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

/// Arguments of `souk logout`.
#[derive(clap::Args)]
pub(crate) struct LogoutArguments {
    /// The server; by default the one on this machine that has the same settings.
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<ServerUrl>,
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
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Upload the file to a running server, with the token in SOUK_TOKEN or that of `souk login`.
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<ServerUrl>,
    /// Check every line and print what would be done, without changing anything.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Ignore unknown columns and members instead of rejecting them.
    #[arg(long)]
    pub(crate) ignore_unknown: bool,
    /// Import from the first line, even if an import of this file was interrupted.
    #[arg(long)]
    pub(crate) restart: bool,
}

/// Arguments of `souk admin`.
#[derive(clap::Args)]
#[command(after_help = "\
A new account gets a generated password, which is printed once, unless --password-stdin is given.
An existing account keeps its password.

Without --server, the command opens the store itself; stop a server on the embedded store first.")]
pub(crate) struct AdminArguments {
    /// The e-mail address of the account.
    pub(crate) email: String,
    /// Ask a running server, with an admin's token in SOUK_TOKEN or that of `souk login`.
    #[arg(long, value_name = "URL", conflicts_with = "reset_password")]
    pub(crate) server: Option<ServerUrl>,
    /// Read the password of the new account from standard input.
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Give the account a new password, which is printed once. Its sessions end, and a block is
    /// lifted. Its role stays.
    #[arg(long, conflicts_with = "password_stdin")]
    pub(crate) reset_password: bool,
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

Stop the server to audit the embedded store, or use --server while it runs. On MongoDB, the audit
can run beside the servers.

Exit code: 0 if there are no findings, 1 if there are any, even if all were corrected.")]
pub(crate) struct AuditArguments {
    /// Write correcting movements.
    #[arg(long)]
    pub(crate) repair: bool,
    /// Also check the database itself, page by page, and its indexes.
    #[arg(long, conflicts_with = "server")]
    pub(crate) deep: bool,
    /// Ask a running server, with an admin's token in SOUK_TOKEN or that of `souk login`.
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<ServerUrl>,
}

/// Arguments of `souk backup`.
#[derive(clap::Args)]
#[command(after_help = "\
The backup is a folder that only you can read: the database, the secret that signs tokens, and
backup.json with their checksums. It has every change that was acknowledged before the command
began, and of each later one all or nothing. The copy is checked page by page before the command
says that it is complete.

Settings are not part of it: keep the files and secrets that you configured as well.")]
pub(crate) struct BackupArguments {
    /// The folder to create. It may exist if it is empty.
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
}

/// Arguments of `souk restore`.
#[derive(clap::Args)]
#[command(after_help = "\
The folder of the settings must not have a shop: move it away first. Older backups are migrated when
the shop starts.")]
pub(crate) struct RestoreArguments {
    /// The folder that `souk backup` made.
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
}

/// Arguments of `souk completions`.
#[derive(clap::Args)]
pub(crate) struct CompletionsArguments {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

/// Arguments of `souk man`.
#[derive(clap::Args)]
pub(crate) struct ManArguments {
    /// Write a page for each command into this folder, instead of printing that of souk.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
}
