//! The commands that change the addresses of an account.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    change_password::session_ended,
    service::{AccountService, with_next_version},
};
use crate::{
    actors::retry_on_conflict::Decision,
    domain::{
        account::{AddressBook, AddressLimitReached, MAX_ADDRESSES, SavedAddress},
        ids::AddressId,
    },
    error::{Error, ErrorCode},
    messages::{
        accounts::{AddressChange, ChangeAddress},
        command_context::CommandContext,
    },
    store::Write,
};

impl AccountService {
    pub(super) async fn change_address(
        &self,
        message: ChangeAddress,
    ) -> Result<Option<SavedAddress>, Error> {
        let ChangeAddress { user_id, change, context } = message;
        let new_id = AddressId::new();
        let _guard = self.lock_account(user_id).await;
        self.decide_and_commit(&context.ticket, async || {
            // The account first: its version guards the addresses that are read after it.
            let user = self.deps.store.find_user(user_id).await?;
            let user = user.ok_or_else(session_ended)?;
            let book = self.deps.store.find_address_book(user_id).await?;
            let (changed, reply) = match &change {
                AddressChange::Add(address) => {
                    let added = book.with_new(new_id, address.clone());
                    let (changed, added) = added.map_err(address_limit)?;
                    (changed, Some(added))
                }
                AddressChange::Replace(id, address) => {
                    let replaced = find_to_change(&book, *id, &context)?;
                    if replaced.address == *address {
                        let reply = Some(replaced.clone());
                        return Ok(Decision::NoChange { reply, body: Bytes::new() });
                    }
                    let (changed, replacement) = book.with_replaced(replaced, address.clone());
                    (changed, Some(replacement))
                }
                AddressChange::Remove(id) => {
                    find_to_change(&book, *id, &context)?;
                    (book.without(*id), None)
                }
            };
            let mut commit = self.build_commit(&context.ticket, context.trace.clone());
            commit.writes.push(Write::User(Arc::new(with_next_version(&user))));
            commit.writes.push(Write::AddressBook(Arc::new(changed)));
            Ok(Decision::Commit(Box::new(commit), move |_| reply))
        })
        .await
    }
}

/// The address, if it has the version that the request asks for.
fn find_to_change<'a>(
    book: &'a AddressBook,
    id: AddressId,
    context: &CommandContext,
) -> Result<&'a SavedAddress, Error> {
    let saved = book.find(id).ok_or_else(Error::address_not_found)?;
    let version = saved.version.to_string();
    match &context.if_match {
        Some(if_match) if !if_match.matches_tag(&version) => {
            Err(Error::version_mismatch(&format!("\"{version}\"")))
        }
        _ => Ok(saved),
    }
}

fn address_limit(_: AddressLimitReached) -> Error {
    let detail = format!("You have {MAX_ADDRESSES} addresses, the most allowed. Delete one first.");
    Error::new(ErrorCode::AddressLimit, detail)
}
