//! `dev`: everything on one machine. Managed PostgreSQL, five sources with secrets of their own, a
//! handler that prints or your own, a live tail.

use std::{collections::BTreeMap, fmt::Write as _, net::TcpListener};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, web};
use anyhow::Context as _;
use hookonce_scheme::Catalog;
use secrecy::ExposeSecret as _;
use tokio::sync::broadcast::error::RecvError;

use crate::{
    cli::{Globals, serve},
    node::data_dir::DataDir,
    settings::{SecretRef, load::Inputs},
    tail::{Tail, TailLine},
    telemetry,
};

/// How many lines the terminal may be behind.
const TAIL_LINES_MAX: usize = 1024;

const SOURCES: [(&str, &str); 5] = [
    (
        "stripe",
        "Developers > Webhooks > Add endpoint; Stripe makes the secret itself: HOOKONCE__SOURCES__STRIPE__SECRET=whsec_… hookonce dev",
    ),
    (
        "github",
        "repository Settings > Webhooks > Add webhook, content type application/json",
    ),
    (
        "standard-webhooks",
        "any sender that follows the Standard Webhooks specification",
    ),
    (
        "slack",
        "your app > Event Subscriptions; Slack makes the signing secret itself: HOOKONCE__SOURCES__SLACK__SECRET=… hookonce dev",
    ),
    (
        "shopify",
        "your app's webhooks; the secret is the app's client secret: HOOKONCE__SOURCES__SHOPIFY__SECRET=… hookonce dev",
    ),
];

pub async fn run(globals: &Globals, forward_to: Option<&str>, port: u16) -> anyhow::Result<()> {
    telemetry::init("warn,hookonce=warn", telemetry::Format::Text, None)?;
    let data_dir = DataDir::new(globals.data_dir.clone());
    let mut secrets = secrets(&data_dir)?;
    let (printer, handler) = match forward_to {
        Some(_) => (None, None),
        None => printing_handler().map(|(url, server)| (Some(url), Some(server)))?,
    };
    let destination = forward_to.or(printer.as_deref()).unwrap_or_default();
    let overlay = overlay(&secrets, destination, port);
    let inputs = Inputs {
        file: globals.config.clone(),
        environment: std::env::vars().collect(),
        overlay: Some(overlay),
    };
    let loaded = serve::read(&inputs)?;
    for (name, source) in &loaded.settings.sources {
        // A secret in the environment or the user's file overrides ours, so it is the one to show.
        if let (Some(shown), Some(Ok(secret))) = (
            secrets.get_mut(name),
            source.secret.as_ref().map(SecretRef::read),
        ) {
            secret.expose_secret().clone_into(shown);
        }
    }
    let tail = Tail::new(TAIL_LINES_MAX);
    let lines = tail.read();
    let node = serve::Node::start(loaded, data_dir, tail, true).await?;
    anstream::println!("{}", screen(&node, &secrets, forward_to));
    let printing = tokio::spawn(print(lines));
    let shutdown = node.shutdown.clone();
    let stopped = node.run_until_stopped(Some(inputs)).await;
    if shutdown.hard().is_cancelled() {
        std::process::exit(1);
    }
    printing.abort();
    if let Some(handler) = handler {
        handler.stop(false).await;
    }
    stopped
}

/// The secrets of `dev`'s sources: those of the last start, and new ones for sources without.
fn secrets(data_dir: &DataDir) -> anyhow::Result<BTreeMap<String, String>> {
    let mut secrets = data_dir.dev_secrets()?;
    let catalog = Catalog::new(&BTreeMap::new())
        .map_err(|_| anyhow::anyhow!("a built-in provider is broken"))?;
    let before = secrets.len();
    for name in SOURCES.iter().map(|(name, _)| *name).chain(["forward"]) {
        let scheme = catalog
            .get(if name == "forward" {
                "standard-webhooks"
            } else {
                name
            })
            .context("a built-in provider is missing")?;
        if !secrets.contains_key(name) {
            secrets.insert(
                name.to_owned(),
                hookonce_scheme::generate_secret(scheme, &mut rand::rng())?
                    .expose_secret()
                    .to_owned(),
            );
        }
    }
    if secrets.len() > before {
        data_dir.write_dev_secrets(&secrets)?;
    }
    Ok(secrets)
}

