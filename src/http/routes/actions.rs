//! The route for actions: who changed what with rights that customers do not have.

use std::collections::HashMap;

use actix_web::{http::StatusCode, web};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    domain::{
        action::{Action, ActionFilter, Actor},
        clock::Timestamp,
        ids::ActionId,
        validation::ValidationErrors,
    },
    error::Error,
    events::schema::ActorKind,
    http::{
        request::{
            extract::{Admin, ReadRequest},
            query::{QueryParams, cut_to_page},
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
    },
    store::{ActionPosition, Store, StoreUnavailable},
};

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config.service(web::resource("/api/admin/actions").get(list));
}

/// A change that needed rights that customers do not have.
#[derive(Serialize, ToSchema)]
pub(crate) struct ActionResponse<'a> {
    id: Uuid,
    /// When the change was made.
    #[schema(format = DateTime)]
    at: String,
    actor: ActionActorResponse<'a>,
    /// The `operationId` of the request. A command on the server has that of the request that does
    /// the same.
    #[schema(examples("patch_product"))]
    action: &'a str,
    /// The product, order, account, API key or webhook that was changed.
    subject: Uuid,
    /// The `X-Request-Id` of the request. The command line has none.
    #[schema(required, examples("01936f5e-8a3b-7c41-9d52-6f0e1b2a3c4d"))]
    request_id: Option<&'a str>,
    /// The version of the subject before the change, of its stock if only that was changed. It is
    /// null if the change has created it.
    #[schema(required, examples(3))]
    version_before: Option<u64>,
    /// The version after the change.
    #[schema(examples(4))]
    version_after: u64,
}

/// Who made a change.
#[derive(Serialize, ToSchema)]
pub(crate) struct ActionActorResponse<'a> {
    #[serde(rename = "type")]
    #[schema(value_type = ActorKind)]
    kind: &'static str,
    /// The account or API key. It is null for the command line.
    #[schema(required)]
    id: Option<Uuid>,
    /// The name that the account or key has now. It is null for the command line, and for an
    /// account that does not exist any more.
    #[schema(required, examples("Ada"))]
    name: Option<&'a str>,
}

/// A page of actions, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct ActionPage<'a> {
    items: Vec<ActionResponse<'a>>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required, examples("WzE3NjcyMjU2MDAxMjAsIjAxOTM2ZjVlIl0"))]
    next_cursor: Option<String>,
}

impl<'a> ActionResponse<'a> {
    fn new(action: &'a Action, names: &'a HashMap<Actor, String>) -> Self {
        Self {
            id: action.id.as_uuid(),
            at: action.at.to_string(),
            actor: ActionActorResponse {
                kind: action.actor.kind().as_str(),
                id: action.actor.id(),
                name: names.get(&action.actor).map(String::as_str),
            },
            action: &action.operation,
            subject: action.subject,
            request_id: action.request_id.as_deref(),
            version_before: action.version_before,
            version_after: action.version_after,
        }
    }
}

/// List what staff, admins, API keys and the command line have changed, newest first.
///
/// Each change that needed more than a customer's rights is one action. It is written together with
/// the change and never altered. A request that changed nothing is none; an import is one for each
/// product that it changed.
#[utoipa::path(get, path = "/api/admin/actions", operation_id = "list_actions",
tag = "Operations", security(("bearer" = [])), params(
    ("actor" = Option<Uuid>, Query, description = "Only changes by this account or API key"),
    ("subject" = Option<Uuid>, Query,
        description = "Only changes of this product, order, account, API key or webhook"),
    ("from" = Option<String>, Query, example = "2026-01-01T00:00:00Z",
        description = "Only changes at this time or later"),
    ("to" = Option<String>, Query, example = "2026-02-01T00:00:00Z",
        description = "Only changes before this time"),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, example = 20,
        description = "The number of items on a page. The default is 20."),
    ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
), responses(
    (status = 200, body = ActionPage),
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for admins"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
async fn list(read: ReadRequest<Admin>) -> RouteResult {
    let (state, query) = (&read.state, &read.query);
    query.reject_others(&["actor", "subject", "from", "to", "limit", "cursor"])?;
    let filter = parse_filter(query).map_err(Error::from)?;
    let limit = query.page_limit()?;
    let after = query.parse_cursor::<(i64, ActionId)>()?;
    let after = after.map(|(at, id)| (Timestamp::from_millis(at), id));
    let page = read_page(&*state.store, filter, after, limit + 1);
    let (mut found, names) = state.read_before_deadline(&read.request, page).await?;
    let next_cursor = cut_to_page(&mut found, limit, |action| (action.at.as_millis(), action.id));
    let items = found.iter().map(|action| ActionResponse::new(action, &names)).collect();
    let page = ActionPage { items, next_cursor };
    Ok(ApiResponse::json(StatusCode::OK, &page)?.with_no_store())
}

/// Reads actions, and the names of their actors. An action has no name, so that none has to be
/// removed from it when an account is deleted.
async fn read_page(
    store: &dyn Store,
    filter: ActionFilter,
    after: Option<ActionPosition>,
    limit: u32,
) -> Result<(Vec<Action>, HashMap<Actor, String>), StoreUnavailable> {
    let found = store.list_actions(filter, after, limit).await?;
    let mut names = HashMap::new();
    for actor in found.iter().map(|action| action.actor) {
        if names.contains_key(&actor) {
            continue;
        }
        let name = match actor {
            Actor::User(id) => store.find_user(id).await?.map(|user| user.name),
            Actor::ApiKey(id) => store.find_api_key(id).await?.map(|key| key.name),
            Actor::Cli => None,
        };
        if let Some(name) = name {
            names.insert(actor, name);
        }
    }
    Ok((found, names))
}

fn parse_filter(query: &QueryParams) -> Result<ActionFilter, ValidationErrors> {
    let mut errors = ValidationErrors::new();
    let id = |name: &'static str, errors: &mut ValidationErrors| {
        let id = query.get(name)?.parse::<Uuid>();
        if id.is_err() {
            errors.add(name, "invalid", format!("{name} must be an id"));
        }
        id.ok()
    };
    let (actor, subject) = (id("actor", &mut errors), id("subject", &mut errors));
    let time = |name: &'static str, errors: &mut ValidationErrors| {
        let time = Timestamp::parse(query.get(name)?);
        if time.is_none() {
            let message = format!("{name} must be a time such as 2026-12-31T23:59:59Z");
            errors.add(name, "invalid", message);
        }
        time
    };
    let (from, to) = (time("from", &mut errors), time("to", &mut errors));
    errors.into_result(ActionFilter { actor, subject, from, to })
}
