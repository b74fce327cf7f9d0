//! A ledger at a service, and plain dedup, which needs no run.

use std::{sync::Arc, time::Duration};

use crate::{error::Error, protocol::Protocol, transport::Transport};

const GIVE_UP: Duration = Duration::from_secs(60);

/// The ledger of one service. Clones are cheap, and share their connections.
///
/// Each function that asks the service fails with [`Error::Unavailable`] after the time to give up,
/// and with [`Error::Refused`] if the token or a name is wrong.
#[derive(Clone)]
pub struct Ledger {
    pub(crate) protocol: Arc<Protocol>,
}

impl Ledger {
    /// `url` is the base of the service's admin or ledger port: `http://127.0.0.1:8081`. `token`
    /// has the scope `ledger`, `operate` or `admin`. The time to give up is 60 seconds.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if `url` is no URL. The service is not asked.
    pub fn new(url: &str, token: &str) -> Result<Self, Error> {
        Self::with(url, token, GIVE_UP)
    }

    /// Like [`Ledger::new`]. `give_up` is how long a call is sent again that gets no answer, or
    /// 429, 502, 503 or 504; then it fails with [`Error::Unavailable`].
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if `url` is no URL.
    pub fn with(url: &str, token: &str, give_up: Duration) -> Result<Self, Error> {
        let transport = Transport::new(url, token, give_up)?;
        let owner = format!("process {}", std::process::id());
        Ok(Self {
            protocol: Arc::new(Protocol {
                transport: Arc::new(transport),
                owner,
            }),
        })
    }

    /// What this worker calls itself, 1 to 255 bytes: whoever finds its steps is told. Default:
    /// `process`, and the process's id.
    #[must_use]
    pub fn owner(&self, owner: &str) -> Self {
        Self {
            protocol: Arc::new(Protocol {
                transport: self.protocol.transport.clone(),
                owner: owner.to_owned(),
            }),
        }
    }

    /// Whether this key is new in the scope. The answer marks it for the window (a day, say).
    ///
    /// A crash between this call and the end of the work loses the key. Where that must not happen,
    /// use [`Ledger::dedup_leased`].
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] and [`Error::Refused`], and [`Error::Invalid`] for a scope that a URL
    /// can't carry.
    pub async fn dedup(&self, scope: &str, key: &str, window: Duration) -> Result<bool, Error> {
        Ok(self
            .protocol
            .mark(scope, key, window, None)
            .await?
            .is_some())
    }
}
