//! Imports, streamed: lines are applied in batches while the file is still arriving.

use actix::Addr;
use actix_web::{HttpRequest, http::StatusCode, web};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    answer::{self, Answer},
    import_lines::{Format, Line, Lines},
    openapi::words::ErrorCode,
    problem::ProblemDetails,
    receive::{self, broken_off, fingerprint, idempotency_key, too_slow},
    services::Services,
};
use crate::{
    actors::{ask::ask, catalog::CatalogActor, failure::failure},
    error::{Code, Error},
    messages::{
        catalog::{ImportLine, ImportLines, Imported, LineOutcome, RememberImport},
        change::{Change, IdempotencyKey, Reply, Ticket, TraceParent},
    },
    store::CommitError,
};

/// Lines that are applied together.
const BATCH: usize = 256;

/// Errors listed in the answer; `failed` counts them all.
const MAX_ERRORS: usize = 1000;

/// The routes.
pub(super) fn routes(config: &mut web::ServiceConfig) {
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
    /// The number of lines that were refused.
    #[schema(examples(1))]
    pub failed: u64,
    /// The first 1,000 lines that were refused.
    pub errors: Vec<LineError>,
}

/// A line that was refused.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LineError {
    /// The number of the line in the file, from 1.
    #[schema(examples(17))]
    pub line: u64,
    /// Why the line was refused.
    #[schema(value_type = ErrorCode)]
    pub code: String,
    /// What is wrong and what to do.
    #[schema(examples("price must not be below zero"))]
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

/// Applies lines in batches and counts what comes of them.
pub struct Importer {
    catalog: Addr<CatalogActor>,
    lines: Lines,
    waiting: Vec<Line>,
    /// The request's key, of which each line gets one of its own.
    key: Option<IdempotencyKey>,
    /// Of the lines so far, when there is a key: what tells this import from others.
    digest: Sha256,
    /// Whether lines are only read, as the import is a repeat.
    only_read: bool,
    /// Whether a line failed that another try may get through: then a repeat shall be that try.
    unfinished: bool,
    trace: Option<TraceParent>,
    within: std::time::Duration,
    report: ImportReport,
}

impl Importer {
    /// An importer whose lines each have `within` to be applied.
    #[must_use]
    pub fn new(catalog: Addr<CatalogActor>, lines: Lines, within: std::time::Duration) -> Self {
        Self {
            catalog,
            lines,
            waiting: Vec::new(),
            key: None,
            digest: Sha256::new(),
            only_read: false,
            unfinished: false,
            trace: None,
            within,
            report: ImportReport::default(),
        }
    }

    /// Takes the next portion of the file, and applies what is complete.
    ///
    /// # Errors
    /// The file is not of its format, or the catalog does not answer. What was applied stays.
    pub async fn push(&mut self, portion: &[u8]) -> Result<(), Error> {
        let lines = self.lines.push(portion)?;
        for line in lines {
            self.waiting.push(line);
            if self.waiting.len() >= BATCH {
                self.apply().await?;
            }
        }
        Ok(())
    }

    /// Applies the rest.
    ///
    /// # Errors
    /// As [`Importer::push`].
    pub async fn finish(mut self) -> Result<ImportReport, Error> {
        self.apply_rest().await?;
        Ok(self.report)
    }

    async fn apply_rest(&mut self) -> Result<(), Error> {
        self.waiting.extend(self.lines.finish()?);
        self.apply().await
    }

    async fn apply(&mut self) -> Result<(), Error> {
        let waiting = std::mem::take(&mut self.waiting);
        let lines: Vec<ImportLine> = waiting.into_iter().map(|line| self.message(line)).collect();
        if self.only_read {
            return Ok(());
        }
        let outcomes =
            self.catalog.send(ImportLines { lines }).await.map_err(|_| Error::outcome_unknown())?;
        for outcome in outcomes {
            self.count(outcome)?;
        }
        Ok(())
    }

    fn message(&mut self, line: Line) -> ImportLine {
        let key = self.key.as_ref().map(|key| IdempotencyKey {
            // A space is in no client's key, so no line's key can be taken for one.
            key: format!("{} {}", key.key, line.number).into(),
            fingerprint: fingerprint("IMPORT", "", &line.bytes),
            ..key.clone()
        });
        if let Some(key) = &key {
            self.digest.update(line.number.to_be_bytes());
            self.digest.update(key.fingerprint);
        }
        let change = Change {
            key,
            if_match: None,
            ticket: Ticket::new(self.within),
            trace: self.trace.clone(),
        };
        ImportLine { number: line.number, row: line.row, change }
    }

