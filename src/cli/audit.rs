//! `souk audit` compares stock, movements and orders.

use std::time::Duration;

use anyhow::bail;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::{
    AuditArguments, count, login::admin_client, print_line, run_in_system, server::ServerUrl,
};
use crate::{
    app::audit::AuditSession,
    audit::{AuditSummary, Auditor},
    config::Settings,
};

/// How long an audit of a running server may take.
const REMOTE_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// What a server answers.
#[derive(Deserialize)]
struct AuditReport {
    products: u64,
    orders: u64,
    movements: u64,
    found: u64,
    repaired: u64,
    /// The first of them.
    findings: Vec<FindingReport>,
}

#[derive(Deserialize)]
struct FindingReport {
    message: String,
}

pub(super) fn run(settings: &Settings, arguments: &AuditArguments) -> anyhow::Result<()> {
    if let Some(server) = &arguments.server {
        return run_in_system(async |_| audit_server(server, arguments.repair).await);
    }
    run_in_system(async |drivers| {
        let audit = AuditSession::open(settings, &drivers).await?;
        let result = audit_everything(&audit.auditor, arguments).await;
        audit.close().await;
        result
    })
}

async fn audit_server(server: &ServerUrl, repair: bool) -> anyhow::Result<()> {
    let (client, token) = admin_client(server).await?;
    let request = client
        .request(Method::POST, "/api/admin/audit")
        .bearer_auth(token)
        .json(&json!({"repair": repair}))
        .timeout(REMOTE_TIMEOUT);
    let report: AuditReport = client.read(request).await?;
    for finding in &report.findings {
        print_line(&finding.message)?;
    }
    let unlisted = report.found.saturating_sub(report.findings.len() as u64);
    if unlisted > 0 {
        print_line(&format!("{} more", count(unlisted, "finding")))?;
    }
    let AuditReport { products, orders, movements, found, repaired, .. } = report;
    print_summary(&AuditSummary { products, orders, movements, found, repaired }, repair)
}

async fn audit_everything(auditor: &Auditor, arguments: &AuditArguments) -> anyhow::Result<()> {
    let damage = if arguments.deep { auditor.find_damage().await? } else { Vec::new() };
    for problem in &damage {
        print_line(&format!("database: {problem}"))?;
    }
    // Corrections of what a damaged page says would destroy more.
    let repair = arguments.repair && damage.is_empty();
    let mut printed = Ok(());
    let result = auditor
        .run(repair, |finding| {
            if printed.is_ok() {
                printed = print_line(&finding.to_string());
            }
        })
        .await;
    printed?;
    if damage.is_empty() {
        return print_summary(&result?, repair);
    }
    if let Ok(summary) = result {
        drop(print_summary(&summary, repair));
    }
    bail!("the database has {}; restore it from a backup", count(damage.len() as u64, "problem"))
}

fn print_summary(summary: &AuditSummary, repair: bool) -> anyhow::Result<()> {
    let AuditSummary { products, orders, movements, found, repaired } = *summary;
    print_line(&format!(
        "{}, {}, {}: {}, {repaired} corrected",
        count(products, "product"),
        count(orders, "order"),
        count(movements, "movement"),
        count(found, "finding"),
    ))?;
    match found.saturating_sub(repaired) {
        0 if found == 0 => Ok(()),
        0 => bail!("every finding was corrected; run the audit again to confirm"),
        remaining if repair => {
            bail!(
                "{} could not be corrected; each line says what to do",
                count(remaining, "finding")
            )
        }
        _ => bail!("run souk audit --repair to correct what can be corrected"),
    }
}
