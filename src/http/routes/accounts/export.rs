//! The route with which a customer gets everything that the shop holds about the account.

use std::{io, sync::Arc};

use actix_web::{HttpResponse, web::Bytes};
use futures_util::stream;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    addresses::AddressResponse,
    devices::{AccountSessionResponse, MAX_LISTED_SESSIONS},
};
use crate::{
    domain::{
        ids::{OrderId, UserId},
        order::OrderFilter,
    },
    error::Error,
    events::order::{OrderData, order_json},
    http::{
        request::extract::{Account, ReadRequest},
        response::{
            problem::{Problem, ProblemDetails},
            views::CartResponse,
        },
        routes::users::UserResponse,
        state::AppState,
    },
};

/// The number of orders that an export holds at a time.
const ORDERS_PER_PAGE: u32 = 100;

/// What ends the JSON of an export without orders.
const END: &[u8] = b"]}";

/// Everything that the shop holds about an account.
#[derive(Serialize, ToSchema)]
pub(crate) struct AccountExport<'a> {
    user: UserResponse<'a>,
    addresses: Vec<AddressResponse<'a>>,
    sessions: Vec<AccountSessionResponse<'a>>,
    #[schema(value_type = CartResponse)]
    cart: &'a RawValue,
    #[schema(format = DateTime)]
    exported_at: String,
    /// Newest first. It is the last member, so that the orders can follow page by page.
    orders: Vec<OrderData<'a>>,
}

/// Export the caller's data.
///
/// The response has everything that the shop holds about the account, but no hash and no token. It
/// is sent page by page, so it may be large.
#[utoipa::path(get, path = "/api/auth/me/export", operation_id = "export_account",
tag = "Auth", security(("bearer" = [])), responses(
    (status = 200, body = AccountExport, headers(("Content-Disposition" = String,
        description = "A name for the file."))),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no account"),
))]
pub(super) async fn export(read: ReadRequest<Account>) -> Result<HttpResponse, Problem> {
    read.query.reject_others(&[])?;
    let head = render_head(&read).await?;
    let pages = OrderPages {
        state: Arc::clone(&read.state),
        user_id: read.caller.user_id,
        next: Next::Head(head),
    };
    let body = stream::try_unfold(pages, OrderPages::next_chunk);
    Ok(HttpResponse::Ok()
        .insert_header(("content-type", "application/json"))
        .insert_header(("content-disposition", "attachment; filename=\"account.json\""))
        .insert_header(("cache-control", "no-store"))
        .streaming(Box::pin(body)))
}

/// The JSON of an export up to its first order.
async fn render_head(read: &ReadRequest<Account>) -> Result<Bytes, Error> {
    let (state, request, caller) = (&read.state, &read.request, read.caller);
    let store = &state.store;
    let user = state.read_before_deadline(request, store.find_user(caller.user_id)).await?;
    let user = user.ok_or_else(Error::user_not_found)?;
    let book = store.find_address_book(caller.user_id);
    let book = state.read_before_deadline(request, book).await?;
    let now = state.clock.now();
    let sessions = store.list_active_sessions(caller.user_id, now, MAX_LISTED_SESSIONS);
    let sessions = state.read_before_deadline(request, sessions).await?;
    let cart = state.carts.read_cart(caller.owner(), &read.ticket()).await?;
    let export = AccountExport {
        user: UserResponse::from(&user),
        addresses: book.addresses.iter().map(AddressResponse::from).collect(),
        sessions: sessions
            .iter()
            .map(|session| AccountSessionResponse::new(session, caller.session_id))
            .collect(),
        cart: serde_json::from_slice(&cart.body).map_err(unrenderable)?,
        exported_at: now.to_string(),
        orders: Vec::new(),
    };
    let mut head = serde_json::to_vec(&export).map_err(unrenderable)?;
    head.truncate(head.len().saturating_sub(END.len()));
    Ok(head.into())
}

fn unrenderable(error: serde_json::Error) -> Error {
    tracing::error!(%error, "failed to encode an export as JSON");
    Error::internal()
}

/// An export that is being sent. It holds one page of orders.
struct OrderPages {
    state: Arc<AppState>,
    user_id: UserId,
    next: Next,
}

/// What an export sends next.
enum Next {
    /// What is before the orders.
    Head(Bytes),
    /// The orders before this one, or from the newest on.
    Orders(Option<OrderId>),
    /// Nothing.
    Nothing,
}

impl OrderPages {
    /// The next chunk. An error ends the connection, so that the client knows that the rest is
    /// missing.
    async fn next_chunk(mut self) -> io::Result<Option<(Bytes, Self)>> {
        let before = match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Head(head) => {
                self.next = Next::Orders(None);
                return Ok(Some((head, self)));
            }
            Next::Orders(before) => before,
            Next::Nothing => return Ok(None),
        };
        let state = &self.state;
        let own = OrderFilter { user_id: Some(self.user_id), ..OrderFilter::default() };
        let orders = state.store.list_orders(own, before, ORDERS_PER_PAGE);
        let orders = state.read_limiter.run(state.options.request_timeout, orders).await;
        let orders = orders.map_err(io::Error::other)?;
        let mut chunk = Vec::new();
        for (index, order) in orders.iter().enumerate() {
            if index > 0 || before.is_some() {
                chunk.push(b',');
            }
            chunk.extend_from_slice(&order_json(order));
        }
        match orders.last() {
            Some(last) if orders.len() == ORDERS_PER_PAGE as usize => {
                self.next = Next::Orders(Some(last.id));
            }
            _ => chunk.extend_from_slice(END),
        }
        Ok(Some((chunk.into(), self)))
    }
}