    /// What tells this import from others, when all of it was read.
    fn fingerprint(&self, request: &HttpRequest) -> [u8; 32] {
        let lines = self.digest.clone().chain_update(self.lines.header().join(",")).finalize();
        fingerprint(request.method().as_str(), request.path(), &lines)
    }

    fn count(&mut self, outcome: LineOutcome) -> Result<(), Error> {
        match outcome.result {
            // Another import with this key has begun, and was broken off.
            Err(error) if error.code == Code::IdempotencyKeyReused => return Err(error),
            Ok(Imported::Created) => self.report.created += 1,
            Ok(Imported::Updated) => self.report.updated += 1,
            Err(error) => {
                self.report.failed += 1;
                let passing = [
                    Code::Overloaded,
                    Code::StoreUnavailable,
                    Code::OutcomeUnknown,
                    Code::Internal,
                ];
                self.unfinished |= passing.contains(&error.code);
                if self.report.errors.len() < MAX_ERRORS {
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
/// `on_hand`. Each line succeeds or fails by itself, and lines that were applied stay applied if
/// the upload breaks off. With an `Idempotency-Key`, a repeat does not apply them again. The file
/// is NDJSON or CSV and can have any size.
#[utoipa::path(post, path = "/api/products/import", operation_id = "import_products",
tag = "Products", security(("bearer" = [])), request_body(
    content((NdjsonFile = "application/x-ndjson"), (CsvFile = "text/csv")),
    description = "The file. It is read as it arrives."
), params(
    ("Idempotency-Key" = Option<String>, Header),
), responses(
    (status = 200, body = ImportReport),
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for admins"),
    (status = 415, body = ProblemDetails, description = "`unsupported_media_type`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`: the header of the CSV file; `idempotency_key_reused`"),
))]
async fn import(request: HttpRequest, mut payload: web::Payload) -> Answer {
    let services = Services::of(&request)?;
    let caller = services.admin(&request)?;
    let format = match receive::check_type(&request, &["application/x-ndjson", "text/csv"])? {
        "text/csv" => Format::Csv,
        _ => Format::Ndjson,
    };
    let options = &services.options;
    let lines = Lines::new(format, options.currency, options.max_body);
    let mut importer = Importer::new(services.catalog.clone(), lines, options.request_timeout);
    let key = idempotency_key(&request, &caller, 200, &[])?;
    let first = match &key {
        Some(key) => services.store.remembered(key).await?,
        None => None,
    };
    (importer.key, importer.only_read) = (key.clone(), first.is_some());
    importer.trace = receive::trace(request.headers());
    while let Some(chunk) = tokio::time::timeout(options.request_timeout, payload.next())
        .await
        .map_err(|_| too_slow())?
    {
        importer.push(&chunk.map_err(|_| broken_off())?).await?;
    }
    importer.apply_rest().await?;
    let Some(key) = key.filter(|_| !importer.unfinished) else {
        return answer::json(StatusCode::OK, &importer.report);
    };
    let key = IdempotencyKey { fingerprint: importer.fingerprint(&request), ..key };
    match first {
        Some((fingerprint, first)) if fingerprint == key.fingerprint => Ok(answer::replayed(first)),
        Some(_) => Err(failure(CommitError::KeyReused).into()),
        None => remember(services, importer, key).await,
    }
}

/// Has the answer remembered under the import's key, and gives it.
async fn remember(services: &Services, importer: Importer, key: IdempotencyKey) -> Answer {
    let body =
        web::Bytes::from(serde_json::to_vec(&importer.report).map_err(|_| Error::internal())?);
    // Its lines have taken their own time.
    let ticket = Ticket::new(services.options.request_timeout);
    let change =
        Change { key: Some(key), if_match: None, ticket: ticket.clone(), trace: importer.trace };
    match ask(&services.catalog, RememberImport { body: body.clone(), change }, &ticket).await {
        Ok(Reply::Done(())) => Ok(answer::rendered(StatusCode::OK, body).finish()),
        Ok(Reply::Replayed(first)) => Ok(answer::replayed(first)),
        Err(error) if error.code == Code::IdempotencyKeyReused => Err(error.into()),
        // The lines are applied, whatever it was.
        Err(_) => Err(Error::outcome_unknown().into()),
    }
}
