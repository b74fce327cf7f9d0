//! The least that any receiver does: an actix-web handler that reads, verifies Stripe's signature
//! and answers. Run as a process of its own, set up as hookonce's public port is: one worker, the
//! same allocator, the same compiler flags.

use std::{io::Write as _, net::TcpListener};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::events::STRIPE_SECRET;

const BODY_MAX: usize = 1 << 20;

async fn receive(request: HttpRequest, body: web::Bytes) -> HttpResponse {
    if !verify(&request, &body) {
        return HttpResponse::Unauthorized()
            .content_type("application/problem+json")
            .body(r#"{"status":401,"title":"Unauthorized"}"#);
    }
    let answer = r#"{"status":"accepted","event":"019a0000-0000-7000-8000-000000000000"}"#;
    HttpResponse::Ok()
        .content_type("application/json")
        .body(answer)
}

fn verify(request: &HttpRequest, body: &[u8]) -> bool {
    let header = request
        .headers()
        .get("stripe-signature")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let part = |name: &str| {
        header
            .split(',')
            .filter_map(|part| part.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    let (Some(time), Some(signature)) = (part("t"), part("v1")) else {
        return false;
    };
    let Ok(signature) = hex::decode(signature) else {
        return false;
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(STRIPE_SECRET.as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.verify_slice(&signature).is_ok()
}

/// Serves until it is stopped, and prints the port first.
pub fn serve(port: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    actix_web::rt::System::new().block_on(async {
        let app = || {
            App::new()
                .app_data(web::PayloadConfig::new(BODY_MAX))
                .route("/hooks/{source}", web::post().to(receive))
        };
        let server = HttpServer::new(app).workers(1).listen(listener)?.run();
        writeln!(std::io::stdout(), "ready")?;
        server.await.map_err(anyhow::Error::from)
    })
}
