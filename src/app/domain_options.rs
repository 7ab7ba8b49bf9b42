//! Turns settings into the options of the domain and of the HTTP side.

use secrecy::ExposeSecret;

use crate::{
    config::Settings,
    domain::{
        account::{Email, Password},
        cart::CartLimits,
        order::OrderRules,
        validation::ValidationErrors,
    },
    error::Error,
    http::HttpOptions,
};

pub(super) fn cart_limits(settings: &Settings) -> CartLimits {
    let max_lines = usize::try_from(settings.cart.max_lines).unwrap_or(usize::MAX);
    CartLimits { max_quantity: settings.cart.max_quantity, max_lines }
}

pub(super) const fn order_rules(settings: &Settings) -> OrderRules {
    OrderRules {
        payment_timeout: settings.orders.payment_timeout,
        max_pending: settings.orders.max_pending,
    }
}

/// The options of the HTTP side.
pub(super) fn http_options(settings: &Settings) -> HttpOptions {
    HttpOptions {
        currency: settings.shop.currency,
        max_body: settings.http.max_body,
        request_timeout: settings.http.request_timeout,
        trusted_proxies: settings.http.trusted_proxies.clone(),
        public_read: settings.catalog.public_read,
        login_limit: settings.limits.login,
    }
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
