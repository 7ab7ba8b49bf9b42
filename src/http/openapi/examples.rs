//! Examples: every schema gets one, put together from those of its parts.

use serde_json::{Map, Value, json};
use utoipa::openapi::{Components, RefOr, Schema};

/// Stands for any id.
const ID: &str = "01936f5e-8a3b-7c41-9d52-6f0e1b2a3c4d";

/// Stands for any time.
const TIME: &str = "2026-03-14T09:26:53.589Z";

/// How deep schemas may be nested in each other; deeper, they are taken for endless.
const DEPTH: u8 = 16;

/// Gives every schema an example. One that a schema has already stays.
pub(super) fn complete(components: &mut Components) {
    for schema in components.schemas.values_mut() {
        modernize(schema);
    }
    // Only read from: the types of utoipa have a place for each of a schema's forms.
    let all = serde_json::to_value(&components.schemas).unwrap_or_default();
    for (name, schema) in &mut components.schemas {
        if let RefOr::T(Schema::Object(object)) = schema
            && object.examples.is_empty()
        {
            object.examples.extend(all.get(name).and_then(|one| compose(one, &all, DEPTH)));
        }
    }
}

/// Makes each `example`, which OpenAPI 3.1 calls deprecated, the first of the `examples`.
pub(super) fn modernize(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            object.examples.extend(object.example.take());
            object.properties.values_mut().for_each(modernize);
        }
        RefOr::T(Schema::Array(array)) => array.examples.extend(array.example.take()),
        _ => {}
    }
}

/// An example of `schema`; nothing when its parts have too few.
fn compose(schema: &Value, all: &Value, depth: u8) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let member = |name: &str| schema.get(name);
    let first = |name: &str| member(name)?.get(0).cloned();
    if let Some(name) = member("$ref").and_then(Value::as_str) {
        return compose(all.get(name.rsplit('/').next()?)?, all, depth);
    }
    if let Some(given) = first("examples").or_else(|| first("enum")) {
        return Some(given);
    }
    if let Some(items) = member("items") {
        return Some(json!([compose(items, all, depth)?]));
    }
    if let Some(either) = member("oneOf").and_then(Value::as_array) {
        return either.iter().find_map(|one| compose(one, all, depth));
    }
    if let Some(properties) = member("properties").and_then(Value::as_object) {
        let parts = properties.iter();
        let parts =
            parts.filter_map(|(name, part)| Some((name.clone(), compose(part, all, depth)?)));
        return Some(Value::Object(parts.collect::<Map<_, _>>()));
    }
    match (member("format").and_then(Value::as_str), member("type").and_then(Value::as_str)) {
        (Some("uuid"), _) => Some(json!(ID)),
        (Some("date-time"), _) => Some(json!(TIME)),
        (_, Some("boolean")) => Some(json!(true)),
        // One without members, as it has no properties.
        (_, Some("object")) => Some(json!({})),
        _ => None,
    }
}
