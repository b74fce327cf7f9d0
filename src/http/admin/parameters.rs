//! Parameters that several resources share: times, page sizes, cursors.

use schemars::JsonSchema;
use serde::Deserialize;
use time::{
    Date, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description,
};
use uuid::Uuid;

use crate::{event::id_floor, http::error::ApiError};

const PAGE_ROWS: u32 = 50;
const PAGE_ROWS_MAX: u32 = 1000;

/// The page of a list that has no other filter.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    pub cursor: Option<Uuid>,
    pub limit: Option<u32>,
}

/// How many rows a page has: the number that was asked for, or the default.
pub fn page_rows(limit: Option<u32>) -> Result<i64, ApiError> {
    match limit.unwrap_or(PAGE_ROWS) {
        rows @ 1..=PAGE_ROWS_MAX => Ok(i64::from(rows)),
        rows => Err(ApiError::InvalidParameter(format!(
            "limit: {rows} is not between 1 and {PAGE_ROWS_MAX}"
        ))),
    }
}

/// The cursor of the next page: the last id, if this page is full.
pub fn next<T>(rows: &[T], limit: i64, id: impl Fn(&T) -> Uuid) -> Option<Uuid> {
    rows.last()
        .filter(|_| i64::try_from(rows.len()) == Ok(limit))
        .map(id)
}

/// The lowest id of a point in time, which is given as RFC 3339, a date, or how long ago ("2h",
/// "30d").
pub fn id_at(name: &str, text: &str, now_unix_ms: i64) -> Result<Uuid, ApiError> {
    let ms = unix_ms_of(text, now_unix_ms).ok_or_else(|| {
        ApiError::InvalidParameter(format!(
            "{name}: {text:?} is not a time: write RFC 3339 (\"2026-01-31T12:00:00Z\"), a date (\"2026-01-31\"), or how long ago (\"2h\", \"30d\")"
        ))
    })?;
    Ok(id_floor(u64::try_from(ms).unwrap_or(0)))
}

/// The window of a list: ids from the first one on and below the second.
pub struct Window {
    pub from: Option<Uuid>,
    pub below: Option<Uuid>,
}

impl Window {
    /// Reads `since` and `until` by `id_at`. The previous page's cursor narrows the window.
    pub fn new(
        since: Option<&str>,
        until: Option<&str>,
        cursor: Option<Uuid>,
        now_unix_ms: i64,
    ) -> Result<Self, ApiError> {
        let from = since
            .map(|text| id_at("since", text, now_unix_ms))
            .transpose()?;
        let until = until
            .map(|text| id_at("until", text, now_unix_ms))
            .transpose()?;
        Ok(Self {
            from,
            below: cursor.into_iter().chain(until).min(),
        })
    }
}

fn unix_ms_of(text: &str, now_unix_ms: i64) -> Option<i64> {
    let text = text.trim();
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).ok();
    }
    if let Ok(date) = Date::parse(text, format_description!("[year]-[month]-[day]")) {
        return Some(date.midnight().assume_utc().unix_timestamp() * 1000);
    }
    let ago = humantime::parse_duration(text.strip_suffix("ago").unwrap_or(text).trim()).ok()?;
    Some(now_unix_ms.saturating_sub(i64::try_from(ago.as_millis()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = 1_700_000_000_000;
        for (text, expected) in [
            ("2023-11-14T22:13:20Z", Some(now)),
            ("2023-11-14T23:13:20+01:00", Some(now)),
            ("2023-11-14T22:13:20.5Z", Some(now + 500)),
            ("2023-11-14", Some(1_699_920_000_000)),
            ("2h", Some(now - 7_200_000)),
            ("90s ago", Some(now - 90_000)),
            ("30d", Some(now - 30 * 86_400_000)),
            ("yesterday", None),
            ("", None),
            ("7", None),
        ] {
            assert_eq!(unix_ms_of(text, now), expected, "{text}");
        }
    }

    #[test]
    fn a_time_before_1970_is_the_lowest_id() {
        assert_eq!(id_at("since", "1960-01-01", 0).unwrap(), Uuid::nil());
    }

    #[test]
    fn a_window_ends_at_the_cursor_or_at_its_end_whichever_is_lower() {
        let (low, high) = (id_floor(1_000_000_000_000), id_floor(2_000_000_000_000));
        let below = |until, cursor| Window::new(None, until, cursor, 0).unwrap().below;
        assert_eq!(below(None, None), None);
        assert_eq!(below(None, Some(high)), Some(high));
        let until = Some("2005-01-01");
        assert!(
            below(until, Some(low)) == Some(low)
                && below(until, Some(high)) == below(until, None)
                && below(until, None).is_some()
        );
        assert!(Window::new(Some("yesterday"), None, None, 0).is_err());
    }

    #[test]
    fn only_a_full_page_has_a_next() {
        let ids = [Uuid::from_u128(2), Uuid::from_u128(1)];
        assert_eq!(next(&ids, 2, |id| *id), Some(ids[1]));
        assert_eq!(next(&ids, 3, |id| *id), None);
        assert_eq!(next(&[], 2, |id: &Uuid| *id), None);
    }
}
