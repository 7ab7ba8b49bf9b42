//! Who hears what on the event feed, and with which data.

use crate::{
    auth::caller::Caller,
    domain::account::{Role, Scope},
    events::{Audience, EventFamily, EventType},
    outbox::feed::FeedEvent,
};

/// How much of an event a reader hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    /// Nothing.
    Hidden,
    /// Of stock, only how many units can be bought.
    Reduced,
    /// Everything.
    Full,
}

/// How much of `event` `caller` hears. This is the only place that decides it.
pub(super) fn visibility(caller: Option<&Caller>, event: &FeedEvent) -> Visibility {
    let family = event.kind().parse::<EventType>().map(EventType::family).ok();
    if caller.is_some_and(|caller| hears_all_of(caller, family)) {
        return Visibility::Full;
    }
    match event.audience() {
        // What a warehouse holds, and what is promised to orders, tells how much is sold.
        Audience::Everyone if family == Some(EventFamily::Inventory) => Visibility::Reduced,
        Audience::Everyone => Visibility::Full,
        Audience::Owner(owner) if caller.is_some_and(|caller| caller.user_id == owner) => {
            Visibility::Full
        }
        Audience::Owner(_) | Audience::BrokerOnly => Visibility::Hidden,
    }
}

/// Whether `caller` hears all events of a family, whoever they belong to. `None` is a family that
/// only newer nodes know.
const fn hears_all_of(caller: &Caller, family: Option<EventFamily>) -> bool {
    match family {
        Some(family) => may_read_all_of(caller, family),
        None => matches!(caller.rights.role, Role::Admin),
    }
}

/// Whether `caller` may read all events of `family` in full. Pricing rules have no scope of their
/// own for events.
pub(crate) const fn may_read_all_of(caller: &Caller, family: EventFamily) -> bool {
    let needed = match family {
        EventFamily::Catalog => Scope::CatalogRead,
        EventFamily::Inventory => Scope::StockRead,
        EventFamily::Order => Scope::OrdersRead,
        EventFamily::Cart | EventFamily::Auth => Scope::CustomersRead,
        EventFamily::Webhook => Scope::WebhooksRead,
        EventFamily::Pricing => return matches!(caller.rights.role, Role::Admin),
    };
    caller.rights.permits(needed)
}
