//! Compresses responses for clients that accept it.
//!
//! Not the framework's `Compress`: it compresses bodies of any size, also an event feed and what is
//! secret, answers 406 to some headers, and leaves a strong `ETag` on both forms of a body.

use actix_http::encoding::Encoder;
use actix_web::{
    HttpRequest,
    body::{BodySize, BoxBody, MessageBody as _},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        StatusCode,
        header::{
            self, AcceptEncoding, ContentEncoding, Encoding, Header as _, HeaderMap, HeaderValue,
        },
    },
};

/// The smallest body that is compressed, in bytes. A smaller one fits into one packet anyway.
const MIN_BYTES: u64 = 1024;

/// What a body can be compressed with. The framework prefers the first if a client has no
/// preference.
const SUPPORTED: [Encoding; 4] =
    [Encoding::brotli(), Encoding::zstd(), Encoding::gzip(), Encoding::identity()];

/// Compresses the body if it is worth it and the client accepts `encoding`.
pub(super) fn compress_response(
    mut response: ServiceResponse<BoxBody>,
    encoding: Option<ContentEncoding>,
) -> ServiceResponse<BoxBody> {
    let size = response.response().body().size();
    if !may_compress(response.status(), response.headers(), size) {
        return response;
    }
    if encoding.is_some() {
        weaken_etag(response.headers_mut());
    }
    match encoding {
        // The encoder sets `Content-Encoding` and `Vary`.
        Some(encoding) if response.status() != StatusCode::NOT_MODIFIED => {
            response.map_body(|head, body| BoxBody::new(Encoder::response(encoding, head, body)))
        }
        _ => {
            // A cache must know, also when it stores the form that is not compressed.
            let vary = HeaderValue::from_static("accept-encoding");
            response.headers_mut().append(header::VARY, vary);
            response
        }
    }
}

/// The encoding that the client prefers. `None` if the body must stay as it is.
pub(super) fn negotiate(request: &ServiceRequest) -> Option<ContentEncoding> {
    negotiate_one_of(&SUPPORTED, request.request())
}

/// Whether the client accepts a body that is compressed with gzip already.
pub(in crate::http) fn accepts_gzip(request: &HttpRequest) -> bool {
    negotiate_one_of(&[Encoding::gzip(), Encoding::identity()], request).is_some()
}

fn negotiate_one_of(supported: &[Encoding], request: &HttpRequest) -> Option<ContentEncoding> {
    if !request.headers().contains_key(header::ACCEPT_ENCODING) {
        return None;
    }
    match AcceptEncoding::parse(request).ok()?.negotiate(supported.iter())? {
        Encoding::Known(ContentEncoding::Identity) | Encoding::Unknown(_) => None,
        Encoding::Known(encoding) => Some(encoding),
    }
}

/// Whether a response is compressed for those who accept it.
///
/// Not what is somebody's own: its size would tell somebody who can choose a part of it, and
/// listens, what the rest is. Nor an error, which quotes input. Nor a stream: an event feed must
/// not wait in a buffer.
fn may_compress(status: StatusCode, headers: &HeaderMap, size: BodySize) -> bool {
    // "Not modified" stands for a response that may have been compressed.
    let is_not_modified = status == StatusCode::NOT_MODIFIED;
    let is_large = matches!(size, BodySize::Sized(bytes) if bytes >= MIN_BYTES);
    let is_compressible = status.is_success() && is_large && has_text(headers);
    if !is_not_modified && !is_compressible {
        return false;
    }
    let is_private = headers
        .get_all(header::CACHE_CONTROL)
        .any(|value| value.to_str().is_ok_and(|text| text.contains("no-store")));
    !is_private && !headers.contains_key(header::CONTENT_ENCODING)
}

/// Whether the type of the body is one that can be compressed well.
fn has_text(headers: &HeaderMap) -> bool {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = content_type.split(';').next().unwrap_or("").trim();
    essence.starts_with("text/")
        || matches!(essence, "application/json" | "application/openmetrics-text")
}

/// A strong tag promises the same bytes, and a compressed body has others. The API compares tags
/// weakly, in `If-Match` too.
fn weaken_etag(headers: &mut HeaderMap) {
    let strong = headers.get(header::ETAG).and_then(|value| value.to_str().ok());
    let weak = strong
        .filter(|tag| tag.starts_with('"'))
        .and_then(|tag| HeaderValue::from_str(&format!("W/{tag}")).ok());
    if let Some(weak) = weak {
        headers.insert(header::ETAG, weak);
    }
}
