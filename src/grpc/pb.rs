//! What `build.rs` generates from `proto/`.
#![expect(
    unreachable_pub,
    clippy::allow_attributes,
    clippy::enum_variant_names,
    clippy::too_many_lines,
    reason = "generated"
)]

include!(concat!(env!("OUT_DIR"), "/services.rs"));

pub(super) use self::{google::r#type::Money, souk::v1::*};

/// The descriptors of all files, for the reflection service.
pub(super) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
