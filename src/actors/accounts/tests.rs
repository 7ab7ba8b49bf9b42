//! The commands, against a real store.
