//! Versions of PostgreSQL.

use std::fmt;

/// Oldest major version that hookonce runs on.
pub const OLDEST_MAJOR: u32 = 15;

/// A PostgreSQL version: 15.18, 18beta1 (minor 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Version {
    /// Reads `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
    pub fn parse(line: &str) -> Option<Self> {
        let text = line
            .split("(PostgreSQL)")
            .nth(1)?
            .split_whitespace()
            .next()?;
        let digits = |part: &str| {
            part.chars()
                .take_while(char::is_ascii_digit)
                .collect::<String>()
        };
        let mut parts = text.split('.');
        let major = digits(parts.next()?).parse().ok()?;
        let minor = parts
            .next()
            .and_then(|part| digits(part).parse().ok())
            .unwrap_or(0);
        Some(Self { major, minor })
    }
}
