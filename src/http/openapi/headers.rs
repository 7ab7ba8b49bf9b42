//! Descriptions of request and response headers, shared by all operations.

use serde_json::json;
use utoipa::openapi::{
    Components, Header, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, Schema,
    path::{Operation, Parameter, ParameterIn},
    schema::{SchemaType, Type},
};

use super::examples;

/// Response headers: name, component name, description and example.
const RESPONSE_HEADERS: [(&str, &str, &str, &str); 9] = [
    ("X-Request-Id", "RequestId", REQUEST_ID, "01936f5e-8a3b-7c41-9d52-6f0e1b2a3c4d"),
    ("ETag", "ETag", "The current version, for `If-Match` and `If-None-Match`.", "\"3\""),
    ("Idempotency-Replayed", "IdempotencyReplayed", REPLAYED, "true"),
    ("Location", "Location", "The address of the new resource.", "/api/orders/01936f5e"),
    ("Retry-After", "RetryAfter", "The number of seconds to wait before the next try.", "1"),
    ("RateLimit", "RateLimit", "How much of the limit is left.", "\"user\";r=0;t=1"),
    ("RateLimit-Policy", "RateLimitPolicy", "The limit.", "\"user\";q=100;w=2"),
    ("Cache-Control", "CacheControl", "Caches must not store the response.", "no-store"),
    ("WWW-Authenticate", "Challenge", "How to authenticate.", "Bearer"),
];

const REQUEST_ID: &str =
    "The id of the request: the one that the client sent in `X-Request-Id`, or a new one.";
const REPLAYED: &str = "Sent when the response repeats the first one for this `Idempotency-Key`.";

/// Request headers: name, description and example.
const REQUEST_HEADERS: [(&str, &str, &str); 5] = [
    ("Idempotency-Key", IDEMPOTENCY_KEY, "2f1c9f1e-checkout-1"),
    ("If-Match", IF_MATCH, "\"3\""),
    ("If-None-Match", "The response is 304 if this ETag is current.", "\"3\""),
    ("Cache-Control", CACHE_CONTROL, "no-cache"),
    ("Last-Event-ID", "The last `id` that the client received.", EVENT_ID),
];

const IDEMPOTENCY_KEY: &str = "A key that the client chooses, 1 to 255 visible ASCII \
    characters. A request that is repeated with the same key within 24 hours is applied once, \
    and gets the first response again.";
const IF_MATCH: &str =
    "The change is made only if this ETag is current. A weak tag counts as the version it names.";
const CACHE_CONTROL: &str = "With `no-cache`, the response is at least as new as every change \
    that any node acknowledged before the request.";
const EVENT_ID: &str = "0.17-1.4";

/// Adds the response headers to the components.
pub(super) fn register(components: &mut Components) {
    for (_, component, description, example) in RESPONSE_HEADERS {
        let schema = ObjectBuilder::new().schema_type(Type::String).examples([json!(example)]);
        let header: Header =
            HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build();
        components.headers.insert(component.to_owned(), RefOr::T(header));
    }
}

/// Completes the parameters: forbids null, and describes the known headers.
pub(super) fn complete_parameters(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        if let Some(schema) = &mut parameter.schema {
            forbid_null(schema);
            examples::replace_deprecated_example(schema);
        }
        let known = REQUEST_HEADERS.iter().find(|(name, ..)| *name == parameter.name);
        if let (ParameterIn::Header, Some(known)) = (&parameter.parameter_in, known) {
            describe(parameter, known);
        }
    }
}

fn describe(parameter: &mut Parameter, (name, description, example): &(&str, &str, &str)) {
    if parameter.description.as_ref().is_none_or(String::is_empty) {
        parameter.description = Some((*description).to_owned());
    }
    let is_key = *name == "Idempotency-Key";
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(is_key.then_some(1))
        .max_length(is_key.then_some(255))
        .examples([json!(example)]);
    parameter.schema = Some(RefOr::T(schema.into()));
}

/// Removes null from the schema of a parameter: an optional parameter is absent, never null.
fn forbid_null(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => without_null(&mut object.schema_type),
        RefOr::T(Schema::Array(array)) => without_null(&mut array.schema_type),
        RefOr::T(Schema::OneOf(either)) => {
            if let Some(named @ RefOr::Ref(_)) =
                either.items.iter().find(|item| matches!(item, RefOr::Ref(_)))
            {
                *schema = named.clone();
            }
        }
        _ => {}
    }
}

fn without_null(schema_type: &mut SchemaType) {
    if let SchemaType::Array(types) = schema_type {
        types.retain(|one| *one != Type::Null);
        if let [one] = types.as_slice() {
            *schema_type = SchemaType::Type(one.clone());
        }
    }
}

/// Whether the operation has this parameter.
pub(super) fn has_parameter(operation: &Operation, name: &str) -> bool {
    let named =
        |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(one) if one.name == name);
    operation.parameters.iter().flatten().any(named)
}

/// Declares the headers of the operation's responses. Private responses have `Cache-Control`.
pub(super) fn complete_responses(operation: &mut Operation, private: bool) {
    let versioned =
        has_parameter(operation, "If-Match") || has_parameter(operation, "If-None-Match");
    let repeatable = has_parameter(operation, "Idempotency-Key");
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        let succeeds = status.starts_with('2');
        let is_resource = succeeds && !response.content.is_empty() || status == "304";
        declare(response, "X-Request-Id");
        for (applies, name) in [
            (versioned && is_resource, "ETag"),
            (private && (succeeds || status == "304"), "Cache-Control"),
            (repeatable && succeeds, "Idempotency-Replayed"),
            (matches!(status.as_str(), "429" | "503"), "Retry-After"),
            (status == "429", "RateLimit"),
            (status == "429", "RateLimit-Policy"),
            (status == "401", "WWW-Authenticate"),
        ] {
            if applies {
                declare(response, name);
            }
        }
        // Replace the headers that a route declares itself with the shared descriptions.
        let named: Vec<String> = response.headers.keys().cloned().collect();
        named.iter().for_each(|name| declare(response, name));
    }
}

fn declare(response: &mut Response, name: &str) {
    if let Some((_, component, ..)) = RESPONSE_HEADERS.iter().find(|(known, ..)| *known == name) {
        let header = Ref::new(format!("#/components/headers/{component}"));
        response.headers.insert(name.to_owned(), RefOr::Ref(header));
    }
}
