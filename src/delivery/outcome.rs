//! What a handler's answer means for its delivery. Pure.

use std::time::Duration;

/// A handler's answer, or the reason why there is none.
#[derive(Clone, Debug)]
pub struct HandlerAnswer {
    /// The HTTP status, or the class of the failure.
    pub status: Result<u16, Failure>,
    pub retry_after: Option<Duration>,
    /// Whether the handler sent `hookonce-retry: no`.
    pub no_retry: bool,
    /// The first bytes of the response's body.
    pub response: Vec<u8>,
    pub detail: Option<String>,
}

/// Why there is no answer. The words of `class()` are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Connect,
    Timeout,
    /// The connection broke after the request was sent: the handler may have done its work.
    Interrupted,
    /// The event was dropped by retention before its delivery ended.
    EventGone,
    /// The destination's address can't be called.
    Destination,
    /// The destination's address may not be called.
    Blocked,
}

impl Failure {
    pub fn class(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
            Self::EventGone => "event_gone",
            Self::Destination => "destination",
            Self::Blocked => "blocked",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Delivered,
    Retry,
    Dead,
}

impl HandlerAnswer {
    pub fn failed(failure: Failure, detail: impl Into<String>) -> Self {
        Self {
            status: Err(failure),
            retry_after: None,
            no_retry: false,
            response: Vec::new(),
            detail: Some(detail.into()),
        }
    }

    /// 2xx is delivered. 410, `hookonce-retry: no`, an event that is gone and an address that may
    /// not be called are dead at once. Everything else is tried again.
    pub fn verdict(&self) -> Verdict {
        match self.status {
            Ok(200..=299) => Verdict::Delivered,
            Ok(410) | Err(Failure::EventGone | Failure::Blocked) => Verdict::Dead,
            _ if self.no_retry => Verdict::Dead,
            _ => Verdict::Retry,
        }
    }

    /// The stable class of the failure. None if the handler took the event.
    pub fn error(&self) -> Option<&'static str> {
        match self.status {
            Ok(200..=299) => None,
            Ok(300..=399) => Some("redirect"),
            Ok(_) => Some("status"),
            Err(failure) => Some(failure.class()),
        }
    }
}

/// Retry-After as seconds or as an HTTP date (RFC 9110, section 10.2.3), relative to `now_unix`.
pub fn retry_after(value: &str, now_unix: i64) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let date = time::PrimitiveDateTime::parse(value, format)
        .ok()?
        .assume_utc();
    Some(Duration::from_secs(
        u64::try_from(date.unix_timestamp() - now_unix).unwrap_or(0),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, no_retry: bool) -> HandlerAnswer {
        HandlerAnswer {
            status: Ok(status),
            retry_after: None,
            no_retry,
            response: Vec::new(),
            detail: None,
        }
    }

    #[test]
    fn verdicts_follow_the_contract() {
        for (answer, verdict, error) in [
            (status(200, false), Verdict::Delivered, None),
            (status(204, true), Verdict::Delivered, None),
            (status(301, false), Verdict::Retry, Some("redirect")),
            (status(400, false), Verdict::Retry, Some("status")),
            (status(410, false), Verdict::Dead, Some("status")),
            (status(500, true), Verdict::Dead, Some("status")),
            (status(503, false), Verdict::Retry, Some("status")),
            (
                HandlerAnswer::failed(Failure::Timeout, ""),
                Verdict::Retry,
                Some("timeout"),
            ),
            (
                HandlerAnswer::failed(Failure::EventGone, ""),
                Verdict::Dead,
                Some("event_gone"),
            ),
            (
                HandlerAnswer::failed(Failure::Blocked, ""),
                Verdict::Dead,
                Some("blocked"),
            ),
        ] {
            assert_eq!(
                (answer.verdict(), answer.error()),
                (verdict, error),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn retry_after_reads_both_forms() {
        assert_eq!(retry_after("120", 0), Some(Duration::from_secs(120)));
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_767),
            Some(Duration::from_secs(10))
        );
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_800),
            Some(Duration::ZERO)
        );
        assert_eq!(retry_after("soon", 0), None);
    }
}
