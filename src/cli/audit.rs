//! `souk audit`

use anyhow::bail;

use super::{AuditArguments, print_line, run_in_system};
use crate::{app::audit::AuditSession, audit::Summary, config::Settings};

pub(super) fn run(settings: &Settings, arguments: &AuditArguments) -> anyhow::Result<()> {
    run_in_system(async |drivers| {
        let audit = AuditSession::open(settings, &drivers).await?;
        let mut said = Ok(());
        let done = audit
            .auditor
            .run(arguments.repair, |finding| {
                if said.is_ok() {
                    said = print_line(&finding.to_string());
                }
            })
            .await;
        audit.close().await;
        said?;
        print_summary(&done?, arguments.repair)
    })
}

fn print_summary(summary: &Summary, repair: bool) -> anyhow::Result<()> {
    let Summary { products, orders, movements, found, repaired } = *summary;
    print_line(&format!(
        "{products} products, {orders} orders, {movements} movements: {found} findings, {repaired} corrected"
    ))?;
    match found.saturating_sub(repaired) {
        0 if found == 0 => Ok(()),
        0 => bail!("something was off, and is corrected; another audit should find nothing"),
        left if repair => bail!("{left} findings are left; each line says what to do"),
        _ => bail!("something is off; souk audit --repair corrects what can be corrected"),
    }
}
