//! `grpc.health.v1.Health`: whether the node is ready, as `/readyz` says it.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _, stream};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health,
};

use super::{methods::SERVICES, state::GrpcState};

/// How often a watched status is looked at. When the node stops, watchers learn it at once.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// Health of the node. All services share it.
///
/// Not the reporter of `tonic-health`, which has to be told a status: the store would be probed all
/// the time, asked or not.
pub(super) struct HealthGrpcService(pub(super) Arc<GrpcState>);

type StatusStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Health for HealthGrpcService {
    type WatchStream = StatusStream;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match is_service(&request.get_ref().service) {
            true => Ok(Response::new(response(self.0.is_ready().await))),
            false => Err(Status::not_found("This server does not have the service.")),
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<StatusStream>, Status> {
        // The layer ends the stream when the node stops.
        if !is_service(&request.get_ref().service) {
            let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() };
            let told_once = stream::once(async move { Ok(unknown) }).chain(stream::pending());
            return Ok(Response::new(Box::pin(told_once)));
        }
        let watch = Watch { state: Arc::clone(&self.0), last: None };
        let changes = stream::unfold(watch, |mut watch| async move {
            let is_ready = watch.next_change().await;
            Some((Ok(response(is_ready)), watch))
        });
        Ok(Response::new(Box::pin(changes)))
    }
}

/// A status that a client watches.
struct Watch {
    state: Arc<GrpcState>,
    /// What the client was told last.
    last: Option<bool>,
}

impl Watch {
    /// Waits until the client has to be told something new.
    async fn next_change(&mut self) -> bool {
        loop {
            // A probe of the store may take long, and the layer ends a stream that has nothing to
            // tell when the node stops.
            let is_ready = tokio::select! {
                biased;
                () = self.state.stopping() => false,
                is_ready = self.state.is_ready() => is_ready,
            };
            if self.last != Some(is_ready) {
                self.last = Some(is_ready);
                return is_ready;
            }
            self.wait().await;
        }
    }

    /// Waits until it is time to look again.
    async fn wait(&self) {
        if self.last == Some(false) && self.state.is_stopping() {
            // Nothing follows. The layer ends the stream.
            std::future::pending::<()>().await;
        }
        tokio::select! {
            () = self.state.stopping() => {}
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
    }
}

/// Whether a client may ask for `name`; the empty name is the server as a whole.
fn is_service(name: &str) -> bool {
    name.is_empty() || SERVICES.contains(&name)
}

fn response(is_ready: bool) -> HealthCheckResponse {
    let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status.into() }
}
