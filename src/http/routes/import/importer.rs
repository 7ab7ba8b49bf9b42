//! Applies the lines of a product file in batches while the file is read.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
    mem,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use actix::{Addr, prelude::Request};
use sha2::{Digest, Sha256};

use super::{
    recent_skus::RecentSkus,
    report::{ImportReport, LineError},
};
use crate::{
    actors::{catalog::CatalogActor, mailbox::Queued},
    domain::action::ActionOrigin,
    error::{Error, ErrorCode},
    input::{
        fingerprint::request_fingerprint,
        product_file::{ProductFileLine, ProductFileOptions, ProductFileReader},
    },
    messages::{
        catalog::{ImportAction, ImportLine, ImportLineOutcome, ImportLines, ImportMode},
        command_context::{CommandContext, IdempotencyKey, Ticket, TraceParent},
    },
};

/// The number of lines per batch: few enough that other changes do not wait long for their turn.
const BATCH_SIZE: usize = 256;

/// Batches that are applied at a time. While the store writes one, the next is read and decided.
const MAX_BATCHES_IN_FLIGHT: usize = 2;

/// The maximum number of errors in a response. `failed` counts all of them.
pub(super) const MAX_LISTED_ERRORS: usize = 1000;

/// Which lines a repeat of the import does not apply again.
#[derive(Debug, Clone)]
pub enum LineKeys {
    /// None.
    None,
    /// All lines. The key of each is derived from this one.
    EveryLine(IdempotencyKey),
    /// Lines without a sku, which would create their products again. Other lines update theirs.
    LinesWithoutSku(IdempotencyKey),
}

/// How an import is carried out.
pub struct ImportOptions {
    /// How the file is read.
    pub file: ProductFileOptions,
    /// The time in which each line must be applied.
    pub line_timeout: Duration,
    /// The most errors that the report lists until they are taken.
    pub max_listed_errors: usize,
    /// Whether the lines are only checked.
    pub dry_run: bool,
    /// What makes a repeat harmless.
    pub keys: LineKeys,
    /// Whether the import stops when the store does not apply a line, rather than report the line
    /// as failed.
    pub stop_at_store_failure: bool,
    /// The trace of the import.
    pub trace: Option<TraceParent>,
    /// Who asked for the import. Each line that changes something is an action.
    pub origin: Arc<ActionOrigin>,
}

/// How much of a file has been imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportPosition {
    /// The number of the last line that was applied or rejected; 0 before the first.
    pub line: u64,
    /// The bytes of the file through that line.
    pub bytes: u64,
}

/// Applies lines in batches and counts the outcomes.
pub struct Importer {
    catalog: Addr<CatalogActor>,
    reader: ProductFileReader,
    options: ImportOptions,
    pending_lines: Vec<ProductFileLine>,
    in_flight: VecDeque<BatchInFlight>,
    /// A digest of the lines read so far. It identifies the import if every line has a key.
    content_digest: Sha256,
    /// Whether the import is a repeat, whose lines are read but not applied.
    pub(super) is_replay: bool,
    /// Whether a line failed with a temporary error. If so, no response is stored, and a repeat
    /// applies the line again.
    pub(super) has_retryable_errors: bool,
    skus: RandomState,
    /// Hashes of the skus whose products a dry run would have created.
    created_skus: HashSet<u64>,
    has_started: bool,
    report: ImportReport,
    recent_skus: RecentSkus,
    position: ImportPosition,
}

/// A batch that the catalog applies.
struct BatchInFlight {
    outcomes: Pin<Box<Request<CatalogActor, Queued<ImportLines>>>>,
    /// The skus of its lines, and their hashes.
    skus: Vec<Option<(String, u64)>>,
    /// The position after it.
    end: ImportPosition,
}

