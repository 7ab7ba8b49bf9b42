//! Generates an example for every schema from the examples of its parts.

use serde_json::{Map, Value, json};
use utoipa::openapi::{Components, RefOr, Schema};

/// The example of every id.
const ID: &str = "01936f5e-8a3b-7c41-9d52-6f0e1b2a3c4d";

/// The example of every time.
const TIME: &str = "2026-03-14T09:26:53.589Z";

/// The maximum nesting of schemas, which stops recursion.
const DEPTH: u8 = 16;

/// Adds an example to every schema that has none.
pub(super) fn add_examples(components: &mut Components) {
    for schema in components.schemas.values_mut() {
        replace_deprecated_example(schema);
    }
    // JSON is easier to read than utoipa's types, which differ for each form of schema.
    let all = serde_json::to_value(&components.schemas).unwrap_or_default();
    for (name, schema) in &mut components.schemas {
        let examples = match schema {
            RefOr::T(Schema::Object(object)) => &mut object.examples,
            RefOr::T(Schema::AllOf(parts)) => &mut parts.examples,
            _ => continue,
        };
        if examples.is_empty() {
            examples.extend(all.get(name).and_then(|one| build_example(one, &all, DEPTH)));
        }
    }
}

/// Moves each `example`, which OpenAPI 3.1 deprecates, into `examples`.
pub(super) fn replace_deprecated_example(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            object.examples.extend(object.example.take());
            object.properties.values_mut().for_each(replace_deprecated_example);
        }
        RefOr::T(Schema::Array(array)) => array.examples.extend(array.example.take()),
        _ => {}
    }
}

/// Builds an example of `schema`; `None` if it cannot be derived.
fn build_example(schema: &Value, all: &Value, depth: u8) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let member = |name: &str| schema.get(name);
    let first = |name: &str| member(name)?.get(0).cloned();
    if let Some(name) = member("$ref").and_then(Value::as_str) {
        return build_example(all.get(name.rsplit('/').next()?)?, all, depth);
    }
    if let Some(given) = first("examples").or_else(|| first("enum")) {
        return Some(given);
    }
    if let Some(items) = member("items") {
        return Some(json!([build_example(items, all, depth)?]));
    }
    if let Some(either) = member("oneOf").and_then(Value::as_array) {
        return either.iter().find_map(|one| build_example(one, all, depth));
    }
    if let Some(parts) = member("allOf").and_then(Value::as_array) {
        let members = parts.iter().filter_map(|part| match build_example(part, all, depth)? {
            Value::Object(members) => Some(members),
            _ => None,
        });
        return Some(Value::Object(members.flatten().collect::<Map<_, _>>()));
    }
    if let Some(properties) = member("properties").and_then(Value::as_object) {
        let parts = properties.iter();
        let parts =
            parts.filter_map(|(name, part)| Some((name.clone(), build_example(part, all, depth)?)));
        return Some(Value::Object(parts.collect::<Map<_, _>>()));
    }
    match (member("format").and_then(Value::as_str), member("type").and_then(Value::as_str)) {
        (Some("uuid"), _) => Some(json!(ID)),
        (Some("date-time"), _) => Some(json!(TIME)),
        (_, Some("boolean")) => Some(json!(true)),
        // The schema has no properties, so the example has no members.
        (_, Some("object")) => Some(json!({})),
        _ => None,
    }
}
