//! Sources, without their secrets; the state of the service and its database.

use actix_web::{HttpResponse, web};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use crate::{
    http::{admin::parameters::id_at, error::ApiError, state::AdminState},
    ids,
    settings::{Settings, without_password},
    store::{
        conflict::{self, ConflictCount},
        learnt::{LearntSecret, learnt_all, learnt_forget},
        retention,
        search::{self, SourceCount},
    },
};

pub async fn list(state: web::Data<AdminState>) -> Result<HttpResponse, ApiError> {
    let since = id_at("since", "24h", ids::unix_ms())?;
    let counts = search::source_counts(&state.pool, since).await?;
    let conflicts = conflict::counts(&state.pool).await?;
    let settings = state.settings.load_full();
    let learnt = if settings.sources.values().any(|source| source.learn_secret) { learnt_all(&state.pool).await? } else { Vec::new() };
    let sources: Vec<Value> = settings.sources.keys().map(|name| source_json(&settings, name, &counts, &conflicts, &learnt)).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": sources, "next": null })))
}

fn source_json(settings: &Settings, name: &str, counts: &[SourceCount], conflicts: &[ConflictCount], learnt: &[LearntSecret]) -> Value {
    let source = &settings.sources[name];
    let count = counts.iter().find(|count| count.source == name);
    let mut destinations: Vec<&str> =
        settings.routes.iter().filter(|route| route.source == name).map(|route| route.destination.as_str()).collect();
    destinations.sort_unstable();
    destinations.dedup();
    let secrets = source.secrets.len() + usize::from(source.secret.is_some());
    let learnt = learnt.iter().find(|learnt| source.learn_secret && learnt.source == name);
    json!({
        "name": name,
        "provider": source.provider,
        "url": hook_url(settings, name),
        "secrets": secrets,
        "secret": secret_state(secrets, source.learn_secret, learnt),
        "learnt_at": learnt.and_then(|learnt| learnt.learnt_at.format(&Rfc3339).ok()),
        "destinations": destinations,
        "events_24h": count.map_or(0, |count| count.events),
        "marked_24h": count.map_or(0, |count| count.marked),
        "conflicts": conflicts.iter().find(|count| count.source == name).map_or(0, |count| count.conflicts),
        "last_event_at": count.and_then(|count| count.last_at.format(&Rfc3339).ok()),
    })
}

/// Where the source's secret comes from. An open source takes the first that a handshake brings.
fn secret_state(secrets: usize, learns: bool, learnt: Option<&LearntSecret>) -> &'static str {
    match (secrets, learns, learnt) {
        (_, _, Some(_)) => "learnt",
        (0, true, None) => "open",
        _ => "set",
    }
}

/// The secret that a source has learnt: some providers want it pasted into their own page (Notion).
pub async fn secret(state: web::Data<AdminState>, name: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let learnt = learnt_all(&state.pool).await?.into_iter().find(|learnt| learnt.source == *name);
    let learnt = learnt.ok_or_else(|| ApiError::NotFound(format!("the source {:?} has learnt no secret", *name)))?;
    let answer = json!({ "name": *name, "secret": learnt.secret.expose_secret(), "learnt_at": learnt.learnt_at.format(&Rfc3339).ok() });
    Ok(HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(answer))
}

/// Forgets it: the source is open to the next handshake.
pub async fn forget(state: web::Data<AdminState>, name: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let forgotten = learnt_forget(&state.pool, &name).await?;
    if !forgotten {
        return Err(ApiError::NotFound(format!("the source {:?} has learnt no secret", *name)));
    }
    tracing::warn!(source = %name, "the learnt secret was forgotten: the next handshake brings another");
    state.intake.learning.changed.notify_one();
    Ok(HttpResponse::Ok().json(json!({ "name": *name, "forgotten": true })))
}

/// Where the provider posts to.
fn hook_url(settings: &Settings, name: &str) -> String {
    let base = match &settings.ingress.public_url {
        Some(url) => without_password(url).trim_end_matches('/').to_owned(),
        None => format!("http://{}", settings.ingress.bind),
    };
    format!("{base}/hooks/{name}")
}

pub async fn status(state: web::Data<AdminState>) -> Result<HttpResponse, ApiError> {
    let database = search::database_status(&state.pool).await?;
    let schema_version = search::schema_version(&state.pool).await;
    let settings = state.settings.load();
    Ok(HttpResponse::Ok().json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "sources": settings.sources.len(),
        "destinations": settings.destinations.len(),
        "paused": *state.paused.load_full(),
        "schema_version": schema_version,
        "database": database,
    })))
}

/// Removes what is past its retention now, and says what that was.
pub async fn prune(state: web::Data<AdminState>) -> Result<HttpResponse, ApiError> {
    let settings = state.settings.load_full();
    retention::prepare(&state.pool).await?;
    let pruned = retention::prune(&state.pool, &settings).await?;
    Ok(HttpResponse::Ok().json(pruned))
}
