//! Replays: count (dry run), create, advance by a page, list. A replay goes to the destination that
//! was asked for, or else to those of the routes as they are when a page is made.

use std::{collections::BTreeMap, sync::Arc};

use actix_web::{Either, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::{
    contract::{Advanced, DeliveryId, DryDestination, DryRun, Page, Replay, ReplayStatus},
    event::{TypeGlob, id_floor},
    http::{
        admin::parameters::{PageQuery, id_at, next, page_rows},
        answer::{Answer, Created},
        error::ApiError,
        object::{Object, OptionalObject},
        state::AdminState,
    },
    ids,
    routing::Routes,
    settings::Settings,
    store::{
        delivery::{self, NextPage, ReplayDelivery},
        replay::{self, Candidate, Group, ReplayFilter, ReplayRow},
    },
};

const IDS_MAX: usize = 10_000;
const URL_BYTES_MAX: usize = 2048;
/// Events of one page, where the call does not say.
const ADVANCE_EVENTS: u32 = 200;

/// The state of deliveries that the status asks for; None if it asks for any.
fn state_of(status: ReplayStatus) -> Option<&'static str> {
    match status {
        ReplayStatus::Any => None,
        ReplayStatus::Dead | ReplayStatus::Delivered => Some(status.as_str()),
    }
}

/// What is asked for; kept as the replay's `filter`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "ReplayBody")]
pub struct Request {
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<Uuid>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<ReplayStatus>,
    /// A destination's name, or a URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// Events at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    #[serde(skip_serializing)]
    dry_run: bool,
}

impl Request {
    fn filter(&self, after: Uuid, before: Uuid) -> ReplayFilter {
        ReplayFilter {
            ids: self.ids.clone(),
            source: self.source.clone(),
            type_like: self
                .r#type
                .as_ref()
                .map(|pattern| TypeGlob::new(pattern).to_like()),
            status: self.status.and_then(state_of),
            after,
            before,
        }
    }

    /// The exclusive bounds of the ids. Events that arrive after this moment are not part of the
    /// replay.
    fn bounds(&self, now_unix_ms: i64) -> Result<(Uuid, Uuid), ApiError> {
        let since = self
            .since
            .as_ref()
            .map(|text| id_at("since", text, now_unix_ms))
            .transpose()?;
        let until = self
            .until
            .as_ref()
            .map(|text| id_at("until", text, now_unix_ms))
            .transpose()?;
        let mut after = since.map_or(Uuid::nil(), before_id);
        let mut before =
            until.unwrap_or_else(|| id_floor(u64::try_from(now_unix_ms).unwrap_or(0) + 1));
        if let Some((first, last)) = self
            .ids
            .as_ref()
            .and_then(|ids| ids.iter().min().zip(ids.iter().max()))
        {
            after = after.max(before_id(*first));
            // An id that is named is included, even if another machine's clock made it a moment
            // ahead of ours.
            before = until.map_or(after_id(*last), |until| until.min(after_id(*last)));
        }
        Ok((after, before))
    }

