//! Who may use a route.

use std::marker::PhantomData;

use actix_web::{HttpRequest, http::header};

use super::{query::QueryParams, scopes::Scopes};
use crate::{auth::caller::Caller, error::Error, http::state::AppState};

/// Who may use a route.
pub(crate) trait Access {
    /// Whether the route needs rights that customers do not have. What it changes is then recorded
    /// as an action of the caller.
    const IS_FOR_STAFF: bool;

    /// What the route learns about the caller.
    type Caller: Copy + 'static;

    /// Checks that the caller may use the route.
    ///
    /// # Errors
    /// `unauthenticated`, `token_expired`, `rate_limited` or `forbidden`.
    fn authorize(state: &AppState, request: &HttpRequest) -> Result<Self::Caller, Error>;

    /// The caller's account or guest, if the route identifies one.
    fn identity(caller: Self::Caller) -> Option<Caller>;
}

/// Everyone, with or without a token.
pub(crate) struct Anyone;

/// Everyone who may read the catalog: without `catalog.public_read`, only with a token.
pub(crate) struct CatalogReader;

/// As [`CatalogReader`], but a token that is sent must be valid. The route checks a ticket itself.
pub(crate) struct EventSubscriber;

/// Everyone with a token or an API key, guests included.
pub(crate) struct Authenticated;

/// Everyone with a token, guests included.
pub(crate) struct Bearer;

/// Everyone with an account.
pub(crate) struct Account;

/// Everyone with a token, guests included, and API keys with all scopes of `S`. The route decides
/// what a user may do.
pub(crate) struct BearerOrKey<S: Scopes>(PhantomData<S>);

/// As [`BearerOrKey`], for a change that some users need rights for.
pub(crate) struct OwnerOrStaff<S: Scopes>(PhantomData<S>);

/// Admins.
pub(crate) struct Admin;

/// Those who may do what all scopes of `S` stand for.
pub(crate) struct Staff<S: Scopes>(PhantomData<S>);

impl Access for Anyone {
    const IS_FOR_STAFF: bool = false;

    type Caller = ();

    fn authorize(_: &AppState, _: &HttpRequest) -> Result<(), Error> {
        Ok(())
    }

    fn identity((): ()) -> Option<Caller> {
        None
    }
}

impl Access for CatalogReader {
    const IS_FOR_STAFF: bool = false;

    type Caller = ();

    fn authorize(state: &AppState, request: &HttpRequest) -> Result<(), Error> {
        if state.options.public_read { Ok(()) } else { state.authenticate(request).map(|_| ()) }
    }

    fn identity((): ()) -> Option<Caller> {
        None
    }
}

impl Access for EventSubscriber {
    const IS_FOR_STAFF: bool = false;

    type Caller = Option<Caller>;

    fn authorize(state: &AppState, request: &HttpRequest) -> Result<Option<Caller>, Error> {
        let may_be_anonymous = || {
            state.options.public_read
                || QueryParams::parse(request.query_string()).get("ticket").is_some()
        };
        if !request.headers().contains_key(header::AUTHORIZATION) && may_be_anonymous() {
            return Ok(None);
        }
        state.authenticate(request).map(Some)
    }

    fn identity(caller: Option<Caller>) -> Option<Caller> {
        caller
    }
}

/// Implements [`Access`] for those who must be known.
macro_rules! known_callers {
    ($(
        $name:ident $(<$scopes:ident>)?, for_staff: $for_staff:literal,
        |$caller:ident| $check:expr;
    )+) => {$(
        impl$(<$scopes: Scopes>)? Access for $name$(<$scopes>)? {
            const IS_FOR_STAFF: bool = $for_staff;

            type Caller = Caller;

            fn authorize(state: &AppState, request: &HttpRequest) -> Result<Caller, Error> {
                let $caller = state.authenticate(request)?;
                $check
            }

            fn identity(caller: Caller) -> Option<Caller> {
                Some(caller)
            }
        }
    )+};
}

known_callers! {
    Authenticated, for_staff: false, |caller| Ok(caller);
    Bearer, for_staff: false, |caller| caller.require_no_key();
    Account, for_staff: false, |caller| caller.require_account();
    BearerOrKey<S>, for_staff: false, |caller| caller.require_bearer_or_key(S::SCOPES);
    OwnerOrStaff<S>, for_staff: true, |caller| caller.require_bearer_or_key(S::SCOPES);
    Admin, for_staff: true, |caller| caller.require_admin();
    Staff<S>, for_staff: true, |caller| caller.require(S::SCOPES);
}
