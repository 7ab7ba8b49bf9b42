//! Streamed product imports: lines are applied in batches while the upload is in progress.

mod importer;
mod recent_skus;
mod report;

use std::sync::Arc;

use actix_web::{
    HttpRequest,
    dev::Payload,
    http::StatusCode,
    web::{self, Bytes},
};
use futures_util::StreamExt;
use utoipa::ToSchema;

use self::importer::MAX_LISTED_ERRORS;
pub use self::{
    importer::{ImportOptions, ImportPosition, Importer, LineKeys, is_store_failure},
    recent_skus::RecentSkus,
    report::{ImportReport, LineError},
};
use crate::{
    actors::{ask::ask, commit_error::map_commit_error},
    domain::validation::ValidationErrors,
    error::{Error, ErrorCode},
    http::{
        request::{
            body::{RequestBody, body_timeout_error, check_content_type, incomplete_body_error},
            extract::{ChangeRequest, Staff},
            query::QueryParams,
            scopes::ImportScopes,
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
        state::AppState,
    },
    input::{
        fingerprint::request_fingerprint,
        product_file::{ProductFileFormat, ProductFileOptions},
    },
    messages::{
        catalog::RecordImportResponse,
        command_context::{CommandContext, IdempotencyKey, Reply, Ticket},
    },
    store::CommitError,
};

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config.service(web::resource("/api/products/import").post(import));
}

/// An NDJSON file. Each line is a product as a JSON object.
#[derive(ToSchema)]
#[schema(
    value_type = String,
    format = Binary,
    examples("{\"sku\":\"TEA-1\",\"name\":\"Mint tea\",\"price\":4.5,\"stock\":40}\n")
)]
pub(crate) struct NdjsonFile(#[expect(dead_code, reason = "describes a body")] String);

/// A CSV file. The first line names the columns, in any order; tags are joined by `|`, and
/// attributes are JSON. Fields are separated by commas, semicolons or tabs.
#[derive(ToSchema)]
#[schema(
    value_type = String,
    format = Binary,
    examples("sku,name,price,stock,tags\nTEA-1,Mint tea,4.50,40,green|loose\n")
)]
pub(crate) struct CsvFile(#[expect(dead_code, reason = "describes a body")] String);

/// The body of an import, which the route reads chunk by chunk.
struct ImportBody(Payload);

impl RequestBody for ImportBody {
    const QUERY_PARAMETERS: &'static [&'static str] = &["dry_run", "ignore_unknown"];

    async fn read(_: &HttpRequest, payload: Payload) -> Result<(Self, Bytes), Error> {
        Ok((Self(payload), Bytes::new()))
    }
}