impl Importer {
    /// Creates an importer.
    #[must_use]
    pub fn new(catalog: Addr<CatalogActor>, options: ImportOptions) -> Self {
        Self {
            catalog,
            reader: ProductFileReader::new(options.file),
            options,
            pending_lines: Vec::with_capacity(BATCH_SIZE),
            in_flight: VecDeque::new(),
            content_digest: Sha256::new(),
            is_replay: false,
            has_retryable_errors: false,
            skus: RandomState::new(),
            created_skus: HashSet::new(),
            has_started: false,
            report: ImportReport::default(),
            recent_skus: RecentSkus::default(),
            position: ImportPosition::default(),
        }
    }

    /// Reads the next chunk of the file and applies each complete batch.
    ///
    /// # Errors
    /// The file is malformed, or the catalog does not respond. Lines already applied stay applied.
    pub async fn push_chunk(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let lines = self.reader.push_chunk(chunk)?;
        self.push_lines(lines).await
    }

    /// Applies the remaining lines.
    ///
    /// # Errors
    /// The same as [`Importer::push_chunk`].
    pub async fn finish(&mut self) -> Result<(), Error> {
        let lines = self.reader.finish()?;
        self.push_lines(lines).await?;
        self.start_batch().await?;
        self.await_batches(0).await
    }

    /// Waits for the batches that were sent before [`Importer::push_chunk`] was interrupted.
    ///
    /// # Errors
    /// The same as [`Importer::push_chunk`].
    pub async fn settle(&mut self) -> Result<(), Error> {
        self.await_batches(0).await
    }

    /// The outcomes so far.
    #[must_use]
    pub const fn report(&self) -> &ImportReport {
        &self.report
    }

    /// Removes the errors from the report and returns them.
    pub fn take_errors(&mut self) -> Vec<LineError> {
        mem::take(&mut self.report.errors)
    }

    /// The SKUs of the last lines that were applied.
    #[must_use]
    pub const fn recent_skus(&self) -> &RecentSkus {
        &self.recent_skus
    }

    /// How much of the file has been imported.
    #[must_use]
    pub const fn position(&self) -> ImportPosition {
        self.position
    }

    /// Whether any line was sent to be applied.
    #[must_use]
    pub const fn has_started(&self) -> bool {
        self.has_started
    }

    pub(super) fn trace(&self) -> Option<TraceParent> {
        self.options.trace.clone()
    }

    /// A digest of everything that the import did, after the whole file was read.
    pub(super) fn content_digest(&self) -> [u8; 32] {
        let names = self.reader.header().join(",");
        self.content_digest.clone().chain_update(names).finalize().into()
    }

    async fn push_lines(&mut self, lines: Vec<ProductFileLine>) -> Result<(), Error> {
        for line in lines {
            self.pending_lines.push(line);
            if self.pending_lines.len() >= BATCH_SIZE {
                self.start_batch().await?;
            }
        }
        Ok(())
    }

    /// Sends the pending lines to the catalog, and waits for earlier batches as far as needed.
    async fn start_batch(&mut self) -> Result<(), Error> {
        let pending = mem::take(&mut self.pending_lines);
        let Some(last) = pending.last() else { return Ok(()) };
        let end = ImportPosition { line: last.number, bytes: last.end };
        let skus: Vec<_> = pending.iter().map(|line| self.hash_sku(line)).collect();
        // Lines with one sku are applied in the order of the file. A dry run has to know what the
        // lines before would have created.
        if self.options.dry_run || self.has_sku_in_flight(&skus) {
            self.await_batches(0).await?;
        }
        let lines = pending.into_iter().zip(&skus);
        let hash = |sku: &Option<(String, u64)>| sku.as_ref().map(|(_, hash)| *hash);
        let lines = lines.map(|(line, sku)| self.build_import_line(line, hash(sku))).collect();
        if self.is_replay {
            return Ok(());
        }
        let mode = if self.options.dry_run {
            ImportMode::DryRun(self.options.file.currency)
        } else {
            ImportMode::Apply
        };
        self.has_started = true;
        let outcomes = Box::pin(self.catalog.send(Queued::new(ImportLines { lines, mode })));
        self.in_flight.push_back(BatchInFlight { outcomes, skus, end });
        self.await_batches(MAX_BATCHES_IN_FLIGHT - 1).await
    }

