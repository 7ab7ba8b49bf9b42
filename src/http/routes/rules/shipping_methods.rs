//! The routes for shipping methods.

use std::collections::BTreeSet;

use actix_web::{http::StatusCode, web};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{self as rules, READ_ONLY_FIELDS, RuleTarget as _, deserialize_present};
use crate::{
    domain::{
        catalog::trim::trim,
        ids::{RuleId, ShippingMethodId},
        money::Currency,
        pricing::{Rule, RuleEdit, ShippingMethod, ShippingMethodPatch},
        validation::ValidationErrors,
    },
    error::Error,
    events::pricing::ShippingMethodData,
    http::{
        request::{
            body::JsonRequest,
            extract::{ChangeRequest, ReadRequest, Staff},
            scopes::{ShippingReadScope, ShippingScope},
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
    },
    input::json,
};

/// The path of the list.
const PATH: &str = "/api/shipping-methods";

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config.service(web::resource("/api/shipping-methods").get(list).post(create)).service(
        web::resource("/api/shipping-methods/{id}")
            .get(show)
            .put(replace)
            .patch(patch)
            .delete(delete),
    );
}

/// A shipping method.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ShippingMethodRequest {
    #[schema(min_length = 1, max_length = 200, examples("Parcel"))]
    name: String,
    /// The countries that it serves, ISO 3166-1 alpha-2. Without it, all of them.
    #[schema(min_items = 1, example = json!(["DE", "AT"]))]
    countries: Option<Vec<String>>,
    /// What each order costs.
    #[schema(value_type = f64, minimum = 0, example = 4.9)]
    price: Box<RawValue>,
    /// It costs nothing when the goods cost this much after discounts.
    #[schema(value_type = Option<f64>, minimum = 0, example = 50)]
    free_from: Option<Box<RawValue>>,
    /// What each kilogram costs besides.
    #[schema(value_type = Option<f64>, minimum = 0, example = 0.5)]
    per_kg: Option<Box<RawValue>>,
    /// Whether it can be used. The default is true.
    #[schema(examples(true))]
    active: Option<bool>,
}

/// A change of a shipping method. What is absent stays as it is.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PatchShippingMethodRequest {
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 200, examples("Parcel"))]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<Vec<String>>, min_items = 1, example = json!(["DE", "AT"]))]
    countries: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<f64>, minimum = 0, example = 4.9)]
    price: Option<Option<Box<RawValue>>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<f64>, minimum = 0, example = 50)]
    free_from: Option<Option<Box<RawValue>>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<f64>, minimum = 0, example = 0.5)]
    per_kg: Option<Option<Box<RawValue>>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<bool>, examples(true))]
    active: Option<Option<bool>>,
}

/// A page of shipping methods.
#[derive(Serialize, ToSchema)]
pub(crate) struct ShippingMethodPage<'a> {
    items: Vec<ShippingMethodData<'a>>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required, examples("IjAxOTM2ZjVlIg"))]
    next_cursor: Option<String>,
}

impl JsonRequest for ShippingMethodRequest {
    const IGNORED_FIELDS: &'static [&'static str] = READ_ONLY_FIELDS;
}

impl JsonRequest for PatchShippingMethodRequest {
    const MEDIA_TYPES: &'static [&'static str] =
        &["application/merge-patch+json", "application/json"];
    const IGNORED_FIELDS: &'static [&'static str] = READ_ONLY_FIELDS;
}

impl ShippingMethodRequest {
    fn parse(self, currency: Currency) -> Result<Rule, Error> {
        let mut errors = ValidationErrors::new();
        let mut money =
            |field, text: &RawValue| json::parse_amount(field, text, currency, &mut errors);
        let method = ShippingMethod {
            id: RuleId::new().as_uuid().into(),
            name: trim(self.name),
            countries: self.countries.map(|countries| countries.into_iter().collect()),
            price: money("price", &self.price),
            free_from: self.free_from.map(|text| money("free_from", &text)),
            per_kg: self.per_kg.map(|text| money("per_kg", &text)),
            active: self.active.unwrap_or(true),
        };
        errors.into_result(())?;
        Ok(Rule::ShippingMethod(method).validated()?)
    }
}

impl PatchShippingMethodRequest {
    fn parse(self, currency: Currency) -> Result<ShippingMethodPatch, Error> {
        let mut errors = ValidationErrors::new();
        let mut money = |field, text: Option<Box<RawValue>>| {
            text.map(|text| json::parse_amount(field, &text, currency, &mut errors))
        };
        let countries = |countries: Vec<String>| countries.into_iter().collect::<BTreeSet<_>>();
        let patch = ShippingMethodPatch {
            name: self.name.map(|name| name.map(trim)),
            countries: self.countries.map(|given| given.map(countries)),
            price: self.price.map(|text| money("price", text)),
            free_from: self.free_from.map(|text| money("free_from", text)),
            per_kg: self.per_kg.map(|text| money("per_kg", text)),
            active: self.active,
        };
        Ok(errors.into_result(patch)?)
    }
}

