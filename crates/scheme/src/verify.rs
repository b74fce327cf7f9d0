//! Verifies one request: the form of the signature, then the time, then the digest, and only then the event's key and type. The cheap
//! checks come first; every secret is tried in constant time.

use std::{borrow::Cow, convert::Infallible, sync::Arc};

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::{
    Catalog, Reason, Rejection, Request, Scheme, SchemeError,
    candidates::{Candidates, TooMany},
    canonical::{escaped, other_ports},
    challenge::Challenge,
    gzip::{Broken, unpacked},
    identity::Compared,
    jws::Token,
    keys::{KnownKeys, lacking},
    mac::{self, Key, key_name},
    name::name,
    of_source::scheme_of,
    plan::Plan,
    read::{document, find},
    secrets::{keys_of, written_in},
    selector::{Inputs, Place, Repeated, Resolved, Selector},
    template::{Absent, Chunk, Template, Values},
    times::timestamp,
    verified::{Handshake, Read, Verified, VerifiedRequest, accepted},
};
use crate::spec::{Algorithm, Gzip, SourceSpec};

/// Signatures in one header, each with its own time.
const GROUPS_MAX: usize = 8;

/// A source's scheme with its secrets prepared.
pub struct Verifier {
    scheme: Arc<Scheme>,
    plan: Arc<Plan>,
    /// By algorithm, one for each secret.
    keys: Vec<(Algorithm, Vec<Key>)>,
    /// What a handshake's token may be, and the secrets as they are written; hashed. Empty where no handshake of the scheme asks.
    tokens: Vec<[u8; 32]>,
    held: Vec<[u8; 32]>,
    /// What the secrets have before the part that is the key.
    key_names: Vec<Option<String>>,
    /// The secret is taken from a handshake.
    learns: bool,
    /// For a scheme whose keys are fetched: those that are known, and the secrets as they are written.
    known: Arc<KnownKeys>,
    secrets: Vec<SecretString>,
    /// Keys are read as earlier versions made them, too.
    pub(super) looks_back: bool,
    /// For requests without this scheme's signature: another form of the provider's.
    also: Option<Box<Verifier>>,
}

impl Verifier {
    /// `key` and scheme fields of the source override the scheme's own. Errors' keys are those of the source's table.
    pub fn new(catalog: &Catalog, source: &SourceSpec, secrets: &[SecretString]) -> Result<Self, Vec<SchemeError>> {
        let (verifier, mut errors) = Self::build(catalog, source, secrets)?;
        let can_learn = verifier.plan.learns_secret();
        if source.learn_secret && !can_learn {
            errors.push(SchemeError::new("learn_secret", "this provider brings no secret in a handshake: set `secret`"));
        }
        if secrets.is_empty() && !verifier.learns {
            let help = if can_learn {
                "set `learn_secret = true` to take it from the provider's handshake"
            } else {
                "without a secret nothing can be verified"
            };
            errors.push(SchemeError::new("secrets", &format!("is missing: {help}")));
        }
        if errors.is_empty() { Ok(verifier) } else { Err(errors) }
    }

    /// The same, leaving out secrets that can't be used: with none left nothing matches.
    pub fn with_usable(catalog: &Catalog, source: &SourceSpec, secrets: &[SecretString]) -> Result<Self, Vec<SchemeError>> {
        Self::build(catalog, source, secrets).map(|(verifier, _)| verifier)
    }

