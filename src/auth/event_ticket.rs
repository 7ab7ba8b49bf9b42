//! Tickets for event feeds: a browser's `EventSource` can send no header, so it sends a ticket in
//! the query.
//!
//! A ticket is base64url of what it says, followed by an HMAC-SHA256, so any node can check it.
//! It is good for a minute and for one feed; who opens the feed has its id recorded in the store.
//! It is no access token, and opens nothing but a feed.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;

use super::{caller::Caller, derived_mac::derive_mac};
use crate::domain::{
    account::Rights,
    clock::Timestamp,
    ids::{ApiKeyId, SessionId, UserId},
};

/// How long a ticket is good.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(60);

/// The purpose of the MAC's key.
const LABEL: &[u8] = b"souk event ticket\0";

/// Id, user, session, the kind of caller, and the times at which the access token and the
/// ticket expire.
const SIGNED_BYTES: usize = 16 + 16 + 16 + 1 + 8 + 8;

/// Issues and verifies tickets. All nodes must share the secrets.
#[derive(Clone)]
pub struct EventTickets {
    mac: Hmac<Sha256>,
    /// Verifies tickets too, while the secret is rotated.
    second_mac: Option<Hmac<Sha256>>,
}

/// A ticket that is genuine and has not expired. It may already be used.
#[derive(Debug, Clone, Copy)]
pub struct EventTicket {
    /// Names the ticket, for its single use.
    pub id: Uuid,
    /// Whose feed it opens. The feed ends with the access token that the ticket was issued for. A
    /// ticket names no rights but those of a guest or a customer: they are the account's.
    pub caller: Caller,
}

/// What a ticket says of its caller, besides the ids.
enum CallerKind {
    Guest,
    Account,
    ApiKey,
}

impl CallerKind {
    const fn of(caller: &Caller) -> Self {
        match caller.api_key {
            Some(_) => Self::ApiKey,
            None if caller.is_guest() => Self::Guest,
            None => Self::Account,
        }
    }
}

