//! `souk import` creates and updates products from a file.

mod checkpoint;
mod progress;
mod upload;

use std::{
    fs::File,
    future::Future,
    io::{Read, Seek},
    path::Path,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use serde_json::json;
use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
};
use uuid::Uuid;

use self::{
    checkpoint::{Checkpoint, Counts, ImportIdentity},
    progress::Progress,
    upload::{PART_BYTES, Uploader},
};
use super::{ImportArguments, count, print_line, run_in_system};
use crate::{
    app::{ImportNode, store_identity},
    config::Settings,
    domain::{
        action::ActionOrigin,
        clock::{Clock, SystemClock},
        ids::UserId,
    },
    error::Error,
    http::{
        ImportOptions, ImportPosition, ImportReport, Importer, LineError, LineKeys, RecentSkus,
        is_store_failure,
    },
    input::product_file::{ProductFileFormat, ProductFileOptions, ProductFileReader},
    messages::command_context::IdempotencyKey,
};

/// Bytes to read at a time.
const CHUNK_SIZE: usize = 64 * 1024;

/// The time in which the store must apply a line. Nobody waits for a single line.
const LINE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an import that is interrupted waits for the lines that it has sent.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the lines of a file go.
trait ImportTarget {
    /// Imports the lines that the next chunk of the file completes.
    fn push_chunk(&mut self, chunk: &[u8]) -> impl Future<Output = anyhow::Result<()>>;

    /// Imports the remaining lines.
    fn finish(&mut self) -> impl Future<Output = anyhow::Result<()>>;

    /// Waits for the lines that were sent before an interruption.
    fn settle(&mut self) -> impl Future<Output = anyhow::Result<()>>;

    /// The outcomes so far.
    fn report(&self) -> &ImportReport;

    /// Removes the errors from the report and returns them.
    fn take_errors(&mut self) -> Vec<LineError>;

    /// The SKUs of the last lines that were applied.
    fn recent_skus(&self) -> &RecentSkus;

    /// How much of the file has been imported.
    fn position(&self) -> ImportPosition;

    /// Whether any line was sent to be applied.
    fn has_started(&self) -> bool;
}

impl ImportTarget for Importer {
    async fn push_chunk(&mut self, chunk: &[u8]) -> anyhow::Result<()> {
        Self::push_chunk(self, chunk).await.map_err(explain_store_failure)
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        Self::finish(self).await.map_err(explain_store_failure)
    }

    async fn settle(&mut self) -> anyhow::Result<()> {
        Self::settle(self).await.map_err(explain_store_failure)
    }

    fn report(&self) -> &ImportReport {
        self.report()
    }

    fn take_errors(&mut self) -> Vec<LineError> {
        self.take_errors()
    }

    fn recent_skus(&self) -> &RecentSkus {
        self.recent_skus()
    }

    fn position(&self) -> ImportPosition {
        self.position()
    }

    fn has_started(&self) -> bool {
        self.has_started()
    }
}

/// Says what stops an import, without the advice for clients of a shop.
fn explain_store_failure(error: Error) -> anyhow::Error {
    match error.code {
        code if is_store_failure(code) => anyhow!("the store takes no changes ({})", code.as_str()),
        _ => error.into(),
    }
}

/// An import in progress.
struct ImportRun<T> {
    target: T,
    checkpoint: Checkpoint,
    progress: Progress,
    dry_run: bool,
}

pub(super) fn run(settings: &Settings, arguments: &ImportArguments) -> anyhow::Result<()> {
    let format = detect_format(&arguments.file)?;
    let mut file = File::open(&arguments.file)
        .with_context(|| format!("failed to open {}", arguments.file.display()))?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        bail!("{} is a folder, not a product file", arguments.file.display());
    }
    let max_line_bytes = match arguments.server {
        Some(_) => settings.http.max_body.max(PART_BYTES),
        None => settings.http.max_body,
    };
    let file_options = ProductFileOptions {
        format,
        currency: settings.shop.currency,
        max_line_bytes,
        ignore_unknown: arguments.ignore_unknown,
        skip_through_line: 0,
    };
    if metadata.is_file() {
        check_beginning(&mut file, file_options)?;
    }
    run_in_system(async |drivers| match &arguments.server {
        Some(server) => {
            let open = |options, dry_run, id| Uploader::new(server, options, dry_run, id);
            import_file(file, settings, arguments, file_options, open).await
        }
        None => {
            let node = ImportNode::start(settings, &drivers, arguments.dry_run).await?;
            let open = |options, dry_run, id| {
                Ok(Importer::new(node.catalog.clone(), store_options(options, dry_run, id)))
            };
            let result = import_file(file, settings, arguments, file_options, open).await;
            node.stop().await;
            result
        }
    })
}

