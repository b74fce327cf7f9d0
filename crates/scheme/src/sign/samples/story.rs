//! Fills samples: ids in their providers' forms, times around a given one, and names that stay the
//! same throughout the events of one story.

use std::collections::BTreeMap;

use rand::Rng;
use serde_json::Value;

use super::{Sample, Samples, moment::Moment};
use crate::{error::SchemeError, period::Period};

/// How deep values may use values. More is a circle.
const DEPTH_MAX: usize = 8;

const DIGITS: &[u8] = b"0123456789";
const HEX: &[u8] = b"0123456789abcdef";
const LOWER: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const UPPER: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const ALNUM: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Crockford's alphabet, which ULIDs are written in.
const ULID: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Of a ULID: 48 bits of time, then chance.
const ULID_TIME_CHARS: usize = 10;
const ULID_CHARS: usize = 26;

/// One event or several that are about the same things. What a value of the file makes by chance
/// is made once a story, so that its events agree; ids and times are of each event.
///
/// A place is `${id}`, `${type}` or a dotted piece of it (`${type_1}`), the name of a value, a time
/// in a provider's form and from now (`${iso}`, `${unix-30d}`), or chance: `${uuid}`, `${ulid}`,
/// `${ULID}`, `${digits:9}`, `${hex:32}`, `${lower:8}`, `${upper:8}`, `${alnum:24}`.
pub struct Story<R> {
    samples: &'static Samples,
    rng: R,
    /// By the value's name and the place in it.
    made: BTreeMap<(&'static str, usize), String>,
}

/// What a provider would send, but for what its scheme puts: signature, time, id and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The event's.
    pub id: String,
    /// As the scheme finds it.
    pub event_type: Option<String>,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    /// JSON or a form.
    pub body: Vec<u8>,
}

/// What one event has that others of its story have not.
#[derive(Clone, Copy)]
struct Event<'e> {
    id: &'e str,
    event_type: &'e str,
    moment: Moment,
}

impl<R: Rng> Story<R> {
    /// Begins one.
    pub fn new(samples: &'static Samples, rng: R) -> Self {
        Self {
            samples,
            rng,
            made: BTreeMap::new(),
        }
    }

    /// A fresh id in the form that the provider's ids have.
    ///
    /// # Errors
    ///
    /// A sample whose places can't be filled.
    pub fn id(&mut self, sample: &'static Sample, now_unix_ms: i64) -> Result<String, SchemeError> {
        let event = Event {
            id: "",
            event_type: "",
            moment: self.moment(now_unix_ms),
        };
        let form = sample.id.as_deref().unwrap_or(&self.samples.id);
        self.fill(form, event, None, 0)
    }

    /// The headers that come with an event of this type, beside those of the scheme: lower-case
    /// names.
    ///
    /// # Errors
    ///
    /// A sample whose places can't be filled.
    pub fn headers(
        &mut self,
        event_type: Option<&str>,
        id: &str,
        now_unix_ms: i64,
    ) -> Result<Vec<(String, String)>, SchemeError> {
        let event = Event {
            id,
            event_type: event_type.unwrap_or_default(),
            moment: self.moment(now_unix_ms),
        };
        let sample = event_type.and_then(|name| self.samples.get(name));
        self.headers_of(sample, event)
    }

    /// The event of a sample. Its id is fresh if none is given.
    ///
    /// # Errors
    ///
    /// An id that can't stand where the provider has it, such as letters in a number.
    pub fn event(
        &mut self,
        sample: &'static Sample,
        id: Option<&str>,
        now_unix_ms: i64,
    ) -> Result<Made, SchemeError> {
        let id = match id {
            Some(id) => id.to_owned(),
            None => self.id(sample, now_unix_ms)?,
        };
        let event = Event {
            id: &id,
            event_type: sample.event_type.as_deref().unwrap_or_default(),
            moment: self.moment(now_unix_ms),
        };
        let headers = self.headers_of(Some(sample), event)?;
        let body = match (&sample.body, &sample.form) {
            (Some(json), _) => self.json(json, event)?,
            (None, form) => self.form(form.as_deref().unwrap_or_default(), event)?,
        };
        Ok(Made {
            event_type: sample.event_type.clone(),
            headers,
            body,
            id,
        })
    }

    /// The moment of an event, fine enough that two of a millisecond differ.
    fn moment(&mut self, unix_ms: i64) -> Moment {
        let micros = u16::try_from(self.rng.next_u32() % 1000).unwrap_or(0);
        Moment { unix_ms, micros }
    }

    fn headers_of(
        &mut self,
        sample: Option<&'static Sample>,
        event: Event<'_>,
    ) -> Result<Vec<(String, String)>, SchemeError> {
        let own = sample.map(|sample| &sample.headers);
        let common = self.samples.headers.iter();
        let common = common.filter(|(name, _)| own.is_none_or(|own| !own.contains_key(*name)));
        let content_type = sample
            .and_then(|sample| sample.content_type.as_ref())
            .or(self.samples.content_type.as_ref());
        let mut headers = Vec::new();
        if let Some(content_type) = content_type {
            headers.push(("content-type".to_owned(), content_type.clone()));
        }
        for (name, text) in common.chain(own.into_iter().flatten()) {
            let value = self.fill(text, event, None, 0)?;
            // A type that has no second piece leaves such a header out.
            if !value.is_empty() {
                headers.push((name.clone(), value));
            }
        }
        Ok(headers)
    }

