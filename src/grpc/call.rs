//! A call: who makes it, from where, and by when it must be answered.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
};

use super::{
    state::GrpcState,
    status::{TokenSource, error_status, status_about},
};
use crate::{
    admission::admit_caller,
    auth::caller::{Caller, bearer_token},
    cache::current_caches::has_no_cache,
    domain::{action::ActionOrigin, ids::UserId},
    error::{Error, ErrorCode},
    messages::{command_context::Ticket, trace_parent::TraceParent},
};

/// What the layer has found out of a call. The services find it in the request's extensions.
#[derive(Debug)]
pub(super) struct CallContext {
    /// The caller's id of the call, or a new one.
    pub(super) request_id: String,
    /// The client's address.
    pub(super) address: IpAddr,
    /// The trace that the caller sent.
    pub(super) trace: Option<TraceParent>,
    /// By when the call must be answered.
    pub(super) deadline: Deadline,
    /// The account or guest that the call was authenticated for.
    user: OnceLock<UserId>,
}

/// By when a call must be answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    /// The end of the time for what the call waits for: the caller's deadline, or that of the
    /// server if it is earlier.
    pub(super) at: Instant,
    /// The caller's own deadline.
    pub(super) of_caller: Option<Instant>,
}

impl Deadline {
    /// The deadline of a call that arrives now. `grpc_timeout` is the caller's.
    pub(super) fn new(grpc_timeout: Option<Duration>, request_timeout: Duration) -> Self {
        let now = Instant::now();
        let of_caller = grpc_timeout.and_then(|timeout| now.checked_add(timeout));
        let of_server = now + request_timeout;
        Self { at: of_caller.map_or(of_server, |at| at.min(of_server)), of_caller }
    }

    /// Whether the caller's deadline has passed.
    pub(super) fn has_caller_given_up(&self) -> bool {
        self.of_caller.is_some_and(|at| at <= Instant::now())
    }

    /// The time that is left.
    pub(super) fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

/// The error of a call whose deadline has passed.
pub(super) fn deadline_error() -> Error {
    Error::new(ErrorCode::RequestTimeout, "The call was not answered before its deadline.")
}

impl CallContext {
    pub(super) const fn new(
        request_id: String,
        address: IpAddr,
        trace: Option<TraceParent>,
        deadline: Deadline,
    ) -> Self {
        Self { request_id, address, trace, deadline, user: OnceLock::new() }
    }

    /// The account or guest that the call was authenticated for, if it was.
    pub(super) fn user(&self) -> Option<UserId> {
        self.user.get().copied()
    }

    /// The status of an error. A call that the server could not answer in time for its caller has
    /// missed its deadline, unless a change may have been made.
    pub(super) fn status(&self, error: &Error) -> Status {
        let is_late = self.deadline.has_caller_given_up()
            && matches!(error.code, ErrorCode::Overloaded | ErrorCode::StoreUnavailable);
        let error = if is_late { &deadline_error() } else { error };
        error_status(error, &self.request_id)
    }
}

/// A call, as a service handles it.
pub(super) struct Call<'a> {
    state: &'a GrpcState,
    context: Arc<CallContext>,
    metadata: MetadataMap,
}

impl<'a> Call<'a> {
    /// Takes the message out of a request.
    pub(super) fn begin<T>(state: &'a GrpcState, request: Request<T>) -> Result<(Self, T), Status> {
        let (metadata, extensions, message) = request.into_parts();
        // The layer has added it.
        let context = extensions.get::<Arc<CallContext>>().map(Arc::clone);
        let context = context.ok_or_else(|| error_status(&Error::internal(), ""))?;
        Ok((Self { state, context, metadata }, message))
    }

    /// What the layer has found out of the call.
    pub(super) const fn context(&self) -> &Arc<CallContext> {
        &self.context
    }

    /// The status of an error of this call.
    pub(super) fn status(&self, error: &Error) -> Status {
        self.context.status(error)
    }

    /// The status of an error that is about the user's token in the message.
    pub(super) fn user_token_status(&self, error: &Error) -> Status {
        status_about(error, &self.context.request_id, TokenSource::UserToken)
    }

