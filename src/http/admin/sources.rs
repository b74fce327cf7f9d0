//! Sources without their secrets, and the state of the node and its database.

use actix_web::web;
use secrecy::ExposeSecret as _;

use crate::{
    contract::{
        Database, Forgotten, LearntSecret, Page, Pruned, SecretState, Source, SourceCounts, Status,
    },
    http::{
        admin::parameters::id_at,
        answer::{Answer, Exact},
        error::ApiError,
        state::AdminState,
    },
    ids,
    settings::{Settings, without_password},
    store::{
        conflict::{self, ConflictCount},
        counts::{self, Lately, Subject},
        learnt::{LearntSecret as LearntRow, learnt_all, learnt_forget},
        retention,
        search::{self, SourceCount},
    },
};

pub async fn list(state: web::Data<AdminState>) -> Result<Answer<Page<Source>>, ApiError> {
    let since = id_at("since", "24h", ids::unix_ms())?;
    let counts = search::source_counts(&state.pool, since).await?;
    let conflicts = conflict::counts(&state.pool).await?;
    let lately = counts::lately(&state.pool, Subject::Source).await?;
    let settings = state.settings.load_full();
    let learnt = if settings.sources.values().any(|source| source.learn_secret) {
        learnt_all(&state.pool).await?
    } else {
        Vec::new()
    };
    let items = settings
        .sources
        .keys()
        .map(|name| source_of(&settings, name, &counts, &conflicts, &learnt))
        .map(|source| with_rates(source, &lately))
        .collect();
    Ok(Answer(Page { items, next: None }))
}

fn source_of(
    settings: &Settings,
    name: &str,
    counts: &[SourceCount],
    conflicts: &[ConflictCount],
    learnt: &[LearntRow],
) -> Source {
    let source = &settings.sources[name];
    let count = counts.iter().find(|count| count.source == name);
    let mut destinations: Vec<String> = settings
        .routes
        .iter()
        .filter(|route| route.source == name)
        .map(|route| route.destination.clone())
        .collect();
    destinations.sort_unstable();
    destinations.dedup();
    let secrets = source.secrets.len() + usize::from(source.secret.is_some());
    let learnt = learnt
        .iter()
        .find(|learnt| source.learn_secret && learnt.source == name);
    Source {
        name: name.to_owned(),
        provider: source.provider.clone(),
        url: hook_url(settings, name),
        secrets,
        secret: secret_state(secrets, source.learn_secret, learnt),
        learnt_at: learnt.map(|learnt| learnt.learnt_at.into()),
        destinations,
        events_24h: count.map_or(0, |count| count.events),
        marked_24h: count.map_or(0, |count| count.marked),
        conflicts: conflicts
            .iter()
            .find(|count| count.source == name)
            .map_or(0, |count| count.conflicts),
        last_event_at: count.map(|count| count.last_at.into()),
        last_hour: SourceCounts::default(),
        last_day: SourceCounts::default(),
        usual_hour: 0.0,
    }
}

/// The source with what came of it lately.
fn with_rates(mut source: Source, lately: &[Lately]) -> Source {
    for count in lately.iter().filter(|count| count.name == source.name) {
        if let Some(last_hour) = source.last_hour.of(&count.word) {
            *last_hour = count.last_hour;
        }
        if let Some(last_day) = source.last_day.of(&count.word) {
            *last_day = count.last_day;
        }
        if count.word == "accepted" {
            source.usual_hour = count.usual_hour;
        }
    }
    source
}

/// Where the source's secret comes from. An open source takes the first that a handshake brings.
fn secret_state(secrets: usize, learns: bool, learnt: Option<&LearntRow>) -> SecretState {
    match (secrets, learns, learnt) {
        (_, _, Some(_)) => SecretState::Learnt,
        (0, true, None) => SecretState::Open,
        _ => SecretState::Set,
    }
}

/// Shows the secret that a source has learnt. Some providers want it pasted into their own page
/// (Notion).
pub async fn secret(
    state: web::Data<AdminState>,
    name: web::Path<String>,
) -> Result<Answer<LearntSecret>, ApiError> {
    let learnt = learnt_all(&state.pool)
        .await?
        .into_iter()
        .find(|learnt| learnt.source == *name);
    let learnt = learnt.ok_or_else(|| {
        ApiError::NotFound(format!("the source {:?} has learnt no secret", *name))
    })?;
    let (secret, learnt_at) = (
        learnt.secret.expose_secret().to_owned(),
        Some(learnt.learnt_at.into()),
    );
    Ok(Answer(LearntSecret {
        name: name.into_inner(),
        secret,
        learnt_at,
    }))
}

/// Forgets the secret that a source has learnt, which opens it to the next handshake.
pub async fn forget(
    state: web::Data<AdminState>,
    name: web::Path<String>,
) -> Result<Answer<Forgotten>, ApiError> {
    let forgotten = learnt_forget(&state.pool, &name).await?;
    if !forgotten {
        return Err(ApiError::NotFound(format!(
            "the source {:?} has learnt no secret",
            *name
        )));
    }
    tracing::warn!(source = %name, "the learnt secret was forgotten: the next handshake brings another");
    state.intake.learning.changed.notify_one();
    Ok(Answer(Forgotten {
        name: name.into_inner(),
        forgotten: true,
    }))
}

/// The URL that the provider posts to.
fn hook_url(settings: &Settings, name: &str) -> String {
    let base = match &settings.ingress.public_url {
        Some(url) => without_password(url).trim_end_matches('/').to_owned(),
        None => format!("http://{}", settings.ingress.bind),
    };
    format!("{base}/hooks/{name}")
}

impl From<search::DatabaseStatus> for Database {
    fn from(row: search::DatabaseStatus) -> Self {
        Self {
            server_version: row.server_version,
            database: row.database,
            size_bytes: row.size_bytes,
            events_estimate: row.events_estimate,
            keys_estimate: row.keys_estimate,
            open_deliveries: row.open_deliveries,
            partitions: row.partitions,
            oldest_event_at: row.oldest_event_at.map(Into::into),
            oldest_open_delivery_at: row.oldest_open_delivery_at.map(Into::into),
        }
    }
}

pub async fn status(state: web::Data<AdminState>) -> Result<Answer<Status>, ApiError> {
    let database = search::database_status(&state.pool).await?.into();
    let schema_version = search::schema_version(&state.pool).await;
    let settings = state.settings.load();
    Ok(Answer(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sources: settings.sources.len(),
        destinations: settings.destinations.len(),
        paused: state.paused.load_full().iter().cloned().collect(),
        schema_version,
        database,
    }))
}

/// Removes what is past its retention now, and reports what that was.
pub async fn prune(state: web::Data<AdminState>) -> Result<Exact<Pruned>, ApiError> {
    let settings = state.settings.load_full();
    retention::prepare(&state.pool).await?;
    Ok(Exact(retention::prune(&state.pool, &settings).await?))
}
