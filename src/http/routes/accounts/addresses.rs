//! The routes for the caller's address book.

use actix_web::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    actors::ask::ask,
    domain::{
        account::{PostalAddress, SavedAddress},
        ids::AddressId,
        validation::ValidationErrors,
    },
    http::{
        request::{
            body::{JsonRequest, RequestBody},
            extract::{Account, ChangeRequest, ReadRequest},
            headers::parse_if_match,
            query::cut_to_page,
            target::Target,
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
    },
    messages::{
        accounts::{AddressChange, ChangeAddress},
        command_context::CommandContext,
    },
};

/// A postal address.
#[derive(Deserialize, ToSchema)]
pub(crate) struct AddressRequest {
    #[schema(min_length = 1, max_length = 200, example = "Ada Lovelace")]
    name: String,
    #[schema(min_length = 1, max_length = 200, example = "12 Mint Street")]
    line1: String,
    #[schema(min_length = 1, max_length = 200, examples("Staircase B"))]
    line2: Option<String>,
    #[schema(min_length = 1, max_length = 200, example = "Paris")]
    city: String,
    /// The state or province.
    #[schema(min_length = 1, max_length = 200, examples("IDF"))]
    region: Option<String>,
    #[schema(min_length = 1, max_length = 200, example = "75001")]
    postal_code: String,
    /// Two capital letters of ISO 3166-1.
    #[schema(pattern = "^[A-Z]{2}$", example = "FR")]
    country: String,
    #[schema(min_length = 1, max_length = 200, examples("+33 1 23 45 67 89"))]
    phone: Option<String>,
}

/// An address in place of another. The read-only members of a fetched address are ignored.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct ReplaceAddressRequest(AddressRequest);

impl JsonRequest for AddressRequest {}

impl JsonRequest for ReplaceAddressRequest {
    const IGNORED_FIELDS: &'static [&'static str] = &["id", "version"];
}

impl AddressRequest {
    /// The address. `path` comes before the names of its members in errors.
    ///
    /// # Errors
    /// A member is not valid.
    pub(crate) fn parse(self, path: &str) -> Result<PostalAddress, ValidationErrors> {
        let Self { name, line1, line2, city, region, postal_code, country, phone } = self;
        let address =
            PostalAddress { name, line1, line2, city, region, postal_code, country, phone };
        address.validate(path)
    }
}

/// An address that the caller keeps.
#[derive(Serialize, ToSchema)]
pub(crate) struct AddressResponse<'a> {
    id: Uuid,
    /// Counts the changes of the address, from 1. It is the ETag.
    #[schema(minimum = 1, examples(1))]
    version: u64,
    #[schema(examples("Ada Lovelace"))]
    name: &'a str,
    #[schema(examples("12 Mint Street"))]
    line1: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("Staircase B"))]
    line2: Option<&'a str>,
    #[schema(examples("Paris"))]
    city: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("IDF"))]
    region: Option<&'a str>,
    #[schema(examples("75001"))]
    postal_code: &'a str,
    #[schema(examples("FR"))]
    country: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("+33 1 23 45 67 89"))]
    phone: Option<&'a str>,
}

impl<'a> From<&'a SavedAddress> for AddressResponse<'a> {
    fn from(saved: &'a SavedAddress) -> Self {
        let address = &saved.address;
        Self {
            id: saved.id.as_uuid(),
            version: saved.version,
            name: &address.name,
            line1: &address.line1,
            line2: address.line2.as_deref(),
            city: &address.city,
            region: address.region.as_deref(),
            postal_code: &address.postal_code,
            country: &address.country,
            phone: address.phone.as_deref(),
        }
    }
}

/// A page of addresses.
#[derive(Serialize, ToSchema)]
pub(crate) struct AddressPage<'a> {
    items: Vec<AddressResponse<'a>>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required, examples("IjAxOTM2ZjVlIg"))]
    next_cursor: Option<String>,
}

