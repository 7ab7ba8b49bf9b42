//! Faults found in what a person or program sent, gathered so that all of them can be told at once.

/// One fault in one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field's name, with a path for nested ones: `attributes.color`.
    pub field: String,
    /// A short stable word for programs: `required`, `too_long`, `out_of_range`, ...
    pub code: &'static str,
    /// What is wrong and what would be right, for a person.
    pub message: String,
}

/// All faults of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidationErrors(Vec<FieldError>);

impl ValidationErrors {
    /// No faults yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// A single fault.
    #[must_use]
    pub fn single(
        field: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let mut faults = Self::new();
        faults.add(field, code, message);
        faults
    }

    /// Notes a fault.
    pub fn add(
        &mut self,
        field: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
    ) {
        self.0.push(FieldError { field: field.into(), code, message: message.into() });
    }

    /// The value of `checked`, or nothing after taking its faults over.
    pub fn record_result<T>(&mut self, checked: Result<T, Self>) -> Option<T> {
        checked.map_err(|faults| self.0.extend(faults.0)).ok()
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults, in the order found.
    #[must_use]
    pub fn into_vec(self) -> Vec<FieldError> {
        self.0
    }

    /// `value` when nothing was found.
    ///
    /// # Errors
    /// These faults, when there are any.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Checks that `text` has between `min` and `max` characters and no control characters but line breaks and tabs.
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
