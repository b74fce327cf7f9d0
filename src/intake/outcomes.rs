//! The outcomes of recorded requests: new, duplicate, conflict, or held. This reads the events that
//! are there and stores conflicts; the recorder writes what is new.

use std::{collections::HashMap, sync::Arc, time::Instant};

use hookonce_scheme::VerifiedRequest;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    event::{BodyDigest, Key, Mark, another_key_of},
    intake::{recent::Recent, sources::Source},
    settings::OnConflict,
    store::{
        Error, conflict,
        inbox::{self, Guard, NewEvent, SeenKey},
    },
    tail::RequestStatus,
};

/// The outcome of recording a request. The id is the event's; for all but `New` it is the first
/// event's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    New(Uuid, Option<Mark>),
    Duplicate(Uuid),
    Conflict(Uuid),
}

impl Recorded {
    /// The event and the word for what became of the request.
    pub fn told(self) -> (Uuid, RequestStatus) {
        match self {
            Self::New(event, _) => (event, RequestStatus::New),
            Self::Duplicate(event) => (event, RequestStatus::Duplicate),
            Self::Conflict(event) => (event, RequestStatus::Conflict),
        }
    }
}

/// An event and where it goes.
#[derive(Clone)]
pub struct Row {
    pub event: NewEvent,
    pub source: Arc<Source>,
    pub destinations: Vec<Arc<str>>,
}

impl Row {
    /// The request as it reads from its stored form, without the places that its source ignores.
    fn anew(&self) -> Option<VerifiedRequest> {
        let event = &self.event;
        self.source.verifier.told_of_stored(
            &event.headers,
            event.request.body().clone(),
            event.original.is_some(),
        )
    }

    fn compared(&self) -> BodyDigest {
        let anew = if self.source.verifier.ignores() {
            self.anew()
        } else {
            None
        };
        *anew.as_ref().unwrap_or(&self.event.request).compared()
    }

    /// The event that this becomes if another one has its key.
    fn as_another(&self, mark: Option<Mark>) -> Self {
        // An event with another body stays guarded: it may also be a known body under another id,
        // and later repeats have to find it. An event of another kind has the same body, so it
        // needs no guard.
        let guard = self.event.guard.filter(|_| mark.is_some());
        let event = NewEvent {
            key: another_key_of(&self.event.key, &self.compared()),
            mark,
            guard,
            key_before: None,
            ..self.event.clone()
        };
        Self {
            event,
            ..self.clone()
        }
    }
}

/// The outcome of one key.
pub struct Found {
    recent: Recent,
    mark: Option<Mark>,
    /// The digests of repeats that differ from the event only where the source ignores it.
    alike: Vec<BodyDigest>,
}

impl Found {
    pub fn first(event: &NewEvent, mark: Option<Mark>, from: Instant) -> Self {
        Self {
            mark,
            ..Self::by(Recent::new(
                event.id,
                *event.request.compared(),
                from,
                event.window_seconds,
            ))
        }
    }

    fn seen(seen: &SeenKey, from: Instant) -> Self {
        Self::by(Recent::new(
            seen.event_id,
            seen.digest,
            from,
            seen.seconds_left,
        ))
    }

    fn by(recent: Recent) -> Self {
        Self {
            recent,
            mark: None,
            alike: Vec::new(),
        }
    }

    fn is(&self, event: &NewEvent) -> bool {
        let digest = event.request.compared();
        self.recent.digest == *digest || self.alike.contains(digest)
    }

    /// What to remember of this request.
    pub fn recent(&self, event: &NewEvent) -> Recent {
        if self.is(event) {
            self.recent.alike(*event.request.compared())
        } else {
            self.recent
        }
    }
}

pub type AllFound = HashMap<Key, Found>;

