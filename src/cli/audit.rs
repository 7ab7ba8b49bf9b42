//! `souk audit`

use anyhow::bail;

use super::{AuditArguments, in_system, say};
use crate::{app::audit::Audit, audit::Summary, config::Settings};

pub(super) fn run(settings: &Settings, arguments: &AuditArguments) -> anyhow::Result<()> {
    in_system(async |drivers| {
        let audit = Audit::open(settings, &drivers).await?;
        let mut said = Ok(());
        let done = audit
            .auditor
            .run(arguments.repair, |finding| {
                if said.is_ok() {
                    said = say(&finding.to_string());
                }
            })
            .await;
        audit.close().await;
        said?;
        tell(&done?, arguments.repair)
    })
}

fn tell(summary: &Summary, repair: bool) -> anyhow::Result<()> {
    let Summary { products, orders, movements, found, repaired } = *summary;
    say(&format!(
        "{products} products, {orders} orders, {movements} movements: {found} findings, {repaired} corrected"
    ))?;
    match found.saturating_sub(repaired) {
        0 if found == 0 => Ok(()),
        0 => bail!("something was off, and is corrected; another audit should find nothing"),
        left if repair => bail!("{left} findings are left; each line says what to do"),
        _ => bail!("something is off; souk audit --repair corrects what can be corrected"),
    }
}
