//! Actions: the record of who changed what with rights that customers do not have.

use std::{borrow::Cow, sync::Arc};

use uuid::Uuid;

use super::{
    clock::Timestamp,
    ids::{ActionId, ApiKeyId, UserId},
};

/// Who makes a change with rights that customers do not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A member of staff, or an admin.
    User(UserId),
    /// Another program, with an API key.
    ApiKey(ApiKeyId),
    /// Who runs a command on the server.
    Cli,
}

/// The kind of an [`Actor`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum ActorKind {
    /// An account.
    User,
    /// An API key.
    ApiKey,
    /// The command line.
    Cli,
}

impl ActorKind {
    /// Every kind, in the order of declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl Actor {
    /// The kind of the actor.
    #[must_use]
    pub const fn kind(self) -> ActorKind {
        match self {
            Self::User(_) => ActorKind::User,
            Self::ApiKey(_) => ActorKind::ApiKey,
            Self::Cli => ActorKind::Cli,
        }
    }

    /// The id of the account or key. `None` for the command line.
    #[must_use]
    pub const fn id(self) -> Option<Uuid> {
        match self {
            Self::User(id) => Some(id.as_uuid()),
            Self::ApiKey(id) => Some(id.as_uuid()),
            Self::Cli => None,
        }
    }

    /// Reads an actor from the store. `None` for what no version writes.
    #[must_use]
    pub fn from_stored(kind: &str, id: Option<Uuid>) -> Option<Self> {
        match (kind.parse().ok()?, id) {
            (ActorKind::User, Some(id)) => Some(Self::User(id.into())),
            (ActorKind::ApiKey, Some(id)) => Some(Self::ApiKey(id.into())),
            (ActorKind::Cli, None) => Some(Self::Cli),
            _ => None,
        }
    }
}

/// Whose request a command carries out, if it needs rights that customers do not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionOrigin {
    /// Who asked for it.
    pub actor: Actor,
    /// The `operationId` of the request, or of the one that does the same as a command.
    pub operation: Cow<'static, str>,
    /// The `X-Request-Id`. The command line has none.
    pub request_id: Option<Box<str>>,
}

impl ActionOrigin {
    /// The origin of what a command on the server does.
    #[must_use]
    pub fn command_line(operation: &'static str) -> Arc<Self> {
        Arc::new(Self { actor: Actor::Cli, operation: operation.into(), request_id: None })
    }
}

/// A change that needed rights that customers do not have. It is written in the commit of the
/// change and is never altered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// The action's identifier.
    pub id: ActionId,
    /// When the change was decided.
    pub at: Timestamp,
    /// Who made it.
    pub actor: Actor,
    /// The `operationId` of the request.
    pub operation: String,
    /// What was changed: a product, an order, an account or an API key.
    pub subject: Uuid,
    /// The `X-Request-Id` of the request.
    pub request_id: Option<Box<str>>,
    /// The version before the change, of the stock if only that was changed. `None` if the change
    /// has created the subject.
    pub version_before: Option<u64>,
    /// The version after the change.
    pub version_after: u64,
}

/// Which actions to list. What is `None` does not matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ActionFilter {
    /// Only those of this account or key.
    pub actor: Option<Uuid>,
    /// Only changes of this product, order, account or key.
    pub subject: Option<Uuid>,
    /// Only those at this time or later.
    pub from: Option<Timestamp>,
    /// Only those before this time.
    pub to: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_read_back_and_others_are_none() {
        for actor in [Actor::User(UserId::new()), Actor::ApiKey(ApiKeyId::new()), Actor::Cli] {
            let stored = Actor::from_stored(actor.kind().as_str(), actor.id());
            assert_eq!(stored, Some(actor));
        }
        assert_eq!(Actor::from_stored("user", None), None);
        assert_eq!(Actor::from_stored("cli", Some(Uuid::nil())), None);
        assert_eq!(Actor::from_stored("robot", None), None);
    }
}