    fn build(catalog: &Catalog, source: &SourceSpec, secrets: &[SecretString]) -> Result<(Self, Vec<SchemeError>), Vec<SchemeError>> {
        let scheme = scheme_of(catalog, source)?;
        // A built-in scheme is sound; one that has no plan needs an algorithm that is not built.
        let unbuilt = |errors: Vec<SchemeError>| {
            errors.iter().map(|error| SchemeError::new("provider", &format!("{}: {error}", scheme.name))).collect()
        };
        let plan = Arc::clone(scheme.plan().map_err::<Vec<SchemeError>, _>(unbuilt)?);
        let (keys, errors) = keys_of(&plan, secrets);
        let asked = plan.challenges.iter().any(|challenge| challenge.token.is_some() || challenge.keep.is_some());
        let written = secrets.iter().map(SecretString::expose_secret).filter(|secret| asked && !secret.is_empty());
        let held: Vec<[u8; 32]> = written.map(|secret| Sha256::digest(secret).into()).collect();
        let learns = source.learn_secret && plan.learns_secret();
        let key_names = secrets.iter().map(|secret| key_name(&plan.steps, secret.expose_secret()).map(str::to_owned)).collect();
        let known = Arc::clone(catalog.known_keys());
        let written_as = secrets;
        let secrets = if plan.keys.is_some() { written_in(secrets) } else { Vec::new() };
        let tokens = held.clone();
        let also = Self::also(catalog, source, &scheme, written_as)?;
        let mut errors = errors;
        if also.as_ref().is_some_and(|also| also.keys_len() > 0) && !errors.is_empty() {
            // A secret of the other form is right where it fits that one.
            errors.retain(|error| !also.as_ref().is_some_and(|also| also.takes_secret(error, written_as)));
        }
        Ok((Self { scheme, plan, keys, tokens, held, key_names, learns, known, secrets, looks_back: false, also }, errors))
    }

    /// The verifier of the scheme's other form, with the source's own fields but for those of the scheme.
    fn also(
        catalog: &Catalog,
        source: &SourceSpec,
        scheme: &Scheme,
        secrets: &[SecretString],
    ) -> Result<Option<Box<Self>>, Vec<SchemeError>> {
        let Some(name) = &scheme.spec.also else { return Ok(None) };
        if source.provider == *name || catalog.get(name).is_none_or(|other| other.spec.also.is_some()) {
            return Err(vec![SchemeError::new("also", &format!("{name:?} is no provider, or one with another form itself"))]);
        }
        let source = SourceSpec { provider: name.clone(), scheme: None, ..source.clone() };
        Ok(Some(Box::new(Self::build(catalog, &source, secrets)?.0)))
    }

    /// Whether the secret that this error is about is one for this scheme.
    fn takes_secret(&self, error: &SchemeError, secrets: &[SecretString]) -> bool {
        let index = error.key.strip_prefix("secrets[").and_then(|rest| rest.strip_suffix(']')?.parse::<usize>().ok());
        index.and_then(|index| secrets.get(index)).is_some_and(|secret| keys_of(&self.plan, std::slice::from_ref(secret)).1.is_empty())
    }

    /// Who verifies this request: the other form, where it has that one's signature and not this one's.
    pub(super) fn for_request(&self, request: &Request<'_>) -> &Self {
        let Some(also) = &self.also else { return self };
        if self.has_signature(request) || !also.has_signature(request) { self } else { also }
    }

    fn has_signature(&self, request: &Request<'_>) -> bool {
        let (document, mut latin1) = (document(&self.plan, request, None), None);
        let found = find(&self.plan.before, &document, &mut latin1);
        signatures(&self.plan, &Inputs { request, found: found.as_ref(), signature: None }).is_ok()
    }

    /// The same, telling the keys of earlier versions as well: for as long as there may be events that were recorded under them.
    #[must_use]
    pub fn looking_back(mut self, looks_back: bool) -> Self {
        self.looks_back = looks_back;
        self.also = self.also.map(|also| Box::new(also.looking_back(looks_back)));
        self
    }

    /// With the token that handshakes are asked for. Without one, it is any of the secrets.
    #[must_use]
    pub fn with_verify_token(mut self, token: Option<&SecretString>) -> Self {
        if let Some(token) = token.map(SecretString::expose_secret).filter(|token| !token.is_empty()) {
            self.tokens = vec![Sha256::digest(token).into()];
        }
        self
    }