/// Returns those of these rows whose key another event has, but which are to be events all the
/// same.
pub async fn other_bodies(
    connection: &mut PgConnection,
    rows: impl Iterator<Item = &Row>,
    found: &mut AllFound,
) -> Result<Vec<Row>, Error> {
    let mut others = Vec::new();
    for row in rows {
        let Some(first) = found.get_mut(&row.event.key) else {
            return Err(Error::Again);
        };
        if first.recent.event == row.event.id || first.is(&row.event) {
            continue;
        }
        match likeness(connection, row, first.recent.event).await? {
            Likeness::Same => first.alike.push(*row.event.request.compared()),
            Likeness::OtherKind => others.push(row.as_another(None)),
            Likeness::OtherBody
                if row.source.on_conflict == OnConflict::Relay
                    || is_doubtful(connection, row, first.recent.event).await? =>
            {
                others.push(row.as_another(Some(Mark::OtherBody)));
            }
            Likeness::OtherBody => {}
        }
    }
    Ok(others)
}

/// Whether an id that is not signed may have been taken in advance. A stranger who has seen a
/// signed body can send it again under an id that is still to come; the genuine event with that id
/// then has another body. In that case the first request under the id repeated a known body: it has
/// the mark, or it was held and is not an event.
async fn is_doubtful(
    connection: &mut PgConnection,
    row: &Row,
    first: Uuid,
) -> Result<bool, sqlx::Error> {
    if row.event.guard.is_none() {
        return Ok(false);
    }
    let stored = inbox::stored(connection, first).await?;
    Ok(stored
        .is_none_or(|stored| stored.mark == Some(Mark::SameBody) || stored.key != row.event.key))
}

/// How a request relates to the event that has its key and another digest.
enum Likeness {
    /// They differ only where the source ignores it.
    Same,
    /// It is an event of another type, and the type stands in a header.
    OtherKind,
    OtherBody,
}

async fn likeness(
    connection: &mut PgConnection,
    row: &Row,
    first: Uuid,
) -> Result<Likeness, sqlx::Error> {
    let (verifier, kind) = (&row.source.verifier, row.event.request.kind());
    if !verifier.ignores() && kind.is_none() {
        return Ok(Likeness::OtherBody);
    }
    let Some(stored) = inbox::stored(connection, first).await? else {
        return Ok(Likeness::OtherBody);
    };
    let Some(told) = verifier.told_of_stored(&stored.headers, stored.body, stored.is_item) else {
        return Ok(Likeness::OtherBody);
    };
    Ok(
        match (*told.compared() == row.compared(), told.kind() == kind) {
            (true, _) => Likeness::Same,
            (false, false) => Likeness::OtherKind,
            (false, true) => Likeness::OtherBody,
        },
    )
}

/// The rows whose keys are stored already. A key that this very event wrote before its answer was
/// lost counts as unknown, because only `resolve` can tell its outcome.
pub async fn known(connection: &mut PgConnection, rows: &[&Row]) -> Result<AllFound, sqlx::Error> {
    let keys: Vec<Key> = rows.iter().map(|row| row.event.key).collect();
    let from = Instant::now();
    let seen: HashMap<Key, SeenKey> = inbox::seen(connection, &keys)
        .await?
        .into_iter()
        .map(|row| (row.key, row))
        .collect();
    // Rows that may be held are left out, because `resolve` decides them.
    let others = rows
        .iter()
        .filter(|row| !row.event.guard.is_some_and(|guard| guard.holds));
    let others = others.filter_map(|row| Some((&row.event, seen.get(&row.event.key)?)));
    let others = others.filter(|(event, seen)| seen.event_id != event.id && seen.counts());
    Ok(others
        .map(|(event, seen)| (event.key, Found::seen(seen, from)))
        .collect())
}

/// The rows that earlier versions recorded under keys of another form. The stored event is read by
/// today's rules, because one of those keys may stand for several events.
pub async fn known_before(
    connection: &mut PgConnection,
    rows: &[&Row],
    found: &mut AllFound,
) -> Result<(), sqlx::Error> {
    let keys: Vec<Key> = rows.iter().filter_map(|row| row.event.key_before).collect();
    let from = Instant::now();
    let seen: HashMap<Key, SeenKey> = inbox::seen(connection, &keys)
        .await?
        .into_iter()
        .map(|row| (row.key, row))
        .collect();
    for row in rows {
        if found.contains_key(&row.event.key) {
            continue;
        }
        let Some(seen) = row
            .event
            .key_before
            .and_then(|key| seen.get(&key))
            .filter(|seen| seen.counts())
        else {
            continue;
        };
        let Some(stored) = inbox::stored(&mut *connection, seen.event_id).await? else {
            continue;
        };
        if stored.is_item != row.event.original.is_some() {
            continue;
        }
        let told = row
            .source
            .verifier
            .told_of_stored(&stored.headers, stored.body, stored.is_item);
        if let Some(told) = told.filter(|told| told.event_key() == row.event.request.event_key()) {
            let recent = Recent::new(seen.event_id, *told.compared(), from, seen.seconds_left);
            found.insert(row.event.key, Found::by(recent));
        }
    }
    Ok(())
}

