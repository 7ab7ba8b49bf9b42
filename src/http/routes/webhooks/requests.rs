//! The bodies of requests about webhooks, and whether the caller may read what it asks for.

use serde::{Deserialize, Deserializer};
use strum::VariantArray as _;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    auth::caller::Caller,
    domain::{
        validation::ValidationErrors,
        webhook::{WebhookDetails, WebhookPatch},
    },
    events::{EventFamily, schema::string_enum_schema},
    http::{request::body::JsonRequest, routes::events::audience::may_read_all_of},
};

/// Whether events are delivered to an endpoint.
#[derive(Debug)]
pub(crate) struct WebhookStatus;

impl PartialSchema for WebhookStatus {
    fn schema() -> RefOr<Schema> {
        string_enum_schema(&["active", "paused"], "Whether events are delivered.")
    }
}

impl ToSchema for WebhookStatus {}

/// A new endpoint.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CreateWebhookRequest {
    /// Where events are posted to: an `https` URL without a user name, whose host has only public
    /// addresses.
    #[schema(min_length = 1, max_length = 2048, example = "https://erp.example/souk")]
    url: String,
    /// Event types, prefixes such as `order.*`, or `*` for every type.
    #[schema(min_items = 1, max_items = 100, example = json!(["order.*"]))]
    types: Vec<String>,
    /// What the endpoint is for.
    #[schema(max_length = 200, example = "orders for the ERP")]
    description: Option<String>,
    /// Whether events are delivered. The default is `active`.
    #[schema(value_type = Option<WebhookStatus>)]
    status: Option<String>,
}

impl JsonRequest for CreateWebhookRequest {
    const IGNORED_FIELDS: &'static [&'static str] = READ_ONLY_FIELDS;
}

/// The members of a fetched endpoint that are ignored.
const READ_ONLY_FIELDS: &[&str] = &["id", "version", "created_at", "updated_at", "paused_reason"];

impl CreateWebhookRequest {
    pub(super) fn parse(&self) -> Result<(WebhookDetails, bool), ValidationErrors> {
        let mut errors = ValidationErrors::new();
        let active = self.status.as_deref().map(|status| parse_status(status, &mut errors));
        let details = WebhookDetails {
            url: self.url.clone(),
            types: self.types.clone(),
            description: self.description.clone(),
        };
        errors.into_result((details, active.unwrap_or(true)))
    }
}

/// A change of an endpoint. A member that is left out stays; null removes the description.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PatchWebhookRequest {
    #[schema(min_length = 1, max_length = 2048, example = "https://erp.example/souk")]
    url: Option<String>,
    #[schema(min_items = 1, max_items = 100, example = json!(["order.*"]))]
    types: Option<Vec<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>, max_length = 200, examples("orders for the ERP"))]
    description: Option<Option<String>>,
    /// Whether events are delivered.
    #[schema(value_type = Option<WebhookStatus>)]
    status: Option<String>,
}

impl JsonRequest for PatchWebhookRequest {
    const MEDIA_TYPES: &'static [&'static str] =
        &["application/merge-patch+json", "application/json"];
    const IGNORED_FIELDS: &'static [&'static str] = READ_ONLY_FIELDS;
}

impl PatchWebhookRequest {
    pub(super) fn parse(&self) -> Result<WebhookPatch, ValidationErrors> {
        let mut errors = ValidationErrors::new();
        let active = self.status.as_deref().map(|status| parse_status(status, &mut errors));
        errors.into_result(WebhookPatch {
            url: self.url.clone(),
            types: self.types.clone(),
            description: self.description.clone(),
            active,
        })
    }
}

/// Tells a member that is null from one that is absent.
fn deserialize_present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn parse_status(text: &str, errors: &mut ValidationErrors) -> bool {
    if !matches!(text, "active" | "paused") {
        errors.add("status", "invalid", "status must be active or paused");
    }
    text == "active"
}

/// The families of which the caller may read all events. Everyone may read those of the catalog.
pub(super) fn readable_families(caller: &Caller) -> Vec<EventFamily> {
    let is_readable =
        |family: &EventFamily| *family == EventFamily::Catalog || may_read_all_of(caller, *family);
    EventFamily::VARIANTS.iter().copied().filter(is_readable).collect()
}
