//! Whether the signature is right: first its form, then the time, then the digest, then what else
//! must hold. Every secret is tried in constant time.

use std::borrow::Cow;

use secrecy::ExposeSecret as _;
use subtle::Choice;

use crate::{
    keys::key::{Key, joined, width},
    locate::{
        canonical::{escaped, other_ports},
        document::find,
        jws::Token,
        piece::Values,
        selector::Inputs,
        signature_text::{Candidates, TooMany},
        template::Chunk,
    },
    name::name,
    plan::{compiled::Plan, time::timestamp},
    rejection::{Reason, Rejection},
    request::Request,
    spec::Algorithm,
    verify::verifier::Verifier,
};

/// The most signatures in one header that have a time each.
const GROUPS_MAX: usize = 8;

impl Verifier {
    /// The verifier of this request: that of the other form, if the request has that form's
    /// signature and not this one's.
    pub(super) fn for_request(&self, request: &Request<'_>) -> &Self {
        let Some(also) = &self.also else { return self };
        if self.has_signature(request) || !also.has_signature(request) {
            self
        } else {
            also
        }
    }

    fn has_signature(&self, request: &Request<'_>) -> bool {
        let (document, mut latin1) = (self.plan.document(request, None), None);
        let found = find(&self.plan.before, &document, &mut latin1);
        self.plan
            .signatures(&Inputs {
                request,
                found: found.as_ref(),
                signature: None,
            })
            .is_ok()
    }

    /// Checks the signature. If the senders of a scheme differ, the body and the URL are also tried
    /// in their other forms. Gives the index of the secret that made it.
    pub(super) fn check_signature(
        &self,
        request: &Request<'_>,
        now_unix_ms: i64,
    ) -> Result<usize, Rejection> {
        let checked = self.check_at_url(request, now_unix_ms);
        if !matches!(
            checked,
            Err(Rejection {
                reason: Reason::NoMatch,
                ..
            })
        ) {
            return checked;
        }
        let others = request
            .url
            .filter(|_| self.plan.url_ports)
            .map(other_ports)
            .unwrap_or_default();
        let right = others.iter().find_map(|url| {
            self.check_at_url(
                &Request {
                    url: Some(url),
                    ..*request
                },
                now_unix_ms,
            )
            .ok()
        });
        let escaped = if self.plan.body_escapes {
            escaped(request.body)
        } else {
            None
        };
        let right = right.or_else(|| {
            self.check_at_url(
                &Request {
                    body: &escaped?,
                    ..*request
                },
                now_unix_ms,
            )
            .ok()
        });
        right.map_or(checked, Ok)
    }

    fn check_at_url(&self, request: &Request<'_>, now_unix_ms: i64) -> Result<usize, Rejection> {
        let plan = &*self.plan;
        let (document, mut latin1) = (plan.document(request, None), None);
        let found = find(&plan.before, &document, &mut latin1);
        let inputs = Inputs {
            request,
            found: found.as_ref(),
            signature: None,
        };
        let texts = plan.signatures(&inputs)?;
        let Some(separator) = &plan.groups else {
            return self.check_one(inputs, &texts, now_unix_ms);
        };
        let texts = texts
            .iter()
            .map(|text| text_of(Some(text)))
            .collect::<Result<Vec<_>, _>>()?;
        let groups = texts
            .into_iter()
            .flat_map(|text| text.split(separator.as_str()))
            .filter(|group| !group.is_empty());
        let groups: Vec<&str> = groups.take(GROUPS_MAX + 1).collect();
        // The number is checked before any signature, because each costs a digest of the body.
        if groups.len() > GROUPS_MAX {
            return Err(Rejection::new(
                Reason::MalformedSignature,
                "more signatures than are ever sent",
            ));
        }
        let mut refused: Option<Rejection> = None;
        for group in groups {
            match self.check_one(inputs, &[Cow::Borrowed(group.as_bytes())], now_unix_ms) {
                Ok(secret) => return Ok(secret),
                // The failure that came furthest is told.
                Err(found)
                    if refused
                        .as_ref()
                        .is_none_or(|known| depth(known.reason) < depth(found.reason)) =>
                {
                    refused = Some(found)
                }
                Err(_) => {}
            }
        }
        Err(refused.unwrap_or_else(|| {
            Rejection::new(
                Reason::MalformedSignature,
                "the signature has not the provider's form",
            )
        }))
    }

