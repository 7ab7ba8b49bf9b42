//! `souk serve` runs the server.

use tokio::signal::unix::{SignalKind, signal};

use super::{print_line, run_in_system};
use crate::{app::Application, config::Settings};

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
        print_startup_message(&application)?;
        application.run_until(stop).await
    })
}

fn print_startup_message(application: &Application) -> anyhow::Result<()> {
    let url = format!("http://{}", application.address());
    print_line(&format!("Souk is listening on {url}\nAPI browser:    {url}/docs/"))?;
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
    // Print the program as it was called, so that the commands below can be copied.
    let program = std::env::args_os().next().unwrap_or_else(|| "souk".into());
    let program = program.to_string_lossy();
    if !application.has_admin() {
        print_line(&format!(
            "There is no admin yet. Create one with the same settings:\n  {program} admin <e-mail>"
        ))?;
    }
    if application.catalog_is_empty() {
        print_line(&format!(
            "The catalog is empty. To import sample products, log in as an admin and run:\n  \
             SOUK_TOKEN=<token> {program} import examples/products.ndjson --server {url}"
        ))?;
    }
    Ok(())
}
