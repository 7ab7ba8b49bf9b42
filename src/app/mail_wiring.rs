//! Turns the settings into what mails are sent with.

use std::sync::Arc;

use anyhow::Context;

use super::node_context::NodeContext;
use crate::{
    config::Settings,
    mail::{MailDeps, MailOptions},
};

/// How mails are sent. `None` if no SMTP server is configured.
///
/// # Errors
/// The file `mail.ca_file` cannot be read.
pub(super) fn mail_options(settings: &Settings) -> anyhow::Result<Option<MailOptions>> {
    let mail = &settings.mail;
    let (Some(server), Some(from), Some(link_base)) = (mail.server(), &mail.from, &mail.link_base)
    else {
        return Ok(None);
    };
    let read = |file: &std::path::PathBuf| {
        std::fs::read(file)
            .with_context(|| format!("mail.ca_file: failed to read {}", file.display()))
    };
    Ok(Some(MailOptions {
        server,
        from: from.clone(),
        shop_name: settings.shop.name.clone(),
        link_base: link_base.clone(),
        ca_certificates: mail.ca_file.as_ref().map(read).transpose()?,
        retry_schedule: mail.retry_schedule.clone(),
        timeout: mail.timeout,
        templates: mail.templates.clone(),
        request_limit: settings.limits.mail,
    }))
}

/// What mails are sent with.
pub(super) fn mail_deps(context: &NodeContext) -> MailDeps {
    MailDeps {
        store: Arc::clone(&context.store),
        writer: context.writer.clone(),
        clock: Arc::clone(&context.clock),
        metrics: context.metrics.mail.clone(),
    }
}
