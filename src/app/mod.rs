//! The one place where all parts of a node are wired together.
//!
//! A node starts in this order, and stops in the reverse order:
//!
//! 1. `resources` opens the store and binds the socket.
//! 2. `node_context` builds `NodeContext`, which all components share: the store, the commit
//!    writer, the `commit_listeners` that learn of its commits, and the clock.
//! 3. `node` starts the actors on the context ([`Node::start`]), and later the broker.
//! 4. `application` adds what only a serving node has: the broker, the first admin, the servers of
//!    HTTP and gRPC, and the background tasks; it runs them until the node stops.
//!
//! `options` and `secrets` turn settings into what the components take. `broker_wiring` connects
//! the broker to the actors, `mail_wiring` the SMTP server,
//! `webhook_wiring` the webhook endpoints. `audit` opens a store without a node, and
//! `import_node` with nothing but the catalog's actor; `backup` copies one.
//!
//! # Adding a component
//!
//! - An actor or a service: a field of [`Node`], and a `start_...` function in `node` that builds
//!   it from the context and the settings.
//! - Something that runs beside the actors, such as a clean-up: a task in
//!   `Node::spawn_background_tasks`. It reads its work from the store, so it needs no shutdown
//!   of its own and another node can continue.
//! - Another listener, beside those of HTTP and gRPC: a field of `NetworkSide` in `application`,
//!   with its options, its start in `open_network` and its stop in `run_until`.
//! - A connection to another system: options from the settings like `broker_wiring`, a field of
//!   [`Node`], and its end in [`Node::stop`].

mod application;
pub mod audit;
pub mod backup;
mod broker_wiring;
mod commit_listeners;
mod import_node;
mod mail_wiring;
mod node;
mod node_context;
mod options;
mod resources;
mod secrets;
mod webhook_wiring;

pub use self::{
    application::Application,
    broker_wiring::broker_uri,
    import_node::{ImportNode, store_identity},
    node::Node,
    resources::require_descriptors,
};
