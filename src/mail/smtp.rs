//! Hands messages to the SMTP server.
//!
//! Each message has a connection of its own, so that nothing is assumed of a server that may be
//! gone. What fails before the message was offered says nothing about the message: it is trouble
//! with the connection, also a wrong password.

use std::{error::Error, fmt::Write as _, time::Duration};

use lettre::{
    Message,
    transport::smtp::{
        self,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{
            AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters, TlsParametersBuilder,
        },
        extension::ClientId,
    },
};
use secrecy::ExposeSecret;

use crate::config::{MailSecurity, MailServer};

/// How long the end of a connection may take.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// The connection to the server.
pub(super) struct SmtpClient {
    server: MailServer,
    tls: Option<TlsParameters>,
    client_name: ClientId,
    timeout: Duration,
}

/// Why a message was not taken.
#[derive(Debug)]
pub(super) enum SendError {
    /// Another attempt may succeed.
    Temporary(String),
    /// The server refuses the message, or its recipient.
    Permanent(String),
}

impl SmtpClient {
    /// A client of `server`, which introduces itself with the name `domain`. With
    /// `ca_certificates`, a PEM, these alone may sign the server's certificate. No attempt takes
    /// longer than `timeout`.
    ///
    /// # Errors
    /// The certificates are not valid.
    pub(super) fn new(
        server: MailServer,
        ca_certificates: Option<&[u8]>,
        domain: &str,
        timeout: Duration,
    ) -> Result<Self, smtp::Error> {
        let tls = match server.security {
            MailSecurity::None => None,
            MailSecurity::Tls | MailSecurity::StartTls => {
                let parameters = TlsParametersBuilder::new(server.host.clone());
                let parameters = match ca_certificates {
                    Some(pem) => parameters
                        .certificate_store(CertificateStore::None)
                        .add_root_certificate(Certificate::from_pem(pem)?),
                    None => parameters,
                };
                Some(parameters.build()?)
            }
        };
        Ok(Self { server, tls, client_name: ClientId::Domain(domain.to_owned()), timeout })
    }

    /// Sends a message.
    pub(super) async fn send(&self, message: &Message) -> Result<(), SendError> {
        let attempt = async {
            let mut connection = self
                .connect()
                .await
                .map_err(|error| SendError::Temporary(describe_connection_error(&error)))?;
            let sent = connection.send(message.envelope(), &message.formatted()).await;
            sent.map_err(|error| classify(&error))?;
            Ok(connection)
        };
        let mut connection = tokio::time::timeout(self.timeout, attempt)
            .await
            .unwrap_or_else(|_| Err(SendError::Temporary("the server took too long".to_owned())))?;
        // The server has the message. How it says goodbye does not matter.
        drop(tokio::time::timeout(QUIT_TIMEOUT, connection.abort()).await);
        Ok(())
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, smtp::Error> {
        let MailServer { host, port, security, credentials } = &self.server;
        let implicit = self.tls.clone().filter(|_| *security == MailSecurity::Tls);
        let (timeout, name) = (Some(self.timeout), &self.client_name);
        let server = (host.as_str(), *port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, timeout, name, implicit, None).await?;
        if let (MailSecurity::StartTls, Some(tls)) = (security, &self.tls) {
            connection.starttls(tls.clone(), name).await?;
        }
        if let Some((user, password)) = credentials {
            let credentials = Credentials::new(user.clone(), password.expose_secret().to_owned());
            connection.auth(DEFAULT_MECHANISMS, &credentials).await?;
        }
        Ok(connection)
    }
}

/// Sorts what the server says of a message. Its text may have the address, so only its code is
/// kept.
fn classify(error: &smtp::Error) -> SendError {
    match error.status() {
        Some(code) if error.is_permanent() => SendError::Permanent(format!("status {code}")),
        Some(code) => SendError::Temporary(format!("status {code}")),
        // The server cannot take an address or a text like this one.
        None if error.is_client() => SendError::Permanent("not supported".to_owned()),
        None => SendError::Temporary("the connection was lost".to_owned()),
    }
}

/// The error with its causes. Nothing of a mail was sent yet.
fn describe_connection_error(error: &smtp::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
