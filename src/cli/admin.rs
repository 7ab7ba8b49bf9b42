//! `souk admin` creates or promotes an admin, or gives an account a new password.

use super::{
    AdminArguments, password_input::read_password_from_stdin, print_line, remote_admin,
    run_in_system,
};
use crate::{
    actors::accounts::admin_bootstrap::AdminOutcome,
    app::Node,
    config::Settings,
    domain::account::{Email, Password},
    error::Error,
};

pub(super) fn run(settings: &Settings, arguments: &AdminArguments) -> anyhow::Result<()> {
    let to_error = |errors| anyhow::anyhow!("{}", Error::from(errors).detail);
    let email = Email::parse(&arguments.email).map_err(to_error)?;
    if arguments.reset_password {
        return reset_password(settings, &email);
    }
    let password = match arguments.password_stdin {
        false => None,
        true => Some(Password::parse("password", read_password_from_stdin()?).map_err(to_error)?),
    };
    if let Some(server) = &arguments.server {
        return run_in_system(async |_| remote_admin::run(server, &email, password).await);
    }
    run_in_system(async |drivers| {
        let node = Node::start(settings, &drivers).await?;
        if password.is_some()
            && node.admin_bootstrap.store.find_user_by_email(&email).await?.is_some()
        {
            node.stop().await;
            anyhow::bail!("{}", has_password(&email));
        }
        let outcome = node.admin_bootstrap.create_or_promote_admin(email.clone(), password).await;
        node.stop().await;
        print_outcome(&email, &outcome?)
    })
}

/// Why `--password-stdin` is refused for an account that exists.
pub(super) fn has_password(email: &Email) -> String {
    format!(
        "{} already has an account, and only its owner can change its password; omit \
         --password-stdin",
        email.as_str()
    )
}

pub(super) fn print_outcome(email: &Email, outcome: &AdminOutcome) -> anyhow::Result<()> {
    let email = email.as_str();
    print_line(&match outcome {
        AdminOutcome::Created { generated: Some(password) } => {
            format!(
                "{email} is now an admin. Password (shown only once): {}",
                password.expose_secret()
            )
        }
        AdminOutcome::Created { generated: None } => format!("{email} is now an admin."),
        AdminOutcome::Promoted => {
            format!("{email} is now an admin. The password is unchanged.")
        }
        AdminOutcome::AlreadyAdmin => format!("{email} is already an admin."),
    })
}

fn reset_password(settings: &Settings, email: &Email) -> anyhow::Result<()> {
    run_in_system(async |drivers| {
        let node = Node::start(settings, &drivers).await?;
        let reset = node.admin_bootstrap.reset_password(email).await;
        node.stop().await;
        let email = email.as_str();
        let Some(password) = reset? else { anyhow::bail!("no account has the address {email}") };
        let password = password.expose_secret();
        print_line(&format!("{email} has a new password (shown only once): {password}"))
    })
}
