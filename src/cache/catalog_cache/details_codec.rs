//! Compresses the details of products. A dictionary of other products' details makes up for each
//! piece being short.

use std::{
    borrow::Cow,
    io,
    sync::{Mutex, OnceLock, PoisonError},
};

use zstd::bulk::{Compressor, Decompressor};

use super::packed_product::encode_details;
use crate::domain::catalog::product::Product;

/// The least number of products that a dictionary is made of. In a smaller catalog, nothing is
/// compressed.
pub(super) const MIN_SAMPLES: usize = 200;
/// The size of the dictionary.
const DICTIONARY_BYTES: usize = 32 * 1024;
/// Each piece is compressed once, and the catalog waits for it at the start.
const LEVEL: i32 = 1;
/// The longest details: far more than a product can have.
const MAX_DETAILS_BYTES: usize = 64 << 20;

/// The first bytes of a zstd frame (RFC 8878, section 3.1.1). No JSON text begins with them.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Compresses details, once it has a dictionary.
#[derive(Default)]
pub(super) struct DetailsCodec {
    dictionary: OnceLock<Vec<u8>>,
    /// Idle contexts. Each knows the dictionary, which takes some time to learn.
    compressors: Mutex<Vec<Compressor<'static>>>,
    decompressors: Mutex<Vec<Decompressor<'static>>>,
}

impl DetailsCodec {
    /// Whether details are compressed from now on.
    pub(super) fn is_trained(&self) -> bool {
        self.dictionary.get().is_some()
    }

    /// Makes a dictionary of `samples`, if they are enough and there is none.
    pub(super) fn train<'a>(&self, samples: impl ExactSizeIterator<Item = &'a Product>) {
        if samples.len() < MIN_SAMPLES || self.is_trained() {
            return;
        }
        // As plain content: a trained dictionary is a little better and takes seconds.
        let share = DICTIONARY_BYTES / MIN_SAMPLES;
        let step = samples.len() / MIN_SAMPLES;
        let mut dictionary = Vec::with_capacity(DICTIONARY_BYTES);
        for product in samples.step_by(step.max(1)) {
            let details = encode_details(product);
            let room = DICTIONARY_BYTES - dictionary.len();
            dictionary.extend(details.iter().take(room.min(share * 4)));
        }
        // Lost only if another thread was first.
        drop(self.dictionary.set(dictionary));
    }

    /// Compresses `details`, or returns them as they are if that is no longer.
    pub(super) fn compress(&self, details: Vec<u8>) -> Vec<u8> {
        let Some(dictionary) = self.dictionary.get() else { return details };
        let compressed = with_context(
            &self.compressors,
            || Compressor::with_dictionary(LEVEL, dictionary),
            |context| context.compress(&details),
        );
        match compressed {
            Ok(compressed) if compressed.len() < details.len() => compressed,
            _ => details,
        }
    }

    /// # Errors
    /// `stored` is not what [`Self::compress`] returned.
    pub(super) fn decompress<'a>(&self, stored: &'a [u8]) -> io::Result<Cow<'a, [u8]>> {
        if !stored.starts_with(&MAGIC) {
            return Ok(Cow::Borrowed(stored));
        }
        let dictionary = self.dictionary.get().map_or(&[][..], Vec::as_slice);
        let size = Decompressor::<'_>::upper_bound(stored).unwrap_or(MAX_DETAILS_BYTES);
        let details = with_context(
            &self.decompressors,
            || Decompressor::with_dictionary(dictionary),
            |context| context.decompress(stored, size.min(MAX_DETAILS_BYTES)),
        );
        details.map(Cow::Owned)
    }
}

/// Runs `run` with an idle context, or a new one.
fn with_context<C, T>(
    idle: &Mutex<Vec<C>>,
    create: impl FnOnce() -> io::Result<C>,
    run: impl FnOnce(&mut C) -> io::Result<T>,
) -> io::Result<T> {
    let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
    let known = lock().pop();
    let mut context = known.map_or_else(create, Ok)?;
    let result = run(&mut context);
    lock().push(context);
    result
}
