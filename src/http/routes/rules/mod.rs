//! The routes for the pricing rules: promotions, shipping methods and tax rates.

pub(crate) mod promotions;
pub(crate) mod shipping_methods;
pub(crate) mod tax_rates;

use std::sync::Arc;

use actix_web::{HttpRequest, http::StatusCode, web};

use crate::{
    actors::{
        ask::ask,
        pricing::{rule_etag, rule_not_found},
    },
    auth::caller::Caller,
    domain::{
        ids::{PromotionId, RuleId, ShippingMethodId, TaxRateId},
        pricing::{Rule, RuleEdit, RuleKind, RuleRecord},
    },
    error::Error,
    events::pricing::rule_json,
    http::{
        request::{
            query::{QueryParams, encode_cursor},
            target::{Target, path_segment},
        },
        response::{ApiResponse, RouteResult},
        state::AppState,
    },
    messages::{
        command_context::{CommandContext, Reply},
        pricing::{ChangeRule, CreateRule, DeleteRule},
    },
};

/// The read-only members of a fetched rule, which are ignored.
const READ_ONLY_FIELDS: &[&str] = &["id", "used", "version", "created_at", "updated_at"];

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    promotions::configure_routes(config);
    shipping_methods::configure_routes(config);
    tax_rates::configure_routes(config);
}

/// An id of a rule whose kind is known.
pub(crate) trait RuleTarget: Into<RuleId> + From<uuid::Uuid> + Copy {
    /// The kind of the rule.
    const KIND: RuleKind;
}

impl RuleTarget for PromotionId {
    const KIND: RuleKind = RuleKind::Promotion;
}

impl RuleTarget for ShippingMethodId {
    const KIND: RuleKind = RuleKind::ShippingMethod;
}

impl RuleTarget for TaxRateId {
    const KIND: RuleKind = RuleKind::TaxRate;
}

impl From<PromotionId> for RuleId {
    fn from(id: PromotionId) -> Self {
        id.as_uuid().into()
    }
}

impl From<ShippingMethodId> for RuleId {
    fn from(id: ShippingMethodId) -> Self {
        id.as_uuid().into()
    }
}

impl From<TaxRateId> for RuleId {
    fn from(id: TaxRateId) -> Self {
        id.as_uuid().into()
    }
}

impl<T: RuleTarget> Target for T {
    fn parse(request: &HttpRequest) -> Result<Self, Error> {
        let id: Result<RuleId, _> = path_segment(request).parse();
        id.map(|id| id.as_uuid().into()).map_err(|_| rule_not_found(T::KIND))
    }

    async fn ensure_exists(
        &self,
        state: &AppState,
        _: &HttpRequest,
        _: Option<Caller>,
    ) -> Result<(), Error> {
        find(state, *self).map(|_| ())
    }
}

fn find<T: RuleTarget>(state: &AppState, id: T) -> Result<Arc<RuleRecord>, Error> {
    state.pricing_rules.find(T::KIND, id.into()).ok_or_else(|| rule_not_found(T::KIND))
}

fn rule_response(record: &RuleRecord, used: u64) -> ApiResponse {
    ApiResponse::ok(rule_json(record, used)).with_etag(rule_etag(record, used))
}

/// How many orders have a rule, if it is a promotion.
fn used(state: &AppState, record: &RuleRecord) -> u64 {
    state.pricing_rules.used(record.id.as_uuid().into())
}

/// A page of rules, newest first, and the cursor of the next one.
fn list(
    state: &AppState,
    kind: RuleKind,
    query: &QueryParams,
) -> Result<(Vec<Arc<RuleRecord>>, Option<String>), Error> {
    query.reject_others(&["limit", "cursor"])?;
    let (limit, before) = (query.page_limit()? as usize, query.parse_cursor::<RuleId>()?);
    // One extra rule shows whether there is a next page.
    let mut found = state.pricing_rules.list(kind, before, limit + 1);
    let has_more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| has_more).map(|record| record.id);
    Ok((found, encode_cursor(next)))
}

async fn create(state: &AppState, path: &str, rule: Rule, context: CommandContext) -> RouteResult {
    let ticket = context.ticket.clone();
    let reply = ask(&state.pricing, CreateRule { rule, context }, &ticket).await?;
    let render = |record: Arc<RuleRecord>| {
        Ok(rule_response(&record, used(state, &record))
            .with_location(format!("{path}/{}", record.id)))
    };
    Ok(ApiResponse::from_reply(StatusCode::CREATED, reply, render)?)
}

async fn change<T: RuleTarget>(
    state: &AppState,
    id: T,
    edit: RuleEdit,
    context: CommandContext,
) -> RouteResult {
    let ticket = context.ticket.clone();
    let message = ChangeRule { kind: T::KIND, rule_id: id.into(), edit, context };
    let reply: Reply<Arc<RuleRecord>> = ask(&state.pricing, message, &ticket).await?;
    let render = |record: Arc<RuleRecord>| Ok(rule_response(&record, used(state, &record)));
    Ok(ApiResponse::from_reply(StatusCode::OK, reply, render)?)
}

async fn delete<T: RuleTarget>(state: &AppState, id: T, context: CommandContext) -> RouteResult {
    let ticket = context.ticket.clone();
    let message = DeleteRule { kind: T::KIND, rule_id: id.into(), context };
    let reply: Reply<()> = ask(&state.pricing, message, &ticket).await?;
    Ok(ApiResponse::from_reply(StatusCode::NO_CONTENT, reply, |()| Ok(ApiResponse::no_content()))?)
}

/// Tells a member that is null (`Some(None)`) from one that is absent (`None`).
fn deserialize_present<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: serde::Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    serde::Deserialize::deserialize(deserializer).map(Some)
}
