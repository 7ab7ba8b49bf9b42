//! Streamed product imports: lines are applied in batches while the upload is in progress.

use std::sync::Arc;

use actix::Addr;
use actix_web::{HttpRequest, http::StatusCode, web};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::{
    actors::{ask::ask, catalog::CatalogActor, commit_error::map_commit_error, mailbox::Queued},
    error::{Error, ErrorCode},
    http::{
        openapi::enums,
        request::{
            body::{StreamedBody, body_timeout_error, check_content_type, incomplete_body_error},
            extract::{ChangeRequest, Staff},
            scopes::ImportScopes,
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
        state::AppState,
    },
    input::{
        fingerprint::request_fingerprint,
        product_file::{ProductFileFormat, ProductFileLine, ProductFileReader},
    },
    messages::{
        catalog::{ImportAction, ImportLine, ImportLineOutcome, ImportLines, RecordImportResponse},
        command_context::{CommandContext, IdempotencyKey, Reply, Ticket, TraceParent},
    },
    store::CommitError,
};

/// The number of lines per batch.
const BATCH_SIZE: usize = 256;

/// The maximum number of errors in a response. `failed` counts all of them.
const MAX_LISTED_ERRORS: usize = 1000;

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config.service(web::resource("/api/products/import").post(import));
}

/// The result of an import.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ImportReport {
    /// The number of lines that created a product.
    #[schema(examples(340))]
    pub created: u64,
    /// The number of lines whose product existed, changed or not.
    #[schema(examples(12))]
    pub updated: u64,
    /// The number of lines that were rejected.
    #[schema(examples(1))]
    pub failed: u64,
    /// The first 1,000 lines that were rejected.
    pub errors: Vec<LineError>,
}

/// A line that was rejected.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LineError {
    /// The number of the line in the file, from 1.
    #[schema(examples(17))]
    pub line: u64,
    /// Why the line was rejected.
    #[schema(value_type = enums::ErrorCode)]
    pub code: String,
    /// What is wrong and what to do.
    #[schema(examples("price must not be negative"))]
    pub message: String,
}

