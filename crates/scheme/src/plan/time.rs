//! When a request says that it was signed, and whether that is near enough to now.

use std::borrow::Cow;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    compiler::Compiler,
    locate::{
        json::Pointers,
        selector::{Inputs, Place, Selector},
    },
    rejection::{Reason, Rejection},
    request::Repeated,
    spec::{Direction, TimeSpec, TimeUnit},
};

/// A scheme's `[time]`.
pub(crate) struct Time {
    pub(crate) from: Selector,
    pub(crate) unit: TimeUnit,
    pub(crate) tolerance_ms: Option<i64>,
    pub(crate) direction: Direction,
    pub(crate) optional: bool,
}

impl Compiler {
    /// The compiled `[time]`.
    pub(crate) fn time(&mut self, spec: &TimeSpec, before: &mut Pointers) -> Option<Time> {
        Some(Time {
            from: self.selector("time.from", &spec.from, before)?,
            unit: spec.unit,
            tolerance_ms: spec
                .tolerance
                .map(|tolerance| i64::try_from(tolerance.as_millis()).unwrap_or(i64::MAX)),
            direction: spec.direction,
            optional: spec.optional,
        })
    }
}

/// The time's text as it was signed, if it is near enough to now.
pub(crate) fn timestamp<'a>(
    time: &Time,
    inputs: &Inputs<'a>,
    now_unix_ms: i64,
) -> Result<Option<Cow<'a, str>>, Rejection> {
    let value = match time.from.resolve(inputs) {
        Ok(Some((_, value))) => value,
        Ok(None) if time.optional => return Ok(None),
        Ok(None) => {
            return Err(Rejection::new(
                Reason::TimestampMissing,
                "the request has no time where this provider puts it",
            ));
        }
        Err(Repeated(name))
            if inputs.signature.is_some()
                && time
                    .from
                    .places()
                    .any(|place| *place == Place::Signature(name.clone())) =>
        {
            return Err(Rejection::new(
                Reason::MalformedSignature,
                "the signature has more than one time",
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let malformed = || Rejection::new(Reason::TimestampMalformed, "the time can't be read");
    let text = match value {
        Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).map_err(|_| malformed())?),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).map_err(|_| malformed())?),
    };
    let unix_ms = unix_ms(time.unit, &text).ok_or_else(malformed)?;
    if let Some(tolerance_ms) = time.tolerance_ms {
        // A time in whole seconds is compared in whole seconds, as the providers' own libraries do.
        let now = if matches!(time.unit, TimeUnit::S | TimeUnit::HttpDate) {
            now_unix_ms.div_euclid(1000).saturating_mul(1000)
        } else {
            now_unix_ms
        };
        let age_ms = now.saturating_sub(unix_ms);
        if age_ms > tolerance_ms {
            return Err(Rejection::new(
                Reason::TimestampTooOld,
                format!("signed {} s ago", age_ms / 1000),
            ));
        }
        if time.direction == Direction::Both && age_ms < -tolerance_ms {
            return Err(Rejection::new(
                Reason::TimestampInFuture,
                format!("signed {} s in the future", age_ms.saturating_neg() / 1000),
            ));
        }
    }
    Ok(Some(text))
}

/// A time as the provider writes it.
pub(crate) fn written(unit: TimeUnit, unix_seconds: i64) -> String {
    match unit {
        TimeUnit::S => unix_seconds.to_string(),
        TimeUnit::Ms => unix_seconds.saturating_mul(1000).to_string(),
        TimeUnit::HttpDate => {
            let time = std::time::UNIX_EPOCH
                + std::time::Duration::from_secs(u64::try_from(unix_seconds).unwrap_or(0));
            httpdate::fmt_http_date(time)
        }
        TimeUnit::Rfc3339 => OffsetDateTime::from_unix_timestamp(unix_seconds)
            .ok()
            .and_then(|time| time.format(&Rfc3339).ok())
            .unwrap_or_default(),
    }
}

/// A time in unix milliseconds. None for a text that is not written in this unit.
pub(crate) fn unix_ms(unit: TimeUnit, text: &str) -> Option<i64> {
    if unit == TimeUnit::HttpDate {
        let since = httpdate::parse_http_date(text)
            .ok()?
            .duration_since(std::time::UNIX_EPOCH)
            .ok()?;
        return i64::try_from(since.as_millis()).ok();
    }
    if unit == TimeUnit::Rfc3339 {
        let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        return i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok();
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i64 = text.parse().ok()?;
    number.checked_mul(if unit == TimeUnit::S { 1000 } else { 1 })
}