/// List the caller's addresses, newest first.
///
/// The caller keeps them; the shop uses none of them by itself.
#[utoipa::path(get, path = "/api/auth/me/addresses", operation_id = "list_addresses",
tag = "Auth", security(("bearer" = [])), params(
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, example = 20,
        description = "The number of items on a page. The default is 20."),
    ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
), responses(
    (status = 200, body = AddressPage),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no account"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
pub(super) async fn list(read: ReadRequest<Account>) -> RouteResult {
    read.query.reject_others(&["limit", "cursor"])?;
    let (limit, before) = (read.query.page_limit()?, read.query.parse_cursor::<AddressId>()?);
    let book = read.state.store.find_address_book(read.caller.user_id);
    let book = read.state.read_before_deadline(&read.request, book).await?;
    let following = book.addresses.iter().rev();
    let following = following.filter(|saved| before.is_none_or(|before| saved.id < before));
    let mut page: Vec<&SavedAddress> = following.take(limit as usize + 1).collect();
    let next_cursor = cut_to_page(&mut page, limit, |saved| saved.id);
    let items = page.into_iter().map(AddressResponse::from).collect();
    let page = AddressPage { items, next_cursor };
    Ok(ApiResponse::json(StatusCode::OK, &page)?.with_no_store())
}

/// Add an address.
///
/// A checkout takes the same object as its `shipping_address`.
#[utoipa::path(post, path = "/api/auth/me/addresses", operation_id = "add_address",
tag = "Auth", security(("bearer" = [])), request_body = AddressRequest, responses(
    (status = 201, body = AddressResponse, headers(("ETag" = String))),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no account"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`; `address_limit`: an account has at most 50 addresses"),
))]
pub(super) async fn add(mut change: ChangeRequest<Account, AddressRequest>) -> RouteResult {
    let address = take_body(&mut change.body).parse("")?;
    change_address(&change, AddressChange::Add(address), StatusCode::CREATED).await
}

/// Replace an address.
///
/// `id` and `version` of a fetched address are ignored.
#[utoipa::path(put, path = "/api/auth/me/addresses/{id}", operation_id = "replace_address",
tag = "Auth", security(("bearer" = [])), request_body = AddressRequest, params(
    ("id" = Uuid, Path, description = "The id of the address."),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = AddressResponse),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no account"),
    (status = 404, body = ProblemDetails, description = "`address_not_found`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
pub(super) async fn replace(
    mut change: ChangeRequest<Account, ReplaceAddressRequest, AddressId>,
) -> RouteResult {
    let address = take_body(&mut change.body.0).parse("")?;
    let replacement = AddressChange::Replace(change.target, address);
    change_address(&change, replacement, StatusCode::OK).await
}

/// Delete an address.
///
/// Orders keep theirs.
#[utoipa::path(delete, path = "/api/auth/me/addresses/{id}", operation_id = "delete_address",
tag = "Auth", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the address."),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 204),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no account"),
    (status = 404, body = ProblemDetails, description = "`address_not_found`"),
))]
pub(super) async fn delete(change: ChangeRequest<Account, (), AddressId>) -> RouteResult {
    let removal = AddressChange::Remove(change.target);
    change_address(&change, removal, StatusCode::NO_CONTENT).await
}

fn take_body(body: &mut AddressRequest) -> AddressRequest {
    let empty = AddressRequest {
        name: String::new(),
        line1: String::new(),
        line2: None,
        city: String::new(),
        region: None,
        postal_code: String::new(),
        country: String::new(),
        phone: None,
    };
    std::mem::replace(body, empty)
}

async fn change_address<B: RequestBody, T: Target>(
    request: &ChangeRequest<Account, B, T>,
    change: AddressChange,
    status: StatusCode,
) -> RouteResult {
    let ticket = request.ticket();
    let message = ChangeAddress {
        user_id: request.caller.user_id,
        change,
        // As everywhere under /api/auth, keys are not honored.
        context: CommandContext {
            idempotency_key: None,
            if_match: parse_if_match(&request.request),
            ticket: ticket.clone(),
            trace: request.trace(),
            action: None,
        },
    };
    let response = match ask(&request.state.accounts, message, &ticket).await? {
        Some(saved) => {
            let response = ApiResponse::json(status, &AddressResponse::from(&saved))?;
            response.with_etag(saved.version)
        }
        None => ApiResponse::no_content(),
    };
    Ok(response.with_no_store())
}
