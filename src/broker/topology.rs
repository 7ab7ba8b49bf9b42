//! The names other systems rely on, and how they come to be.

use lapin::{Channel, ExchangeKind, options::ExchangeDeclareOptions, types::FieldTable};

use super::{BrokerError, with_timeout};

/// Where all events are published; the routing key is the event's type.
pub const EVENT_EXCHANGE: &str = "souk.events";

/// Where messages go that nobody could take.
pub const DEAD_LETTER_EXCHANGE: &str = "souk.dlx";

/// Makes the exchanges unless they are there: durable, topic.
///
/// # Errors
/// The broker does not answer, or has them with other properties.
pub(super) async fn declare_exchanges(channel: &Channel) -> Result<(), BrokerError> {
    for exchange in [EVENT_EXCHANGE, DEAD_LETTER_EXCHANGE] {
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        with_timeout(channel.exchange_declare(
            exchange.into(),
            ExchangeKind::Topic,
            durable,
            FieldTable::default(),
        ))
        .await?;
    }
    Ok(())
}
