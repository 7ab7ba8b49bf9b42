//! Handles HEAD as GET without the body (RFC 9110, section 9.3.2).

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::Method,
    web::Bytes,
};

/// Turns HEAD into GET, so that the GET route runs. Returns whether it was HEAD.
pub(super) fn take_head(request: &mut ServiceRequest) -> bool {
    let is_head = request.method() == Method::HEAD;
    if is_head {
        request.head_mut().method = Method::GET;
    }
    is_head
}

/// Omits the body of a response to HEAD.
pub(super) fn omit_body(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    response.map_body(|_, body| BoxBody::new(OmittedBody(body.size())))
}

/// A body that reports its size but sends nothing, since an event feed would never end.
struct OmittedBody(BodySize);

impl MessageBody for OmittedBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{
        App, HttpResponse,
        body::to_bytes,
        http::StatusCode,
        middleware::from_fn,
        test::{TestRequest, call_service, init_service},
        web,
    };
    use futures_util::stream;

    use super::*;
    use crate::http::middleware::response_middleware;

    async fn send_head(path: &str) -> ServiceResponse<BoxBody> {
        let endless = || async {
            HttpResponse::Ok().streaming(stream::pending::<Result<Bytes, Infallible>>())
        };
        let app = App::new()
            .wrap(from_fn(response_middleware))
            .route("/text", web::get().to(|| async { "12345" }))
            .route("/feed", web::get().to(endless))
            .service(web::resource("/write").post(HttpResponse::Ok));
        call_service(
            &init_service(app).await,
            TestRequest::with_uri(path).method(Method::HEAD).to_request(),
        )
        .await
        .map_into_boxed_body()
    }

    #[actix_web::test]
    async fn head_returns_get_headers_without_body() {
        let response = send_head("/text").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.response().body().size(), BodySize::Sized(5));
        assert!(to_bytes(response.into_body()).await.unwrap().is_empty());
    }

    #[actix_web::test]
    async fn head_of_streaming_route_ends_immediately() {
        let response = send_head("/feed").await;
        assert_eq!(response.response().body().size(), BodySize::Stream);
        assert!(to_bytes(response.into_body()).await.unwrap().is_empty());
    }

    #[actix_web::test]
    async fn head_requires_a_get_route() {
        assert_eq!(send_head("/write").await.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(send_head("/nowhere").await.status(), StatusCode::NOT_FOUND);
    }
}