    fn json(&mut self, text: &'static str, event: Event<'_>) -> Result<Vec<u8>, SchemeError> {
        // Whatever the id is, it must not end its string.
        let quoted = Value::from(event.id).to_string();
        let escaped = Event {
            id: &quoted[1..quoted.len() - 1],
            ..event
        };
        let text = self.fill(text.trim(), escaped, None, 0)?;
        if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_err() {
            return Err(SchemeError::new(
                "id",
                &format!("{:?} can't stand where the provider has a number", event.id),
            ));
        }
        let mut text = if self.samples.as_written {
            text
        } else {
            compact(&text)
        };
        text.push_str(&self.samples.end);
        Ok(text.into_bytes())
    }

    fn form(&mut self, text: &'static str, event: Event<'_>) -> Result<Vec<u8>, SchemeError> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        for line in text.trim().lines() {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            form.append_pair(name, &self.fill(value, event, None, 0)?);
        }
        Ok(form.finish().into_bytes())
    }

    /// Fills the places of a text, which is that of the value `scope`.
    fn fill(
        &mut self,
        text: &'static str,
        event: Event<'_>,
        scope: Option<&'static str>,
        depth: usize,
    ) -> Result<String, SchemeError> {
        let wrong = |place: &str| {
            SchemeError::new(
                "sample",
                &format!("${{{place}}} is no place that can be filled"),
            )
        };
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        for index in 0.. {
            let Some((before, place)) = rest.split_once("${") else {
                break;
            };
            let (place, after) = place.split_once('}').ok_or_else(|| wrong(place))?;
            filled.push_str(before);
            rest = after;
            if let Some((name, text)) = self.samples.values.get_key_value(place) {
                if depth == DEPTH_MAX {
                    return Err(wrong(place));
                }
                filled.push_str(&self.fill(text, event, Some(name), depth + 1)?);
            } else if let Some(value) = of_event(place, event) {
                filled.push_str(&value);
            } else {
                let known = scope.and_then(|scope| self.made.get(&(scope, index)));
                let value = match known {
                    Some(value) => value.clone(),
                    None => self.chance(place, event).ok_or_else(|| wrong(place))?,
                };
                filled.push_str(&value);
                if let Some(scope) = scope {
                    self.made.insert((scope, index), value);
                }
            }
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn chance(&mut self, place: &str, event: Event<'_>) -> Option<String> {
        match place {
            "uuid" => {
                let hex = self.random(HEX, 32);
                // Version 4, of the variant of RFC 9562, section 5.4.
                return Some(format!(
                    "{}-{}-4{}-a{}-{}",
                    &hex[..8],
                    &hex[8..12],
                    &hex[13..16],
                    &hex[17..20],
                    &hex[20..]
                ));
            }
            "ulid" => return Some(self.ulid(event.moment.unix_ms).to_ascii_lowercase()),
            "ULID" => return Some(self.ulid(event.moment.unix_ms)),
            _ => {}
        }
        let (kind, count) = place.split_once(':')?;
        let count = count.parse().ok()?;
        Some(match kind {
            // No number begins with a zero.
            "digits" => self.random(&DIGITS[1..], 1) + &self.random(DIGITS, count - 1),
            "hex" => self.random(HEX, count),
            "lower" => self.random(LOWER, count),
            "upper" => self.random(UPPER, count),
            "alnum" => self.random(ALNUM, count),
            _ => return None,
        })
    }

    fn random(&mut self, alphabet: &[u8], count: usize) -> String {
        let letter = |rng: &mut R| alphabet[rng.next_u32() as usize % alphabet.len()];
        (0..count)
            .map(|_| char::from(letter(&mut self.rng)))
            .collect()
    }

    fn ulid(&mut self, unix_ms: i64) -> String {
        let unix_ms = u64::try_from(unix_ms).unwrap_or(0);
        let letter = |index: usize| {
            let bits = unix_ms >> (5 * (ULID_TIME_CHARS - 1 - index));
            char::from(ULID[(bits & 31) as usize])
        };
        let time: String = (0..ULID_TIME_CHARS).map(letter).collect();
        time + &self.random(ULID, ULID_CHARS - ULID_TIME_CHARS)
    }
}

/// What a place stands for that is of the event: its id, its type, a time.
fn of_event(place: &str, event: Event<'_>) -> Option<String> {
    let piece = |index: usize| {
        let piece = event.event_type.split('.').nth(index);
        Some(piece.unwrap_or_default().to_owned())
    };
    match place {
        "id" => return Some(event.id.to_owned()),
        "type" => return Some(event.event_type.to_owned()),
        "type_1" => return piece(0),
        "type_2" => return piece(1),
        _ => {}
    }
    let at = place.find(['+', '-']).unwrap_or(place.len());
    let (form, offset) = place.split_at(at);
    let ms = match offset.split_at_checked(1) {
        None => 0,
        Some((sign, period)) => {
            let ms = i64::try_from(period.parse::<Period>().ok()?.as_millis()).ok()?;
            if sign == "-" { -ms } else { ms }
        }
    };
    event.moment.plus(ms).written(form)
}

/// A JSON text without the white space outside of its strings.
fn compact(text: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    let is_kept = |letter: &char| {
        if escaped {
            escaped = false;
        } else if *letter == '"' {
            inside = !inside;
        } else {
            escaped = inside && *letter == '\\';
        }
        inside || !letter.is_ascii_whitespace()
    };
    text.chars().filter(is_kept).collect()
}