    /// With this secret, where it has none; None where it has one, or this one is not usable.
    pub fn with_secret(&self, secret: &SecretString) -> Option<Self> {
        let (keys, errors) = keys_of(&self.plan, std::slice::from_ref(secret));
        let held = vec![<[u8; 32]>::from(Sha256::digest(secret.expose_secret()))];
        let tokens = if self.tokens.is_empty() { held.clone() } else { self.tokens.clone() };
        let (scheme, plan) = (Arc::clone(&self.scheme), Arc::clone(&self.plan));
        let known = Arc::clone(&self.known);
        let (learns, looks_back) = (self.learns, self.looks_back);
        let (key_names, secrets, also) = (Vec::new(), Vec::new(), None);
        let made = Self { scheme, plan, keys, tokens, held, key_names, learns, known, secrets, looks_back, also };
        (self.is_open() && errors.is_empty()).then_some(made)
    }

    /// The scheme with the source's own fields in it.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// The headers that are themselves the secret (a shared token, one that a handshake brings), lower-case: not for logs, nor for handlers.
    pub fn secret_headers(&self) -> impl Iterator<Item = &str> {
        let token = self.plan.algorithms.contains(&Algorithm::Token);
        let brought = self.plan.challenges.iter().filter_map(|challenge| challenge.keep.as_ref()).flat_map(Selector::places);
        let places = self.plan.signature.places().filter(move |_| token).chain(brought);
        let own = places.filter_map(|place| if let Place::Header(name) = place { Some(name.as_str()) } else { None });
        let others: Vec<&str> = self.also.iter().flat_map(|also| also.secret_headers().collect::<Vec<_>>()).collect();
        own.chain(others)
    }