    fn hash_sku(&self, line: &ProductFileLine) -> Option<(String, u64)> {
        let sku = line.row.as_ref().ok()?.sku()?;
        Some((sku.to_owned(), self.skus.hash_one(sku)))
    }

    fn has_sku_in_flight(&self, skus: &[Option<(String, u64)>]) -> bool {
        let skus: HashSet<u64> = skus.iter().flatten().map(|(_, hash)| *hash).collect();
        let mut in_flight = self.in_flight.iter().flat_map(|batch| batch.skus.iter().flatten());
        in_flight.any(|(_, hash)| skus.contains(hash))
    }

    /// Waits until at most `remaining` batches are in flight. If the wait is ended early, the batch
    /// stays in flight.
    async fn await_batches(&mut self, remaining: usize) -> Result<(), Error> {
        while self.in_flight.len() > remaining {
            let Some(batch) = self.in_flight.front_mut() else { break };
            let outcomes = batch.outcomes.as_mut().await;
            let Some(batch) = self.in_flight.pop_front() else { break };
            self.record_batch(outcomes.map_err(|_| Error::outcome_unknown())?, batch.skus)?;
            self.position = batch.end;
        }
        Ok(())
    }

    fn build_import_line(&mut self, line: ProductFileLine, sku: Option<u64>) -> ImportLine {
        let key = match &self.options.keys {
            LineKeys::None => None,
            LineKeys::EveryLine(key) => Some(line_key(key, &line)),
            LineKeys::LinesWithoutSku(key) => sku.is_none().then(|| line_key(key, &line)),
        };
        if let Some(key) = &key {
            self.content_digest.update(line.number.to_be_bytes());
            self.content_digest.update(key.fingerprint);
        }
        let context = CommandContext {
            idempotency_key: key,
            if_match: None,
            ticket: Ticket::new(self.options.line_timeout),
            trace: self.options.trace.clone(),
            action: Some(Arc::clone(&self.options.origin)),
        };
        let is_created_before = sku.is_some_and(|sku| self.created_skus.contains(&sku));
        ImportLine { number: line.number, row: line.row, is_created_before, context }
    }

    /// Adds the outcomes of a batch to the report.
    fn record_batch(
        &mut self,
        outcomes: Vec<ImportLineOutcome>,
        skus: Vec<Option<(String, u64)>>,
    ) -> Result<(), Error> {
        let errors = || outcomes.iter().filter_map(|outcome| outcome.result.as_ref().err());
        // A different import with this key has started before.
        let is_reused = |error: &&Error| error.code == ErrorCode::IdempotencyKeyReused;
        if let Some(error) = errors().find(is_reused) {
            return Err(error.clone());
        }
        let failure = errors().find(|error| is_store_failure(error.code));
        if let Some(error) = failure.filter(|_| self.options.stop_at_store_failure) {
            return Err(error.clone());
        }
        self.has_retryable_errors |=
            failure.is_some() || errors().any(|error| error.code == ErrorCode::Internal);
        for (outcome, sku) in outcomes.into_iter().zip(skus) {
            if let (Ok(action), Some((sku, hash))) = (&outcome.result, sku) {
                if self.options.dry_run && *action == ImportAction::Created {
                    self.created_skus.insert(hash);
                }
                self.recent_skus.push(sku);
            }
            self.report.add(outcome, self.options.max_listed_errors);
        }
        Ok(())
    }
}

/// The key of a line. A client's key has no space, so a line's key cannot collide with one.
fn line_key(key: &IdempotencyKey, line: &ProductFileLine) -> IdempotencyKey {
    IdempotencyKey {
        key: format!("{} {}", key.key, line.number).into(),
        fingerprint: request_fingerprint("IMPORT", "", &line.bytes),
        ..key.clone()
    }
}

/// Whether a line failed since the store did not apply it, so that it may succeed later.
#[must_use]
pub const fn is_store_failure(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Overloaded | ErrorCode::StoreUnavailable | ErrorCode::OutcomeUnknown)
}
