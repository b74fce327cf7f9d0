//! A moment in the forms in which providers write times.

use time::{OffsetDateTime, UtcOffset};

/// When an event happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) unix_ms: i64,
    /// Microseconds within the millisecond, 0 to 999.
    pub(super) micros: u16,
}

impl Moment {
    /// This much later, or earlier. The difference is in milliseconds.
    pub(super) fn plus(self, ms: i64) -> Self {
        Self {
            unix_ms: self.unix_ms.saturating_add(ms),
            ..self
        }
    }

    /// None if nobody writes times in a form of this name.
    pub(super) fn written(self, form: &str) -> Option<String> {
        let Self { unix_ms, micros } = self;
        let (seconds, ms) = (unix_ms.div_euclid(1000), unix_ms.rem_euclid(1000));
        let at = OffsetDateTime::from_unix_timestamp(seconds)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
            .to_offset(UtcOffset::UTC);
        let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
        let date = format!("{year:04}-{month:02}-{day:02}");
        let clock = format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second());
        Some(match form {
            "unix" => seconds.to_string(),
            "ms" => unix_ms.to_string(),
            "unix_ms_float" => format!("{seconds}.{ms:03}"),
            // Slack's are the names of messages too.
            "slack" => format!("{seconds}.{ms:03}{micros:03}"),
            "date" => date,
            "local" => format!("{date}T{clock}"),
            "iso" => format!("{date}T{clock}Z"),
            "iso_ms" => format!("{date}T{clock}.{ms:03}Z"),
            "iso_us" => format!("{date}T{clock}.{ms:03}{micros:03}Z"),
            "iso_us_bare" => format!("{date}T{clock}.{ms:03}{micros:03}"),
            "iso_offset" => format!("{date}T{clock}+00:00"),
            "iso_ms_offset" => format!("{date}T{clock}.{ms:03}+00:00"),
            "jira" => format!("{date}T{clock}.{ms:03}+0000"),
            "gitlab" => format!("{date} {clock} UTC"),
            "rfc2822" => {
                let (weekday, month) = (at.weekday().to_string(), at.month().to_string());
                format!(
                    "{}, {day:02} {} {year} {clock} +0000",
                    &weekday[..3],
                    &month[..3]
                )
            }
            // Of a carrier's receipts: YYMMDDhhmm.
            "dlr" => {
                let year = year.rem_euclid(100);
                format!(
                    "{year:02}{month:02}{day:02}{:02}{:02}",
                    at.hour(),
                    at.minute()
                )
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_their_providers_forms() {
        let moment = Moment {
            unix_ms: 1_772_357_400_042,
            micros: 7,
        };
        for (form, expected) in [
            ("unix", "1772357400"),
            ("ms", "1772357400042"),
            ("unix_ms_float", "1772357400.042"),
            ("slack", "1772357400.042007"),
            ("date", "2026-03-01"),
            ("local", "2026-03-01T09:30:00"),
            ("iso", "2026-03-01T09:30:00Z"),
            ("iso_ms", "2026-03-01T09:30:00.042Z"),
            ("iso_us", "2026-03-01T09:30:00.042007Z"),
            ("iso_us_bare", "2026-03-01T09:30:00.042007"),
            ("iso_offset", "2026-03-01T09:30:00+00:00"),
            ("iso_ms_offset", "2026-03-01T09:30:00.042+00:00"),
            ("jira", "2026-03-01T09:30:00.042+0000"),
            ("gitlab", "2026-03-01 09:30:00 UTC"),
            ("rfc2822", "Sun, 01 Mar 2026 09:30:00 +0000"),
            ("dlr", "2603010930"),
        ] {
            assert_eq!(moment.written(form).as_deref(), Some(expected), "{form}");
        }
        assert_eq!(moment.written("iso_week"), None);
        let before = moment.plus(-86_400_000).written("iso");
        assert_eq!(before.as_deref(), Some("2026-02-28T09:30:00Z"));
    }
}