impl EventTickets {
    /// Derives the MAC key from `secret`, so that the secret can have other uses, too.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self { mac: derive_mac(LABEL, secret), second_mac: None }
    }

    /// Also accepts tickets that were issued under another secret.
    #[must_use]
    pub fn accepting_second(mut self, secret: Option<&[u8]>) -> Self {
        self.second_mac = secret.map(|secret| derive_mac(LABEL, secret));
        self
    }

    /// Issues a ticket for the caller's feed.
    #[must_use]
    pub fn issue(&self, caller: &Caller, now: Timestamp) -> String {
        let mut bytes = Vec::with_capacity(SIGNED_BYTES + 32);
        bytes.extend_from_slice(&rand::random::<[u8; 16]>());
        bytes.extend_from_slice(caller.user_id.as_uuid().as_bytes());
        bytes.extend_from_slice(caller.session_id.as_uuid().as_bytes());
        bytes.push(CallerKind::of(caller) as u8);
        bytes.extend_from_slice(&caller.expires_at.as_millis().to_be_bytes());
        let expires_at = now.saturating_add(TICKET_LIFETIME);
        bytes.extend_from_slice(&expires_at.as_millis().to_be_bytes());
        let mac = self.mac.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend(mac);
        URL_SAFE_NO_PAD.encode(&bytes)
    }

    /// Reads a ticket. `None` if it is not genuine or has expired.
    #[must_use]
    pub fn verify(&self, ticket: &str, now: Timestamp) -> Option<EventTicket> {
        let mut bytes = [0; SIGNED_BYTES + 32];
        let length = URL_SAFE_NO_PAD.decode_slice(ticket, &mut bytes).ok()?;
        if length != bytes.len() {
            return None;
        }
        let (signed, mac) = bytes.split_at(SIGNED_BYTES);
        let is_genuine =
            |key: &Hmac<Sha256>| key.clone().chain_update(signed).verify_slice(mac).is_ok();
        if !is_genuine(&self.mac) && !self.second_mac.as_ref().is_some_and(is_genuine) {
            return None;
        }
        let (id, rest) = signed.split_first_chunk::<16>()?;
        let (user_id, rest) = rest.split_first_chunk::<16>()?;
        let (session_id, rest) = rest.split_first_chunk::<16>()?;
        let (kind, rest) = rest.split_first()?;
        let (token_expires_at, rest) = rest.split_first_chunk::<8>()?;
        let (expires_at, _) = rest.split_first_chunk::<8>()?;
        let caller = Caller {
            user_id: UserId::from(Uuid::from_bytes(*user_id)),
            rights: match *kind == CallerKind::Guest as u8 {
                true => Rights::GUEST,
                false => Rights::CUSTOMER,
            },
            session_id: SessionId::from(Uuid::from_bytes(*session_id)),
            expires_at: Timestamp::from_millis(i64::from_be_bytes(*token_expires_at)),
            api_key: (*kind == CallerKind::ApiKey as u8)
                .then(|| ApiKeyId::from(Uuid::from_bytes(*user_id))),
        };
        let is_current = Timestamp::from_millis(i64::from_be_bytes(*expires_at)) > now;
        is_current.then_some(EventTicket { id: Uuid::from_bytes(*id), caller })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::account::Role;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn caller(role: Role) -> Caller {
        let expires_at = NOW.saturating_add(Duration::from_secs(900));
        let rights = Rights { role, ..Rights::CUSTOMER };
        let (user_id, session_id) = (UserId::new(), SessionId::new());
        Caller { user_id, rights, session_id, expires_at, api_key: None }
    }

    #[test]
    fn ticket_names_its_caller_on_every_node() {
        let (node, other) = (EventTickets::new(b"a secret"), EventTickets::new(b"a secret"));
        for role in Role::ALL {
            let caller = caller(*role);
            let [first, second] = [node.issue(&caller, NOW), node.issue(&caller, NOW)];
            let ticket = other.verify(&first, NOW).unwrap();
            assert_eq!(ticket.caller.user_id, caller.user_id);
            assert_eq!(ticket.caller.is_guest(), caller.is_guest());
            assert!(ticket.caller.require_admin().is_err(), "rights are not in the ticket");
            assert_eq!(ticket.caller.session_id, caller.session_id);
            assert_eq!(ticket.caller.expires_at, caller.expires_at);
            assert_ne!(ticket.id, other.verify(&second, NOW).unwrap().id);
        }
    }

    #[test]
    fn ticket_of_an_api_key_names_the_key() {
        let tickets = EventTickets::new(b"a secret");
        let id = ApiKeyId::new();
        let user_id = id.as_uuid().into();
        let caller = Caller { api_key: Some(id), user_id, ..caller(Role::Staff) };
        let ticket = tickets.verify(&tickets.issue(&caller, NOW), NOW).unwrap();
        assert_eq!(ticket.caller.api_key, Some(id));
        assert!(ticket.caller.require_account().is_err());
    }

    #[test]
    fn ticket_of_the_second_secret_is_accepted() {
        let (old, new) = (&b"the old secret"[..], &b"the new secret"[..]);
        let ticket = EventTickets::new(old).issue(&caller(Role::Customer), NOW);
        let rotated = EventTickets::new(new).accepting_second(Some(old));
        assert!(rotated.verify(&ticket, NOW).is_some());
        assert!(EventTickets::new(new).verify(&ticket, NOW).is_none());
        let renewed = rotated.issue(&caller(Role::Customer), NOW);
        assert!(EventTickets::new(new).verify(&renewed, NOW).is_some());
    }

    #[test]
    fn expired_and_forged_tickets_are_nothing() {
        let tickets = EventTickets::new(b"a secret");
        let ticket = tickets.issue(&caller(Role::Customer), NOW);
        let late = NOW.saturating_add(TICKET_LIFETIME);
        assert!(tickets.verify(&ticket, late.saturating_sub(Duration::from_millis(1))).is_some());
        assert!(tickets.verify(&ticket, late).is_none());
        assert!(EventTickets::new(b"another secret").verify(&ticket, NOW).is_none());
        for place in 0..ticket.len() {
            let mut forged = ticket.clone().into_bytes();
            forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert!(tickets.verify(&forged, NOW).is_none(), "character {place}");
        }
        for bad in ["", "A", &ticket[1..], &format!("{ticket}A"), &"A".repeat(100_000)] {
            assert!(tickets.verify(bad, NOW).is_none());
        }
    }
}
