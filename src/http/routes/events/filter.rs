//! Which events a feed is narrowed to: `types` and `subject`.

use std::collections::BTreeSet;

use strum::VariantArray as _;
use uuid::Uuid;

use crate::{
    domain::validation::ValidationErrors, events::EventType, http::request::query::QueryParams,
    outbox::feed::FeedEvent,
};

/// The most characters of a parameter that a message repeats.
const MAX_ECHO_CHARS: usize = 60;

/// The events that a reader wants, among those it may read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EventFilter {
    /// `None` for every type.
    types: Option<BTreeSet<&'static str>>,
    subject: Option<Uuid>,
}

impl EventFilter {
    /// Parses `types` and `subject`.
    ///
    /// # Errors
    /// A pattern that no type matches, or a subject that is no id.
    pub(super) fn parse(query: &QueryParams) -> Result<Self, ValidationErrors> {
        let mut errors = ValidationErrors::new();
        let types = query.get("types").and_then(|list| parse_types(list, &mut errors));
        let subject = query.get("subject").and_then(|text| {
            let id = Uuid::try_parse(text).ok();
            if id.is_none() {
                let message = "subject must be the id of a product, a user, a guest or an order";
                errors.add("subject", "invalid", message.to_owned());
            }
            id
        });
        errors.into_result(Self { types, subject })
    }

    /// Whether the reader wants the event.
    pub(super) fn matches(&self, event: &FeedEvent) -> bool {
        self.types.as_ref().is_none_or(|types| types.contains(event.kind()))
            && self.subject.is_none_or(|subject| event.subject() == Some(subject))
    }
}

/// The types that the patterns match; `None` for all of them, those of newer nodes included.
fn parse_types(list: &str, errors: &mut ValidationErrors) -> Option<BTreeSet<&'static str>> {
    let mut types = BTreeSet::new();
    let mut is_all = false;
    for pattern in list.split(',').map(str::trim) {
        if pattern == "*" {
            is_all = true;
            continue;
        }
        let mut found = false;
        types.extend(
            known_types().filter(|kind| matches_pattern(kind, pattern)).inspect(|_| found = true),
        );
        if !found {
            errors.add("types", "unknown_event_type", unknown_type(pattern));
            // One is enough to say what is wrong.
            return None;
        }
    }
    (!is_all).then_some(types)
}

fn known_types() -> impl Iterator<Item = &'static str> {
    EventType::VARIANTS.iter().map(|kind| kind.as_str())
}

/// `catalog.*` stands for the types that begin with `catalog.`.
fn matches_pattern(kind: &str, pattern: &str) -> bool {
    match pattern.strip_suffix(".*") {
        Some(prefix) => kind.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.')),
        None => kind == pattern,
    }
}

fn unknown_type(pattern: &str) -> String {
    let shown: String = pattern.chars().take(MAX_ECHO_CHARS).collect();
    let score = |candidate: &str| strsim::jaro_winkler(&shown, candidate);
    let nearest = known_types().max_by(|a, b| score(a).total_cmp(&score(b))).unwrap_or_default();
    format!(
        "no event type matches {shown:?}; did you mean {nearest:?}? A prefix ends in \".*\", and \
         \"*\" alone is every type"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(list: &str) -> Result<Option<Vec<&'static str>>, ValidationErrors> {
        let query = QueryParams::parse(&format!("types={list}"));
        EventFilter::parse(&query)
            .map(|filter| filter.types.map(|types| types.into_iter().collect()))
    }

    #[test]
    fn exact_types_and_prefixes_are_matched() {
        assert_eq!(types("*").unwrap(), None);
        assert_eq!(types("order.paid,*").unwrap(), None);
        assert_eq!(
            types("order.paid,cart.merged").unwrap().unwrap(),
            ["cart.merged", "order.paid"]
        );
        let items = ["cart.item.added", "cart.item.removed", "cart.item.updated"];
        assert_eq!(types("cart.item.*").unwrap().unwrap(), items);
        assert_eq!(types("cart.item.*,cart.item.added").unwrap().unwrap(), items);
        let stock = types("inventory.*").unwrap().unwrap();
        assert!(stock.len() == 3 && stock.iter().all(|kind| kind.starts_with("inventory.stock.")));
    }

    #[test]
    fn pattern_that_nothing_matches_is_rejected() {
        for list in [
            "",
            ",",
            "cart",
            "cart.",
            "carts.*",
            "car.*",
            "cart.item.added.*",
            "*.added",
            "cart.**",
            "cart.*.added",
            "order.paid,",
            "Order.paid",
            ".*",
            "cart.*,nothing.*",
        ] {
            assert!(types(list).is_err(), "{list}");
        }
        assert!(EventFilter::parse(&QueryParams::parse("subject=tea")).is_err());
        assert!(EventFilter::parse(&QueryParams::parse("subject=")).is_err());
    }

    #[test]
    fn message_repeats_little_and_names_the_nearest_type() {
        let query = QueryParams::parse(&format!("types={}", "x".repeat(60_000)));
        let errors = EventFilter::parse(&query).unwrap_err().into_vec();
        assert!(errors.len() == 1 && errors[0].message.len() < 300, "{errors:?}");
        let query = QueryParams::parse("types=order.expire");
        let errors = EventFilter::parse(&query).unwrap_err().into_vec();
        assert!(errors[0].message.contains("order.expired"), "{errors:?}");
    }
}
