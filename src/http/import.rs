//! Imports, streamed: lines are applied in batches while the file is still arriving.

use actix::Addr;
use actix_web::{HttpRequest, http::StatusCode, web};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    answer::{self, Answer},
    import_lines::{Format, Line, Lines},
    problem::ProblemDetails,
    receive::{self, broken_off, fingerprint, idempotency_key, too_slow},
    services::Services,
};
use crate::{
    actors::catalog::CatalogActor,
    error::Error,
    messages::{
        catalog::{ImportLine, ImportLines, Imported, LineOutcome},
        change::{Change, IdempotencyKey, Ticket, TraceParent},
    },
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
    trace: Option<TraceParent>,
    within: std::time::Duration,
    report: ImportReport,
}

impl Importer {
    /// An importer whose lines each have `within` to be applied.
    #[must_use]
    pub fn new(catalog: Addr<CatalogActor>, lines: Lines, within: std::time::Duration) -> Self {
        Self { catalog, lines, waiting: Vec::new(), key: None, trace: None, within, report: ImportReport::default() }
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
        self.waiting.extend(self.lines.finish()?);
        self.apply().await?;
        Ok(self.report)
    }

    async fn apply(&mut self) -> Result<(), Error> {
        let waiting = std::mem::take(&mut self.waiting);
        let lines = waiting.into_iter().map(|line| self.message(line)).collect();
        let outcomes = self.catalog.send(ImportLines { lines }).await.map_err(|_| Error::outcome_unknown())?;
        for outcome in outcomes {
            self.count(outcome);
        }
        Ok(())
    }

    fn message(&self, line: Line) -> ImportLine {
        let key = self.key.as_ref().map(|key| IdempotencyKey {
            // A space is in no client's key, so no line's key can be taken for one.
            key: format!("{} {}", key.key, line.number).into(),
            fingerprint: fingerprint("IMPORT", "", &line.bytes),
            ..key.clone()
        });
        let change = Change { key, if_match: None, ticket: Ticket::new(self.within), trace: self.trace.clone() };
        ImportLine { number: line.number, row: line.row, change }
    }

    fn count(&mut self, outcome: LineOutcome) {
        match outcome.result {
            Ok(Imported::Created) => self.report.created += 1,
            Ok(Imported::Updated) => self.report.updated += 1,
            Err(error) => {
                self.report.failed += 1;
                if self.report.errors.len() < MAX_ERRORS {
                    let (code, message) = (error.code.as_str().to_owned(), error.detail.into_owned());
                    self.report.errors.push(LineError { line: outcome.number, code, message });
                }
            }
        }
    }
}

/// Create and update many products.
///
/// A line whose `sku` is known updates that product; others make a new one. `stock` sets `on_hand`. Each line succeeds or fails
/// alone, and what was applied stays when the upload breaks off. In CSV, line 1 names the columns, tags are joined by `|`, and
/// attributes are JSON. With an `Idempotency-Key`, lines that were applied before are not applied again.
#[utoipa::path(post, path = "/api/products/import", tag = "Products", security(("bearer" = [])),
request_body(content = String, content_type = "application/x-ndjson", description = "Or `text/csv`; streamed, of any size"), params(
    ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat harmless"),
), responses(
    (status = 200, body = ImportReport),
    (status = 403, body = ProblemDetails, description = "`forbidden`: admins only"),
    (status = 415, body = ProblemDetails, description = "`unsupported_media_type`"),
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
    importer.key = idempotency_key(&request, &caller, 200, &[])?;
    importer.trace = receive::trace(request.headers());
    while let Some(chunk) = tokio::time::timeout(options.request_timeout, payload.next()).await.map_err(|_| too_slow())? {
        importer.push(&chunk.map_err(|_| broken_off())?).await?;
    }
    answer::json(StatusCode::OK, &importer.finish().await?)
}
