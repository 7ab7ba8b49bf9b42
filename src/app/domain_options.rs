//! What settings mean to the parts of a node.

use secrecy::ExposeSecret;

use crate::{
    config::Settings,
    domain::{
        account::{Email, Password},
        cart::CartLimits,
        order::OrderRules,
    },
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

/// The admin that the settings ask for.
pub(super) fn configured_admin(settings: &Settings) -> anyhow::Result<Option<(Email, Password)>> {
    let (Some(email), Some(password)) = (&settings.auth.admin_email, &settings.auth.admin_password)
    else {
        return Ok(None);
    };
    let explain = |faults: crate::domain::validation::ValidationErrors| {
        anyhow::anyhow!(
            "auth.admin_email, auth.admin_password: {}",
            crate::error::Error::from(faults).detail
        )
    };
    let email = Email::parse(email).map_err(explain)?;
    let password =
        Password::parse("password", password.expose_secret().to_owned()).map_err(explain)?;
    Ok(Some((email, password)))
}