    fn check_one(
        &self,
        inputs: Inputs<'_>,
        texts: &[Cow<'_, [u8]>],
        now_unix_ms: i64,
    ) -> Result<usize, Rejection> {
        let plan = &*self.plan;
        let inputs = Inputs {
            signature: Some((&plan.grammar, text_of(texts.first())?)),
            ..inputs
        };
        let token = if plan.grammar.jws {
            Some(self.token(&inputs, now_unix_ms)?)
        } else {
            None
        };
        let candidates = match &token {
            Some(token) => Candidates::one(token.signature.clone()),
            None => self.candidates(texts, plan.algorithms[0])?,
        };
        let timestamp = match &plan.time {
            Some(time) => timestamp(time, &inputs, now_unix_ms)?,
            None => None,
        };
        let id = match &plan.coverage.id {
            Some(selector) => selector.resolve(&inputs)?.map(|(_, value)| value),
            None => None,
        };
        let url_decode = plan.url_decode.as_deref();
        let values = Values {
            timestamp: timestamp.as_deref(),
            id: id.as_deref(),
            url_decode,
            ..Values::none(&inputs)
        };
        let signed = match &token {
            Some(token) => vec![Chunk::Bytes(Cow::Borrowed(token.signed.as_bytes()))],
            None => event_content(plan, &values)?,
        };
        if plan.keys.is_some() {
            self.check_fetched(&inputs, token.as_ref(), &signed, texts, now_unix_ms)?;
            plan.binds.iter().try_for_each(|bind| bind.holds(&inputs))?;
            return Ok(0);
        }
        let matched = self.matched(token.as_ref(), texts, candidates, &signed, &values)?;
        let secret = matched.ok_or_else(|| no_match(plan, &inputs))?;
        plan.binds.iter().try_for_each(|bind| bind.holds(&inputs))?;
        Ok(secret)
    }

    /// The index of the secret that makes one of the signatures. `candidates` are those of the
    /// scheme's first algorithm, or what signs the token.
    fn matched(
        &self,
        token: Option<&Token<'_>>,
        texts: &[Cow<'_, [u8]>],
        mut candidates: Candidates,
        signed: &[Chunk<'_>],
        values: &Values<'_>,
    ) -> Result<Option<usize>, Rejection> {
        let is_escaped = values.url_decode.is_some()
            && values
                .inputs
                .request
                .url
                .is_some_and(|url| url.contains('%'));
        let mut matched = None;
        for (index, (algorithm, keys)) in self.keys.iter().enumerate() {
            if token.is_some_and(|token| token.algorithm != *algorithm) {
                continue;
            }
            if index > 0 && token.is_none() {
                candidates = self.candidates(texts, *algorithm)?;
            }
            let found = if self.plan.all {
                all_match(keys, &candidates)
            } else {
                any_match(keys, signed, &candidates)
            };
            matched = matched.or(found);
            // Some senders of such a scheme do not undo the escapes, and both are the same URL.
            if matched.is_none() && is_escaped {
                let as_sent = event_content(
                    &self.plan,
                    &Values {
                        url_decode: None,
                        ..*values
                    },
                )?;
                matched = any_match(keys, &as_sent, &candidates);
            }
        }
        Ok(matched)
    }

    /// Checks with the provider's own keys.
    fn check_fetched(
        &self,
        inputs: &Inputs<'_>,
        token: Option<&Token<'_>>,
        signed: &[Chunk<'_>],
        texts: &[Cow<'_, [u8]>],
        now_unix_ms: i64,
    ) -> Result<(), Rejection> {
        let Some(keys) = &self.plan.keys else {
            return Ok(());
        };
        keys.expects(inputs, &self.secrets)?;
        let key_id = token.and_then(|token| token.key_id.as_deref());
        let (set, need) = keys.find(inputs, key_id, &self.secrets, &self.known, now_unix_ms)?;
        for algorithm in self
            .plan
            .algorithms
            .iter()
            .filter(|algorithm| token.is_none_or(|token| token.algorithm == **algorithm))
        {
            let candidates = match token {
                Some(token) => Candidates::one(token.signature.clone()),
                None => self.candidates(texts, *algorithm)?,
            };
            let signatures: Vec<&[u8]> = candidates.each().collect();
            let right = |message: &[u8]| {
                set.is_right(
                    *algorithm,
                    key_id,
                    message,
                    signatures.iter().copied(),
                    now_unix_ms,
                )
            };
            if !signed.iter().any(|chunk| matches!(chunk, Chunk::Secret)) {
                if right(&joined(signed, b"")) {
                    return Ok(());
                }
            } else if self
                .secrets
                .iter()
                .any(|secret| right(&joined(signed, secret.expose_secret().as_bytes())))
            {
                return Ok(());
            }
        }
        if set.is_expired(now_unix_ms) {
            return Err(Rejection::new(
                Reason::NoMatch,
                "the provider's certificate is out of date",
            ));
        }
        // The provider may have published new keys since.
        let detail = "no key of the provider's is the one that signed";
        Err(Rejection {
            reason: Reason::NoMatch,
            detail: detail.into(),
            ..Rejection::lacking(need)
        })
    }

    /// The token that is the signature. It has one of the scheme's algorithms and is valid at this
    /// time.
    fn token<'a>(&self, inputs: &Inputs<'a>, now_unix_ms: i64) -> Result<Token<'a>, Rejection> {
        let malformed = |detail: &'static str| Rejection::new(Reason::MalformedSignature, detail);
        let text = inputs
            .signature
            .and_then(|(grammar, text)| grammar.token(text));
        let token = Token::read(
            text.ok_or_else(|| malformed("the signature has not the provider's form"))?,
        )?;
        if !self.plan.algorithms.contains(&token.algorithm) {
            return Err(malformed("the token's algorithm is not the scheme's"));
        }
        token.is_current(self.plan.leeway_ms, now_unix_ms)?;
        Ok(token)
    }

    fn candidates(
        &self,
        texts: &[Cow<'_, [u8]>],
        algorithm: Algorithm,
    ) -> Result<Candidates, Rejection> {
        let mut candidates = Candidates::default();
        for text in texts {
            let too_many = |TooMany| {
                Rejection::new(
                    Reason::MalformedSignature,
                    "more signatures than are ever sent",
                )
            };
            self.plan
                .grammar
                .collect(text_of(Some(text))?, width(algorithm), &mut candidates)
                .map_err(too_many)?;
        }
        if candidates.readable == 0 {
            return Err(Rejection::new(
                Reason::MalformedSignature,
                "the signature has not the provider's form",
            ));
        }
        Ok(candidates)
    }
}

fn any_match(keys: &[Key], content: &[Chunk<'_>], candidates: &Candidates) -> Option<usize> {
    keys.iter().enumerate().fold(None, |matched, (index, key)| {
        let matches = bool::from(key.matches(content, candidates));
        matched.or(matches.then_some(index))
    })
}

/// Whether every candidate, of which there is at least one, is one of these tokens.
fn all_match(keys: &[Key], candidates: &Candidates) -> Option<usize> {
    let mut each = candidates.each();
    let is_known = |token: &[u8]| {
        keys.iter()
            .fold(Choice::from(0), |found, key| found | key.is_token(token))
            .into()
    };
    let right = each.len() > 0 && each.all(is_known);
    right.then_some(0)
}

/// What an event's signature covers.
fn event_content<'a>(plan: &'a Plan, values: &Values<'a>) -> Result<Vec<Chunk<'a>>, Rejection> {
    let content = plan.coverage.content(values)?;
    if plan
        .challenges
        .iter()
        .any(|challenge| challenge.gives_away(&content))
    {
        return Err(Rejection::new(
            Reason::NoMatch,
            "what is signed may be a handshake's, whose digest is given to whoever asks",
        ));
    }
    Ok(content)
}

fn no_match(plan: &Plan, inputs: &Inputs<'_>) -> Rejection {
    const NONE: &str = "no signature matches any secret of the source";
    let signer = plan
        .key_id
        .as_ref()
        .and_then(|selector| selector.resolve(inputs).ok().flatten());
    let told = signer.and_then(|(_, value)| {
        name(&value).map(|name| format!("{NONE}; the request says that the key {name:?} signed it"))
    });
    told.map_or_else(
        || Rejection::new(Reason::NoMatch, NONE),
        |told| Rejection::new(Reason::NoMatch, told),
    )
}

/// How far a check came before it failed.
fn depth(reason: Reason) -> usize {
    match reason {
        Reason::NoMatch => 4,
        Reason::TimestampTooOld | Reason::TimestampInFuture => 3,
        Reason::TimestampMalformed => 2,
        Reason::TimestampMissing => 1,
        _ => 0,
    }
}

fn text_of<'t>(text: Option<&'t Cow<'_, [u8]>>) -> Result<&'t str, Rejection> {
    text.and_then(|text| std::str::from_utf8(text).ok())
        .ok_or_else(|| Rejection::new(Reason::MalformedSignature, "the signature is no text"))
}
