//! Destinations: list with counts, pause, resume.

use std::collections::BTreeMap;

use actix_web::web;

use crate::{
    contract::{BreakerState, Destination, DestinationState, Page, Paused},
    delivery::relays::Breaking,
    http::{admin::parameters::id_at, answer::Answer, error::ApiError, state::AdminState},
    ids,
    settings::Settings,
    store::{
        counts::{self, Lately, Subject},
        destination::{self, Standing},
        search::{self, DestinationCounts},
    },
};

/// How far back ended deliveries are counted.
const COUNTED: &str = "24h";

pub async fn list(state: web::Data<AdminState>) -> Result<Answer<Page<Destination>>, ApiError> {
    let since = id_at("since", COUNTED, ids::unix_ms())?;
    let counts = search::destination_counts(&state.pool, since).await?;
    let standings = destination::standings(&state.pool).await?;
    let lately = counts::lately(&state.pool, Subject::Destination).await?;
    let breakers = state.relays.breakers();
    let items = joined(&state.settings.load(), counts)
        .into_iter()
        .map(|item| with_standing(item, &standings))
        .map(|item| with_breaker(item, &breakers, state.clock.utc()))
        .map(|item| with_rates(item, &lately))
        .collect();
    Ok(Answer(Page { items, next: None }))
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
                ..Destination::default()
            }
        })
        .collect()
}

fn with_standing(mut item: Destination, standings: &[Standing]) -> Destination {
    if let Some(standing) = standings.iter().find(|one| one.destination == item.name) {
        item.oldest_open_at = standing.oldest_open_at.map(Into::into);
        item.failing_since = standing.failing_since.map(Into::into);
        item.next_retry_at = standing.next_retry_at.map(Into::into);
        item.last_error = standing.error.clone();
        item.last_status = standing.status;
    }
    item
}

/// The state, of which a pause counts most and then the breaker of this node.
fn with_breaker(
    mut item: Destination,
    breakers: &[Breaking],
    now: time::OffsetDateTime,
) -> Destination {
    let breaker = breakers.iter().find(|one| *one.destination == *item.name);
    let open = breaker.filter(|breaker| breaker.state != BreakerState::Closed);
    item.open_until = open.map(|breaker| (now + breaker.open_left).into());
    item.state = match (item.paused, open, item.failing_since) {
        (true, ..) => DestinationState::Paused,
        (_, Some(_), _) => DestinationState::Open,
        (.., Some(_)) => DestinationState::Failing,
        _ => DestinationState::Ok,
    };
    item
}

fn with_rates(mut item: Destination, lately: &[Lately]) -> Destination {
    for count in lately.iter().filter(|count| count.name == item.name) {
        if let Some(last_hour) = item.last_hour.of(&count.word) {
            *last_hour = count.last_hour;
        }
        if let Some(last_day) = item.last_day.of(&count.word) {
            *last_day = count.last_day;
        }
        if count.word == "delivered" {
            item.usual_hour = count.usual_hour;
        }
    }
    item
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
