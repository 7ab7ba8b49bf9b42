//! `souk audit` compares stock, movements and orders.

use anyhow::bail;

use super::{AuditArguments, count, print_line, run_in_system};
use crate::{
    app::audit::AuditSession,
    audit::{AuditSummary, Auditor},
    config::Settings,
};

pub(super) fn run(settings: &Settings, arguments: &AuditArguments) -> anyhow::Result<()> {
    run_in_system(async |drivers| {
        let audit = AuditSession::open(settings, &drivers).await?;
        let result = audit_everything(&audit.auditor, arguments).await;
        audit.close().await;
        result
    })
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
