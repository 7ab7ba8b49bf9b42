//! Says why a CORS preflight request was refused.

use actix_cors::CorsError;
use actix_web::{
    body::BoxBody,
    dev::ServiceResponse,
    http::{Method, StatusCode, header},
};

use crate::{
    domain::excerpt::excerpt,
    error::{Error, ErrorCode},
};

/// The error of a preflight request that was refused; `None` for all other responses.
pub(super) fn preflight_error(response: &ServiceResponse<BoxBody>) -> Option<Error> {
    let headers = response.request().headers();
    if response.request().method() != Method::OPTIONS
        || !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        return None;
    }
    let origin = excerpt(headers.get(header::ORIGIN)?.to_str().unwrap_or("?")).to_string();
    let refused = response.response().error().and_then(|error| error.as_error::<CorsError>());
    let detail = match (refused, response.status()) {
        // Without allowed origins, nothing answers OPTIONS.
        (Some(CorsError::OriginNotAllowed), _) | (None, StatusCode::METHOD_NOT_ALLOWED) => {
            format!(
                "The origin {origin} is not allowed. Pages of other origins may use this API only \
                 if http.cors.allowed_origins lists them."
            )
        }
        (Some(_), _) | (None, StatusCode::BAD_REQUEST) => {
            "This method or header is not allowed from another origin.".to_owned()
        }
        _ => return None,
    };
    Some(Error::new(ErrorCode::Forbidden, detail))
}
