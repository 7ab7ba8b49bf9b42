//! The names other systems rely on, and how they come to be.

use lapin::{Channel, ExchangeKind, options::ExchangeDeclareOptions, types::FieldTable};

use super::{BrokerError, step};

/// Where all events are published; the routing key is the event's type.
pub const EVENTS: &str = "souk.events";

/// Where messages go that nobody could take.
pub const DEAD_LETTERS: &str = "souk.dlx";

/// Makes the exchanges unless they are there: durable, topic.
///
/// # Errors
/// The broker does not answer, or has them with other properties.
pub(super) async fn declare(channel: &Channel) -> Result<(), BrokerError> {
    for exchange in [EVENTS, DEAD_LETTERS] {
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        step(channel.exchange_declare(
            exchange.into(),
            ExchangeKind::Topic,
            durable,
            FieldTable::default(),
        ))
        .await?;
    }
    Ok(())
}
