//! Why a request was refused: the checks in the order in which they are made, each with what it
//! found. Nothing here says what a right signature would have been.

use crate::{
    keys::key::width,
    locate::{
        jws::Token,
        selector::{Inputs, Place},
        signature_text::Candidates,
    },
    plan::{compiled::Plan, time::unix_ms},
    rejection::Reason,
    request::Request,
    verify::verifier::Verifier,
};

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// `headers`, `signature`, `form`, `time` or `digest`.
    pub check: &'static str,
    /// None if an earlier check failed, or if there is nothing to check.
    pub passed: Option<bool>,
    /// What was found there, as a sentence; empty if nothing was looked at.
    pub found: String,
}

const CHECKS: [&str; 5] = ["headers", "signature", "form", "time", "digest"];

/// The check that refuses for this reason.
fn failed_check(reason: Reason) -> usize {
    match reason {
        Reason::MalformedRequest => 0,
        Reason::MissingSignature => 1,
        Reason::MalformedSignature => 2,
        Reason::TimestampMissing
        | Reason::TimestampMalformed
        | Reason::TimestampTooOld
        | Reason::TimestampInFuture => 3,
        Reason::NoMatch | Reason::UnknownProvider | Reason::Unsupported => 4,
    }
}

impl Verifier {
    /// The checks of this request at this time (unix milliseconds), in the order in which they are
    /// made: always the same five.
    pub fn explain(&self, request: &Request<'_>, now_unix_ms: i64) -> Vec<Finding> {
        let rejection = self.verify(request, now_unix_ms).err();
        let failed = rejection
            .as_ref()
            .map_or(CHECKS.len(), |rejection| failed_check(rejection.reason));
        CHECKS
            .iter()
            .enumerate()
            .map(|(at, check)| {
                let mut found = if at > failed {
                    String::new()
                } else {
                    self.found(at, request, now_unix_ms)
                };
                if let (true, Some(rejection)) = (at == failed, &rejection) {
                    found = if found.is_empty() {
                        rejection.detail.to_string()
                    } else {
                        format!("{}: {found}", rejection.detail)
                    };
                }
                let passed = if at == 3 && at != failed && self.plan().time.is_none() {
                    None
                } else {
                    passed(at, failed)
                };
                Finding {
                    check,
                    passed,
                    found,
                }
            })
            .collect()
    }

    fn found(&self, check: usize, request: &Request<'_>, now_unix_ms: i64) -> String {
        let plan = self.plan();
        match check {
            1 => plan
                .signature
                .places()
                .map(|place| presence(place, request))
                .collect::<Vec<_>>()
                .join(", "),
            2 => match self.candidates_of(request) {
                Some(candidates) => {
                    let (readable, fit) = (candidates.readable, candidates.each().len());
                    format!(
                        "{readable} in the provider's form, {fit} of them of its algorithm's length"
                    )
                }
                None => String::new(),
            },
            3 => match (&plan.time, self.signed_at(request)) {
                (None, _) => "this provider signs no time".into(),
                (Some(_), None) => String::new(),
                (Some(time), Some(signed_at)) => {
                    let age = now_unix_ms.saturating_sub(signed_at).div_euclid(1000);
                    let allowed = time
                        .tolerance_ms
                        .map_or_else(|| "any age".into(), |ms| format!("{} s", ms / 1000));
                    if age < 0 {
                        format!(
                            "signed {} s after it came, {allowed} allowed",
                            age.saturating_neg()
                        )
                    } else {
                        format!("signed {age} s before it came, {allowed} allowed")
                    }
                }
            },
            4 => {
                let keys = self
                    .fetched(request, now_unix_ms)
                    .map_or_else(String::new, |said| format!("{said}; "));
                format!(
                    "{keys}{} tried, {}",
                    counted(self.keys_len(), "secret"),
                    counted(request.body.len(), "byte")
                )
            }
            _ => String::new(),
        }
    }

    /// Which of the provider's own keys could be tried.
    fn fetched(&self, request: &Request<'_>, now_unix_ms: i64) -> Option<String> {
        let keys = self.plan().keys.as_ref()?;
        self.with_signatures(request, |plan, inputs, texts| {
            let text = std::str::from_utf8(texts.first()?).ok()?;
            let inputs = Inputs {
                signature: Some((&plan.grammar, text)),
                ..*inputs
            };
            let token = if plan.grammar.jws {
                plan.grammar.token(text)
            } else {
                None
            };
            let key_id = token.and_then(|token| Token::read(token).ok()?.key_id);
            keys.told(&inputs, key_id.as_deref(), self.known_keys(), now_unix_ms)
        })
    }

    fn candidates_of(&self, request: &Request<'_>) -> Option<Candidates> {
        self.with_signatures(request, |plan, _, texts| {
            let mut candidates = Candidates::default();
            for text in texts {
                plan.grammar
                    .collect(
                        std::str::from_utf8(text).ok()?,
                        width(plan.algorithms[0]),
                        &mut candidates,
                    )
                    .ok()?;
            }
            Some(candidates)
        })
    }

    /// When the request says that it was signed (unix milliseconds). None if the scheme has no
    /// time, or if it can't be read.
    pub fn signed_at(&self, request: &Request<'_>) -> Option<i64> {
        self.with_signatures(request, |plan, inputs, texts| {
            let time = plan.time.as_ref()?;
            let first = std::str::from_utf8(texts.first()?).ok()?;
            let first = plan.groups.as_ref().map_or(first, |separator| {
                first.split(separator.as_str()).next().unwrap_or(first)
            });
            let (_, value) = time
                .from
                .resolve(&Inputs {
                    signature: Some((&plan.grammar, first)),
                    ..*inputs
                })
                .ok()??;
            unix_ms(time.unit, std::str::from_utf8(&value).ok()?)
        })
    }

    fn with_signatures<T>(
        &self,
        request: &Request<'_>,
        read: impl FnOnce(&Plan, &Inputs<'_>, &[std::borrow::Cow<'_, [u8]>]) -> Option<T>,
    ) -> Option<T> {
        let plan = self.plan();
        let document = plan.document(request, None);
        let found = if plan.before.is_empty() {
            None
        } else {
            plan.before.find(&document)
        };
        let inputs = Inputs {
            request,
            found: found.as_ref(),
            signature: None,
        };
        let texts = plan.signatures(&inputs).ok()?;
        read(plan, &inputs, &texts)
    }

    /// The headers that have the scheme's signature, lower-case.
    pub fn signature_headers(&self) -> impl Iterator<Item = &str> {
        self.plan().signature.places().filter_map(|place| {
            if let Place::Header(name) = place {
                Some(name.as_str())
            } else {
                None
            }
        })
    }
}

fn passed(at: usize, failed: usize) -> Option<bool> {
    match at.cmp(&failed) {
        std::cmp::Ordering::Less => Some(true),
        std::cmp::Ordering::Equal => Some(false),
        std::cmp::Ordering::Greater => None,
    }
}

fn presence(place: &Place, request: &Request<'_>) -> String {
    match place {
        Place::Header(name) => match request.headers.iter().find(|(known, _)| known == name) {
            Some((_, value)) => format!("{place} is there ({})", counted(value.len(), "byte")),
            None => format!("{place} is missing"),
        },
        place => place.to_string(),
    }
}

fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
