//! What staff says about an endpoint.

use super::{PauseReason, Webhook};
use crate::domain::{clock::Timestamp, validation::ValidationErrors};

/// The most patterns of event types that one endpoint has.
const MAX_TYPES: usize = 100;

/// The longest URL, in characters.
const MAX_URL_CHARS: usize = 2048;

/// Where events go, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookDetails {
    /// The URL that events are posted to.
    pub url: String,
    /// Event types, and prefixes such as `order.*`; `*` is every type.
    pub types: Vec<String>,
    /// What the endpoint is for.
    pub description: Option<String>,
}

impl WebhookDetails {
    /// Whether the endpoint wants events of `kind`.
    #[must_use]
    pub fn wants(&self, kind: &str) -> bool {
        self.types.iter().any(|pattern| pattern_matches(pattern, kind))
    }

    /// Checks lengths, and that each pattern matches one of `known_types`.
    ///
    /// # Errors
    /// What is empty, too long or unknown.
    pub fn validate(&self, known_types: &[&str]) -> Result<(), ValidationErrors> {
        let mut errors = ValidationErrors::new();
        errors.check_text("url", &self.url, 1, MAX_URL_CHARS);
        if let Some(text) = &self.description {
            errors.check_text("description", text, 0, 200);
        }
        if self.types.is_empty() {
            errors.add("types", "required", "types must name at least one event type");
        } else if self.types.len() > MAX_TYPES {
            errors.add("types", "too_long", format!("types may have at most {MAX_TYPES} items"));
        }
        for (index, pattern) in self.types.iter().enumerate() {
            if !known_types.iter().any(|kind| pattern_matches(pattern, kind)) {
                let message = format!(
                    "types[{index}] matches no event type; use one such as order.paid, a prefix \
                     such as order.*, or * for all"
                );
                errors.add(format!("types[{index}]"), "unknown_event_type", message);
            }
        }
        errors.into_result(())
    }
}

/// Whether a pattern matches a type: `*` every one, `order.*` those that begin with `order.`.
#[must_use]
pub(super) fn pattern_matches(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix(".*") {
        Some(prefix) => kind.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.')),
        None => pattern == "*" || pattern == kind,
    }
}

/// A change of an endpoint. What is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookPatch {
    /// The new URL.
    pub url: Option<String>,
    /// The new types, all of them.
    pub types: Option<Vec<String>>,
    /// The new description, or none.
    pub description: Option<Option<String>>,
    /// Whether the endpoint is active.
    pub active: Option<bool>,
}

impl WebhookPatch {
    /// The endpoint after the change. It has the same version if nothing changes.
    #[must_use]
    pub fn apply(&self, before: &Webhook, now: Timestamp) -> Webhook {
        let details = WebhookDetails {
            url: self.url.clone().unwrap_or_else(|| before.details.url.clone()),
            types: self.types.clone().unwrap_or_else(|| before.details.types.clone()),
            description: self
                .description
                .clone()
                .unwrap_or_else(|| before.details.description.clone()),
        };
        let paused = match self.active {
            None => before.paused,
            Some(true) => None,
            Some(false) => before.paused.or(Some(PauseReason::Staff)),
        };
        if details == before.details && paused == before.paused {
            return before.clone();
        }
        let is_paused_now = before.paused.is_none() && paused.is_some();
        let event_sequence = before.event_sequence + u64::from(is_paused_now);
        Webhook { details, paused, event_sequence, ..before.next_version(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(types: &[&str]) -> WebhookDetails {
        WebhookDetails {
            url: "https://erp.example/hook".into(),
            types: types.iter().map(|kind| (*kind).to_owned()).collect(),
            description: None,
        }
    }

    #[test]
    fn patterns_select_types() {
        let known = ["order.paid", "order.placed", "cart.item.added"];
        let wanted = |patterns: &[&str]| -> Vec<&str> {
            known.into_iter().filter(|kind| details(patterns).wants(kind)).collect()
        };
        assert_eq!(wanted(&["*"]), known);
        assert_eq!(wanted(&["order.*"]), ["order.paid", "order.placed"]);
        assert_eq!(wanted(&["order.paid", "cart.*"]), ["order.paid", "cart.item.added"]);
        assert!(wanted(&["ord.*"]).is_empty());
        assert_eq!(details(&["order.*", "*"]).validate(&known), Ok(()));
        for bad in [&[][..], &["order"], &["orders.*"], &["webhook.test"], &["*.paid"]] {
            assert!(details(bad).validate(&known).is_err(), "{bad:?}");
        }
    }
}
