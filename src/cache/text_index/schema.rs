//! The fields of the index.

use tantivy::{
    Index, IndexSettings, TantivyDocument,
    schema::{
        FAST, Field, INDEXED, IndexRecordOption, NumericOptions, Schema, TextFieldIndexing,
        TextOptions,
    },
    store::Compressor,
    tokenizer::{TextAnalyzer, WhitespaceTokenizer},
};

use super::SearchField;
use crate::domain::catalog::search::{ProductTerms, TermList};

/// Splits the terms of a product, which are written with spaces between them.
const TOKENIZER: &str = "terms";

/// The fields of a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    pub(super) slot: Field,
    text: Field,
    name: Field,
}

/// The name of the field with the slot.
pub(super) const SLOT: &str = "slot";

impl Fields {
    pub(super) const fn of(self, field: SearchField) -> Field {
        match field {
            SearchField::Text => self.text,
            SearchField::Name => self.name,
        }
    }

    /// The document of the product in `slot`.
    pub(super) fn document(self, slot: u32, terms: &ProductTerms) -> TantivyDocument {
        let mut document = TantivyDocument::new();
        document.add_u64(self.slot, u64::from(slot));
        document.add_text(self.text, write_terms(&terms.text));
        let name = terms.name.iter().map(|(term, _)| term).collect::<Vec<_>>().join(" ");
        document.add_text(self.name, name);
        document
    }
}

/// The place of a term is how often it occurs in the document.
fn write_terms(terms: &TermList) -> String {
    let mut text = String::with_capacity(terms.len() * 16);
    for (term, place) in terms.iter() {
        for _ in 0..place as u32 {
            text.push_str(term);
            text.push(' ');
        }
    }
    text
}

/// Creates an empty index in memory.
pub(super) fn create_index() -> (Index, Fields) {
    let mut schema = Schema::builder();
    let slot = schema.add_u64_field(SLOT, NumericOptions::default() | INDEXED | FAST);
    let mut text_field = |name, option| {
        let indexing = TextFieldIndexing::default()
            .set_tokenizer(TOKENIZER)
            .set_index_option(option)
            .set_fieldnorms(false);
        schema.add_text_field(name, TextOptions::default().set_indexing_options(indexing))
    };
    let text = text_field("text", IndexRecordOption::WithFreqs);
    let name = text_field("name", IndexRecordOption::Basic);
    let settings = IndexSettings {
        docstore_compression: Compressor::None,
        docstore_compress_dedicated_thread: false,
        ..IndexSettings::default()
    };
    let index = Index::builder().schema(schema.build()).settings(settings);
    #[expect(clippy::expect_used, reason = "the schema is a constant, and the tests create it")]
    let index = index.create_in_ram().expect("the schema is valid");
    let analyzer = TextAnalyzer::builder(WhitespaceTokenizer::default()).build();
    index.tokenizers().register(TOKENIZER, analyzer);
    (index, Fields { slot, text, name })
}