/// Finds the first events of keys that were not new, and stores requests that are held because of
/// their body. Returns the rows whose key has expired.
pub async fn resolve<'r>(
    connection: &mut PgConnection,
    others: &[&'r Row],
    found: &mut AllFound,
) -> Result<Vec<&'r Row>, Error> {
    let guard_key = |event: &NewEvent| event.guard.map(|guard| guard.body_key);
    let keys: Vec<Key> = others
        .iter()
        .flat_map(|row| [Some(row.event.key), guard_key(&row.event)])
        .flatten()
        .collect();
    let from = Instant::now();
    let seen: HashMap<Key, SeenKey> = inbox::seen(connection, &keys)
        .await?
        .into_iter()
        .map(|row| (row.key, row))
        .collect();
    let mut expired = Vec::new();
    for row in others {
        let event = &row.event;
        // The key was forgotten between the two statements. Tried again, the row is the first of
        // its key.
        let Some(by_key) = seen.get(&event.key) else {
            return Err(Error::Again);
        };
        let mut outcome = Found::seen(by_key, from);
        let is_own = by_key.event_id == event.id;
        let first = guard_key(event)
            .and_then(|key| seen.get(&key))
            .map(|seen| seen.event_id)
            .filter(|first| *first != event.id);
        match (first, event.guard) {
            (Some(first), Some(Guard { holds: true, .. }))
                if is_own || was_held(connection, by_key, event, first).await? =>
            {
                tracing::warn!(source = %event.source, event_key = event.event_key(), %first,
                    "a signed body came again under a new id that is not signed: held as a conflict");
                conflict::keep(connection, event, event.request.compared(), first, true).await?;
                outcome.recent.event = first;
            }
            // This very request wrote it, but its answer was lost.
            (Some(_), _) if is_own => outcome.mark = Some(Mark::SameBody),
            (None, _) if is_own => outcome.mark = event.mark,
            _ if !by_key.counts() => {
                expired.push(*row);
                continue;
            }
            _ => {}
        }
        found.insert(event.key, outcome);
    }
    Ok(expired)
}

/// Whether the key belongs to a request that was to be held, but whose recorder was killed before
/// it was stored as held. Such a key belongs to no event.
async fn was_held(
    connection: &mut PgConnection,
    by_key: &SeenKey,
    event: &NewEvent,
    first: Uuid,
) -> Result<bool, sqlx::Error> {
    let may_be =
        by_key.counts() && by_key.digest == *event.request.compared() && by_key.event_id != first;
    Ok(may_be && inbox::stored(connection, by_key.event_id).await?.is_none())
}

pub async fn answer(
    connection: &mut PgConnection,
    row: &Row,
    found: &AllFound,
    of_others: &AllFound,
) -> Result<Recorded, Error> {
    let event = &row.event;
    let Some(first) = found.get(&event.key) else {
        return Err(Error::Again);
    };
    if first.recent.event == event.id {
        return Ok(Recorded::New(event.id, first.mark));
    }
    if first.is(event) {
        return Ok(Recorded::Duplicate(first.recent.event));
    }
    if let Some(own) = of_others.get(&row.as_another(None).event.key) {
        return Ok(match own.recent.event {
            id if id == event.id => Recorded::New(id, own.mark),
            id => Recorded::Duplicate(id),
        });
    }
    match row.source.on_conflict {
        OnConflict::Relay => return Err(Error::Again),
        OnConflict::Keep => {
            conflict::keep(
                connection,
                event,
                &row.compared(),
                first.recent.event,
                false,
            )
            .await?
        }
        OnConflict::Drop => {}
    }
    tracing::debug!(source = %event.source, event_key = event.event_key(), first = %first.recent.event, "a key came again with another body");
    Ok(Recorded::Conflict(first.recent.event))
}
