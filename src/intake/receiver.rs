//! What becomes of a request whose body has been read: it is verified, looked up and recorded. A
//! request that is refused costs no query.

use std::{sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use hookonce_scheme::{Reason, Rejection, Request, Verified, VerifiedRequest};
use secrecy::SecretString;
use uuid::Uuid;

use super::{
    keyring::{Keyring, Missing},
    learning::{Learning, Learnt},
    outcomes::Recorded,
    recorder::Recorder,
    recording::{self, Headers},
    rejections::{Refused, Rejections},
    sources::{Source, Sources},
};
use crate::{
    clock::Clock,
    contract::EventId,
    group_commit::CommitError,
    meters::Meters,
    notices::{Notice, Notices},
    tail::{RequestStatus, Tail, TailLine},
};

/// How many replaced sources are remembered.
const RETIRED_MAX: usize = 64;

/// What every request needs.
pub struct Intake {
    pub sources: ArcSwap<Sources>,
    pub recorder: Arc<Recorder>,
    pub learning: Learning,
    /// True if there may be events that earlier versions recorded under keys of another form.
    pub look_back: bool,
    pub keyring: Keyring,
    pub clock: Clock,
    pub tail: Tail,
    pub meters: Meters,
    pub notices: Notices,
    pub public_url: Option<String>,
    pub rejections: Arc<Rejections>,
    /// Sources that a reload replaced, the latest first. They serve only to explain rejections.
    pub retired: ArcSwap<Vec<Arc<Source>>>,
}

/// A request as the face hands it over.
pub struct Arrived<'a> {
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    pub headers: Headers<'a>,
    /// When its head was complete.
    pub at: Instant,
}

/// What became of a request.
pub enum Received {
    /// A repeat of this event, recognised by its body.
    Known(Uuid),
    /// A question of the provider, which `VerifiedRequest::challenge` answers.
    Handshake(VerifiedRequest),
    /// The outcome of each of its parts.
    Recorded(Vec<Recorded>, VerifiedRequest),
}

/// Why a request whose body was read was not taken.
#[derive(Debug)]
pub enum NotTaken {
    Rejected(Rejection),
    /// The provider's key, or its answer to a handshake, could not be fetched. The text says from
    /// where.
    KeyUnavailable(String),
    Record(CommitError),
}

impl Intake {
    /// Puts new sources in force.
    pub fn replace_sources(&self, sources: Sources) {
        let old = self.sources.swap(Arc::new(sources));
        let retired = self.retired.load();
        let remembered = old
            .iter()
            .chain(retired.iter())
            .take(RETIRED_MAX)
            .cloned()
            .collect();
        self.retired.store(Arc::new(remembered));
    }

    /// Verifies a request and records what is new of it.
    pub async fn receive(
        &self,
        arrived: &Arrived<'_>,
        source: &Arc<Source>,
        body: &Bytes,
    ) -> Result<Received, NotTaken> {
        let verified = match self.verify_with_keys(arrived, source, body).await? {
            Verified::New(verified) => verified,
            Verified::Known(event) => {
                self.count(arrived, source, RequestStatus::Duplicate);
                return Ok(Received::Known(event));
            }
        };
        if verified.challenge().is_some() {
            if let Some(secret) = verified.learnt_secret() {
                self.learn(source, secret).await?;
            }
            if let Some(url) = verified.visit() {
                let visited = self.keyring.visit(url).await;
                visited.map_err(|_| {
                    NotTaken::KeyUnavailable("the handshake's URL was not to be had".into())
                })?;
            }
            self.report(arrived, source, &verified, RequestStatus::Handshake, None);
            return Ok(Received::Handshake(verified));
        }
        let parts = recording::parts(&verified);
        let recorded = recording::record(arrived.headers, &self.recorder, source, &verified).await;
        let recorded = recorded.map_err(NotTaken::Record)?;
        for (part, recorded) in parts.iter().zip(&recorded) {
            let (event, status) = recorded.told();
            if let Some(why) = part.type_dropped() {
                self.notices
                    .note(Notice::TypeDropped, &source.name, why, &event);
            }
            if status == RequestStatus::Conflict {
                self.notices
                    .note(Notice::Conflict, &source.name, "", &event);
            }
            self.report(arrived, source, part, status, Some(event));
        }
        Ok(Received::Recorded(recorded, verified))
    }

