//! Who made a change, in responses.

use schemars::JsonSchema;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::schema;
use crate::domain::action::Actor;

/// Who made a change that needs more than a customer's rights.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "Actor")]
#[schema(as = ActorResponse)]
pub struct ActorData {
    #[serde(rename = "type")]
    #[schemars(with = "schema::ActorKind")]
    #[schema(value_type = schema::ActorKind)]
    kind: &'static str,
    /// The account or API key. It is null for the command line.
    #[schema(required)]
    id: Option<Uuid>,
}

impl From<Actor> for ActorData {
    fn from(actor: Actor) -> Self {
        Self { kind: actor.kind().as_str(), id: actor.id() }
    }
}
