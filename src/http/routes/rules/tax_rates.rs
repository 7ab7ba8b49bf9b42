//! The routes for tax rates.

use actix_web::{http::StatusCode, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{self as rules, READ_ONLY_FIELDS, RuleTarget as _, deserialize_present};
use crate::{
    domain::{
        catalog::trim::trim,
        ids::{RuleId, TaxRateId},
        money::Currency,
        pricing::{Rate, Rule, RuleEdit, TaxRate, TaxRatePatch},
        validation::ValidationErrors,
    },
    error::Error,
    events::pricing::TaxRateData,
    http::{
        request::{
            body::JsonRequest,
            extract::{ChangeRequest, ReadRequest, Staff},
            scopes::{TaxesReadScope, TaxesScope},
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
    },
};

/// The path of the list.
const PATH: &str = "/api/tax-rates";

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config.service(web::resource("/api/tax-rates").get(list).post(create)).service(
        web::resource("/api/tax-rates/{id}").get(show).put(replace).patch(patch).delete(delete),
    );
}

/// A tax rate. No two have the same country, region and class.
#[derive(Deserialize, ToSchema)]
pub(crate) struct TaxRateRequest {
    #[schema(min_length = 1, max_length = 200, examples("VAT"))]
    name: String,
    /// The country, ISO 3166-1 alpha-2.
    #[schema(pattern = "^[A-Za-z]{2}$", examples("DE"))]
    country: String,
    /// The region, the part of ISO 3166-2 after the dash. Without it, the whole country.
    #[schema(pattern = "^[A-Za-z0-9]{1,3}$", examples("NY"))]
    region: Option<String>,
    /// The class of goods. Without it, all of them; `shipping` is what shipping costs.
    #[schema(min_length = 1, max_length = 64, examples("reduced"))]
    tax_class: Option<String>,
    /// A decimal number from 0 to 1 with at most six decimals.
    #[schema(examples("0.19"))]
    rate: String,
}

/// A change of a tax rate. What is absent stays as it is.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PatchTaxRateRequest {
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 200, examples("VAT"))]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z]{2}$", examples("DE"))]
    country: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9]{1,3}$", examples("NY"))]
    region: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, examples("reduced"))]
    tax_class: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>, examples("0.19"))]
    rate: Option<Option<String>>,
}

/// A page of tax rates.
#[derive(Serialize, ToSchema)]
pub(crate) struct TaxRatePage<'a> {
    items: Vec<TaxRateData<'a>>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required, examples("IjAxOTM2ZjVlIg"))]
    next_cursor: Option<String>,
}

impl JsonRequest for TaxRateRequest {
    const IGNORED_FIELDS: &'static [&'static str] = READ_ONLY_FIELDS;
}

impl JsonRequest for PatchTaxRateRequest {
    const MEDIA_TYPES: &'static [&'static str] =
        &["application/merge-patch+json", "application/json"];
    const IGNORED_FIELDS: &'static [&'static str] = READ_ONLY_FIELDS;
}

fn parse_rate(text: &str, errors: &mut ValidationErrors) -> Option<Rate> {
    let rate = text.parse().ok();
    if rate.is_none() {
        let message = "rate must be a decimal number from \"0\" to \"1\" with at most six decimals";
        errors.add("rate", "invalid", message);
    }
    rate
}

impl TaxRateRequest {
    /// Money plays no part in it.
    fn parse(self, _: Currency) -> Result<Rule, Error> {
        let mut errors = ValidationErrors::new();
        let Some(rate) = parse_rate(&self.rate, &mut errors) else { return Err(errors.into()) };
        let rate = TaxRate {
            id: RuleId::new().as_uuid().into(),
            name: trim(self.name),
            country: self.country,
            region: self.region,
            tax_class: self.tax_class.map(trim),
            rate,
        };
        Ok(Rule::TaxRate(rate).validated()?)
    }
}

impl PatchTaxRateRequest {
    /// Money plays no part in it.
    fn parse(self, _: Currency) -> Result<TaxRatePatch, Error> {
        let mut errors = ValidationErrors::new();
        let rate = self.rate.map(|text| text.and_then(|text| parse_rate(&text, &mut errors)));
        Ok(errors.into_result(TaxRatePatch {
            name: self.name.map(|name| name.map(trim)),
            country: self.country,
            region: self.region,
            tax_class: self.tax_class.map(|class| class.map(trim)),
            rate,
        })?)
    }
}

/// List tax rates.
///
/// The newest come first. Deleted ones are not listed.
#[utoipa::path(get, path = "/api/tax-rates", operation_id = "list_tax_rates",
tag = "Taxes", security(("bearer" = [])), params(
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, example = 20,
        description = "The number of items on a page. The default is 20."),
    ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = TaxRatePage),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `taxes:read`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
