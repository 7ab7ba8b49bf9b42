//! Turns the settings into what events are delivered to webhooks with.

use std::sync::Arc;

use actix::{Actor, Addr};
use anyhow::Context;

use super::{node_context::NodeContext, resources::raise_descriptor_limit, secrets::TokenSecrets};
use crate::{
    actors::webhooks::{WebhookActor, WebhookRules, WebhookService},
    auth::webhook_secret::WebhookSecrets,
    config::Settings,
    http,
    webhooks::{WebhookDeps, WebhookOptions, system_lookup},
};

/// How events are delivered.
///
/// # Errors
/// The file `webhooks.ca_file` cannot be read.
pub(super) fn webhook_options(settings: &Settings) -> anyhow::Result<WebhookOptions> {
    let webhooks = &settings.webhooks;
    let read = |file: &std::path::PathBuf| {
        std::fs::read(file)
            .with_context(|| format!("webhooks.ca_file: failed to read {}", file.display()))
    };
    Ok(WebhookOptions {
        timeout: webhooks.timeout,
        retry_schedule: webhooks.retry_schedule.clone(),
        pause_after: webhooks.pause_after,
        allow_private: webhooks.allow_private,
        ca_certificates: webhooks.ca_file.as_ref().map(read).transpose()?,
        max_attempts: webhook_attempts(raise_descriptor_limit()),
        lookup: system_lookup(),
    })
}

/// The attempts that a process with `descriptors` may make at the same time. Few, compared with the
/// connections of clients.
fn webhook_attempts(descriptors: u64) -> usize {
    usize::try_from(descriptors / 16).unwrap_or(usize::MAX).clamp(32, 1024)
}

fn webhook_secrets(secrets: &TokenSecrets) -> WebhookSecrets {
    WebhookSecrets::new(secrets.first()).accepting_second(secrets.second())
}

/// What events are delivered with.
pub(super) fn webhook_deps(context: &NodeContext, secrets: &TokenSecrets) -> WebhookDeps {
    WebhookDeps {
        store: Arc::clone(&context.store),
        writer: context.writer.clone(),
        clock: Arc::clone(&context.clock),
        feed: Arc::clone(&context.listeners.feed),
        secrets: webhook_secrets(secrets),
        metrics: context.metrics.webhooks.clone(),
    }
}

/// Starts the actor for endpoints.
pub(super) fn start_webhooks(
    settings: &Settings,
    context: &NodeContext,
    secrets: &TokenSecrets,
) -> Addr<WebhookActor> {
    let service = WebhookService {
        store: Arc::clone(&context.store),
        writer: context.writer.clone(),
        clock: Arc::clone(&context.clock),
        secrets: webhook_secrets(secrets),
        rules: WebhookRules {
            allow_private: settings.webhooks.allow_private,
            rotation_overlap: settings.webhooks.rotation_overlap,
        },
        lookup: system_lookup(),
        render: http::render_webhook,
        render_without_secret: http::render_new_webhook,
    };
    WebhookActor::new(service, context.metrics.actors.mailbox("webhooks")).start()
}