    /// Where keys that were fetched for it are to be put.
    pub fn known_keys(&self) -> &KnownKeys {
        &self.known
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Secrets that are tried.
    pub(super) fn keys_len(&self) -> usize {
        if self.plan.keys.is_some() {
            return self.secrets.len();
        }
        self.keys.iter().map(|(_, keys)| keys.len()).max().unwrap_or(0)
    }

    /// Whether it is not established that the event key names an event: under it another body may be another event.
    pub fn key_is_doubtful(&self) -> bool {
        self.plan.key_is_doubtful
    }

    /// Whether requests by this method can be anything but refused.
    pub fn takes_method(&self, method: &str) -> bool {
        method == "POST" || self.plan.challenges.iter().any(|challenge| challenge.method() == method)
    }

    /// Whether a secret can be learnt in a handshake, and none is there yet.
    pub fn is_open(&self) -> bool {
        self.learns && self.keys.iter().all(|(_, keys)| keys.is_empty())
    }

    /// Verifies one request at this time (unix milliseconds).
    pub fn verify(&self, request: &Request<'_>, now_unix_ms: i64) -> Result<VerifiedRequest, Rejection> {
        match self.verify_unless(request, now_unix_ms, || None::<Infallible>)? {
            Verified::New(verified) => Ok(verified),
            Verified::Known(never) => match never {},
        }
    }

    /// The same, but of a right request whose key is of the body alone nothing more is read where that very body is `known` already.
    pub fn verify_unless<K>(
        &self,
        request: &Request<'_>,
        now_unix_ms: i64,
        known: impl FnOnce() -> Option<K>,
    ) -> Result<Verified<K>, Rejection> {
        self.for_request(request).verify_own(request, now_unix_ms, known)
    }

    fn verify_own<K>(&self, request: &Request<'_>, now_unix_ms: i64, known: impl FnOnce() -> Option<K>) -> Result<Verified<K>, Rejection> {
        let plan = &*self.plan;
        once(&plan.once, request)?;
        if let Some(verified) = self.unsigned_handshake(request)? {
            return Ok(Verified::New(verified));
        }
        let unpacked = match plan.gzip {
            Some(_) => unpacked(request.body).map_err(|Broken| rejection(Reason::MalformedRequest, "the body can't be unpacked"))?,
            None => None,
        };
        let view = match &unpacked {
            Some(body) => Request { body, ..*request },
            None => *request,
        };
        let signed = if plan.gzip == Some(Gzip::AsSent) { request } else { &view };
        let secret = self.check(signed, now_unix_ms)?;
        if let Some(verified) = self.signed_handshake(request, &view, secret)? {
            return Ok(Verified::New(verified));
        }
        if plan.key_is_of_body
            && let Some(known) = known()
        {
            return Ok(Verified::Known(known));
        }
        self.read(&view, Compared::AsSent).map(|read| Verified::New(accepted(request.body.clone(), read, None)))
    }

    /// Checks the signature, and where senders of a scheme differ, with the body and the URL in their other forms; gives the place of the
    /// secret that made it.
    fn check(&self, request: &Request<'_>, now_unix_ms: i64) -> Result<usize, Rejection> {
        let checked = self.check_at_url(request, now_unix_ms);
        if !matches!(checked, Err(Rejection { reason: Reason::NoMatch, .. })) {
            return checked;
        }
        let others = request.url.filter(|_| self.plan.url_ports).map(other_ports).unwrap_or_default();
        let right = others.iter().find_map(|url| self.check_at_url(&Request { url: Some(url), ..*request }, now_unix_ms).ok());
        let escaped = if self.plan.body_escapes { escaped(request.body) } else { None };
        let right = right.or_else(|| self.check_at_url(&Request { body: &escaped?, ..*request }, now_unix_ms).ok());
        right.map_or(checked, Ok)
    }

    fn check_at_url(&self, request: &Request<'_>, now_unix_ms: i64) -> Result<usize, Rejection> {
        let plan = &*self.plan;
        let (document, mut latin1) = (document(plan, request, None), None);
        let found = find(&plan.before, &document, &mut latin1);
        let inputs = Inputs { request, found: found.as_ref(), signature: None };
        let texts = signatures(plan, &inputs)?;
        let Some(separator) = &plan.groups else { return self.check_one(inputs, &texts, now_unix_ms) };
        let texts = texts.iter().map(|text| text_of(Some(text))).collect::<Result<Vec<_>, _>>()?;
        let groups = texts.into_iter().flat_map(|text| text.split(separator.as_str())).filter(|group| !group.is_empty());
        let groups: Vec<&str> = groups.take(GROUPS_MAX + 1).collect();
        // Before any is checked: each costs a digest of the body.
        if groups.len() > GROUPS_MAX {
            return Err(rejection(Reason::MalformedSignature, "more signatures than are ever sent"));
        }
        let mut refused: Option<Rejection> = None;
        for group in groups {
            match self.check_one(inputs, &[Cow::Borrowed(group.as_bytes())], now_unix_ms) {
                Ok(secret) => return Ok(secret),
                // The one that came furthest is told.
                Err(found) if refused.as_ref().is_none_or(|known| depth(known.reason) < depth(found.reason)) => refused = Some(found),
                Err(_) => {}
            }
        }
        Err(refused.unwrap_or_else(|| rejection(Reason::MalformedSignature, "the signature has not the provider's form")))
    }

    fn check_one(&self, inputs: Inputs<'_>, texts: &[Cow<'_, [u8]>], now_unix_ms: i64) -> Result<usize, Rejection> {
        let plan = &*self.plan;
        let inputs = Inputs { signature: Some((&plan.grammar, text_of(texts.first())?)), ..inputs };
        let token = if plan.grammar.jws { Some(self.token(&inputs, now_unix_ms)?) } else { None };
        let mut candidates = match &token {
            Some(token) => Candidates::one(token.signature.clone()),
            None => self.candidates(texts, plan.algorithms[0])?,
        };
        let timestamp = match &plan.time {
            Some(time) => timestamp(time, &inputs, now_unix_ms)?,
            None => None,
        };
        let id = match &plan.id {
            Some(selector) => resolve(selector, &inputs)?.map(|(_, value)| value),
            None => None,
        };
        let url_decode = plan.url_decode.as_deref();
        let values = Values { timestamp: timestamp.as_deref(), id: id.as_deref(), url_decode, ..Values::none(&inputs) };
        let signed = match &token {
            Some(token) => vec![Chunk::Bytes(Cow::Borrowed(token.signed.as_bytes()))],
            None => event_content(plan, &values)?,
        };
        if plan.keys.is_some() {
            self.check_fetched(&inputs, token.as_ref(), &signed, texts, now_unix_ms)?;
            plan.binds.iter().try_for_each(|bind| bind.holds(&inputs))?;
            return Ok(0);
        }
        let mut matched = None;
        for (index, (algorithm, keys)) in self.keys.iter().enumerate() {
            if token.as_ref().is_some_and(|token| token.algorithm != *algorithm) {
                continue;
            }
            if index > 0 && token.is_none() {
                candidates = self.candidates(texts, *algorithm)?;
            }
            let found = if plan.all { all_match(keys, &candidates) } else { any_match(keys, &signed, &candidates) };
            matched = matched.or(found);
            // Not every sender of such a scheme undoes the escapes, and both are the same URL.
            if matched.is_none() && url_decode.is_some() && inputs.request.url.is_some_and(|url| url.contains('%')) {
                let as_sent = event_content(plan, &Values { url_decode: None, ..values })?;
                matched = any_match(keys, &as_sent, &candidates);
            }
        }
        let secret = matched.ok_or_else(|| no_match(plan, &inputs))?;
        plan.binds.iter().try_for_each(|bind| bind.holds(&inputs))?;
        Ok(secret)
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
        let Some(keys) = &self.plan.keys else { return Ok(()) };
        keys.expects(inputs, &self.secrets)?;
        let key_id = token.and_then(|token| token.key_id.as_deref());
        let (set, need) = keys.find(inputs, key_id, &self.secrets, &self.known, now_unix_ms)?;
        for algorithm in self.plan.algorithms.iter().filter(|algorithm| token.is_none_or(|token| token.algorithm == **algorithm)) {
            let candidates = match token {
                Some(token) => Candidates::one(token.signature.clone()),
                None => self.candidates(texts, *algorithm)?,
            };
            let signatures: Vec<&[u8]> = candidates.each().collect();
            let right = |message: &[u8]| set.is_right(*algorithm, key_id, message, signatures.iter().copied(), now_unix_ms);
            if !signed.iter().any(|chunk| matches!(chunk, Chunk::Secret)) {
                if right(&mac::joined(signed, b"")) {
                    return Ok(());
                }
            } else if self.secrets.iter().any(|secret| right(&mac::joined(signed, secret.expose_secret().as_bytes()))) {
                return Ok(());
            }
        }
        if set.is_expired(now_unix_ms) {
            return Err(rejection(Reason::NoMatch, "the provider's certificate is out of date"));
        }
        // The provider may have new keys since.
        let detail = "no key of the provider's is the one that signed";
        Err(Rejection { reason: Reason::NoMatch, detail: detail.into(), ..lacking(need) })
    }

