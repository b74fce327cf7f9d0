//! Where the log goes: lines on stderr, for people or as JSON for machines. Standard output is the commands' own. It sets up and does
//! nothing else; whoever handles an error logs it, once.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("{filter:?} is no log filter")]
    Filter { filter: String, source: tracing_subscriber::filter::ParseError },
    #[error("the log is set up already")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Starts the log for the whole process; once. `filter` is in tracing's syntax, such as "info,hookonce::delivery=debug". `color` of None
/// colours text on a terminal, unless NO_COLOR is set.
pub fn init(filter: &str, format: Format, color: Option<bool>) -> Result<(), TelemetryError> {
    use tracing_subscriber::util::SubscriberInitExt as _;
    let filter = EnvFilter::builder().parse(filter).map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Format::Json => builder.json().flatten_event(true).finish().try_init(),
        Format::Text => {
            let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            builder.with_ansi(color.unwrap_or_else(|| !plain && std::io::stderr().is_terminal())).finish().try_init()
        }
    }
    .map_err(TelemetryError::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_is_named() {
        let error = init("hookonce=loud", Format::Text, None).unwrap_err();
        assert_eq!(error.to_string(), "\"hookonce=loud\" is no log filter");
    }
}