fn overlay(secrets: &BTreeMap<String, String>, destination: &str, port: u16) -> String {
    let mut overlay = format!("[ingress]\nbind = \"127.0.0.1:{port}\"\n");
    let _ = write!(
        overlay,
        "[destinations.dev]\nurl = {destination:?}\nsigning_secret = {:?}\n",
        secrets["forward"]
    );
    for (name, _) in SOURCES {
        let _ = write!(
            overlay,
            "[sources.{name}]\nprovider = {name:?}\nsecret = {:?}\n",
            secrets[name]
        );
        let _ = write!(
            overlay,
            "[[routes]]\nsource = {name:?}\ndestination = \"dev\"\n"
        );
    }
    overlay
}

fn screen(
    node: &serve::Node,
    secrets: &BTreeMap<String, String>,
    forward_to: Option<&str>,
) -> String {
    let public = node.application.public;
    let mut screen = format!(
        "hookonce is ready on http://{public} (admin API on http://{})\n\n",
        node.application.admin
    );
    for (name, place) in SOURCES {
        let _ = write!(
            screen,
            "  {name}\n    URL     http://{public}/hooks/{name}\n    secret  {}\n    paste   {place}\n",
            secrets[name]
        );
    }
    let _ = match forward_to {
        Some(url) => write!(
            screen,
            "\nEvents go to {url}, signed with {}\n",
            secrets["forward"]
        ),
        None => write!(
            screen,
            "\nEvents are printed here; --forward-to URL sends them to your handler\n"
        ),
    };
    let to = if public.port() == 8080 {
        String::new()
    } else {
        format!(" --to http://{public}/hooks/stripe")
    };
    let _ = write!(
        screen,
        "\nTry, in another terminal:\n  hookonce send stripe --type invoice.paid --duplicates 1{to}\n  hookonce events list\n  hookonce replay --source stripe --yes\n\n\
         Ctrl-C stops; what was accepted is kept.\n"
    );
    screen
}

/// A handler on a port of its own that prints what it gets.
fn printing_handler() -> anyhow::Result<(String, ServerHandle)> {
    let listener =
        TcpListener::bind("127.0.0.1:0").context("no free port for the printing handler")?;
    let url = format!("http://{}/", listener.local_addr()?);
    let app = || {
        App::new()
            .app_data(web::PayloadConfig::new(usize::MAX))
            .default_service(web::to(print_event))
    };
    let server = HttpServer::new(app)
        .workers(1)
        .disable_signals()
        .listen(listener)?
        .run();
    let handle = server.handle();
    tokio::spawn(server);
    Ok((url, handle))
}

async fn print_event(request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("-")
    };
    let text = String::from_utf8_lossy(&body);
    // Control characters of a body must not reach the terminal.
    let shown: String = text
        .chars()
        .take(400)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let more = if text.chars().nth(400).is_some() {
        " …"
    } else {
        ""
    };
    anstream::println!(
        "         event {} {} {}: {shown}{more}",
        header("webhook-id"),
        header("hookonce-source"),
        header("hookonce-event-type")
    );
    HttpResponse::Ok().finish()
}

async fn print(mut lines: tokio::sync::broadcast::Receiver<std::sync::Arc<TailLine>>) {
    loop {
        match lines.recv().await {
            Ok(line) => anstream::println!("{}", show(&line)),
            Err(RecvError::Lagged(lines)) => {
                anstream::println!("         ({lines} lines were too many to show)")
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn clock(at: time::OffsetDateTime) -> String {
    at.format(time::macros::format_description!(
        "[hour]:[minute]:[second]"
    ))
    .unwrap_or_default()
}

/// One line of the tail, for a terminal.
pub fn show(line: &TailLine) -> String {
    let plain = |text: &str| {
        text.chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect::<String>()
    };
    match line {
        TailLine::Request {
            at,
            source,
            event_type,
            event_key,
            status,
            reason,
            ack_ms,
            ..
        } => {
            let reason = reason
                .as_deref()
                .map(|reason| format!(" ({reason})"))
                .unwrap_or_default();
            format!(
                "{} {:<10} {source:<18} {:<28} {} {ack_ms:.1} ms{reason}",
                clock(*at),
                status.as_str(),
                plain(event_type.as_deref().unwrap_or("-")),
                plain(event_key.as_deref().unwrap_or("-")),
            )
        }
        TailLine::Attempt {
            at,
            event,
            destination,
            number,
            status,
            outcome,
            error,
            latency_ms,
            ..
        } => {
            let status = status.map_or_else(
                || error.clone().unwrap_or_default(),
                |status| status.to_string(),
            );
            format!(
                "{} {outcome:<10} -> {destination:<15} attempt {number} {status} {latency_ms} ms {event}",
                clock(*at)
            )
        }
    }
}
