//! The baseline for reads: a plain actix-web handler that checks the same token and returns the
//! same bytes.

use std::io::Write;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, http::header, web};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;

use crate::shop_process::JWT_SECRET;

#[derive(Deserialize)]
#[expect(dead_code, reason = "the baseline parses the same claims as souk")]
struct Claims {
    sub: String,
    role: String,
    sid: String,
    exp: i64,
}

struct BaselineServer {
    key: DecodingKey,
    validation: Validation,
    body: web::Bytes,
}

pub fn run(body: &str) -> anyhow::Result<()> {
    let body = web::Bytes::from(body.to_owned());
    actix_web::rt::System::new().block_on(async move {
        let server = HttpServer::new(move || {
            let mut validation = Validation::new(Algorithm::HS256);
            validation.set_audience(&["souk"]);
            validation.set_issuer(&["souk"]);
            let server = BaselineServer {
                key: DecodingKey::from_secret(JWT_SECRET.as_bytes()),
                validation,
                body: body.clone(),
            };
            App::new().app_data(web::Data::new(server)).route("/{any:.*}", web::get().to(respond))
        });
        let server = server.workers(2).bind("127.0.0.1:0")?;
        let address = server.addrs().first().copied();
        let address = address.ok_or_else(|| anyhow::anyhow!("no address"))?;
        writeln!(std::io::stdout(), "http://{address}")?;
        Ok(server.run().await?)
    })
}

async fn respond(request: HttpRequest, server: web::Data<BaselineServer>) -> HttpResponse {
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    match decode::<Claims>(token, &server.key, &server.validation) {
        Ok(_) => HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, "application/json"))
            .body(server.body.clone()),
        Err(_) => HttpResponse::Unauthorized().finish(),
    }
}
