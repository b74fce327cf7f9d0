//! Destinations: list with counts, pause, resume.

use std::collections::BTreeMap;

use actix_web::web;

use crate::{
    contract::{Destination, Page, Paused},
    http::{admin::parameters::id_at, answer::Answer, error::ApiError, state::AdminState},
    ids,
    settings::Settings,
    store::{
        destination,
        search::{self, DestinationCounts},
    },
};

/// How far back ended deliveries are counted.
const COUNTED: &str = "24h";

pub async fn list(state: web::Data<AdminState>) -> Result<Answer<Page<Destination>>, ApiError> {
    let since = id_at("since", COUNTED, ids::unix_ms())?;
    let counts = search::destination_counts(&state.pool, since).await?;
    Ok(Answer(Page {
        items: joined(&state.settings.load(), counts),
        next: None,
    }))
}

/// All destinations: those of the settings, with or without deliveries, and those that only
/// deliveries name (a replay's URL, or one that was configured once).
fn joined(settings: &Settings, counts: Vec<DestinationCounts>) -> Vec<Destination> {
    let mut by_name: BTreeMap<String, DestinationCounts> = counts
        .into_iter()
        .map(|count| (count.destination.clone(), count))
        .collect();
    for name in settings.destinations.keys() {
        by_name
            .entry(name.clone())
            .or_insert_with(|| DestinationCounts {
                destination: name.clone(),
                ..DestinationCounts::default()
            });
    }
    by_name
        .into_values()
        .map(|count| {
            let configured = settings.destinations.get(&count.destination);
            // A destination that a replay made has its URL as its name.
            let own = Some(&count.destination).filter(|name| name.contains("://"));
            Destination {
                url: configured
                    .map_or(own, |destination| Some(&destination.url))
                    .cloned(),
                configured: configured.is_some(),
                paused: count.paused,
                pending: count.pending,
                leased: count.leased,
                delivered_24h: count.delivered,
                dead_24h: count.dead,
                name: count.destination,
            }
        })
        .collect()
}

pub async fn pause(
    state: web::Data<AdminState>,
    name: web::Path<String>,
) -> Result<Answer<Paused>, ApiError> {
    check_known(&state, &name).await?;
    let changed = destination::pause(&state.pool, &name).await?;
    state.set_paused(&name, true);
    Ok(Answer(Paused {
        name: name.into_inner(),
        paused: true,
        changed,
    }))
}

pub async fn resume(
    state: web::Data<AdminState>,
    name: web::Path<String>,
) -> Result<Answer<Paused>, ApiError> {
    check_known(&state, &name).await?;
    let changed = destination::resume(&state.pool, &name).await?;
    state.set_paused(&name, false);
    state.hint.notify_one();
    Ok(Answer(Paused {
        name: name.into_inner(),
        paused: false,
        changed,
    }))
}

async fn check_known(state: &AdminState, name: &str) -> Result<(), ApiError> {
    if state.settings.load().destinations.contains_key(name) {
        return Ok(());
    }
    let since = id_at("since", COUNTED, ids::unix_ms())?;
    let is_known = search::destination_counts(&state.pool, since)
        .await?
        .iter()
        .any(|count| count.destination == name);
    if is_known {
        Ok(())
    } else {
        Err(ApiError::NotFound(format!(
            "there is no destination {name:?}"
        )))
    }
}