    /// A ticket for the time that is left to answer the call.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket::until(self.context.deadline.at)
    }

    /// The origin of what a call changes that customers may not. `operation` is the `operationId`
    /// of the request that does the same over HTTP.
    pub(super) fn action_of(&self, caller: &Caller, operation: &'static str) -> Arc<ActionOrigin> {
        let request_id = Some(self.context.request_id.as_str().into());
        Arc::new(ActionOrigin { actor: caller.actor(), operation: operation.into(), request_id })
    }

    /// Finds the caller by the access token in the metadata, and counts the call.
    ///
    /// # Errors
    /// `unauthenticated`, `token_expired`, or `rate_limited`.
    pub(super) fn authenticate(&self) -> Result<Caller, Error> {
        let value = self.metadata.get("authorization").map(MetadataValue::to_str);
        let token = value.and_then(Result::ok).and_then(bearer_token).ok_or_else(|| {
            Error::new(
                ErrorCode::Unauthenticated,
                "Send the access token in the metadata: authorization: Bearer <token>.",
            )
        })?;
        let caller = self.state.authenticator.authenticate(token)?;
        let _ = self.context.user.set(caller.user_id);
        let GrpcState { connections, rate_limits, .. } = self.state;
        admit_caller(connections, rate_limits, &caller, self.context.address)
            .map_err(|limited| Error::from(&limited))?;
        Ok(caller)
    }

    /// Checks that the caller may read the catalog. Returns the caller if it had to be known.
    ///
    /// # Errors
    /// As with [`Call::authenticate`], unless anyone may read the catalog.
    pub(super) fn authorize_catalog_read(&self) -> Result<Option<Caller>, Error> {
        if self.state.options.public_read { Ok(None) } else { self.authenticate().map(Some) }
    }

    /// With `cache-control: no-cache` in the metadata, makes the next read at least as new as every
    /// change that any node has acknowledged.
    ///
    /// # Errors
    /// `store_unavailable` if the node must catch up and the store does not respond in time.
    pub(super) async fn honor_no_cache(&self) -> Result<(), Error> {
        let values = self.metadata.get_all("cache-control").into_iter();
        let no_cache =
            has_no_cache(values.map(MetadataValue::<Ascii>::to_str).filter_map(Result::ok));
        let time = self.context.deadline.remaining();
        Ok(self.state.current_caches.honor_no_cache(no_cache, time).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn earlier_deadline_counts() {
        let server_alone = Deadline::new(None, MINUTE);
        assert!(server_alone.of_caller.is_none() && server_alone.remaining() > MINUTE / 2);
        assert!(!server_alone.has_caller_given_up());
        let late = Deadline::new(Some(2 * MINUTE), MINUTE);
        assert!(late.remaining() <= MINUTE && late.of_caller.is_some());
        let passed = Deadline::new(Some(Duration::ZERO), MINUTE);
        assert!(passed.has_caller_given_up() && passed.remaining() == Duration::ZERO);
        assert!(Deadline::new(Some(Duration::MAX), MINUTE).of_caller.is_none(), "no end");
    }

    #[test]
    fn late_answer_is_a_missed_deadline_unless_something_may_have_changed() {
        let code = |timeout, error: Error| {
            let deadline = Deadline::new(timeout, MINUTE);
            let address = IpAddr::from([127, 0, 0, 1]);
            CallContext::new("r1".into(), address, None, deadline).status(&error).code()
        };
        let passed = Some(Duration::ZERO);
        assert_eq!(code(passed, Error::overloaded()), tonic::Code::DeadlineExceeded);
        assert_eq!(code(passed, Error::store_unavailable()), tonic::Code::DeadlineExceeded);
        assert_eq!(code(passed, Error::outcome_unknown()), tonic::Code::Unavailable);
        assert_eq!(code(passed, Error::product_not_found()), tonic::Code::NotFound);
        assert_eq!(code(None, Error::overloaded()), tonic::Code::Unavailable);
    }
}
