//! Imports, streamed: lines are applied in batches while the file is still arriving.

use actix::Addr;
use actix_web::{HttpRequest, http::StatusCode, web};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::{
    actors::{ask::ask, catalog::CatalogActor, commit_error::failure},
    error::{Error, ErrorCode},
    messages::{
        catalog::{ImportLine, ImportLines, Imported, LineOutcome, RememberImport},
        change::{Change, IdempotencyKey, Reply, Ticket, TraceParent},
    },
    store::CommitError,
};
use crate::{
    http::{
        request::{self, broken_off, fingerprint, idempotency_key, too_slow},
        response::{self, Answer, problem::ProblemDetails},
        state::Services,
    },
    input::product_file::{Format, Line, Lines},
};

/// Lines that are applied together.
const BATCH: usize = 256;

/// Errors listed in the answer; `failed` counts them all.
const MAX_ERRORS: usize = 1000;

/// The routes.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.service(web::resource("/api/products/import").post(import));
}

/// What an import did.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ImportReport {
    /// Lines that made a new product.
    pub created: u64,
    /// Lines whose product was there, changed or not.
    pub updated: u64,
    /// Lines that were refused.
    pub failed: u64,
    /// Why: the first 1,000 of them.
    pub errors: Vec<LineError>,
}

/// A line that was refused.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LineError {
    /// Its number in the file, from 1.
    pub line: u64,
    /// One of the closed list of codes.
    pub code: String,
    /// What was wrong, and what to do.
    pub message: String,
}

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
            Err(error) if error.code == ErrorCode::IdempotencyKeyReused => return Err(error),
            Ok(Imported::Created) => self.report.created += 1,
            Ok(Imported::Updated) => self.report.updated += 1,
            Err(error) => {
                self.report.failed += 1;
                let passing = [
                    ErrorCode::Overloaded,
                    ErrorCode::StoreUnavailable,
                    ErrorCode::OutcomeUnknown,
                    ErrorCode::Internal,
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

/// Create and update many products.
///
/// A line whose `sku` is known updates that product; others make a new one. `stock` sets `on_hand`. Each line succeeds or fails
/// alone, and what was applied stays when the upload breaks off. In CSV, line 1 names the columns, tags are joined by `|`, and
/// attributes are JSON. With an `Idempotency-Key`, lines that were applied before the upload broke off are not applied again.
#[utoipa::path(post, path = "/api/products/import", tag = "Products", security(("bearer" = [])),
request_body(content = String, content_type = "application/x-ndjson", description = "Or `text/csv`; streamed, of any size"), params(
    ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat harmless"),
), responses(
    (status = 200, body = ImportReport),
    (status = 403, body = ProblemDetails, description = "`forbidden`: admins only"),
    (status = 415, body = ProblemDetails, description = "`unsupported_media_type`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`: the CSV header; `idempotency_key_reused`"),
))]
async fn import(request: HttpRequest, mut payload: web::Payload) -> Answer {
    let services = Services::of(&request)?;
    let caller = services.admin(&request)?;
    let format = match request::check_type(&request, &["application/x-ndjson", "text/csv"])? {
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
    importer.trace = request::trace(request.headers());
    while let Some(chunk) = tokio::time::timeout(options.request_timeout, payload.next())
        .await
        .map_err(|_| too_slow())?
    {
        importer.push(&chunk.map_err(|_| broken_off())?).await?;
    }
    importer.apply_rest().await?;
    let Some(key) = key.filter(|_| !importer.unfinished) else {
        return response::json(StatusCode::OK, &importer.report);
    };
    let key = IdempotencyKey { fingerprint: importer.fingerprint(&request), ..key };
    match first {
        Some((fingerprint, first)) if fingerprint == key.fingerprint => {
            Ok(response::replayed(first))
        }
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
        Ok(Reply::Done(())) => Ok(response::rendered(StatusCode::OK, body).finish()),
        Ok(Reply::Replayed(first)) => Ok(response::replayed(first)),
        Err(error) if error.code == ErrorCode::IdempotencyKeyReused => Err(error.into()),
        // The lines are applied, whatever it was.
        Err(_) => Err(Error::outcome_unknown().into()),
    }
}
