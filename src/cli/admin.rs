//! `souk admin`

use std::io::Read;

use super::{AdminArguments, print_line, run_in_system};
use crate::{
    actors::accounts::bootstrap::AdminOutcome,
    app::Node,
    config::Settings,
    domain::account::{Email, Password},
    error::Error,
};

pub(super) fn run(settings: &Settings, arguments: &AdminArguments) -> anyhow::Result<()> {
    let explain = |faults| anyhow::anyhow!("{}", Error::from(faults).detail);
    let email = Email::parse(&arguments.email).map_err(explain)?;
    let password = match arguments.password_stdin {
        false => None,
        true => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            Some(
                Password::parse("password", text.trim_end_matches(['\r', '\n']).to_owned())
                    .map_err(explain)?,
            )
        }
    };
    run_in_system(async |drivers| {
        let node = Node::start(settings, &drivers).await?;
        if password.is_some() && node.bootstrap.store.find_user_by_email(&email).await?.is_some() {
            node.stop().await;
            anyhow::bail!(
                "{} has an account, whose password only its owner can change; leave --password-stdin out",
                email.as_str()
            );
        }
        let made = node.bootstrap.create_or_promote_admin(email.clone(), password).await;
        node.stop().await;
        let email = email.as_str();
        print_line(&match made? {
            AdminOutcome::Created { generated: Some(password) } => {
                format!(
                    "{email} is an admin now. Its password, shown this once: {}",
                    password.expose_secret()
                )
            }
            AdminOutcome::Created { generated: None } => format!("{email} is an admin now."),
            AdminOutcome::Promoted => {
                format!("{email} is an admin now; its password is what it was.")
            }
            AdminOutcome::AlreadyAdmin => {
                format!("{email} is an admin already; nothing was changed.")
            }
        })
    })
}