    fn check(&mut self, settings: &Settings) -> Result<(), ApiError> {
        if let Some(ids) = &mut self.ids {
            ids.sort_unstable();
            ids.dedup();
            if ids.is_empty() || ids.len() > IDS_MAX {
                return Err(ApiError::InvalidParameter(format!(
                    "ids: give between 1 and {IDS_MAX} ids"
                )));
            }
        }
        let filters = [&self.source, &self.r#type, &self.since, &self.until];
        if self.ids.is_none()
            && self.status.is_none()
            && self.limit.is_none()
            && filters.iter().all(|filter| filter.is_none())
        {
            let what = "say what to replay: ids, source, type, since, until, limit, or a status (\"any\" for everything)";
            return Err(ApiError::InvalidParameter(what.into()));
        }
        if self.limit == Some(0) {
            return Err(ApiError::InvalidParameter(
                "limit: 0 events are nothing to replay".into(),
            ));
        }
        if let Some(to) = self
            .to
            .as_mut()
            .filter(|to| !settings.destinations.contains_key(*to))
        {
            *to = target(to).map_err(|error| ApiError::InvalidParameter(format!("to: {error}")))?;
        }
        Ok(())
    }
}

/// A URL to replay to in its normal form: host in lower case, path encoded.
fn target(text: &str) -> Result<String, String> {
    if text.len() > URL_BYTES_MAX {
        return Err(format!(
            "a URL has at most {URL_BYTES_MAX} bytes, this one has {}",
            text.len()
        ));
    }
    let url = url::Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or_else(|| {
        format!("{text:?} is neither a configured destination nor an http(s) URL")
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL with a user or password would be shown in every list: make it a destination in the settings".into());
    }
    Ok(url.into())
}

fn before_id(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_sub(1))
}

fn after_id(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}

/// The destinations of an event: the one that was asked for, or those of its routes. With a status,
/// only destinations where a delivery ended in that status.
fn destinations(
    settings: &Settings,
    request: &Request,
    source: &str,
    event_type: Option<&str>,
    ended_at: &[String],
) -> Vec<Arc<str>> {
    if let Some(to) = &request.to {
        return vec![to.as_str().into()];
    }
    let routes = Routes::of(settings, source);
    let routed = routes.destinations(event_type).into_iter();
    let is_any = request.status.and_then(state_of).is_none();
    routed
        .filter(|name| is_any || ended_at.iter().any(|ended| **ended == ***name))
        .cloned()
        .collect()
}

/// How many deliveries a replay would make, by destination.
fn counted(settings: &Settings, request: &Request, groups: &[Group]) -> DryRun {
    let mut by_destination: BTreeMap<Arc<str>, i64> = BTreeMap::new();
    let (mut events, mut unrouted) = (0, 0);
    for group in groups {
        let found = destinations(
            settings,
            request,
            &group.source,
            group.event_type.as_deref(),
            &group.ended_at,
        );
        events += group.events;
        unrouted += if found.is_empty() { group.events } else { 0 };
        for destination in found {
            *by_destination.entry(destination).or_default() += group.events;
        }
    }
    let deliveries: i64 = by_destination.values().sum();
    let of_one = |(name, deliveries): (Arc<str>, i64)| DryDestination {
        destination: name.to_string(),
        deliveries,
    };
    let destinations = by_destination.into_iter().map(of_one).collect();
    DryRun {
        dry_run: true,
        events,
        unrouted,
        deliveries,
        destinations,
    }
}

pub async fn create(
    state: web::Data<AdminState>,
    web::Json(Object(mut request)): web::Json<Object<Request>>,
) -> Result<Either<Created<Replay>, Answer<DryRun>>, ApiError> {
    let settings = state.settings.load_full();
    request.check(&settings)?;
    check_ids(&state, &request).await?;
    let now = ids::unix_ms();
    let (after, mut before) = request.bounds(now)?;
    if let Some(limit) = request.limit {
        let last = replay::nth(
            &state.pool,
            &request.filter(after, before),
            i64::from(limit) - 1,
        )
        .await?;
        before = last.map_or(before, after_id);
    }
    if request.dry_run {
        let groups = replay::groups(&state.pool, &request.filter(after, before)).await?;
        return Ok(Either::Right(Answer(counted(&settings, &request, &groups))));
    }
    let row = replay::create(&state.pool, ids::new(), &json!(request), after, before).await?;
    Ok(Either::Left(Created(row.into())))
}

async fn check_ids(state: &AdminState, request: &Request) -> Result<(), ApiError> {
    let Some(ids) = &request.ids else {
        return Ok(());
    };
    let known = replay::known(&state.pool, ids).await?;
    let missing: Vec<String> = ids
        .iter()
        .filter(|id| !known.contains(id))
        .take(10)
        .map(Uuid::to_string)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(ApiError::NotFound(format!(
            "there is no event {}",
            missing.join(", ")
        )))
    }
}

