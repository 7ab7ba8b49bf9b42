//! The exchanges, whose names other systems rely on.

use lapin::{Channel, ExchangeKind, options::ExchangeDeclareOptions, types::FieldTable};

use super::{BrokerError, with_timeout};

/// The exchange for all events; the routing key is the event's type.
pub const EVENT_EXCHANGE: &str = "souk.events";

/// The exchange for dead letters; the routing key is the name of their queue.
pub const DEAD_LETTER_EXCHANGE: &str = "souk.dlx";

/// Declares the exchanges, durable and of type topic. Leaves existing ones as they are.
///
/// # Errors
/// The broker does not respond, or has an exchange with other properties.
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
