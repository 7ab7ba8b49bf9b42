//! Turns settings into the options of the other layers.

use std::{net::TcpListener, path::Path, time::Duration};

use anyhow::Context as _;
use secrecy::ExposeSecret;
use tokio::runtime::Handle;

use super::{
    resources::{connection_capacity, raise_descriptor_limit},
    secrets::TokenSecrets,
};
use crate::{
    actors::cart::IdempotencyQuota,
    admission::{
        connection_limiter::ConnectionLimits,
        feed_limiter::FeedLimits,
        rate_limits::{RateLimits, RateQuotas},
    },
    auth::derive_cluster_key,
    config::Settings,
    domain::{
        account::{Email, Password},
        cart::CartLimits,
        order::OrderRules,
        validation::ValidationErrors,
    },
    error::Error,
    grpc::{GrpcOptions, GrpcServerOptions, TlsIdentity},
    http::{ApiOptions, ServerOptions},
    store::forwarding::ForwardingOptions,
};

/// How long a stopping node waits for requests in progress.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn cart_limits(settings: &Settings) -> CartLimits {
    let max_lines = usize::try_from(settings.cart.max_lines).unwrap_or(usize::MAX);
    CartLimits { max_quantity: settings.cart.max_quantity, max_lines }
}

pub(super) fn rate_limits(settings: &Settings) -> RateLimits {
    let limits = &settings.limits;
    RateLimits::new(RateQuotas {
        per_address: limits.per_address,
        per_user: limits.per_user,
        guests: limits.guests,
        registrations: limits.registrations,
    })
}

pub(super) const fn idempotency_quota(settings: &Settings) -> IdempotencyQuota {
    let limits = &settings.limits;
    IdempotencyQuota {
        max_keys: limits.idempotency_keys as u64,
        max_bytes: limits.idempotency_bytes as u64,
        max_guest_bytes: limits.guest_idempotency_bytes as u64,
    }
}

pub(super) const fn order_rules(settings: &Settings) -> OrderRules {
    OrderRules {
        payment_timeout: settings.orders.payment_timeout,
        max_pending: settings.orders.max_pending,
        max_pending_units: settings.orders.max_pending_units,
    }
}

/// The options of the HTTP server, which listens on an already bound socket.
pub(super) fn server_options(settings: &Settings, listener: TcpListener) -> ServerOptions {
    ServerOptions {
        listener,
        workers: settings.http.workers,
        allowed_origins: settings.http.cors.allowed_origins.clone(),
        shutdown_timeout: DRAIN_TIMEOUT,
        write_timeout: settings.http.write_timeout,
        serves_operations: settings.ops.bind.is_none(),
    }
}

/// What the HTTP server may hold open, within the process's descriptors.
pub(super) fn connection_limits(settings: &Settings) -> ConnectionLimits {
    ConnectionLimits {
        capacity: connection_capacity(raise_descriptor_limit()),
        per_address: settings.limits.connections_per_address,
        trusted_proxies: settings.http.trusted_proxies.clone(),
    }
}

pub(super) const fn feed_limits(settings: &Settings) -> FeedLimits {
    FeedLimits {
        per_address: settings.limits.feeds_per_address,
        per_user: settings.limits.feeds_per_user,
    }
}

pub(super) fn api_options(settings: &Settings) -> ApiOptions {
    ApiOptions {
        shop_name: settings.shop.name.clone().unwrap_or_else(|| "Souk".to_owned()),
        currency: settings.shop.currency,
        max_body: settings.http.max_body,
        request_timeout: settings.http.request_timeout,
        default_payment: settings.payments.default_payment_method(),
        public_read: settings.catalog.public_read,
        login_limit: settings.limits.login,
    }
}

/// The options of the gRPC server, which listens on an already bound socket.
///
/// # Errors
/// A file of the certificate cannot be read.
pub(super) fn grpc_server_options(
    settings: &Settings,
    listener: TcpListener,
    drivers: &Handle,
) -> anyhow::Result<GrpcServerOptions> {
    let read = |key, file: &Path| {
        std::fs::read(file).with_context(|| format!("{key}: failed to read {}", file.display()))
    };
    let tls = match (&settings.grpc.tls_cert_file, &settings.grpc.tls_key_file) {
        (Some(certificate), Some(private_key)) => Some(TlsIdentity {
            certificate: read("grpc.tls_cert_file", certificate)?,
            private_key: read("grpc.tls_key_file", private_key)?,
        }),
        _ => None,
    };
    Ok(GrpcServerOptions { listener, runtime: drivers.clone(), tls })
}

pub(super) const fn grpc_options(settings: &Settings) -> GrpcOptions {
    GrpcOptions {
        currency: settings.shop.currency,
        max_message: settings.http.max_body,
        request_timeout: settings.http.request_timeout,
        write_timeout: settings.http.write_timeout,
        public_read: settings.catalog.public_read,
    }
}

/// How other nodes reach this one, on an already bound socket.
///
/// # Errors
/// The socket has no address.
pub(super) fn forwarding_options(
    settings: &Settings,
    listener: TcpListener,
    secrets: &TokenSecrets,
) -> anyhow::Result<ForwardingOptions> {
    let advertised_address = match &settings.cluster.advertise {
        Some(address) => address.clone(),
        None => listener.local_addr()?.to_string(),
    };
    let secrets = [Some(secrets.first()), secrets.second()];
    let keys = secrets.into_iter().flatten().map(derive_cluster_key).collect();
    Ok(ForwardingOptions { listener, advertised_address, keys })
}

/// The admin account in the settings, if it is configured.
///
/// # Errors
/// The e-mail address or the password is not valid.
pub(super) fn configured_admin(settings: &Settings) -> anyhow::Result<Option<(Email, Password)>> {
    let (Some(email), Some(password)) = (&settings.auth.admin_email, &settings.auth.admin_password)
    else {
        return Ok(None);
    };
    let explain = |errors: ValidationErrors| {
        anyhow::anyhow!("auth.admin_email, auth.admin_password: {}", Error::from(errors).detail)
    };
    let email = Email::parse(email).map_err(explain)?;
    let password =
        Password::parse("password", password.expose_secret().to_owned()).map_err(explain)?;
    Ok(Some((email, password)))
}
