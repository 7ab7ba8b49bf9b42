//! The gRPC services, for other programs of the shop: the same actors, rules and error codes as
//! HTTP.
//!
//! A call passes the `call_layer`, which admits it, then a service, one file for each, which
//! sends the same messages to the same actors as a route does. `docs/grpc.md` says how to call
//! them, `proto/` describes them.

mod auth;
mod call;
mod call_layer;
mod cart;
mod catalog;
mod connection;
mod convert;
mod convert_cart;
mod health;
mod inventory;
mod methods;
mod observation;
mod pb;
mod product_stream;
mod server;
mod state;
mod status;

pub use self::{
    server::{GrpcServer, GrpcServerOptions, TlsIdentity},
    state::{GrpcOptions, GrpcState},
};
