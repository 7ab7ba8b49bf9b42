//! `[mail]`: the SMTP server, and what mails contain.
use std::{net::IpAddr, path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::{Host, Url};

use super::error::{InvalidSetting, MAX_PERIOD, check_duration};
use super::toml_writer::{TomlWriter, format_duration};
use super::values;
use crate::domain::account::Email;

/// Mail servers may take some minutes for a message.
const MAX_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// The SMTP server, and what mails contain.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailSettings {
    /// The SMTP server; without it, no mail is sent.
    #[serde(default, deserialize_with = "values::optional_secret")]
    pub uri: Option<SecretString>,
    /// The sender, as an address or as `Name <address>`; required with `uri`.
    #[serde(default, deserialize_with = "values::optional_text")]
    pub from: Option<String>,
    /// The URL of the shop's own pages, which links lead to; required with `uri`.
    #[serde(default, deserialize_with = "values::optional_text")]
    pub link_base: Option<String>,
    /// PEM file of the authorities that may sign the server's certificate. Without it, those of the
    /// operating system may.
    #[serde(default, deserialize_with = "values::optional_path")]
    pub ca_file: Option<PathBuf>,
    /// The waits between attempts to send a mail.
    #[serde(deserialize_with = "values::durations")]
    pub retry_schedule: Vec<Duration>,
    /// The longest time that one attempt may take.
    #[serde(deserialize_with = "values::duration")]
    pub timeout: Duration,
    /// The folder of templates that replace the built-in ones.
    #[serde(default, deserialize_with = "values::optional_path")]
    pub templates: Option<PathBuf>,
}

/// How the connection to the SMTP server is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailSecurity {
    /// TLS from the first byte.
    Tls,
    /// `STARTTLS`, which the server must offer.
    StartTls,
    /// None.
    None,
}

/// An SMTP server.
#[derive(Clone, Debug)]
pub struct MailServer {
    /// The name or the address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How the connection is secured.
    pub security: MailSecurity,
    /// The user name and the password.
    pub credentials: Option<(String, SecretString)>,
}

impl MailServer {
    /// Parses `mail.uri`. The error does not repeat it, since it may hold a password.
    pub(super) fn parse(uri: &str) -> Result<Self, &'static str> {
        let url = Url::parse(uri).map_err(|_| "it cannot be parsed")?;
        let options: Vec<_> = url.query_pairs().collect();
        let is_plain = match options.as_slice() {
            [] => false,
            [(name, value)] if name == "tls" && value == "none" => true,
            _ => return Err("only the option tls=none is known"),
        };
        let (security, default_port) = match (url.scheme(), is_plain) {
            ("smtps", false) => (MailSecurity::Tls, 465),
            ("smtp", false) => (MailSecurity::StartTls, 587),
            ("smtp", true) => (MailSecurity::None, 587),
            _ => return Err("it must start with smtps:// or smtp://, the latter for tls=none"),
        };
        let host = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) if !host.to_string().is_empty() => host.to_string(),
            _ => return Err("it has no host"),
        };
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err("nothing may follow the port but ?tls=none");
        }
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, Some(password)) if !user.is_empty() => {
                Some((decode(user), SecretString::from(decode(password))))
            }
            _ => return Err("a user name needs a password, and a password a user name"),
        };
        Ok(Self { host, port: url.port().unwrap_or(default_port), security, credentials })
    }

    fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl MailSettings {
    /// The SMTP server. `None` if no mail is sent.
    #[must_use]
    pub fn server(&self) -> Option<MailServer> {
        MailServer::parse(self.uri.as_ref()?.expose_secret()).ok()
    }

    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        check_duration("mail.timeout", self.timeout, MAX_TIMEOUT)?;
        if let Some(wait) = self.retry_schedule.iter().find(|wait| **wait > MAX_PERIOD) {
            let (wait, most) = (format_duration(*wait), format_duration(MAX_PERIOD));
            let text = format!("{wait} is out of range; use waits of at most {most}");
            return Err(InvalidSetting::new("mail.retry_schedule", text));
        }
        if let Some(from) = &self.from
            && Email::parse(sender_address(from)).is_err()
        {
            let text =
                format!("{from:?} is not a sender; use one such as \"Shop <shop@example.com>\"");
            return Err(InvalidSetting::new("mail.from", text));
        }
        if let Some(base) = &self.link_base
            && !is_link_base(base)
        {
            let text = format!("{base:?} is not a URL; use one such as https://shop.example");
            return Err(InvalidSetting::new("mail.link_base", text));
        }
        let Some(uri) = &self.uri else { return Ok(()) };
        if let Err(problem) = MailServer::parse(uri.expose_secret()) {
            let text = format!(
                "is not the URI of an SMTP server ({problem}); \
                 use one such as smtps://user:password@host:465"
            );
            return Err(InvalidSetting::new("mail.uri", text));
        }
        for (key, value) in [("mail.from", &self.from), ("mail.link_base", &self.link_base)] {
            if value.is_none() {
                return Err(InvalidSetting::new(key, "is required with mail.uri; set both"));
            }
        }
        Ok(())
    }

    /// Warns if mails, which may hold tokens, leave the machine in clear.
    pub(super) fn plain_text_warning(&self) -> Option<String> {
        let server = self.server()?;
        (server.security == MailSecurity::None && !server.is_loopback()).then(|| {
            "mail.uri: mails are sent in clear, and whoever reads them can take over accounts; \
             use smtps:// or smtp:// without tls=none"
                .to_owned()
        })
    }

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("mail");
        out.write_redacted("uri", self.uri.as_ref());
        out.write_optional("from", self.from.as_deref());
        out.write_optional("link_base", self.link_base.as_deref());
        let ca_file = self.ca_file.as_ref().map(|path| path.to_string_lossy());
        out.write_optional("ca_file", ca_file.as_deref());
        let waits: Vec<String> = self.retry_schedule.iter().copied().map(format_duration).collect();
        out.write_list("retry_schedule", &waits);
        out.write_duration("timeout", self.timeout);
        let templates = self.templates.as_ref().map(|path| path.to_string_lossy());
        out.write_optional("templates", templates.as_deref());
    }
}

/// The address in `Name <address>`, or the whole text.
fn sender_address(from: &str) -> &str {
    let in_brackets = from.trim_end().strip_suffix('>').and_then(|rest| rest.rsplit_once('<'));
    in_brackets.map_or(from, |(_, address)| address)
}

fn is_link_base(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.fragment().is_none()
    })
}
