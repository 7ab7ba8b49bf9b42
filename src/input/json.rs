//! Strict parsing of JSON from clients. Error messages use JSON's terms rather than Rust's.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;

use super::duplicates::find_duplicates;
use crate::{
    domain::{
        excerpt::excerpt,
        money::{Currency, Money, MoneyError},
        validation::ValidationErrors,
    },
    error::{Error, ErrorCode},
};

/// How many unknown fields an error lists, so that a body of nothing but unknown fields does not
/// cause a response many times its size.
const MAX_LISTED_UNKNOWN_FIELDS: usize = 50;

/// Longest string, in bytes, that an error message repeats.
const MAX_ECHOED_BYTES: usize = 50;

/// Parses a JSON object and rejects unknown fields, except those in `allowed_unknown`, and names
/// that an object contains twice.
///
/// # Errors
/// `malformed_json`, or `validation_failed` with every unknown field and the first invalid one.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], allowed_unknown: &[&str]) -> Result<T, Error> {
    parse_with(bytes, |field| allowed_unknown.contains(&field))
}

/// Parses a JSON object as [`parse`] does, but ignores all unknown fields.
///
/// # Errors
/// `malformed_json`, or `validation_failed` with the first invalid field.
pub(crate) fn parse_ignoring_unknown<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    parse_with(bytes, |_| true)
}

fn parse_with<T: DeserializeOwned>(
    bytes: &[u8],
    may_be_unknown: impl Fn(&str) -> bool,
) -> Result<T, Error> {
    // serde_json does not validate UTF-8 in strings that it skips.
    std::str::from_utf8(bytes).map_err(|error| {
        Error::new(ErrorCode::MalformedJson, format!("The body is not UTF-8 text: {error}."))
    })?;
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|first| *first != b'{') {
        // serde would accept a sequence as a struct. Malformed JSON has another code than JSON of
        // another type.
        return Err(match serde_json::from_slice::<IgnoredAny>(bytes) {
            Ok(_) => {
                Error::invalid_field("body", "invalid_type", "The body must be a JSON object.")
            }
            Err(error) => malformed_json_error(&error),
        });
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let mut unknown = Vec::new();
    // serde_ignored adds a question mark to the path of an optional member.
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string().replace(".?", ""));
    let known_fields = serde_ignored::Deserializer::new(&mut deserializer, &mut note);
    let parsed = serde_path_to_error::deserialize::<_, T>(known_fields);
    let parsed = match parsed {
        Ok(value) => {
            deserializer.end().map(|()| Ok(value)).map_err(|error| malformed_json_error(&error))?
        }
        Err(error) if !error.inner().is_data() => return Err(malformed_json_error(error.inner())),
        Err(error) => Err(error),
    };
    let mut errors = ValidationErrors::new();
    for field in
        unknown.into_iter().filter(|field| !may_be_unknown(field)).take(MAX_LISTED_UNKNOWN_FIELDS)
    {
        let field = excerpt(&field);
        errors.add(&*field, "unknown_field", format!("{field} is not a field of this request"));
    }
    match parsed {
        Ok(value) => {
            add_duplicates(&mut errors, bytes)?;
            Ok(errors.into_result(value)?)
        }
        Err(error) => {
            // The parser stops at the first invalid field, but the rest may be malformed JSON.
            serde_json::from_slice::<IgnoredAny>(bytes)
                .map_err(|error| malformed_json_error(&error))?;
            // A value that is nested too deeply has been found to be invalid already.
            let has_duplicates = add_duplicates(&mut errors, bytes).unwrap_or(false);
            // serde names a duplicate field without its path.
            if !(has_duplicates && error.inner().to_string().starts_with("duplicate field")) {
                add_field_error(&mut errors, &error);
            }
            Err(errors.into())
        }
    }
}

/// Adds an error for each duplicate name. Returns whether there are any.
fn add_duplicates(errors: &mut ValidationErrors, bytes: &[u8]) -> Result<bool, Error> {
    let paths = find_duplicates(bytes).map_err(|error| {
        let message = format!("The body has a value that cannot be checked: {error}.");
        Error::invalid_field("body", "invalid", message)
    })?;
    for path in paths.iter().map(|path| excerpt(path)) {
        errors.add(&*path, "duplicate", format!("duplicate field {path}"));
    }
    Ok(!paths.is_empty())
}

fn malformed_json_error(error: &serde_json::Error) -> Error {
    Error::new(ErrorCode::MalformedJson, format!("The body is not valid JSON: {error}."))
}