    /// Notes a refusal in the tail and, if it is `kept`, in the log of rejections.
    pub fn refuse(
        &self,
        arrived: &Arrived<'_>,
        source: Option<&Source>,
        (reason, detail): (&'static str, &str),
        body: Option<&Bytes>,
        kept: bool,
    ) {
        let id = if kept {
            self.rejections.write(Refused {
                at_unix_ms: self.clock.unix_ms(),
                source: source.map(|source| &source.name),
                reason,
                detail,
                method: arrived.method,
                target: arrived.target,
                headers: &mut arrived.headers.iter().copied(),
                body,
            })
        } else {
            None
        };
        if let Some(source) = source {
            self.meters.rejection(&source.name, reason);
            let example = id.map_or_else(|| "none kept".to_owned(), |id| id.to_string());
            self.notices
                .note(Notice::Refused, &source.name, reason, &example);
        }
        let name: &str = source.map_or("", |source| &source.name);
        tracing::debug!(source = name, reason, detail, "refused");
        self.tail.write(|| TailLine::Request {
            at: self.clock.utc(),
            source: name.to_owned(),
            event_type: None,
            event_key: None,
            status: RequestStatus::Rejected,
            reason: Some(reason.to_owned()),
            ack_ms: ms_since(arrived.at),
            event: None,
        });
    }

    async fn learn(&self, source: &Source, secret: &SecretString) -> Result<(), NotTaken> {
        match self
            .learning
            .keep(source, secret, &self.sources)
            .await
            .map_err(NotTaken::Record)?
        {
            Learnt::Yes => Ok(()),
            Learnt::No => {
                let detail = "another handshake brought the source's secret first";
                Err(NotTaken::Rejected(Rejection::new(Reason::NoMatch, detail)))
            }
        }
    }

    /// Verifies, and once more with the provider's key if that had to be fetched first.
    async fn verify_with_keys(
        &self,
        arrived: &Arrived<'_>,
        source: &Source,
        body: &Bytes,
    ) -> Result<Verified<Uuid>, NotTaken> {
        let rejection = match self.verify(arrived, source, body) {
            Ok(verified) => return Ok(verified),
            Err(rejection) => rejection,
        };
        let Some(need) = &rejection.needs else {
            return Err(NotTaken::Rejected(rejection));
        };
        let bring = self
            .keyring
            .bring(need, source.verifier.known_keys(), self.clock.unix_ms());
        match tokio::time::timeout(source.ack_budget, bring).await {
            Ok(Ok(())) => self
                .verify(arrived, source, body)
                .map_err(NotTaken::Rejected),
            Ok(Err(Missing::NotThere)) => {
                let detail = format!("the provider has no such key: {}", need.url);
                Err(NotTaken::Rejected(Rejection::new(Reason::NoMatch, detail)))
            }
            Ok(Err(Missing::Unavailable)) | Err(_) => {
                let detail = format!("the provider's key was not to be had from {}", need.url);
                Err(NotTaken::KeyUnavailable(detail))
            }
        }
    }

    /// A reader of the tail wants a line with the key and the type, so while there is one, every
    /// request is read in full.
    fn verify(
        &self,
        arrived: &Arrived<'_>,
        source: &Source,
        body: &Bytes,
    ) -> Result<Verified<Uuid>, Rejection> {
        let url = source.url_of(self.public_url.as_deref(), arrived.target);
        let query = Some(
            arrived
                .target
                .split_once('?')
                .map_or("", |(_, query)| query),
        );
        let (method, headers) = (arrived.method, arrived.headers);
        let view = Request {
            method,
            url: url.as_deref(),
            query,
            headers,
            body,
        };
        let known = || match self.tail.is_read() {
            true => None,
            false => self.recorder.recent().of_body(&source.name, body),
        };
        source
            .verifier
            .verify_unless(&view, self.clock.unix_ms(), known)
    }

    fn report(
        &self,
        arrived: &Arrived<'_>,
        source: &Source,
        verified: &VerifiedRequest,
        status: RequestStatus,
        event: Option<Uuid>,
    ) {
        self.count(arrived, source, status);
        self.tail.write(|| TailLine::Request {
            at: self.clock.utc(),
            source: source.name.to_string(),
            event_type: verified.event_type().map(str::to_owned),
            event_key: verified.event_key().map(str::to_owned),
            status,
            reason: verified.type_dropped().map(|_| "type_dropped".to_owned()),
            ack_ms: ms_since(arrived.at),
            event: event.map(EventId),
        });
    }

    fn count(&self, arrived: &Arrived<'_>, source: &Source, status: RequestStatus) {
        self.meters
            .request(&source.name, status, arrived.at.elapsed());
    }
}

fn ms_since(at: Instant) -> f64 {
    at.elapsed().as_secs_f64() * 1000.0
}