    /// The token that the signature is: one of the scheme's algorithms, and at this time valid.
    fn token<'a>(&self, inputs: &Inputs<'a>, now_unix_ms: i64) -> Result<Token<'a>, Rejection> {
        let malformed = |detail: &'static str| rejection(Reason::MalformedSignature, detail);
        let text = inputs.signature.and_then(|(grammar, text)| grammar.token(text));
        let token = Token::read(text.ok_or_else(|| malformed("the signature has not the provider's form"))?)?;
        if !self.plan.algorithms.contains(&token.algorithm) {
            return Err(malformed("the token's algorithm is not the scheme's"));
        }
        token.is_current(self.plan.leeway_ms, now_unix_ms)?;
        Ok(token)
    }

    fn candidates(&self, texts: &[Cow<'_, [u8]>], algorithm: Algorithm) -> Result<Candidates, Rejection> {
        let mut candidates = Candidates::default();
        for text in texts {
            let too_many = |TooMany| rejection(Reason::MalformedSignature, "more signatures than are ever sent");
            self.plan.grammar.collect(text_of(Some(text))?, mac::width(algorithm), &mut candidates).map_err(too_many)?;
        }
        if candidates.readable == 0 {
            return Err(rejection(Reason::MalformedSignature, "the signature has not the provider's form"));
        }
        Ok(candidates)
    }

    fn unsigned_handshake(&self, request: &Request<'_>) -> Result<Option<VerifiedRequest>, Rejection> {
        for challenge in self.plan.challenges.iter().filter(|challenge| challenge.unsigned) {
            if let Some(handshake) = self.handshake(challenge, request, 0)? {
                return Ok(Some(accepted(request.body.clone(), Read::handshake(handshake, request.body), None)));
            }
        }
        Ok(None)
    }

    fn signed_handshake(&self, request: &Request<'_>, view: &Request<'_>, secret: usize) -> Result<Option<VerifiedRequest>, Rejection> {
        for challenge in self.plan.challenges.iter().filter(|challenge| !challenge.unsigned) {
            if let Some(handshake) = self.handshake(challenge, view, secret)? {
                return Ok(Some(accepted(request.body.clone(), Read::handshake(handshake, view.body), None)));
            }
        }
        Ok(None)
    }

    /// The handshake that this request is, with its answer. `secret` is the place of the secret that answers.
    fn handshake(&self, challenge: &Challenge, request: &Request<'_>, secret: usize) -> Result<Option<Handshake>, Rejection> {
        let Some(found) = challenge.meets(request)? else { return Ok(None) };
        let inputs = Inputs { request, found: found.as_ref(), signature: None };
        if let Some(selector) = &challenge.token {
            let token = resolve(selector, &inputs)?.map(|(_, value)| value);
            if !token.is_some_and(|token| is_one_of(&token, &self.tokens)) {
                return Err(rejection(Reason::NoMatch, "a handshake whose token is not the source's verify_token"));
            }
        }
        let mut learnt = None;
        if let Some(selector) = &challenge.keep {
            let Some((_, value)) = resolve(selector, &inputs)? else { return Ok(None) };
            // A secret is learnt once; later, only who knows it is answered.
            if !self.is_open() && !is_one_of(&value, &self.held) {
                return Err(rejection(Reason::NoMatch, "a handshake with another secret than the one that the source has"));
            }
            let Some(text) = name(&value) else { return Ok(None) };
            learnt = self.is_open().then(|| SecretString::from(text));
        }
        let mac = match &challenge.mac {
            Some(template) => match self.mac(challenge, template, &inputs, secret) {
                Some(mac) => Some(mac),
                None => return Ok(None),
            },
            None => None,
        };
        let visit = match (&challenge.visit, &self.plan.keys) {
            (Some(selector), Some(keys)) => {
                let url = resolve(selector, &inputs)?.and_then(|(_, value)| keys.on_host(&value));
                Some(
                    url.ok_or_else(|| rejection(Reason::NoMatch, "a handshake that asks for a URL that is none of the provider's"))?.into(),
                )
            }
            _ => None,
        };
        Ok(challenge.answer(&inputs, mac.as_deref(), self.key_names.get(secret).and_then(Option::as_deref)).map(|answer| Handshake {
            answer,
            learnt,
            visit,
        }))
    }

    fn mac(&self, challenge: &Challenge, template: &Template, inputs: &Inputs<'_>, secret: usize) -> Option<String> {
        let (_, keys) = self.keys.first()?;
        let content = template.resolve(&Values::none(inputs)).ok()?;
        if challenge.unsigned && !challenge.gives_away(&content) {
            return None;
        }
        Some(self.plan.grammar.encode(&keys.get(secret)?.digest(&content)?))
    }
}