fn add_field_error(
    errors: &mut ValidationErrors,
    error: &serde_path_to_error::Error<serde_json::Error>,
) {
    let text = error.inner().to_string();
    let message = text.rsplit_once(" at line ").map_or(&*text, |(message, _)| message);
    let path = error.path().to_string();
    let path = excerpt(&path);
    // serde reports a missing or duplicate field at its parent, with the name in backticks.
    let field_name = |kind: &str| {
        let name = message.strip_prefix(kind)?.strip_prefix(" field `")?.strip_suffix('`')?;
        Some(if path == "." { name.to_owned() } else { format!("{path}.{name}") })
    };
    match (field_name("missing"), field_name("duplicate")) {
        (Some(name), _) => errors.add(&*name, "required", format!("{name} is required")),
        (_, Some(name)) => errors.add(&*name, "duplicate", format!("duplicate field {name}")),
        _ => errors.add(
            &*path,
            "invalid",
            describe_type_mismatch(&path, message)
                .unwrap_or_else(|| format!("{path}: {}", excerpt(message))),
        ),
    }
}

/// Translates serde's message about a value of the wrong type. `None` when `message` is about
/// something else.
fn describe_type_mismatch(path: &str, message: &str) -> Option<String> {
    let (has_expected_type, rest) = match message.strip_prefix("invalid type: ") {
        Some(rest) => (false, rest),
        None => (true, message.strip_prefix("invalid value: ")?),
    };
    // A string from the client may contain the separator; the expected type never does.
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let plain = |kind: &str| {
        Some(found.strip_prefix(kind)?.strip_prefix(" `")?.trim_end_matches('`').to_owned())
    };
    let found = match found {
        "map" => "an object".to_owned(),
        "sequence" => "an array".to_owned(),
        text if text.starts_with("string ") && text.len() > MAX_ECHOED_BYTES => {
            "a string".to_owned()
        }
        text if text.starts_with("string ") => format!("the {text}"),
        other => ["integer", "floating point", "boolean"]
            .into_iter()
            .find_map(plain)
            .unwrap_or_else(|| other.to_owned()),
    };
    let expected = match expected {
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize"
            if has_expected_type =>
        {
            return Some(format!("{path} is out of range: {found}"));
        }
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        "a map" => "an object",
        "a sequence" => "an array",
        name if name.starts_with("struct ") => "an object",
        other => other,
    };
    Some(format!("{path} must be {expected}, not {found}"))
}

/// Parses an amount. An invalid one adds an error for `field` and becomes zero.
pub(crate) fn parse_amount(
    field: &str,
    text: &RawValue,
    currency: Currency,
    errors: &mut ValidationErrors,
) -> Money {
    parse_amount_text(field, text.get(), currency, errors)
}

