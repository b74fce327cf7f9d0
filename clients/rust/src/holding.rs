//! What is told of a step when its caller may be gone: ends that are under way, and claims and
//! holders whose future was dropped. Each is told in a task of its own.

use std::error::Error as StdError;

use serde_json::{Value, json, value::RawValue};
use tokio::runtime::Handle;

use crate::{
    claim::{Claim, Grant, NotKept, Terms},
    error::Error,
    run::Run,
};

/// How much of an error is told as evidence, in characters.
const ERROR_CHARS_MAX: usize = 4000;

/// How the work of a holder ended.
pub(crate) enum End {
    Done(Box<RawValue>),
    /// Done, and the result can't be kept.
    NotKept(NotKept),
    Failed(Value),
    NotExecuted,
    /// Whether anything was done is not known, for this reason.
    Unknown(String),
}

/// What became of a result.
pub(crate) struct Kept {
    /// As it is kept.
    pub(crate) json: Option<Box<RawValue>>,
    pub(crate) not_kept: Option<NotKept>,
}

/// An error with all that lies under it.
pub(crate) fn chain_of(error: &dyn StdError) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        said = format!("{said}: {inner}");
        next = inner.source();
    }
    said.chars().take(ERROR_CHARS_MAX).collect()
}

/// The right to execute a step. Dropped before its end is told, it is abandoned.
pub(crate) struct Held {
    inner: Option<(Run, Grant)>,
}

impl Held {
    pub(crate) fn new(run: &Run, grant: &Grant) -> Self {
        Self {
            inner: Some((run.clone(), grant.clone())),
        }
    }

    /// There is nothing to tell any more: another has the step.
    pub(crate) fn over(mut self) {
        self.inner = None;
    }

    /// Tells the ledger how the work ended, also if the caller stops to wait for it.
    pub(crate) async fn end(mut self, end: End, emit: Vec<Value>) -> Result<Kept, Error> {
        let Some((run, grant)) = self.inner.take() else {
            return Err(Error::Invalid("the step has been ended already".into()));
        };
        let told = tokio::spawn(async move { tell(&run, &grant, end, &emit).await }).await;
        told.unwrap_or_else(|ended| Err(Error::Unavailable(ended.to_string())))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (Some((run, grant)), Ok(runtime)) = (self.inner.take(), Handle::try_current()) else {
            return;
        };
        let why = if std::thread::panicking() {
            "the work panicked"
        } else {
            "the caller went away before the work had ended"
        };
        runtime.spawn(async move {
            let error = json!({ "error": why });
            // If the service does not hear this, the lease ends all the same.
            let _ = run.protocol().abandon(run.name(), &grant, &error).await;
        });
    }
}

async fn tell(run: &Run, grant: &Grant, end: End, emit: &[Value]) -> Result<Kept, Error> {
    let (protocol, name) = (run.protocol(), run.name());
    let mut kept = Kept {
        json: None,
        not_kept: None,
    };
    let told = match end {
        End::Done(json) => {
            let told = protocol.complete(name, grant, &json, emit).await;
            kept.json = Some(json);
            told.map(|not_kept| kept.not_kept = not_kept)
        }
        End::NotKept(not_kept) => {
            let told = protocol
                .complete_without(name, grant, &not_kept, emit)
                .await;
            kept.not_kept = Some(not_kept);
            told
        }
        End::Failed(error) => protocol.fail(name, grant, &error, emit).await,
        // What follows is not heard, or it is: the lease ends all the same.
        End::NotExecuted => {
            let _ = protocol.release(name, grant).await;
            Ok(())
        }
        End::Unknown(error) => {
            let error = json!({ "error": error });
            let _ = protocol.abandon(name, grant, &error).await;
            Ok(())
        }
    };
    if let Err(error @ (Error::Refused { .. } | Error::Invalid(_))) = &told {
        // The work is done and can't be recorded: a person has to see it, and at once.
        let error = json!({ "error": format!("done, but the end was refused: {error}") });
        let _ = protocol.abandon(name, grant, &error).await;
    }
    told.map(|()| kept)
}

/// A claim that is under way. Dropped before its answer, it is asked for again and given back: it
/// may have been granted, and nothing is executed.
pub(crate) struct Asking {
    inner: Option<(Run, String, Terms, String)>,
}

impl Asking {
    pub(crate) fn new(run: &Run, step: &str, terms: &Terms, claim_id: &str) -> Self {
        let terms = Terms {
            wait: std::time::Duration::ZERO,
            ..terms.clone()
        };
        Self {
            inner: Some((run.clone(), step.to_owned(), terms, claim_id.to_owned())),
        }
    }

    pub(crate) fn answered(mut self) {
        self.inner = None;
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let (Some((run, step, terms, claim_id)), Ok(runtime)) =
            (self.inner.take(), Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move {
            let (protocol, name) = (run.protocol(), run.name());
            if let Ok(Claim::Granted(grant)) = protocol.claim(name, &step, &terms, &claim_id).await
            {
                let _ = protocol.release(name, &grant).await;
            }
        });
    }
}
