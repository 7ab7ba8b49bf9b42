//! `souk serve` runs the server.

use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};

use super::{health::probe_address, print_line, run_in_system, server::ServerUrl};
use crate::{app::Application, config::Settings};

/// Where sample products may be: in the source, and where the Debian package has them.
const SAMPLES: [&str; 2] = ["examples/products.ndjson", "/usr/share/souk/products.ndjson"];

pub(super) fn run(settings: &Settings) -> anyhow::Result<()> {
    run_in_system(async |drivers| {
        // Listen for signals before the start, so that none is lost.
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut stop = Box::pin(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        // The start waits for a store that is not up yet; a signal ends the wait.
        let application = tokio::select! {
            built = Application::build(settings, &drivers) => built?,
            () = &mut stop => return Ok(()),
        };
        print_startup_message(&application, settings)?;
        application.run_until(stop).await
    })
}

fn print_startup_message(application: &Application, settings: &Settings) -> anyhow::Result<()> {
    let address = application.address();
    // 0.0.0.0 is no address that a browser on every system can open.
    let docs = ServerUrl::from_address(probe_address(address)).join("/docs/");
    print_line(&format!("Souk is listening on http://{address}\nAPI browser:    {docs}"))?;
    // The names of variables are in `souk config`.
    let sources: Vec<&str> =
        settings.sources().iter().filter_map(|source| source.split(": ").next()).collect();
    print_line(&format!("Settings:       {}", sources.join(", ")))?;
    if let Some(address) = application.ops_address() {
        print_line(&format!("Operations:     http://{address}/readyz"))?;
    }
    if let Some(address) = application.grpc_address() {
        print_line(&format!("gRPC:           {address}"))?;
    }
    if let Some(admin) = application.first_admin() {
        let (email, password) = (admin.email.as_str(), admin.password.expose_secret());
        print_line(&format!(
            "First admin:    {email}\nPassword:       {password}   (shown only once; change it)"
        ))?;
    }
    print_next_steps(application)
}

/// Prints commands that work as they are, in the folder where the program was started.
fn print_next_steps(application: &Application) -> anyhow::Result<()> {
    let program = std::env::args_os().next().unwrap_or_else(|| "souk".into());
    let program = quote(&program.to_string_lossy());
    if !application.has_admin() {
        print_line(&format!(
            "There is no admin yet. This creates one, with the same settings:\n  \
             {program} admin admin@localhost"
        ))?;
    }
    if application.catalog_is_empty() {
        let url = ServerUrl::from_address(probe_address(application.address()));
        // Another program or shop may have no samples.
        let Some(samples) = SAMPLES.iter().find(|file| Path::new(file).is_file()) else {
            return print_line("The catalog is empty; souk import --help says how to fill it.");
        };
        print_line(&format!(
            "The catalog is empty. These log you in and import sample products:\n  \
             {program} login --server {url}\n  \
             {program} import {samples} --server {url}"
        ))?;
    }
    Ok(())
}

/// Quotes a path for a shell, if it needs that.
fn quote(path: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    match path.chars().all(is_plain) {
        true => path.to_owned(),
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(quote("target/release/souk"), "target/release/souk");
        assert_eq!(quote("/my shop/souk"), "'/my shop/souk'");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
