//! `souk health` asks a running node whether it is ready.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, bail};

use super::print_line;
use crate::config::Settings;

pub(super) fn run(settings: &Settings) -> anyhow::Result<()> {
    let address = probe_address(settings.ops.bind.unwrap_or(settings.http.bind));
    let url = format!("http://{address}/readyz");
    // One thread: a probe runs every few seconds, beside the node.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(read_status(&url, settings))?;
    print_line(&format!("{status}: {url}"))
}

/// Where a node that is bound to `address` can be reached from its own machine.
pub(super) fn probe_address(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// The status of a node that is ready, `ready` or `degraded`.
async fn read_status(url: &str, settings: &Settings) -> anyhow::Result<String> {
    // The node answers within this time even if its store does not.
    let timeout = settings.http.request_timeout + std::time::Duration::from_secs(1);
    let client = reqwest::Client::builder().no_proxy().timeout(timeout).build()?;
    let response = client.get(url).send().await.with_context(|| format!("no answer from {url}"))?;
    let code = response.status();
    let body: serde_json::Value = response.json().await.unwrap_or_default();
    let text = |pointer| body.pointer(pointer).and_then(serde_json::Value::as_str);
    match (code.is_success(), text("/status")) {
        (true, Some(status)) => Ok(status.to_owned()),
        (_, Some(status)) => bail!(
            "{status}: {url} (node {}, store {})",
            text("/checks/node").unwrap_or("unknown"),
            text("/checks/store").unwrap_or("unknown")
        ),
        (_, None) => bail!("{url} answered {code}, and not as Souk does"),
    }
}