fn any_match(keys: &[Key], content: &[Chunk<'_>], candidates: &Candidates) -> Option<usize> {
    keys.iter().enumerate().fold(None, |matched, (index, key)| {
        let matches = bool::from(key.matches(content, candidates));
        matched.or(matches.then_some(index))
    })
}

/// Whether each candidate, of which there is one at least, is one of these tokens.
fn all_match(keys: &[Key], candidates: &Candidates) -> Option<usize> {
    let mut each = candidates.each();
    let is_known = |token: &[u8]| keys.iter().fold(Choice::from(0), |found, key| found | key.is_token(token)).into();
    let right = each.len() > 0 && each.all(is_known);
    right.then_some(0)
}

fn is_one_of(value: &[u8], hashes: &[[u8; 32]]) -> bool {
    let hash = Sha256::digest(value);
    hashes.iter().fold(Choice::from(0), |found, known| found | hash.ct_eq(known)).into()
}

/// What an event's signature covers.
fn event_content<'a>(plan: &'a Plan, values: &Values<'a>) -> Result<Vec<Chunk<'a>>, Rejection> {
    let content = content(plan, values)?;
    if plan.challenges.iter().any(|challenge| challenge.gives_away(&content)) {
        return Err(rejection(Reason::NoMatch, "what is signed may be a handshake's, whose digest is given to whoever asks"));
    }
    Ok(content)
}

/// What the signature covers: of several contents, the first whose places are all there.
pub(super) fn content<'a>(plan: &'a Plan, values: &Values<'a>) -> Result<Vec<Chunk<'a>>, Rejection> {
    let Some((last, others)) = plan.contents.split_last() else { return Ok(Vec::new()) };
    for template in others {
        match template.resolve(values) {
            Err(Absent::Piece(_)) => {}
            resolved => return resolved.map_err(absent),
        }
    }
    last.resolve(values).map_err(absent)
}

fn no_match(plan: &Plan, inputs: &Inputs<'_>) -> Rejection {
    const NONE: &str = "no signature matches any secret of the source";
    let signer = plan.key_id.as_ref().and_then(|selector| selector.resolve(inputs).ok().flatten());
    let told = signer.and_then(|(_, value)| name(&value).map(|name| format!("{NONE}; the request says that the key {name:?} signed it")));
    told.map_or_else(|| rejection(Reason::NoMatch, NONE), |told| rejection(Reason::NoMatch, told))
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

pub(super) fn rejection(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Rejection {
    Rejection::new(reason, detail)
}

pub(super) fn repeated(Repeated(name): Repeated) -> Rejection {
    rejection(Reason::MalformedRequest, format!("{name} stands more than once"))
}

/// Refuses a request that has one of these headers twice, before any of them is read.
fn once(names: &[String], request: &Request<'_>) -> Result<(), Rejection> {
    let mut seen = 0_u64;
    for (name, _) in request.headers {
        if let Some(index) = names.iter().position(|known| known == name) {
            if seen & 1 << index != 0 {
                return Err(repeated(Repeated((*name).into())));
            }
            seen |= 1 << index;
        }
    }
    Ok(())
}

pub(super) fn absent(absent: Absent) -> Rejection {
    match absent {
        Absent::Piece(place) => rejection(Reason::MissingSignature, format!("{place}, which is signed, is missing")),
        Absent::Url => rejection(Reason::Unsupported, "this provider signs the URL: set ingress.public_url"),
        Absent::Repeated(name) => repeated(Repeated(name)),
    }
}

pub(super) fn resolve<'a>(selector: &Selector, inputs: &Inputs<'a>) -> Result<Resolved<'a>, Rejection> {
    selector.resolve(inputs).map_err(repeated)
}

pub(super) fn signatures<'a>(plan: &Plan, inputs: &Inputs<'a>) -> Result<Vec<Cow<'a, [u8]>>, Rejection> {
    let texts = if plan.every {
        plan.signature.resolve_each(inputs, plan.repeated).map_err(repeated)?
    } else {
        resolve(&plan.signature, inputs)?.map(|(_, text)| text).into_iter().collect()
    };
    if texts.is_empty() {
        return Err(rejection(Reason::MissingSignature, "the request has no signature where this provider puts it"));
    }
    Ok(texts)
}

fn text_of<'t>(text: Option<&'t Cow<'_, [u8]>>) -> Result<&'t str, Rejection> {
    text.and_then(|text| std::str::from_utf8(text).ok()).ok_or_else(|| rejection(Reason::MalformedSignature, "the signature is no text"))
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
