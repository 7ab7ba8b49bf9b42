//! The templates of mails: those of a folder, and built-in ones for the rest.

use std::{io, path::Path};

use minijinja::{
    AutoEscape, Environment, UndefinedBehavior, context, escape_formatter, value::Serde,
};

use super::order_variables::{OrderVariables, money};
use crate::domain::mail::MailKind;

/// The templates of a mail: its subject, its text and its HTML.
const PARTS: [&str; 3] = ["subject", "txt", "html"];

/// The built-in templates of a kind, in the order of [`PARTS`].
const fn built_in(kind: MailKind) -> [&'static str; 3] {
    macro_rules! parts {
        ($kind:literal) => {
            [
                include_str!(concat!("../../config/mail/", $kind, ".subject")),
                include_str!(concat!("../../config/mail/", $kind, ".txt")),
                include_str!(concat!("../../config/mail/", $kind, ".html")),
            ]
        };
    }
    match kind {
        MailKind::Verification => parts!("verification"),
        MailKind::PasswordReset => parts!("password_reset"),
        MailKind::EmailChanged => parts!("email_changed"),
        MailKind::OrderPlaced => parts!("order_placed"),
        MailKind::OrderPaid => parts!("order_paid"),
        MailKind::OrderShipped => parts!("order_shipped"),
        MailKind::OrderCancelled => parts!("order_cancelled"),
        MailKind::OrderRefunded => parts!("order_refunded"),
    }
}

/// A template that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Its file cannot be read.
    #[error("failed to read the template {0}: {1}")]
    Unreadable(String, io::Error),
    /// It is not valid, or uses a variable that does not exist.
    #[error("the template {0} is not valid: {1}")]
    Invalid(String, minijinja::Error),
}

/// What a mail says.
pub(super) struct MailText {
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
}

/// The variables of a template.
pub(super) struct MailVariables<'a> {
    /// The name of the shop.
    pub(super) shop: &'a str,
    /// The name of the person.
    pub(super) name: &'a str,
    /// Where the mail leads to.
    pub(super) link: &'a str,
    /// What the mail says about an order. Empty in the mails about accounts.
    pub(super) order: &'a OrderVariables,
}

/// All templates, parsed.
pub(super) struct Templates(Environment<'static>);

impl Templates {
    /// Loads the templates. Those in `folder` replace the built-in ones.
    ///
    /// # Errors
    /// A template cannot be read or is not valid.
    pub(super) fn load(folder: Option<&Path>) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        // A misspelled variable must not go out as an empty text.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|name| match name.ends_with(".html") {
            true => AutoEscape::Html,
            false => AutoEscape::None,
        });
        // Optional values that are absent are empty.
        environment.set_formatter(|output, state, value| match value.is_none() {
            true => Ok(()),
            false => escape_formatter(output, state, value),
        });
        environment.add_filter("money", money);
        for kind in MailKind::ALL {
            for (part, built_in) in PARTS.into_iter().zip(built_in(*kind)) {
                let name = format!("{}.{part}", kind.as_str());
                let source = read_template(folder, &name)?;
                let source = source.unwrap_or_else(|| built_in.to_owned());
                environment
                    .add_template_owned(name.clone(), source)
                    .map_err(|error| TemplateError::Invalid(name, error))?;
            }
        }
        let templates = Self(environment);
        let sample = MailVariables {
            shop: "Shop",
            name: "Ada",
            link: "https://shop.example/?token=x",
            order: &OrderVariables::sample(),
        };
        for kind in MailKind::ALL {
            templates.render(*kind, &sample)?;
        }
        Ok(templates)
    }

    /// Renders a mail.
    ///
    /// # Errors
    /// A template uses a variable that does not exist.
    pub(super) fn render(
        &self,
        kind: MailKind,
        variables: &MailVariables<'_>,
    ) -> Result<MailText, TemplateError> {
        let MailVariables { shop, name, link, order } = *variables;
        let OrderVariables { order, shipment, refund } = order;
        let render = |part: &str| {
            let template = format!("{}.{part}", kind.as_str());
            let values = context! {
                shop, name, link,
                order => Serde(order),
                shipment => Serde(shipment),
                refund => Serde(refund),
            };
            let rendered = self.0.get_template(&template).and_then(|found| found.render(values));
            rendered.map_err(|error| TemplateError::Invalid(template, error))
        };
        let subject = render("subject")?;
        Ok(MailText {
            // One line, whatever a template or a name has.
            subject: subject.split_whitespace().collect::<Vec<_>>().join(" "),
            text: render("txt")?,
            html: render("html")?,
        })
    }
}

/// The template `name` in the folder; `None` if it is not there.
fn read_template(folder: Option<&Path>, name: &str) -> Result<Option<String>, TemplateError> {
    let Some(folder) = folder else { return Ok(None) };
    let file = folder.join(name);
    match std::fs::read_to_string(&file) {
        Ok(source) => Ok(Some(source)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TemplateError::Unreadable(file.display().to_string(), error)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as JsonValue;

    use super::*;

    const NO_ORDER: OrderVariables = OrderVariables {
        order: JsonValue::Null,
        shipment: JsonValue::Null,
        refund: JsonValue::Null,
    };

    const VARIABLES: MailVariables<'static> = MailVariables {
        shop: "Tea & Co",
        name: "<b>Ada</b>\r\nBcc: all@example.com",
        link: "https://shop.example/reset-password?token=abc-_",
        order: &NO_ORDER,
    };

    #[test]
    fn built_in_templates_have_the_link_in_both_parts() {
        let templates = Templates::load(None).unwrap();
        for kind in [MailKind::Verification, MailKind::PasswordReset] {
            let mail = templates.render(kind, &VARIABLES).unwrap();
            assert!(mail.text.contains(VARIABLES.link), "{}", mail.text);
            let html = mail.html.replace("&#x2f;", "/");
            assert!(html.contains(&format!("href=\"{}\"", VARIABLES.link)), "{}", mail.html);
            assert!(!mail.html.contains("<b>") && mail.html.contains("Tea &amp; Co"));
        }
        // Whoever registers a stranger's address chooses the name: it is no way to write to them.
        let verification = templates.render(MailKind::Verification, &VARIABLES).unwrap();
        let parts = [verification.subject, verification.text, verification.html];
        assert!(parts.iter().all(|part| !part.contains("Ada")), "{parts:?}");
    }

    #[test]
    fn folder_replaces_single_templates() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        write("password_reset.subject", "{{ name }}:\n{{ shop }}\n");
        write("password_reset.html", "<p>{{ name }} {{ order or 'none' }}</p>");
        let templates = Templates::load(Some(folder.path())).unwrap();
        let mail = templates.render(MailKind::PasswordReset, &VARIABLES).unwrap();
        assert_eq!(mail.subject, "<b>Ada</b> Bcc: all@example.com: Tea & Co");
        assert!(mail.html.starts_with("<p>&lt;b&gt;Ada"), "{}", mail.html);
        assert!(mail.text.contains("choose"));
        for wrong in ["{{ nam }}", "{% if %}", "{{ name"] {
            write("email_changed.txt", wrong);
            let error = Templates::load(Some(folder.path())).err().unwrap().to_string();
            assert!(error.contains("email_changed.txt"), "{error}");
        }
    }
}