async fn list(read: ReadRequest<Staff<TaxesReadScope>>) -> RouteResult {
    read.honor_no_cache().await?;
    let (found, next_cursor) = rules::list(&read.state, TaxRateId::KIND, &read.query)?;
    let items = found.iter().filter_map(|record| TaxRateData::of(record)).collect();
    Ok(ApiResponse::json(StatusCode::OK, &TaxRatePage { items, next_cursor })?)
}

/// Get a tax rate.
///
/// A deleted one is not found, though it stays in the orders that have it.
#[utoipa::path(get, path = "/api/tax-rates/{id}", operation_id = "get_tax_rate",
tag = "Taxes", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the tax rate."),
    ("If-None-Match" = Option<String>, Header),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = TaxRateData),
    (status = 304, description = "`If-None-Match` names the current ETag."),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `taxes:read`"),
    (status = 404, body = ProblemDetails, description = "`tax_rate_not_found`"),
))]
async fn show(read: ReadRequest<Staff<TaxesReadScope>, TaxRateId>) -> RouteResult {
    read.honor_no_cache().await?;
    let record = rules::find(&read.state, read.target)?;
    read.query.reject_others(&[])?;
    Ok(rules::rule_response(&record, 0))
}

/// Create a tax rate.
///
/// Carts use it at once. Once the shop has one, checkout needs an address. No two rates have the
/// same country, region and tax class.
#[utoipa::path(post, path = "/api/tax-rates", operation_id = "create_tax_rate",
tag = "Taxes", security(("bearer" = [])), request_body = TaxRateRequest, params(
    ("Idempotency-Key" = Option<String>, Header),
), responses(
    (status = 201, body = TaxRateData, headers(("ETag" = String), ("Location" = String))),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `taxes`"),
    (status = 409, body = ProblemDetails, description = "`tax_rate_exists`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn create(change: ChangeRequest<Staff<TaxesScope>, TaxRateRequest>) -> RouteResult {
    let context = change.context()?;
    let rule = change.body.parse(change.state.options.currency)?;
    rules::create(&change.state, PATH, rule, context).await
}

/// Replace a tax rate.
///
/// The read-only members of a fetched tax rate are ignored.
#[utoipa::path(put, path = "/api/tax-rates/{id}", operation_id = "replace_tax_rate",
tag = "Taxes", security(("bearer" = [])), request_body = TaxRateRequest, params(
    ("id" = Uuid, Path, description = "The id of the tax rate."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = TaxRateData),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `taxes`"),
    (status = 404, body = ProblemDetails, description = "`tax_rate_not_found`"),
    (status = 409, body = ProblemDetails, description = "`tax_rate_exists`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn replace(
    change: ChangeRequest<Staff<TaxesScope>, TaxRateRequest, TaxRateId>,
) -> RouteResult {
    let context = change.context()?;
    let edit = RuleEdit::Replace(change.body.parse(change.state.options.currency)?);
    rules::change(&change.state, change.target, edit, context).await
}

/// Change some members of a tax rate.
///
/// The body is a merge patch (RFC 7396). The read-only members of a fetched tax rate are ignored.
#[utoipa::path(patch, path = "/api/tax-rates/{id}", operation_id = "patch_tax_rate",
tag = "Taxes", security(("bearer" = [])),
request_body(content = PatchTaxRateRequest, content_type = "application/merge-patch+json"),
params(
    ("id" = Uuid, Path, description = "The id of the tax rate."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = TaxRateData),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `taxes`"),
    (status = 404, body = ProblemDetails, description = "`tax_rate_not_found`"),
    (status = 409, body = ProblemDetails, description = "`tax_rate_exists`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn patch(
    change: ChangeRequest<Staff<TaxesScope>, PatchTaxRateRequest, TaxRateId>,
) -> RouteResult {
    let context = change.context()?;
    let patch = change.body.parse(change.state.options.currency)?;
    rules::change(&change.state, change.target, RuleEdit::PatchTaxRate(patch), context).await
}

/// Delete a tax rate.
///
/// It stays in the orders that have it.
#[utoipa::path(delete, path = "/api/tax-rates/{id}", operation_id = "delete_tax_rate",
tag = "Taxes", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the tax rate."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 204),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `taxes`"),
    (status = 404, body = ProblemDetails, description = "`tax_rate_not_found`"),
    (status = 422, body = ProblemDetails, description = "`idempotency_key_reused`"),
))]
async fn delete(change: ChangeRequest<Staff<TaxesScope>, (), TaxRateId>) -> RouteResult {
    let context = change.context()?;
    rules::delete(&change.state, change.target, context).await
}
