//! Validation errors, collected so that a response can report all of them at once.

use super::excerpt::excerpt_of;

/// The longest path of a field, in characters: longer than that of any valid one.
const MAX_FIELD_CHARS: usize = 128;

/// The longest message, in characters. A message quotes excerpts only; this is the last bound.
const MAX_MESSAGE_CHARS: usize = 500;

/// One validation error in one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field's name, with a path for nested ones: `attributes.color`.
    pub field: String,
    /// A short stable code for programs: `required`, `too_long`, `out_of_range`, ...
    pub code: &'static str,
    /// A message for people: the problem and the expected value.
    pub message: String,
}

/// All validation errors of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidationErrors(Vec<FieldError>);

impl ValidationErrors {
    /// An empty list of errors.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// A list with a single error.
    #[must_use]
    pub fn single(
        field: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let mut errors = Self::new();
        errors.add(field, code, message);
        errors
    }

    /// Adds an error. A field's name can be the client's own choice, so it is cut if it is long.
    pub fn add(
        &mut self,
        field: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
    ) {
        let bounded = |text: String, max| excerpt_of(&text, max).into_owned();
        let field = bounded(field.into(), MAX_FIELD_CHARS);
        let message = bounded(message.into(), MAX_MESSAGE_CHARS);
        self.0.push(FieldError { field, code, message });
    }

    /// Returns the value of `checked`, or adds its errors and returns `None`.
    pub fn record_result<T>(&mut self, checked: Result<T, Self>) -> Option<T> {
        checked.map_err(|errors| self.0.extend(errors.0)).ok()
    }

    /// Whether there are no errors.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The errors, in the order found.
    #[must_use]
    pub fn into_vec(self) -> Vec<FieldError> {
        self.0
    }

    /// Returns `value` if there are no errors.
    ///
    /// # Errors
    /// These errors, if there are any.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Checks that `text` has `min` to `max` characters, and no control characters except line
    /// breaks and tabs.
    pub fn check_text(&mut self, field: &str, text: &str, min: usize, max: usize) {
        let length = text.chars().count();
        if length < min || (min > 0 && text.trim().is_empty()) {
            self.add(field, "required", format!("{field} must not be empty"));
        } else if length > max {
            self.add(
                field,
                "too_long",
                format!("{field} has {length} characters; at most {max} are allowed"),
            );
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            self.add(
                field,
                "invalid_character",
                format!("{field} must not contain control characters"),
            );
        }
    }
}
