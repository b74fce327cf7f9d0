//! Events column by column, for the statement that records several. What only some events have is
//! an array of its own, which is empty if none has it. So it costs the others nothing.

use uuid::Uuid;

use super::event::{NewEvent, Original};
use crate::event::{BodyDigest, Mark, body_key_of};

/// Events column by column, as the statement takes them.
pub struct EventColumns<'a> {
    pub keys: Vec<Uuid>,
    pub ids: Vec<Uuid>,
    pub digests: Vec<&'a [u8]>,
    pub windows: Vec<f64>,
    pub sources: Vec<&'a str>,
    pub event_keys: Vec<&'a str>,
    pub types: Vec<Option<&'a str>>,
    pub headers: Vec<&'a str>,
    pub bodies: Vec<&'a [u8]>,
    pub originals: Vec<Option<Uuid>>,
    pub marks: Vec<Option<&'static str>>,
    pub exact: Vec<Option<&'a [u8]>>,
}

impl<'a> EventColumns<'a> {
    pub fn of(events: &[&'a NewEvent]) -> Self {
        Self {
            keys: events.iter().map(|event| event.key.0).collect(),
            ids: events.iter().map(|event| event.id).collect(),
            digests: events
                .iter()
                .map(|event| &event.request.compared().0[..])
                .collect(),
            windows: events.iter().map(|event| event.window_seconds).collect(),
            sources: events.iter().map(|event| &*event.source).collect(),
            event_keys: events.iter().map(|event| event.event_key()).collect(),
            types: events
                .iter()
                .map(|event| event.request.event_type())
                .collect(),
            headers: events.iter().map(|event| event.headers.as_str()).collect(),
            bodies: events
                .iter()
                .map(|event| &event.request.body()[..])
                .collect(),
            originals: of_some(events, |event| {
                event.original.as_ref().map(|original| original.id)
            }),
            marks: of_some(events, |event| event.mark.map(Mark::as_str)),
            exact: of_some(events, |event| {
                exact_digest(event).map(|digest| &digest.0[..])
            }),
        }
    }
}

/// One value for each event, or an empty list if no event has one.
fn of_some<'a, T: Clone>(
    events: &[&'a NewEvent],
    read: impl Fn(&'a NewEvent) -> Option<T>,
) -> Vec<Option<T>> {
    let all: Vec<Option<T>> = events.iter().map(|event| read(event)).collect();
    if all.iter().all(Option::is_none) {
        Vec::new()
    } else {
        all
    }
}

/// The digest of the body, if repeats are compared by something else. Otherwise None.
pub fn exact_digest(event: &NewEvent) -> Option<&BodyDigest> {
    Some(event.request.digest()).filter(|digest| *digest != event.request.compared())
}

/// The second keys of those events that have one.
#[derive(Default)]
pub struct BodyKeyColumns<'a> {
    pub keys: Vec<Uuid>,
    pub ids: Vec<Uuid>,
    pub digests: Vec<&'a [u8]>,
    pub windows: Vec<f64>,
    pub held: Vec<bool>,
}

impl<'a> BodyKeyColumns<'a> {
    pub fn of(events: &[&'a NewEvent]) -> Self {
        let mut columns = Self::default();
        for (event, guard) in events
            .iter()
            .filter_map(|event| Some((event, event.guard?)))
        {
            columns.keys.push(guard.body_key.0);
            columns.ids.push(event.id);
            columns.digests.push(&event.request.compared().0);
            columns.windows.push(event.window_seconds);
            columns.held.push(guard.holds);
        }
        columns
    }
}

#[derive(Default)]
pub struct OriginalColumns<'a> {
    pub ids: Vec<Uuid>,
    pub keys: Vec<Uuid>,
    pub bodies: Vec<&'a [u8]>,
    pub digests: Vec<&'a [u8]>,
    pub items: Vec<i32>,
}

impl<'a> OriginalColumns<'a> {
    /// Each original once, though several events are parts of it.
    pub fn of(events: &[&'a NewEvent]) -> Self {
        let mut columns = Self::default();
        let mut all: Vec<(&Original, &str)> = events
            .iter()
            .filter_map(|event| Some((event.original.as_deref()?, &*event.source)))
            .collect();
        all.sort_unstable_by_key(|(original, _)| original.id);
        all.dedup_by_key(|(original, _)| original.id);
        for (original, source) in all {
            columns.ids.push(original.id);
            columns.keys.push(body_key_of(source, &original.digest).0);
            columns.bodies.push(&original.body);
            columns.digests.push(&original.digest.0);
            columns.items.push(original.items);
        }
        columns
    }
}