/// Imports a file, from where an earlier import of it stopped. `open` opens its target, for a dry
/// run or not, and an import with an id.
async fn import_file<T: ImportTarget>(
    mut file: File,
    settings: &Settings,
    arguments: &ImportArguments,
    options: ProductFileOptions,
    open: impl Fn(ProductFileOptions, bool, Uuid) -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    // After the store is opened: before, a new one does not exist yet.
    let mut checkpoint = open_checkpoint(&mut file, settings, arguments)?;
    if !checkpoint.skus().is_empty() {
        let lookup = ProductFileOptions { format: ProductFileFormat::Ndjson, ..options };
        let lookup = open(lookup, true, checkpoint.import_id())?;
        let found = has_any_product(lookup, checkpoint.skus()).await;
        if !found.with_context(|| checkpoint.advice())? {
            checkpoint.start_over();
        }
    }
    let options = ProductFileOptions { skip_through_line: checkpoint.line(), ..options };
    let run = ImportRun {
        target: open(options, arguments.dry_run, checkpoint.import_id())?,
        checkpoint,
        progress: Progress::new(file.metadata()?.len()),
        dry_run: arguments.dry_run,
    };
    run.run(tokio::fs::File::from_std(file)).await
}

/// Reads the file until its header is known, and leaves it at its start, so that a file that is
/// refused changes nothing.
fn check_beginning(file: &mut File, options: ProductFileOptions) -> anyhow::Result<()> {
    let mut reader = ProductFileReader::new(options);
    let mut chunk = vec![0; CHUNK_SIZE];
    loop {
        let count = file.read(&mut chunk)?;
        let Some(read) = chunk.get(..count).filter(|read| !read.is_empty()) else {
            reader.finish()?;
            break;
        };
        reader.push_chunk(read)?;
        if options.format == ProductFileFormat::Ndjson || !reader.header().is_empty() {
            break;
        }
    }
    Ok(file.rewind()?)
}

fn open_checkpoint(
    file: &mut File,
    settings: &Settings,
    arguments: &ImportArguments,
) -> anyhow::Result<Checkpoint> {
    if arguments.dry_run || !file.metadata()?.is_file() {
        return Ok(Checkpoint::disabled());
    }
    let identity = ImportIdentity::new(file, &target_name(settings, arguments), arguments)?;
    Checkpoint::open(&arguments.file, identity, arguments.restart)
}

/// Whether there is a product with one of the SKUs. `lookup` takes NDJSON, for a dry run.
async fn has_any_product(mut lookup: impl ImportTarget, skus: &[String]) -> anyhow::Result<bool> {
    for sku in skus {
        // With no more than its SKU, a line updates its product or fails.
        let line = format!("{}\n", json!({"sku": sku}));
        lookup.push_chunk(line.as_bytes()).await?;
    }
    lookup.finish().await?;
    Ok(lookup.report().updated > 0)
}

fn detect_format(file: &Path) -> anyhow::Result<ProductFileFormat> {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "ndjson" | "jsonl" => Ok(ProductFileFormat::Ndjson),
        "csv" | "tsv" => Ok(ProductFileFormat::Csv),
        _ => bail!("unsupported file type: {}; use .ndjson, .jsonl, .csv or .tsv", file.display()),
    }
}

/// What tells the store or server of this import from others.
fn target_name(settings: &Settings, arguments: &ImportArguments) -> String {
    match &arguments.server {
        Some(server) => format!("server {server}"),
        None => format!("store {}", store_identity(&settings.store)),
    }
}

