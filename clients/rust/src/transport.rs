//! How a call gets its answer: sent again, always the same, until there is one or the time is over.
//! It knows nothing of steps and keys.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::error::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one call may take: the service's `ledger.call_timeout` (10 s by default), and some.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const BACKOFF_BASE: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// RFC 3986, section 2.3.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// One call.
pub(crate) struct Call {
    method: Method,
    /// Below `/v1`, with a slash at its start.
    path: String,
    body: Option<String>,
    /// How long one answer may take.
    answer_timeout: Duration,
    /// How long the call is sent again, if not as long as usual.
    give_up: Option<Duration>,
    /// Members that the answer has these values in, if it has them at all.
    about: Vec<(&'static str, String)>,
}

impl Call {
    pub(crate) fn get(path: String) -> Self {
        Self {
            method: Method::GET,
            path,
            body: None,
            answer_timeout: ANSWER_TIMEOUT,
            give_up: None,
            about: Vec::new(),
        }
    }

    pub(crate) fn post(path: String, body: &impl Serialize) -> Result<Self, Error> {
        Ok(Self {
            method: Method::POST,
            body: Some(serde_json::to_string(body)?),
            ..Self::get(path)
        })
    }

    /// The service may take this much longer to answer.
    pub(crate) fn waiting(self, wait: Duration) -> Self {
        Self {
            answer_timeout: ANSWER_TIMEOUT + wait,
            ..self
        }
    }

    /// An answer that names another in this member is not the call's.
    pub(crate) fn about(mut self, member: &'static str, value: &str) -> Self {
        self.about.push((member, value.to_owned()));
        self
    }

    /// Whether the answer names what the call is about, or nothing.
    fn is_answered_by(&self, reply: &Reply) -> bool {
        if self.about.is_empty() {
            return true;
        }
        let named: Named = serde_json::from_str(&reply.text).unwrap_or_default();
        self.about.iter().all(|(member, value)| {
            let found = match *member {
                "run" => &named.run,
                "step" => &named.step,
                "scope" => &named.scope,
                "key" => &named.key,
                _ => &named.claim_id,
            };
            found.as_str().is_none_or(|found| found == value)
        })
    }

    /// The call is sent again for this long, if not as long as usual.
    pub(crate) fn giving_up(self, give_up: Option<Duration>) -> Self {
        Self { give_up, ..self }
    }
}

/// What an answer says that it is about.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    run: Value,
    step: Value,
    scope: Value,
    key: Value,
    claim_id: Value,
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after_seconds: Option<u64>,
    pub(crate) text: String,
}

impl Reply {
    /// The body; null if it is no JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The last part of a problem's `type`; empty if the answer is no problem.
    pub(crate) fn kind(&self) -> String {
        let json = if self.status >= 400 {
            self.json()
        } else {
            Value::Null
        };
        json["type"]
            .as_str()
            .and_then(|kind| kind.rsplit(':').next())
            .unwrap_or_default()
            .to_owned()
    }

    /// The error that a problem stands for. `run` and `step` are those of the call, or the scope
    /// and the key.
    pub(crate) fn problem(&self, run: &str, step: &str) -> Error {
        let json = self.json();
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        let detail = text("detail").unwrap_or_default();
        let retry_after_seconds = self.retry_after_seconds.unwrap_or(1);
        let (run, step) = (run.to_owned(), step.to_owned());
        match self.kind().as_str() {
            "step-running" => Error::StepRunning {
                step,
                owner: text("owner"),
                retry_after_seconds,
            },
            "outcome-unknown" => Error::OutcomeUnknown {
                run,
                step,
                fence: json["fence"].as_i64().unwrap_or_default(),
                owner: text("owner"),
                evidence: json.get("error").filter(|said| !said.is_null()).cloned(),
            },
            "key-leased" => Error::KeyLeased {
                key: step,
                retry_after_seconds,
            },
            "input-changed" => Error::InputChanged(step),
            "stale-fence" => Error::LeaseLost(detail),
            kind => Error::Refused {
                status: self.status,
                kind: kind.to_owned(),
                detail,
            },
        }
    }
}

/// A name as one segment of a path. A URL can't carry "." and "..", however they are written
/// (RFC 3986, section 6.2.2.3).
pub(crate) fn segment(name: &str) -> Result<String, Error> {
    if matches!(name, "." | "..") {
        return Err(Error::Invalid(format!(
            "{name:?} can't be a name: URLs drop it"
        )));
    }
    Ok(utf8_percent_encode(name, UNRESERVED).to_string())
}

/// The calls' way to one service.
pub(crate) struct Transport {
    /// For claims and whatever else may wait at the service.
    waiting: Connections,
    /// For heartbeats and ends: these never stand behind what waits.
    direct: Connections,
    /// With `/v1`, without a slash at its end.
    base: String,
    token: String,
    /// How long a call is sent again.
    give_up: Duration,
}

impl Transport {
    /// `url` is the service's, without `/v1`.
    pub(crate) fn new(url: &str, token: &str, give_up: Duration) -> Result<Self, Error> {
        let parsed: Url = url
            .parse()
            .map_err(|error| Error::Invalid(format!("{url:?} is no URL: {error}")))?;
        Ok(Self {
            waiting: Connections::to(&parsed)?,
            direct: Connections::to(&parsed)?,
            base: format!("{}/v1", url.trim_end_matches('/')),
            token: token.to_owned(),
            give_up,
        })
    }