impl From<ReplayRow> for Replay {
    fn from(row: ReplayRow) -> Self {
        Self {
            id: row.id,
            filter: row.filter,
            created_at: row.created_at.into(),
            deliveries: row.deliveries,
            done: row.ended_at.is_some(),
            ended_at: row.ended_at.map(Into::into),
        }
    }
}

#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Advance {
    /// Events of this page, at most.
    limit: Option<u32>,
}

pub async fn advance(
    state: web::Data<AdminState>,
    id: web::Path<Uuid>,
    OptionalObject(advance): OptionalObject<Advance>,
) -> Result<Answer<Advanced>, ApiError> {
    let limit = page_rows(Some(advance.limit.unwrap_or(ADVANCE_EVENTS)))?;
    let row = find(&state, *id).await?;
    if row.ended_at.is_some() {
        return Ok(Answer(Advanced {
            created: 0,
            deliveries: row.deliveries,
            done: true,
        }));
    }
    let request: Request =
        serde_json::from_value(row.filter.clone()).map_err(|error| ApiError::Conflict {
            kind: "replay-unreadable",
            detail: format!("replay {id} was made by another version: {error}"),
        })?;
    let page =
        replay::candidates(&state.pool, &request.filter(row.after, row.before), limit).await?;
    let last = i64::try_from(page.len()) != Ok(limit);
    let deliveries = page_deliveries(&state.settings.load(), &request, &page, ids::new);
    let step = NextPage {
        replay: row.id,
        from: row.after,
        to: page.last().map_or(row.after, |event| event.id.0),
        last,
    };
    if !delivery::advance(&state.pool, step, &deliveries).await? {
        return Err(ApiError::Conflict {
            kind: "replay-moved",
            detail: format!("replay {id} was advanced by somebody else at the same time"),
        });
    }
    state.hint.notify_one();
    let created = i64::try_from(deliveries.len()).unwrap_or(i64::MAX);
    Ok(Answer(Advanced {
        created,
        deliveries: row.deliveries + created,
        done: last,
    }))
}

fn page_deliveries(
    settings: &Settings,
    request: &Request,
    page: &[Candidate],
    mut new_id: impl FnMut() -> Uuid,
) -> Vec<ReplayDelivery> {
    let mut deliveries = Vec::with_capacity(page.len());
    for event in page {
        for destination in destinations(
            settings,
            request,
            &event.source,
            event.event_type.as_deref(),
            &event.ended_at,
        ) {
            deliveries.push(ReplayDelivery {
                id: DeliveryId(new_id()),
                event_id: event.id,
                key: event.key,
                source: event.source.clone(),
                destination: destination.to_string(),
                body_bytes: event.body_bytes,
            });
        }
    }
    deliveries
}

pub async fn list(
    state: web::Data<AdminState>,
    query: web::Query<PageQuery>,
) -> Result<Answer<Page<Replay>>, ApiError> {
    let limit = page_rows(query.limit)?;
    let rows = replay::list(&state.pool, query.cursor, limit).await?;
    let next = next(&rows, limit, |row| row.id.0);
    Ok(Answer(Page {
        items: rows.into_iter().map(Replay::from).collect(),
        next,
    }))
}

pub async fn show(
    state: web::Data<AdminState>,
    id: web::Path<Uuid>,
) -> Result<Answer<Replay>, ApiError> {
    Ok(Answer(find(&state, *id).await?.into()))
}

async fn find(state: &AdminState, id: Uuid) -> Result<ReplayRow, ApiError> {
    replay::find(&state.pool, id)
        .await?
        .ok_or_else(|| ApiError::NotFound(format!("there is no replay {id}")))
}

#[cfg(test)]
mod tests;
