//! The OpenAPI document, put together from the routes' own descriptions.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{accounts, cart, events, import, ops, products, stock};
use crate::error::Code;

#[derive(OpenApi)]
#[openapi(
    info(title = "Souk", description = "A commerce core: accounts, catalog, stock and carts."),
    paths(
        accounts::register, accounts::login, accounts::refresh, accounts::logout, accounts::validate, accounts::me,
        accounts::password, accounts::jwks,
        products::list, products::suggest, products::show, products::create, products::replace, products::patch,
        products::delete, import::import, stock::show, stock::change, stock::movements,
        cart::show, cart::add, cart::update, cart::remove, cart::clear, cart::guest, cart::merge,
        events::feed, ops::livez, ops::readyz, ops::metrics,
    ),
    modifiers(&Bearer, &Codes),
)]
struct Api;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = Http::builder().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        document.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Publishes the closed list of codes.
struct Codes;

impl Modify for Codes {
    fn modify(&self, document: &mut Document) {
        let codes: Vec<String> = Code::ALL
            .iter()
            .map(|code| format!("| `{}` | {} | {} |", code.as_str(), super::problem::status(*code).as_u16(), code.title()))
            .collect();
        document.info.description = Some(format!(
            "A commerce core: accounts, catalog, stock and carts.\n\nEvery error is `application/problem+json` (RFC 9457) with a \
             `code` from this closed list:\n\n| code | status | meaning |\n|---|---|---|\n{}\n",
            codes.join("\n")
        ));
    }
}

/// The document (OpenAPI 3.1).
#[must_use]
pub fn document() -> Document {
    Api::openapi()
}

/// The API browser, with everything it needs in the binary, and the document at `/openapi.json`.
pub(super) fn browser() -> SwaggerUi {
    SwaggerUi::new("/docs/{_:.*}").url("/openapi.json", document()).config(Config::default().validator_url("none"))
}
