//! What a person has to hear of, in the log: refusals, conflicts, types that were left out, failing
//! attempts, dead deliveries. The first of a kind is told at once, and then each minute how many more there were,
//! so that a flood is a line a minute.

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What is told, of a source or of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// A request of a source was refused.
    Refused,
    /// A key of a source came again with another body.
    Conflict,
    /// The type of a source's event is no valid name and was left out.
    TypeDropped,
    /// An attempt failed and is tried again.
    Failing,
    /// A delivery is not tried again.
    Died,
}

impl Notice {
    /// `class`: the reason of a refusal, or the class of an attempt's error. `example`: the id of
    /// one of them.
    fn tell(self, of: &str, class: &str, count: u64, example: &str) {
        match self {
            Self::Refused => {
                tracing::warn!(
                    source = of,
                    reason = class,
                    count,
                    rejection = example,
                    "requests are refused"
                );
            }
            Self::Conflict => {
                tracing::warn!(
                    source = of,
                    count,
                    event = example,
                    "keys came again with another body"
                );
            }
            Self::TypeDropped => {
                tracing::warn!(
                    source = of,
                    why = class,
                    count,
                    event = example,
                    "an event's type was left out: only routes that take every event take it. A type is at most 255 bytes without control characters"
                );
            }
            Self::Failing => {
                tracing::warn!(
                    destination = of,
                    error = class,
                    count,
                    delivery = example,
                    "attempts fail and are tried again"
                );
            }
            Self::Died => {
                tracing::error!(
                    destination = of,
                    error = class,
                    count,
                    delivery = example,
                    "deliveries are dead: they are not tried again"
                );
            }
        }
    }
}

/// One kind: the notice, of whom, and the class. All three are bounded by the settings and this
/// code.
type Kind = (Notice, Arc<str>, &'static str);

/// Those that came since the kind was last told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Untold {
    count: u64,
    example: String,
}

/// The kinds that came within the last minute. Cloning is cheap, and clones tell together.
#[derive(Clone, Default)]
pub struct Notices(Arc<Mutex<HashMap<Kind, Untold>>>);

impl Notices {
    /// Tells it at once if no other of its kind was told within the last minute.
    pub fn note(&self, notice: Notice, of: &Arc<str>, class: &'static str, example: &dyn Display) {
        if self.is_first((notice, of.clone(), class), example) {
            notice.tell(of, class, 1, &example.to_string());
        }
    }

    /// Tells each minute of what came meanwhile.
    pub async fn tell_until_stopped(self, stopping: CancellationToken) {
        while stopping
            .run_until_cancelled(tokio::time::sleep(TOLD_EVERY))
            .await
            .is_some()
        {
            for ((notice, of, class), untold) in self.take() {
                notice.tell(&of, class, untold.count, &untold.example);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, Untold>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_first(&self, kind: Kind, example: &dyn Display) -> bool {
        let mut kinds = self.lock();
        let Some(untold) = kinds.get_mut(&kind) else {
            kinds.insert(kind, Untold::default());
            return true;
        };
        if untold.count == 0 {
            untold.example = example.to_string();
        }
        untold.count += 1;
        false
    }

    /// What is to be told now. A kind of which none came is forgotten, so that the next one is told
    /// at once.
    fn take(&self) -> Vec<(Kind, Untold)> {
        let mut kinds = self.lock();
        kinds.retain(|_, untold| untold.count > 0);
        kinds
            .iter_mut()
            .map(|(kind, untold)| (kind.clone(), std::mem::take(untold)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_by_their_number() {
        let notices = Notices::default();
        let kind = |of: &str| (Notice::Failing, Arc::from(of), "status");
        assert!(notices.is_first(kind("orders"), &1));
        assert!(!notices.is_first(kind("orders"), &2));
        assert!(!notices.is_first(kind("orders"), &3));
        assert!(notices.is_first(kind("mail"), &4));
        let told = notices.take();
        let untold = Untold {
            count: 2,
            example: "2".into(),
        };
        assert_eq!(told, [(kind("orders"), untold)]);
        assert!(!notices.is_first(kind("orders"), &5), "told a minute ago");
        assert!(notices.is_first(kind("mail"), &6), "none came for a minute");
        assert_eq!(notices.take().len(), 1);
        assert!(notices.take().is_empty() && notices.is_first(kind("orders"), &7));
    }
}
