//! The log: lines on stderr, as text for people or as JSON for machines. Standard output belongs to
//! the commands. This only sets the log up; code that handles an error logs it, once.

use std::{
    io::IsTerminal as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tracing::{
    Event, Level, Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest,
};
use tracing_subscriber::{
    EnvFilter, Layer as _, fmt,
    layer::{Context, Filter, SubscriberExt as _},
    registry,
};

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("{filter:?} is no log filter")]
    Filter {
        filter: String,
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("the log is set up already")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Starts the log for the whole process; it can be called once. `filter` is in tracing's syntax,
/// such as "info,hookonce::delivery=debug". If `color` is None, text on a terminal is coloured
/// unless NO_COLOR is set.
pub fn init(filter: &str, format: Format, color: Option<bool>) -> Result<(), TelemetryError> {
    use tracing_subscriber::{filter::FilterExt as _, util::SubscriberInitExt as _};
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|source| TelemetryError::Filter {
            filter: filter.to_owned(),
            source,
        })?;
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = match format {
        Format::Json => layer.json().flatten_event(true).boxed(),
        Format::Text => {
            let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            layer
                .with_ansi(color.unwrap_or_else(|| !plain && std::io::stderr().is_terminal()))
                .boxed()
        }
    };
    registry()
        .with(layer.with_filter(filter.and(Malformed)))
        .try_init()
        .map_err(TelemetryError::Twice)
}

/// The target of the HTTP server's error for a request that is not HTTP. Anybody may send thousands
/// of them a second.
const MALFORMED: &str = "actix_http::h1::dispatcher";
/// How often the log says how many there were. The first one is logged as an example.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// How many there were since the log last said it.
static MALFORMED_COUNT: AtomicU64 = AtomicU64::new(0);

/// Lets the first error of `MALFORMED` through and counts them all.
struct Malformed;

impl Malformed {
    fn is_one(metadata: &Metadata<'_>) -> bool {
        metadata.target() == MALFORMED && *metadata.level() == Level::ERROR
    }
}

impl<S: Subscriber> Filter<S> for Malformed {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::is_one(metadata) {
            Interest::sometimes()
        } else {
            Interest::always()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        !Self::is_one(event.metadata()) || MALFORMED_COUNT.fetch_add(1, Ordering::Relaxed) == 0
    }
}

/// Logs how many requests were not HTTP, if there was more than one.
pub async fn tell_malformed(stopping: CancellationToken) {
    while stopping
        .run_until_cancelled(tokio::time::sleep(TOLD_EVERY))
        .await
        .is_some()
    {
        let count = MALFORMED_COUNT.swap(0, Ordering::Relaxed);
        if count > 1 {
            tracing::warn!(
                count,
                "requests that are no HTTP were refused; the first is in the log"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[test]
    fn a_wrong_filter_is_named() {
        let error = init("hookonce=loud", Format::Text, None).unwrap_err();
        assert_eq!(error.to_string(), "\"hookonce=loud\" is no log filter");
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn of_what_is_no_http_one_is_logged_and_all_are_counted() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .with_filter(Malformed);
        tracing::subscriber::with_default(registry().with(layer), || {
            for n in 0..1000 {
                tracing::error!(target: MALFORMED, "stream error: {n}");
            }
            tracing::error!("another");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            text.contains("stream error: 0") && text.contains("another"),
            "{text}"
        );
        assert_eq!(MALFORMED_COUNT.load(Ordering::Relaxed), 1000);
    }
}
