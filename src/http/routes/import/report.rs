//! The result of an import.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    error::Error,
    http::openapi::enums,
    messages::catalog::{ImportAction, ImportLineOutcome},
};

/// The result of an import.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ImportReport {
    /// The number of lines that created a product.
    #[schema(examples(340))]
    pub created: u64,
    /// The number of lines whose product existed, changed or not.
    #[schema(examples(12))]
    pub updated: u64,
    /// The number of lines that were rejected.
    #[schema(examples(1))]
    pub failed: u64,
    /// The first 1,000 lines that were rejected.
    pub errors: Vec<LineError>,
}

/// A line that was rejected.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LineError {
    /// The number of the line in the file, from 1.
    #[schema(examples(17))]
    pub line: u64,
    /// Why the line was rejected.
    #[schema(value_type = enums::ErrorCode)]
    pub code: String,
    /// What is wrong and what to do.
    #[schema(examples("price must not be negative"))]
    pub message: String,
}

impl LineError {
    /// The error of a line.
    #[must_use]
    pub fn new(line: u64, error: &Error) -> Self {
        let code = error.code.as_str().to_owned();
        Self { line, code, message: error.detail.clone().into_owned() }
    }
}

impl ImportReport {
    /// The number of lines.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.created + self.updated + self.failed
    }

    /// Counts the outcome of a line. An error is listed if fewer than `max_errors` are.
    pub(super) fn add(&mut self, outcome: ImportLineOutcome, max_errors: usize) {
        match outcome.result {
            Ok(ImportAction::Created) => self.created += 1,
            Ok(ImportAction::Updated) => self.updated += 1,
            Err(error) => {
                self.failed += 1;
                if self.errors.len() < max_errors {
                    self.errors.push(LineError::new(outcome.number, &error));
                }
            }
        }
    }
}
