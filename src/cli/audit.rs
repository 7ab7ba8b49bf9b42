//! `souk audit` compares stock, movements and orders.

use anyhow::bail;

use super::{AuditArguments, count, print_line, run_in_system};
use crate::{app::audit::AuditSession, audit::AuditSummary, config::Settings};

pub(super) fn run(settings: &Settings, arguments: &AuditArguments) -> anyhow::Result<()> {
    run_in_system(async |drivers| {
        let audit = AuditSession::open(settings, &drivers).await?;
        let mut printed = Ok(());
        let result = audit
            .auditor
            .run(arguments.repair, |finding| {
                if printed.is_ok() {
                    printed = print_line(&finding.to_string());
                }
            })
            .await;
        audit.close().await;
        printed?;
        print_summary(&result?, arguments.repair)
    })
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