fn store_options(file: ProductFileOptions, dry_run: bool, import_id: Uuid) -> ImportOptions {
    // The key belongs to no account. Its lines are those that a crash may have kept out of the
    // checkpoint.
    let key = IdempotencyKey {
        owner: UserId::from(Uuid::nil()),
        key: format!("import-{import_id}").into(),
        fingerprint: [0; 32],
        received_at: SystemClock.now(),
    };
    ImportOptions {
        file,
        line_timeout: LINE_TIMEOUT,
        // They are printed after each chunk.
        max_listed_errors: usize::MAX,
        dry_run,
        keys: LineKeys::LinesWithoutSku(key),
        stop_at_store_failure: true,
        trace: None,
        origin: ActionOrigin::command_line("import_products"),
    }
}

impl<T: ImportTarget> ImportRun<T> {
    async fn run(mut self, file: tokio::fs::File) -> anyhow::Result<()> {
        if self.checkpoint.line() > 0 {
            let line = self.checkpoint.line();
            self.progress.print(&format!("continuing after line {line}, where it stopped"));
        }
        let outcome = tokio::select! {
            outcome = self.import(file) => outcome,
            interrupted = wait_for_interrupt() => {
                // What is not applied by then is applied again when the import is continued.
                drop(tokio::time::timeout(SETTLE_TIMEOUT, self.target.settle()).await);
                Err(interrupted)
            }
        };
        let settled = self.settle();
        self.progress.finish();
        let Err(error) = outcome.and(settled) else {
            self.checkpoint.remove();
            return self.print_report();
        };
        if !self.target.has_started() && self.checkpoint.line() == 0 {
            self.checkpoint.remove();
        } else if self.checkpoint.is_enabled() {
            bail!("{error:#}; {}", self.checkpoint.advice());
        }
        Err(error)
    }

    async fn import(&mut self, mut file: tokio::fs::File) -> anyhow::Result<()> {
        let mut chunk = vec![0; CHUNK_SIZE];
        self.save_checkpoint();
        loop {
            let count = file.read(&mut chunk).await?;
            let Some(read) = chunk.get(..count).filter(|read| !read.is_empty()) else { break };
            self.target.push_chunk(read).await?;
            self.print_errors()?;
            if self.checkpoint.is_due() {
                self.save_checkpoint();
            }
            self.progress.update(self.target.position(), self.target.report().lines());
        }
        self.target.finish().await
    }

    /// The outcomes of this run.
    fn counts(&self) -> Counts {
        let report = self.target.report();
        Counts { created: report.created, updated: report.updated, failed: report.failed }
    }

    /// Prints what is left to print and saves where the import is.
    fn settle(&mut self) -> anyhow::Result<()> {
        self.save_checkpoint();
        self.progress.update(self.target.position(), self.target.report().lines());
        self.print_errors()
    }

    fn save_checkpoint(&mut self) {
        let skus = self.target.recent_skus();
        self.checkpoint.save(self.target.position(), self.counts(), skus);
    }

    fn print_errors(&mut self) -> anyhow::Result<()> {
        let errors = self.target.take_errors();
        if errors.is_empty() {
            return Ok(());
        }
        let print = || {
            errors.iter().try_for_each(|error| {
                print_line(&format!("line {}: {}: {}", error.line, error.code, error.message))
            })
        };
        self.progress.suspend(print)
    }

    fn print_report(&self) -> anyhow::Result<()> {
        let Counts { created, updated, failed } = self.checkpoint.total(self.counts());
        let note = if self.dry_run { " (dry run: nothing was changed)" } else { "" };
        print_line(&format!("{created} created, {updated} updated, {failed} failed{note}"))?;
        let verb = if failed == 1 { "was" } else { "were" };
        match (failed, self.dry_run) {
            (0, _) => Ok(()),
            (_, true) => bail!("{} would be refused", count(failed, "line")),
            (_, false) => {
                bail!("{} {verb} refused; all other lines were imported", count(failed, "line"))
            }
        }
    }
}

/// Waits for SIGINT or SIGTERM. What is imported until then stays.
async fn wait_for_interrupt() -> anyhow::Error {
    let signals = signal(SignalKind::interrupt()).and_then(|interrupt| {
        signal(SignalKind::terminate()).map(|terminate| (interrupt, terminate))
    });
    let (mut interrupt, mut terminate) = match signals {
        Ok(signals) => signals,
        Err(error) => return anyhow!(error).context("failed to listen for signals"),
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    anyhow!("interrupted")
}