/// An NDJSON file. Each line is a product as a JSON object.
#[derive(ToSchema)]
#[schema(
    value_type = String,
    format = Binary,
    examples("{\"sku\":\"TEA-1\",\"name\":\"Mint tea\",\"price\":4.5,\"stock\":40}\n")
)]
pub(crate) struct NdjsonFile(#[expect(dead_code, reason = "describes a body")] String);

/// A CSV file. Line 1 names the columns, tags are joined by `|`, and attributes are JSON.
#[derive(ToSchema)]
#[schema(
    value_type = String,
    format = Binary,
    examples("sku,name,price,stock,tags\nTEA-1,Mint tea,4.50,40,green|loose\n")
)]
pub(crate) struct CsvFile(#[expect(dead_code, reason = "describes a body")] String);

/// Applies lines in batches and counts the outcomes.
pub struct Importer {
    catalog: Addr<CatalogActor>,
    lines: ProductFileReader,
    pending_lines: Vec<ProductFileLine>,
    /// The request's idempotency key. The key of each line is derived from it.
    idempotency_key: Option<IdempotencyKey>,
    /// A digest of the lines read so far. It identifies the import if there is a key.
    content_digest: Sha256,
    /// Whether the import is a repeat, whose lines are read but not applied.
    is_replay: bool,
    /// Whether a line failed with a temporary error. If so, no response is stored, and a repeat
    /// applies the line again.
    has_retryable_errors: bool,
    trace: Option<TraceParent>,
    line_timeout: std::time::Duration,
    report: ImportReport,
}

impl Importer {
    /// Creates an importer that applies each line within `line_timeout`.
    #[must_use]
    pub fn new(
        catalog: Addr<CatalogActor>,
        lines: ProductFileReader,
        line_timeout: std::time::Duration,
    ) -> Self {
        Self {
            catalog,
            lines,
            pending_lines: Vec::new(),
            idempotency_key: None,
            content_digest: Sha256::new(),
            is_replay: false,
            has_retryable_errors: false,
            trace: None,
            line_timeout,
            report: ImportReport::default(),
        }
    }

    /// Reads the next chunk of the file and applies each complete batch.
    ///
    /// # Errors
    /// The file is malformed, or the catalog does not respond. Lines already applied stay applied.
    pub async fn push_chunk(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let lines = self.lines.push_chunk(chunk)?;
        for line in lines {
            self.pending_lines.push(line);
            if self.pending_lines.len() >= BATCH_SIZE {
                self.apply_batch().await?;
            }
        }
        Ok(())
    }

    /// Applies the remaining lines and returns the report.
    ///
    /// # Errors
    /// The same as [`Importer::push_chunk`].
    pub async fn finish(mut self) -> Result<ImportReport, Error> {
        self.apply_remaining().await?;
        Ok(self.report)
    }

    async fn apply_remaining(&mut self) -> Result<(), Error> {
        self.pending_lines.extend(self.lines.finish()?);
        self.apply_batch().await
    }

    async fn apply_batch(&mut self) -> Result<(), Error> {
        let pending = std::mem::take(&mut self.pending_lines);
        let lines: Vec<ImportLine> =
            pending.into_iter().map(|line| self.build_import_line(line)).collect();
        if self.is_replay {
            return Ok(());
        }
        let outcomes = self.catalog.send(Queued::new(ImportLines { lines })).await;
        let outcomes = outcomes.map_err(|_| Error::outcome_unknown())?;
        for outcome in outcomes {
            self.record_outcome(outcome)?;
        }
        Ok(())
    }

    fn build_import_line(&mut self, line: ProductFileLine) -> ImportLine {
        let key = self.idempotency_key.as_ref().map(|key| IdempotencyKey {
            // A client's key has no space, so a line's key cannot collide with one.
            key: format!("{} {}", key.key, line.number).into(),
            fingerprint: request_fingerprint("IMPORT", "", &line.bytes),
            ..key.clone()
        });
        if let Some(key) = &key {
            self.content_digest.update(line.number.to_be_bytes());
            self.content_digest.update(key.fingerprint);
        }
        let context = CommandContext {
            idempotency_key: key,
            if_match: None,
            ticket: Ticket::new(self.line_timeout),
            trace: self.trace.clone(),
        };
        ImportLine { number: line.number, row: line.row, context }
    }

    /// Returns the fingerprint of the import after the whole file was read.
    fn import_fingerprint(&self, request: &HttpRequest) -> [u8; 32] {
        let lines =
            self.content_digest.clone().chain_update(self.lines.header().join(",")).finalize();
        request_fingerprint(request.method().as_str(), request.path(), &lines)
    }

    fn record_outcome(&mut self, outcome: ImportLineOutcome) -> Result<(), Error> {
        match outcome.result {
            // A different import with this key has started before.
            Err(error) if error.code == ErrorCode::IdempotencyKeyReused => return Err(error),
            Ok(ImportAction::Created) => self.report.created += 1,
            Ok(ImportAction::Updated) => self.report.updated += 1,
            Err(error) => {
                self.report.failed += 1;
                let retryable = [
                    ErrorCode::Overloaded,
                    ErrorCode::StoreUnavailable,
                    ErrorCode::OutcomeUnknown,
                    ErrorCode::Internal,
                ];
                self.has_retryable_errors |= retryable.contains(&error.code);
                if self.report.errors.len() < MAX_LISTED_ERRORS {
                    let (code, message) =
                        (error.code.as_str().to_owned(), error.detail.into_owned());
                    self.report.errors.push(LineError { line: outcome.number, code, message });
                }
            }
        }
        Ok(())
    }
}

/// Import products.
///
/// A line with a known `sku` updates that product. Any other line creates a product. `stock` sets
/// `on_hand`. Each line succeeds or fails independently, and lines that were applied stay applied
/// if the upload breaks off. With an `Idempotency-Key`, a repeat does not apply them again. The
/// file is NDJSON or CSV and can have any size.
#[utoipa::path(post, path = "/api/products/import", operation_id = "import_products",
tag = "Products", security(("bearer" = [])), request_body(
    content((NdjsonFile = "application/x-ndjson"), (CsvFile = "text/csv")),
    description = "The file. It is read as it arrives."
), params(
    ("Idempotency-Key" = Option<String>, Header),
), responses(
    (status = 200, body = ImportReport),
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for staff with `catalog` and `stock`"),
    (status = 415, body = ProblemDetails, description = "`unsupported_media_type`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`: the header of the CSV file; `idempotency_key_reused`"),
))]
async fn import(mut change: ChangeRequest<Staff<ImportScopes>, StreamedBody>) -> RouteResult {
    let state = Arc::clone(&change.state);
    let types = ["application/x-ndjson", "text/csv"];
    let format = match check_content_type(&change.request, &types)? {
        "text/csv" => ProductFileFormat::Csv,
        _ => ProductFileFormat::Ndjson,
    };
    let options = &state.options;
    let lines = ProductFileReader::new(format, options.currency, options.max_body);
    let mut importer = Importer::new(state.catalog.clone(), lines, options.request_timeout);
    let key = change.context()?.idempotency_key;
    let stored = match &key {
        Some(key) => state.store.find_stored_reply(key).await?,
        None => None,
    };
    (importer.idempotency_key, importer.is_replay) = (key.clone(), stored.is_some());
    importer.trace = change.trace();
    while let Some(chunk) = tokio::time::timeout(options.request_timeout, change.body.0.next())
        .await
        .map_err(|_| body_timeout_error())?
    {
        importer.push_chunk(&chunk.map_err(|_| incomplete_body_error())?).await?;
    }
    importer.apply_remaining().await?;
    let Some(key) = key.filter(|_| !importer.has_retryable_errors) else {
        return Ok(ApiResponse::json(StatusCode::OK, &importer.report)?);
    };
    let fingerprint = importer.import_fingerprint(&change.request);
    let key = IdempotencyKey { fingerprint, ..key };
    match stored {
        Some((fingerprint, response)) if fingerprint == key.fingerprint => {
            Ok(import_response(Reply::Replayed(response), web::Bytes::new())?)
        }
        Some(_) => Err(map_commit_error(CommitError::IdempotencyKeyReused).into()),
        None => store_report(&state, importer, key).await,
    }
}

fn import_response(reply: Reply<()>, report: web::Bytes) -> Result<ApiResponse, Error> {
    ApiResponse::from_reply(StatusCode::OK, reply, |()| Ok(ApiResponse::ok(report)))
}

/// Stores the report under the import's idempotency key and returns it.
async fn store_report(state: &AppState, importer: Importer, key: IdempotencyKey) -> RouteResult {
    let body =
        web::Bytes::from(serde_json::to_vec(&importer.report).map_err(|_| Error::internal())?);
    // The lines may have used up the request's time, so the report gets a new deadline.
    let ticket = Ticket::new(state.options.request_timeout);
    let context = CommandContext {
        idempotency_key: Some(key),
        if_match: None,
        ticket: ticket.clone(),
        trace: importer.trace,
    };
    let message = RecordImportResponse { body: body.clone(), context };
    match ask(&state.catalog, message, &ticket).await {
        Ok(reply) => Ok(import_response(reply, body)?),
        Err(error) if error.code == ErrorCode::IdempotencyKeyReused => Err(error.into()),
        // The lines are applied even if storing the report fails.
        Err(_) => Err(Error::outcome_unknown().into()),
    }
}