/// Parses an amount that is no JSON value, as [`parse_amount`] does.
pub(super) fn parse_amount_text(
    field: &str,
    text: &str,
    currency: Currency,
    errors: &mut ValidationErrors,
) -> Money {
    Money::parse(text, currency).unwrap_or_else(|error| {
        let message = match error {
            MoneyError::NotANumber => format!("{field} must be a number"),
            MoneyError::Negative => format!("{field} must not be negative"),
            MoneyError::TooPrecise => {
                format!(
                    "{field} must have at most {} decimals in {}",
                    currency.decimals(),
                    currency.code()
                )
            }
            MoneyError::TooLarge => format!("{field} is too large"),
        };
        errors.add(field, "invalid_amount", message);
        Money::zero(currency)
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Sample {
        #[expect(dead_code, reason = "only its presence matters")]
        name: String,
        price: Box<RawValue>,
        nested: Option<Nested>,
        #[expect(dead_code, reason = "only its type matters")]
        delta: Option<i64>,
        #[expect(dead_code, reason = "only its type matters")]
        tags: Option<Vec<String>>,
        #[expect(dead_code, reason = "only its type matters")]
        active: Option<bool>,
    }

    #[derive(Debug, Deserialize)]
    struct Nested {
        #[expect(dead_code, reason = "only its presence matters")]
        size: u32,
    }

    fn error_fields(body: &str) -> (ErrorCode, Vec<String>) {
        let error = parse::<Sample>(body.as_bytes(), &["pass"]).unwrap_err();
        (error.code, error.field_errors.into_iter().map(|error| error.field).collect())
    }

    #[test]
    fn raw_numbers_keep_every_digit() {
        let sample: Sample = parse(
            br#"{"name": "a", "price": 19.990000000000000000001, "nested": {"size": 1}}"#,
            &[],
        )
        .unwrap();
        assert_eq!(sample.price.get(), "19.990000000000000000001");
        assert!(sample.nested.is_some());
    }

    #[test]
    fn all_unknown_fields_are_reported() {
        let body = r#"{"name": "a", "x": 1, "price": 1,
            "nested": {"size": 1, "y": {"z": 1}}, "w": [], "pass": 1}"#;
        assert_eq!(
            error_fields(body),
            (ErrorCode::ValidationFailed, vec!["x".into(), "nested.y".into(), "w".into()])
        );
    }

    #[test]
    fn ignored_fields_hide_no_unknown_field() {
        let ignored = r#""pass": 1, "#.repeat(MAX_LISTED_UNKNOWN_FIELDS);
        let body = format!(r#"{{{ignored} "x": 1, "name": "a", "price": 1}}"#);
        let (code, fields) = error_fields(&body);
        let first = fields.first().map(String::as_str);
        assert_eq!((code, first), (ErrorCode::ValidationFailed, Some("x")));
    }

    #[test]
    fn type_errors_and_missing_fields_name_the_field() {
        assert_eq!(
            error_fields(r#"{"name": 5, "price": 1}"#),
            (ErrorCode::ValidationFailed, vec!["name".into()])
        );
        assert_eq!(
            error_fields(r#"{"name": "a"}"#),
            (ErrorCode::ValidationFailed, vec!["price".into()])
        );
        for nested in [r#"{"size": -1}"#, "{}"] {
            let body = format!(r#"{{"name": "a", "price": 1, "nested": {nested}}}"#);
            assert_eq!(error_fields(&body).1, ["nested.size"], "{nested}");
        }
        assert_eq!(
            error_fields(r#"["a", 1, null]"#),
            (ErrorCode::ValidationFailed, vec!["body".into()])
        );
        assert_eq!(error_fields("5").0, ErrorCode::ValidationFailed);
        assert_eq!(error_fields(r#"{"name": "a", "price": 1, "name": "b"}"#).1, ["name"]);
    }

    #[test]
    fn type_errors_use_json_terms() {
        let long = format!(r#"{{"delta": "{}"}}"#, "5, expected i64".repeat(9));
        for (body, message) in [
            (r#"{"name": 5}"#, "name must be a string, not 5"),
            (r#"{"name": null}"#, "name must be a string, not null"),
            (r#"{"name": {"first": "Ada"}}"#, "name must be a string, not an object"),
            (r#"{"delta": "5"}"#, r#"delta must be a whole number, not the string "5""#),
            (
                r#"{"delta": "5 at line 7, expected i64"}"#,
                r#"delta must be a whole number, not the string "5 at line 7, expected i64""#,
            ),
            (&long, "delta must be a whole number, not a string"),
            (r#"{"delta": 1.5}"#, "delta must be a whole number, not 1.5"),
            (r#"{"delta": 10000000000000000000}"#, "delta is out of range: 10000000000000000000"),
            (r#"{"nested": {"size": -1}}"#, "nested.size is out of range: -1"),
            (r#"{"nested": 7}"#, "nested must be an object, not 7"),
            (r#"{"tags": {}}"#, "tags must be an array, not an object"),
            (r#"{"tags": ["a", ["b"]]}"#, "tags[1] must be a string, not an array"),
            (r#"{"active": "yes"}"#, r#"active must be a boolean, not the string "yes""#),
            (r#"{"delta": true}"#, "delta must be a whole number, not true"),
        ] {
            let error = parse::<Sample>(body.as_bytes(), &[]).unwrap_err();
            assert_eq!(error.field_errors[0].message, message);
        }
    }

    #[test]
    fn invalid_json_is_malformed() {
        for body in
            ["", "{", "nope", r#"{"name": 5, "price": }"#, r#"{"name": "a", "price": 1} x"#, "[1,"]
        {
            assert_eq!(error_fields(body).0, ErrorCode::MalformedJson, "{body:.40}");
        }
        let latin_1 = b"{\"name\": \"a\", \"price\": 1, \"pass\": \"\xe9\"}";
        assert_eq!(parse::<Sample>(latin_1, &["pass"]).unwrap_err().code, ErrorCode::MalformedJson);
    }

    #[test]
    fn deeply_nested_json_is_rejected() {
        let deep = |open: &str, close: &str| {
            format!("{{\"name\": {}1{}}}", open.repeat(20_000), close.repeat(20_000))
        };
        for body in [deep("[", "]"), deep("{\"a\":", "}"), deep("[", "]").replace("name", "x")] {
            assert_eq!(error_fields(&body).0, ErrorCode::ValidationFailed);
        }
        assert_eq!(error_fields(&deep("[", "")).0, ErrorCode::MalformedJson);
    }
}
