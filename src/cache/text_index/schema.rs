//! The fields of the index.

use tantivy::{
    Index, IndexReader, IndexSettings, ReloadPolicy, TantivyDocument, TantivyError,
    directory::RamDirectory,
    schema::{
        FAST, Field, INDEXED, IndexRecordOption, NumericOptions, Schema, TextFieldIndexing,
        TextOptions,
    },
    store::Compressor,
    tokenizer::{TextAnalyzer, Token, TokenStream, Tokenizer},
};

use super::text_key::TextKey;
use crate::domain::catalog::search::{Place, TermList};

/// The name of [`TermReader`].
const TOKENIZER: &str = "terms";
/// Ends each term in the text of a field. No term contains it.
const TERM_END: char = '\n';

/// The fields of a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    pub(super) slot: Field,
    key: Field,
    pub(super) text: Field,
}

/// The name of the field with the slot.
pub(super) const SLOT: &str = "slot";
/// The name of the field with the key of the text.
pub(super) const KEY: &str = "key";

impl Fields {
    /// The document of the product in `slot`.
    pub(super) fn document(self, slot: u32, key: TextKey, terms: &TermList) -> TantivyDocument {
        let mut document = TantivyDocument::new();
        document.add_u64(self.slot, u64::from(slot));
        document.add_u64(self.key, key.0);
        document.add_text(self.text, write_terms(terms));
        document
    }
}

/// The text of a field, for [`TermReader`]: the frequency of each term as a digit, then the term.
fn write_terms(terms: &TermList) -> String {
    let mut text = String::with_capacity(2048);
    for (term, place) in terms.iter() {
        text.push(char::from(b'0' + frequency_of_place(place)));
        text.push_str(term);
        text.push(TERM_END);
    }
    text
}

/// How often a term that occurs in `place` is written: the fewest times where most terms are.
const fn frequency_of_place(place: Place) -> u8 {
    match place {
        Place::Description => 1,
        Place::Name => 2,
        Place::Labels => 3,
        Place::NameStart => 4,
        Place::Attributes => 5,
    }
}

/// The place that a term frequency stands for.
pub(super) const fn place_of_frequency(frequency: u32) -> Place {
    match frequency {
        0 | 1 => Place::Description,
        2 => Place::Name,
        3 => Place::Labels,
        4 => Place::NameStart,
        _ => Place::Attributes,
    }
}

/// Reads the terms of a field, each as often as [`frequency_of_place`] says.
#[derive(Clone, Default)]
struct TermReader {
    token: Token,
}

impl Tokenizer for TermReader {
    type TokenStream<'a> = TermStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> TermStream<'a> {
        self.token.reset();
        // Positions are not indexed, but the library adds to them.
        self.token.position = 0;
        TermStream { rest: text, repeats: 0, token: &mut self.token }
    }
}

struct TermStream<'a> {
    rest: &'a str,
    /// How often the current term comes again.
    repeats: u8,
    token: &'a mut Token,
}

impl TokenStream for TermStream<'_> {
    fn advance(&mut self) -> bool {
        if self.repeats > 0 {
            self.repeats -= 1;
            return true;
        }
        let Some((term, rest)) = self.rest.split_once(TERM_END) else { return false };
        let (Some(frequency), Some(term)) = (term.bytes().next(), term.get(1..)) else {
            return false;
        };
        self.rest = rest;
        self.repeats = frequency.saturating_sub(b'1');
        self.token.text.clear();
        self.token.text.push_str(term);
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

fn create_schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let slot = schema.add_u64_field(SLOT, NumericOptions::default() | INDEXED | FAST);
    let key = schema.add_u64_field(KEY, FAST);
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(TOKENIZER)
        .set_index_option(IndexRecordOption::WithFreqs)
        .set_fieldnorms(false);
    let text = schema.add_text_field("text", TextOptions::default().set_indexing_options(indexing));
    (schema.build(), Fields { slot, key, text })
}

/// The fields of each index.
pub(super) fn fields() -> Fields {
    create_schema().1
}

/// Creates an empty index in memory.
pub(super) fn create_index() -> Index {
    let (schema, _) = create_schema();
    let settings = IndexSettings {
        docstore_compression: Compressor::None,
        docstore_compress_dedicated_thread: false,
        ..IndexSettings::default()
    };
    let index = Index::builder().schema(schema).settings(settings);
    #[expect(clippy::expect_used, reason = "the schema is a constant, and the tests create it")]
    let index = index.create_in_ram().expect("the schema is valid");
    register_tokenizer(&index);
    index
}

/// Opens an index that was created by [`create_index`].
pub(super) fn open_index(directory: RamDirectory) -> tantivy::Result<Index> {
    let index = Index::open(directory)?;
    let (schema, _) = create_schema();
    if index.schema() != schema {
        return Err(TantivyError::SchemaError("it has other fields".to_owned()));
    }
    register_tokenizer(&index);
    Ok(index)
}

/// Opens a reader that shows what is committed when it is told to.
pub(super) fn open_reader(index: &Index) -> tantivy::Result<IndexReader> {
    index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()
}

fn register_tokenizer(index: &Index) {
    let analyzer = TextAnalyzer::builder(TermReader::default()).build();
    index.tokenizers().register(TOKENIZER, analyzer);
}