/// List shipping methods.
///
/// The newest come first. Deleted ones are not listed.
#[utoipa::path(get, path = "/api/shipping-methods", operation_id = "list_shipping_methods",
tag = "Shipping", security(("bearer" = [])), params(
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, example = 20,
        description = "The number of items on a page. The default is 20."),
    ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = ShippingMethodPage),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `shipping:read`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
async fn list(read: ReadRequest<Staff<ShippingReadScope>>) -> RouteResult {
    read.honor_no_cache().await?;
    let (found, next_cursor) = rules::list(&read.state, ShippingMethodId::KIND, &read.query)?;
    let items = found.iter().filter_map(|record| ShippingMethodData::of(record)).collect();
    Ok(ApiResponse::json(StatusCode::OK, &ShippingMethodPage { items, next_cursor })?)
}

/// Get a shipping method.
///
/// A deleted one is not found, though it stays in the orders that have it.
#[utoipa::path(get, path = "/api/shipping-methods/{id}", operation_id = "get_shipping_method",
tag = "Shipping", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the shipping method."),
    ("If-None-Match" = Option<String>, Header),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = ShippingMethodData),
    (status = 304, description = "`If-None-Match` names the current ETag."),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `shipping:read`"),
    (status = 404, body = ProblemDetails, description = "`shipping_method_not_found`"),
))]
async fn show(read: ReadRequest<Staff<ShippingReadScope>, ShippingMethodId>) -> RouteResult {
    read.honor_no_cache().await?;
    let record = rules::find(&read.state, read.target)?;
    read.query.reject_others(&[])?;
    Ok(rules::rule_response(&record, 0))
}

/// Create a shipping method.
///
/// Carts use it at once. Once the shop has an active one, checkout needs an address.
#[utoipa::path(post, path = "/api/shipping-methods", operation_id = "create_shipping_method",
tag = "Shipping", security(("bearer" = [])), request_body = ShippingMethodRequest, params(
    ("Idempotency-Key" = Option<String>, Header),
), responses(
    (status = 201, body = ShippingMethodData, headers(("ETag" = String), ("Location" = String))),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `shipping`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn create(change: ChangeRequest<Staff<ShippingScope>, ShippingMethodRequest>) -> RouteResult {
    let context = change.context()?;
    let rule = change.body.parse(change.state.options.currency)?;
    rules::create(&change.state, PATH, rule, context).await
}

/// Replace a shipping method.
///
/// The read-only members of a fetched shipping method are ignored.
#[utoipa::path(put, path = "/api/shipping-methods/{id}", operation_id = "replace_shipping_method",
tag = "Shipping", security(("bearer" = [])), request_body = ShippingMethodRequest, params(
    ("id" = Uuid, Path, description = "The id of the shipping method."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = ShippingMethodData),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `shipping`"),
    (status = 404, body = ProblemDetails, description = "`shipping_method_not_found`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn replace(
    change: ChangeRequest<Staff<ShippingScope>, ShippingMethodRequest, ShippingMethodId>,
) -> RouteResult {
    let context = change.context()?;
    let edit = RuleEdit::Replace(change.body.parse(change.state.options.currency)?);
    rules::change(&change.state, change.target, edit, context).await
}

/// Change some members of a shipping method.
///
/// The body is a merge patch (RFC 7396). The read-only members of a fetched shipping method are
/// ignored.
#[utoipa::path(patch, path = "/api/shipping-methods/{id}", operation_id = "patch_shipping_method",
tag = "Shipping", security(("bearer" = [])),
request_body(content = PatchShippingMethodRequest, content_type = "application/merge-patch+json"),
params(
    ("id" = Uuid, Path, description = "The id of the shipping method."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = ShippingMethodData),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `shipping`"),
    (status = 404, body = ProblemDetails, description = "`shipping_method_not_found`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn patch(
    change: ChangeRequest<Staff<ShippingScope>, PatchShippingMethodRequest, ShippingMethodId>,
) -> RouteResult {
    let context = change.context()?;
    let patch = change.body.parse(change.state.options.currency)?;
    rules::change(&change.state, change.target, RuleEdit::PatchShippingMethod(patch), context).await
}

/// Delete a shipping method.
///
/// It stays in the orders that have it.
#[utoipa::path(delete, path = "/api/shipping-methods/{id}", operation_id = "delete_shipping_method",
tag = "Shipping", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the shipping method."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 204),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `shipping`"),
    (status = 404, body = ProblemDetails, description = "`shipping_method_not_found`"),
    (status = 422, body = ProblemDetails, description = "`idempotency_key_reused`"),
))]
async fn delete(change: ChangeRequest<Staff<ShippingScope>, (), ShippingMethodId>) -> RouteResult {
    let context = change.context()?;
    rules::delete(&change.state, change.target, context).await
}
