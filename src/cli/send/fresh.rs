//! Fresh ids: in the form of an id that stands in a body, and counted on from one that was given.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Times this near to now are times: a year.
const NEAR_SECONDS: i64 = 366 * 86_400;

/// An id that looks like `old` and is another. The `index`-th of several that are made at once.
/// What is a time becomes now: letters and digits by chance would be no time.
pub fn like(old: &str, now_unix_ms: i64, index: usize, random: &mut impl FnMut() -> u32) -> String {
    let later = i64::try_from(index).unwrap_or(0);
    if let Some(time) = time_like(old, now_unix_ms.saturating_add(later)) {
        return time;
    }
    // What is before the last underscore says what kind of thing it is.
    let at = old.rfind('_').map_or(0, |at| at + 1);
    let (start, rest) = old.split_at(at);
    let is_hex = rest
        .chars()
        .all(|c| matches!(c, '0'..='9' | 'a'..='f' | '-'));
    let mut new = String::from(start);
    for (at, letter) in rest.chars().enumerate() {
        let alphabet: &[u8] = match letter {
            '1'..='9' if at == 0 => b"123456789",
            'a'..='f' | '0'..='9' if is_hex && rest.len() > 20 => b"0123456789abcdef",
            '0'..='9' => b"0123456789",
            'a'..='z' => b"abcdefghijklmnopqrstuvwxyz",
            'A'..='Z' => b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            other => {
                new.push(other);
                continue;
            }
        };
        new.push(char::from(alphabet[random() as usize % alphabet.len()]));
    }
    new
}

fn time_like(old: &str, now_unix_ms: i64) -> Option<String> {
    let now_seconds = now_unix_ms.div_euclid(1000);
    if let Ok(number) = old.parse::<i64>() {
        let is_near = |seconds: i64| (seconds - now_seconds).abs() < NEAR_SECONDS;
        return match old.len() {
            10 if is_near(number) => Some(now_seconds.to_string()),
            13 if is_near(number / 1000) => Some(now_unix_ms.to_string()),
            _ => None,
        };
    }
    let has_zone = old.ends_with('Z');
    let text = if has_zone {
        old.to_owned()
    } else {
        format!("{old}Z")
    };
    OffsetDateTime::parse(&text, &Rfc3339).ok()?;
    let nanos = i128::from(now_unix_ms) * 1_000_000;
    let now = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?;
    let now = now.format(&Rfc3339).ok()?;
    Some(if has_zone {
        now
    } else {
        now.trim_end_matches('Z').to_owned()
    })
}

/// The `number`-th of ids that were asked for by one: a number is counted on, to a text "-1", "-2",
/// … are added.
pub fn counted(id: &str, number: u32, count: u32) -> String {
    match id.parse::<u64>() {
        _ if count == 1 => id.to_owned(),
        Ok(first) => first.saturating_add(u64::from(number) - 1).to_string(),
        Err(_) => format!("{id}-{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_ids_look_like_the_old_ones() {
        let mut seed = 7_u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed >> 8
        };
        let now = 1_772_357_400_042;
        for old in [
            "evt_1NG8Du2eZvKYlo2C",
            "8b0c3f6e-4f6d-4a0e-9a51-0c8f4a3b2d1e",
            "123456789",
            "01J8XKQ3",
            "wamid.HBgL",
        ] {
            let new = like(old, now, 0, &mut random);
            assert_ne!(new, old);
            assert_eq!(new.len(), old.len(), "{new}");
            for (one, other) in old.chars().zip(new.chars()) {
                assert_eq!(
                    one.is_ascii_alphanumeric(),
                    other.is_ascii_alphanumeric(),
                    "{new}"
                );
                assert_eq!(
                    one.is_ascii_uppercase(),
                    other.is_ascii_uppercase(),
                    "{old} {new}"
                );
            }
            assert_eq!(
                old.parse::<u64>().is_ok(),
                new.parse::<u64>().is_ok(),
                "{new}"
            );
        }
        assert!(like("evt_1", now, 0, &mut random).starts_with("evt_"));
        for (old, new) in [
            ("1772000000", "1772357400"),
            ("1772000000000", "1772357400043"),
            ("2026-01-01T00:00:00.5", "2026-03-01T09:30:00.043"),
            ("2026-01-01T00:00:00Z", "2026-03-01T09:30:00.043Z"),
        ] {
            assert_eq!(like(old, now, 1, &mut random), new);
        }
    }

    #[test]
    fn ids_are_counted_on() {
        assert_eq!(counted("evt_9", 1, 1), "evt_9");
        assert_eq!(counted("evt_9", 2, 3), "evt_9-2");
        assert_eq!(counted("99", 2, 3), "100");
    }
}