    /// Sends a call until it has an answer. It is always the same call, so the service does it once
    /// however often it arrives.
    pub(crate) async fn ask(&self, call: Call) -> Result<Reply, Error> {
        let until = Instant::now() + call.give_up.unwrap_or(self.give_up);
        let mut ceiling = BACKOFF_BASE;
        loop {
            let (wait, why) = match self.send(&call).await {
                Ok(reply) if !call.is_answered_by(&reply) => {
                    // What else comes on that connection would be wrong too.
                    self.connections(&call).renew()?;
                    (Duration::ZERO, "the answer was to another call".to_owned())
                }
                Ok(reply) if !matches!(reply.status, 429 | 502 | 503 | 504) => return Ok(reply),
                Ok(reply) => (
                    Duration::from_secs(reply.retry_after_seconds.unwrap_or_default()),
                    format!("{} {}", reply.status, reply.kind()),
                ),
                Err(error) => (Duration::ZERO, error.to_string()),
            };
            let wait = wait.max(ceiling.mul_f64(fraction()));
            if Instant::now() + wait > until {
                return Err(Error::Unavailable(why));
            }
            tokio::time::sleep(wait).await;
            ceiling = BACKOFF_MAX.min(ceiling * 2);
        }
    }

    fn connections(&self, call: &Call) -> &Connections {
        if call.answer_timeout > ANSWER_TIMEOUT {
            &self.waiting
        } else {
            &self.direct
        }
    }

    async fn send(&self, call: &Call) -> Result<Reply, reqwest::Error> {
        let url = format!("{}{}", self.base, call.path);
        let mut request = self
            .connections(call)
            .client()
            .request(call.method.clone(), url)
            .timeout(call.answer_timeout)
            .bearer_auth(&self.token);
        if let Some(body) = &call.body {
            request = request
                .header("content-type", "application/json")
                .body(body.clone());
        }
        let response = request.send().await?;
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok());
        let retry_after_seconds = retry_after.and_then(|value| value.parse().ok());
        Ok(Reply {
            status: response.status().as_u16(),
            retry_after_seconds,
            text: response.text().await?,
        })
    }
}

/// Connections of their own to one service, as many as there are calls at once.
struct Connections {
    /// Whether the service is on this machine. It is not asked for through a proxy then.
    is_near: bool,
    client: Mutex<reqwest::Client>,
}

impl Connections {
    fn to(url: &Url) -> Result<Self, Error> {
        let is_near = is_loopback(url);
        Ok(Self {
            is_near,
            client: Mutex::new(new_client(is_near)?),
        })
    }

    fn client(&self) -> reqwest::Client {
        self.client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Leaves all connections: calls on their way end, the next ones connect anew.
    fn renew(&self) -> Result<(), Error> {
        let client = new_client(self.is_near)?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
    }
}

fn new_client(is_near: bool) -> Result<reqwest::Client, Error> {
    // Only the first installation can succeed, and any provider is as good as another.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT);
    let builder = if is_near { builder.no_proxy() } else { builder };
    builder
        .build()
        .map_err(|error| Error::Invalid(format!("can't set up the HTTP client: {error}")))
}

/// A number of at least 0 and less than 1, for jitter.
#[expect(clippy::disallowed_methods, reason = "this is the source")]
fn fraction() -> f64 {
    rand::random()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_is_one_segment_of_a_path() {
        assert_eq!(
            segment("a/b c%2F?ü#..").unwrap(),
            "a%2Fb%20c%252F%3F%C3%BC%23.."
        );
        assert_eq!(segment("Aa0-_.~").unwrap(), "Aa0-_.~");
        assert!(matches!(segment(".."), Err(Error::Invalid(_))));
    }

    #[test]
    fn a_problem_is_the_error_that_its_type_names() {
        let reply = |kind: &str, retry_after_seconds| {
            Reply {
            status: 409,
            retry_after_seconds,
            text: json!({ "type": format!("urn:hookonce:{kind}"), "detail": "d", "owner": "o", "fence": 3 }).to_string(),
        }
        };
        let problem = |kind: &str| reply(kind, Some(7)).problem("r", "s");
        assert!(matches!(
            problem("step-running"),
            Error::StepRunning { step, owner: Some(owner), retry_after_seconds: 7 } if step == "s" && owner == "o"
        ));
        assert!(
            matches!(problem("outcome-unknown"), Error::OutcomeUnknown { run, step, fence: 3, .. } if run == "r" && step == "s")
        );
        assert!(
            matches!(problem("key-leased"), Error::KeyLeased { key, retry_after_seconds: 7 } if key == "s")
        );
        assert!(matches!(
            reply("key-leased", None).problem("r", "s"),
            Error::KeyLeased {
                retry_after_seconds: 1,
                ..
            }
        ));
        assert!(matches!(problem("input-changed"), Error::InputChanged(step) if step == "s"));
        assert!(matches!(problem("stale-fence"), Error::LeaseLost(detail) if detail == "d"));
        assert!(
            matches!(problem("too-large"), Error::Refused { status: 409, kind, detail } if kind == "too-large" && detail == "d")
        );
        let html = Reply {
            status: 404,
            retry_after_seconds: None,
            text: "<html>".into(),
        };
        assert!(
            matches!(html.problem("r", "s"), Error::Refused { status: 404, kind, .. } if kind.is_empty())
        );
    }

    #[test]
    fn a_service_on_this_machine_is_known_by_its_host() {
        for (url, expected) in [
            ("http://localhost:8081", true),
            ("http://127.0.0.2:8081", true),
            ("http://[::1]:8081", true),
            ("http://10.0.0.1:8081", false),
            ("https://hookonce.example.com", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), expected, "{url}");
        }
        assert!(matches!(
            Transport::new("no URL", "t", Duration::ZERO),
            Err(Error::Invalid(_))
        ));
    }
}