/// Import products.
///
/// A line with a known `sku` updates that product. Any other line creates a product. `stock` sets
/// `on_hand`. A member or column that is left out, and an empty CSV cell, keep what is there; null
/// in NDJSON removes it. Texts lose their outer spaces. Empty lines, and rows of nothing but
/// separators, are skipped.
///
/// Each line succeeds or fails independently, and lines that were applied stay applied if the
/// upload breaks off. With an `Idempotency-Key`, a repeat does not apply them again. The file is
/// NDJSON or CSV and can have any size.
#[utoipa::path(post, path = "/api/products/import", operation_id = "import_products",
tag = "Products", security(("bearer" = [])), request_body(
    content((NdjsonFile = "application/x-ndjson"), (CsvFile = "text/csv")),
    description = "The file. It is read as it arrives."
), params(
    ("Idempotency-Key" = Option<String>, Header),
    ("dry_run" = Option<bool>, Query, example = true,
        description = "Whether to check the lines without changing anything. The report says what \
                       would be done."),
    ("ignore_unknown" = Option<bool>, Query, example = true,
        description = "Whether to ignore unknown columns and members instead of rejecting them."),
), responses(
    (status = 200, body = ImportReport),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `catalog` and `stock`"),
    (status = 415, body = ProblemDetails, description = "`unsupported_media_type`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`: the header of the CSV file, with each unknown column; \
                       `idempotency_key_reused`"),
))]
async fn import(mut change: ChangeRequest<Staff<ImportScopes>, ImportBody>) -> RouteResult {
    let state = Arc::clone(&change.state);
    let options = parse_options(&change)?;
    let key = match &options.keys {
        LineKeys::EveryLine(key) => Some(key.clone()),
        _ => None,
    };
    let mut fingerprint_path = change.request.path().to_owned();
    if options.file.ignore_unknown {
        fingerprint_path.push_str("?ignore_unknown=true");
    }
    let stored = match &key {
        Some(key) => state.store.find_stored_reply(key).await?,
        None => None,
    };
    let mut importer = Importer::new(state.catalog.clone(), options);
    importer.is_replay = stored.is_some();
    let chunk_timeout = state.options.request_timeout;
    while let Some(chunk) = tokio::time::timeout(chunk_timeout, change.body.0.next())
        .await
        .map_err(|_| body_timeout_error())?
    {
        importer.push_chunk(&chunk.map_err(|_| incomplete_body_error())?).await?;
    }
    importer.finish().await?;
    let Some(key) = key.filter(|_| !importer.has_retryable_errors) else {
        return Ok(ApiResponse::json(StatusCode::OK, importer.report())?);
    };
    let digest = importer.content_digest();
    let fingerprint =
        request_fingerprint(change.request.method().as_str(), &fingerprint_path, &digest);
    let key = IdempotencyKey { fingerprint, ..key };
    match stored {
        Some((fingerprint, response)) if fingerprint == key.fingerprint => {
            Ok(import_response(Reply::Replayed(response), Bytes::new())?)
        }
        Some(_) => Err(map_commit_error(CommitError::IdempotencyKeyReused).into()),
        None => store_report(&state, &importer, key).await,
    }
}

fn parse_options(
    change: &ChangeRequest<Staff<ImportScopes>, ImportBody>,
) -> Result<ImportOptions, Error> {
    let types = ["application/x-ndjson", "text/csv"];
    let format = match check_content_type(&change.request, &types)? {
        "text/csv" => ProductFileFormat::Csv,
        _ => ProductFileFormat::Ndjson,
    };
    let query = QueryParams::parse(change.request.query_string());
    let mut errors = ValidationErrors::new();
    let mut flag = |name| query.flag(name, &mut errors).unwrap_or(false);
    let (dry_run, ignore_unknown) = (flag("dry_run"), flag("ignore_unknown"));
    errors.into_result(())?;
    let key = change.context()?.idempotency_key;
    let options = &change.state.options;
    Ok(ImportOptions {
        file: ProductFileOptions {
            format,
            currency: options.currency,
            max_line_bytes: options.max_body,
            ignore_unknown,
            skip_through_line: 0,
        },
        line_timeout: options.request_timeout,
        max_listed_errors: MAX_LISTED_ERRORS,
        dry_run,
        // A dry run changes nothing that a repeat could change again.
        keys: key.filter(|_| !dry_run).map_or(LineKeys::None, LineKeys::EveryLine),
        stop_at_store_failure: false,
        trace: change.trace(),
        origin: change.origin(),
    })
}

fn import_response(reply: Reply<()>, report: Bytes) -> Result<ApiResponse, Error> {
    ApiResponse::from_reply(StatusCode::OK, reply, |()| Ok(ApiResponse::ok(report)))
}

/// Stores the report under the import's idempotency key and returns it.
async fn store_report(state: &AppState, importer: &Importer, key: IdempotencyKey) -> RouteResult {
    let body = Bytes::from(serde_json::to_vec(importer.report()).map_err(|_| Error::internal())?);
    // The lines may have used up the request's time, so the report gets a new deadline.
    let ticket = Ticket::new(state.options.request_timeout);
    let context = CommandContext {
        idempotency_key: Some(key),
        if_match: None,
        ticket: ticket.clone(),
        trace: importer.trace(),
        // The lines have theirs.
        action: None,
    };
    let message = RecordImportResponse { body: body.clone(), context };
    match ask(&state.catalog, message, &ticket).await {
        Ok(reply) => Ok(import_response(reply, body)?),
        Err(error) if error.code == ErrorCode::IdempotencyKeyReused => Err(error.into()),
        // The lines are applied even if storing the report fails.
        Err(_) => Err(Error::outcome_unknown().into()),
    }
}
