//! A scheme, compiled: every string of it read once, every mistake reported with its key. It runs nothing.

use std::borrow::Cow;

use crate::{
    compiler::Compiler,
    error::SchemeError,
    keys::{key::Step, published::Keys},
    locate::{
        document::document,
        json::Pointers,
        jws,
        selector::{Inputs, Place, Selector},
        signature_text::Grammar,
        template::Template,
    },
    plan::{
        bind::Bind,
        challenge::Challenge,
        coverage::Coverage,
        identity::{Identity, IdentityParts},
        items::Items,
        time::Time,
    },
    rejection::{Reason, Rejection},
    request::Request,
    spec::{Algorithm, Encoding, Gzip, IdentitySpec, OneOrMany, SchemeSpec},
};

/// One bit each while a request's headers are counted.
const HEADERS_MAX: usize = u64::BITS as usize;

/// A compiled scheme.
pub(crate) struct Plan {
    /// Not empty.
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) steps: Vec<Step>,
    pub(crate) grammar: Grammar,
    pub(crate) signature: Selector,
    /// Each alternative counts, not the first alone.
    pub(crate) every: bool,
    pub(crate) repeated: bool,
    /// Each item must match.
    pub(crate) all: bool,
    pub(crate) groups: Option<String>,
    /// What is signed.
    pub(crate) coverage: Coverage,
    pub(crate) url_decode: Option<String>,
    pub(crate) url_ports: bool,
    pub(crate) body_escapes: bool,
    /// Where the JSON text is, if it is not the body.
    pub(crate) document: Option<Selector>,
    pub(crate) binds: Vec<Bind>,
    pub(crate) leeway_ms: i64,
    pub(crate) time: Option<Time>,
    pub(crate) keys: Option<Keys>,
    pub(crate) key_id: Option<Selector>,
    pub(crate) gzip: Option<Gzip>,
    pub(crate) identity: Identity,
    /// The same body always has the same key, and is one event.
    pub(crate) key_is_of_body: bool,
    /// A key of a list's values, or one whose author does not say that it names an event: under it another body is another event.
    pub(crate) key_is_doubtful: bool,
    pub(crate) event_type: Option<Selector>,
    pub(crate) items: Option<Items>,
    pub(crate) challenges: Vec<Challenge>,
    /// The key or the type is a part of the signature's own text.
    pub(crate) reads_signature: bool,
    /// Headers that a request may have once: whoever reads the other one would see another request.
    pub(crate) once: Vec<String>,
    /// Places in the body that verifying needs, and those read once it is done.
    pub(crate) before: Pointers,
    pub(crate) after: Pointers,
}

impl Compiler {
    fn grammar(&mut self, spec: &SchemeSpec, token: bool) -> Option<Grammar> {
        let default = [if token { Encoding::Plain } else { Encoding::Hex }];
        let encodings = spec.encoding.as_ref().map(OneOrMany::as_slice);
        self.demand(encodings.is_none_or(|encodings| !encodings.is_empty()), "encoding", "is an empty list");
        let encodings = encodings.filter(|encodings| !encodings.is_empty()).unwrap_or(&default);
        let grammar = Grammar::new(&spec.signature, encodings, token);
        grammar.map_err(|(key, message)| self.errors.push(SchemeError::new(&format!("signature.{key}"), &message))).ok()
    }

    fn own_identity(&mut self, spec: &SchemeSpec, event_type: Option<&Selector>, places: &mut Pointers) -> Identity {
        let (key_at, dedup_at) = ("key".into(), "dedup".into());
        let (key, key_before) = (spec.key.as_ref(), spec.key_before.as_deref());
        let parts = IdentityParts { key, key_at, key_before, dedup: spec.dedup, dedup_at, event_type };
        let mut identity = self.identity(spec, &parts, places);
        identity.ignored = self.ignored(spec);
        identity
    }

    fn document(&mut self, text: &str) -> Option<Selector> {
        let selector = self.selector("document", text, &mut Pointers::default())?;
        let known = selector.places().all(|place| matches!(place, Place::Form(_) | Place::Signature(_) | Place::Whole));
        self.demand(known, "document", "must be form:NAME or claim:PATH, with |body: behind it where the body may be the JSON itself");
        Some(selector)
    }

    fn contents(&mut self, spec: &SchemeSpec, before: &mut Pointers) -> Vec<Template> {
        if spec.algorithm.as_slice().first() == Some(&Algorithm::Token) || spec.signature.jws {
            return Vec::new();
        }
        let texts = spec.content.as_ref().map(|content| content.as_slice());
        let many = texts.is_some_and(|texts| texts.len() != 1);
        self.demand(texts.is_none_or(|texts| !texts.is_empty()), "content", "is an empty list: leave it out for {body}");
        let key = |index: usize| if many { format!("content[{index}]") } else { "content".to_owned() };
        let texts = texts.map_or_else(|| vec!["{body}"], |texts| texts.iter().map(String::as_str).collect());
        texts.into_iter().enumerate().filter_map(|(index, text)| self.keep(&key(index), Template::parse(text, before))).collect()
    }

    /// What one part alone can't know.
    fn cross_check(&mut self, spec: &SchemeSpec, contents: &[Template]) {
        let algorithms = spec.algorithm.as_slice();
        self.demand(!algorithms.is_empty(), "algorithm", "is an empty list");
        let kinds = |wanted: fn(&Algorithm) -> bool| algorithms.iter().filter(|algorithm| wanted(algorithm)).count();
        let hashed = kinds(|algorithm| matches!(algorithm, Algorithm::Sha1 | Algorithm::Sha256 | Algorithm::Keccak256));
        let token = kinds(|algorithm| *algorithm == Algorithm::Token);
        let alike = [hashed, token].iter().all(|count| *count == 0 || *count == algorithms.len()) && token < 2;
        self.demand(alike, "algorithm", "mixes what does not go together: hashes, tokens and the rest are of one kind each");
        for content in contents {
            self.demand(!content.has_timestamp() || spec.time.is_some(), "time", "is missing: the content has {timestamp}");
            self.demand(!content.has_id() || spec.id.is_some(), "id", "is missing: the content has {id}");
            let fits = content.has_secret() == (hashed > 0) || spec.keys.is_some();
            self.demand(fits, "content", "{secret} belongs into a plain hash (sha1, sha256, keccak-256), and only there");
        }
        let legacy = algorithms.contains(&Algorithm::RsaSha1) && spec.keys.is_none();
        self.demand(!legacy, "algorithm", "rsa-sha1 is for keys that are fetched: set keys");
        let visits = spec.challenge.iter().any(|challenge| challenge.visit.is_some());
        self.demand(!visits || spec.keys.is_some(), "keys", "is missing: its hosts are those that a handshake may visit");
        self.demand(token == 0 || spec.content.is_none(), "content", "has no meaning with algorithm = \"token\"");
        self.signed_token(spec);
        let encodings = spec.encoding.as_ref().map_or(&[][..], OneOrMany::as_slice);
        let for_tokens = encodings.iter().any(|encoding| matches!(encoding, Encoding::Plain | Encoding::Credentials));
        let message = "\"plain\" and \"credentials\" are for tokens: write \"hex\", \"base64\" or \"base64url\"";
        self.demand(token > 0 || !for_tokens, "encoding", message);
        self.demand(token > 0 || !spec.signature.all, "signature.all", "is for algorithm = \"token\"");
    }

    fn signed_token(&mut self, spec: &SchemeSpec) {
        let jws = spec.signature.jws;
        let fits = spec.algorithm.as_slice().iter().all(|algorithm| jws::is_for_tokens(*algorithm));
        self.demand(!jws || fits, "algorithm", "is none that tokens are signed with");
        self.demand(!jws || spec.content.is_none(), "content", "has no meaning with signature.jws: the token is what is signed");
        self.demand(jws || spec.signature.leeway.is_none(), "signature.leeway", "is for tokens: set signature.jws");
    }

    fn signature(&mut self, spec: &SchemeSpec, before: &mut Pointers) -> Option<Selector> {
        let signature = self.selector("signature.from", &spec.signature.from, before)?;
        let part = signature.places().any(|place| matches!(place, Place::Signature(_)));
        let texts = spec.content.as_ref().map_or(&[][..], OneOrMany::as_slice);
        let (in_query, in_body) = signature.places().fold((false, false), |(query, body), place| match place {
            Place::Query(_) | Place::Queries => (true, body),
            Place::Body(_) | Place::Form(_) | Place::Whole => (query, true),
            _ => (query, body),
        });
        let covered = texts.iter().any(|text| in_query && text.contains("{url}") || in_body && text.contains("{body}"));
        self.demand(!part && !covered, "signature.from", "a signature can't be a part of what it signs");
        Some(signature)
    }
}

impl Plan {
    pub(crate) fn new(spec: &SchemeSpec) -> Result<Self, Vec<SchemeError>> {
        let mut compiler = Compiler::default();
        let (mut before, mut after) = (Pointers::default(), Pointers::default());
        let algorithms = spec.algorithm.as_slice().to_vec();
        let token = algorithms.contains(&Algorithm::Token);
        let grammar = compiler.grammar(spec, token);
        let signature = compiler.signature(spec, &mut before);
        let contents = compiler.contents(spec, &mut before);
        compiler.cross_check(spec, &contents);
        let steps = spec.secret.iter().enumerate().map(|(i, step)| compiler.keep(&format!("secret[{i}]"), Step::parse(step))).collect();
        let time = spec.time.as_ref().and_then(|time| compiler.time(time, &mut before));
        let binds = compiler.binds(&spec.binds, &mut before);
        let keys = compiler.keys(spec, &mut before);
        let document = spec.document.as_deref().and_then(|text| compiler.document(text));
        let id = spec.id.as_deref().and_then(|id| compiler.selector("id", id, &mut before));
        let key_id = spec.key_id.as_deref().and_then(|text| compiler.selector("key_id", text, &mut before));
        let event_type = spec.event_type.as_deref().and_then(|text| compiler.selector("type", text, &mut after));
        let mut identity = compiler.own_identity(spec, event_type.as_ref(), &mut after);
        let items = compiler.items(spec);
        let challenges = compiler.challenges(&spec.challenge, &algorithms);
        let repeated = spec.signature.repeated;
        let read = [time.as_ref().map(|time| &time.from), id.as_ref(), event_type.as_ref()];
        let signed_once = signature.as_ref().filter(|_| !repeated);
        let of_key = identity.key.iter().flat_map(|key| key.selectors());
        let once = headers_of(read.into_iter().flatten().chain(of_key).chain(signed_once));
        compiler.demand(once.len() <= HEADERS_MAX, "", &format!("names more than {HEADERS_MAX} headers"));
        let (Some(grammar), Some(signature), Some(steps), true) = (grammar, signature, steps, compiler.errors.is_empty()) else {
            return Err(compiler.errors);
        };
        let in_type = event_type.as_ref().is_some_and(|selector| selector.places().any(Place::is_of_signature));
        let reads_signature = grammar.jws || in_type || identity.reads_signature();
        let numbered = signature.places().any(|place| matches!(place, Place::Headers(_) | Place::Queries));
        let key_is_of_body = document.is_none() && items.is_none() && identity.is_of_body();
        let key_is_doubtful = !spec.identity.as_ref().is_none_or(IdentitySpec::is_established) || identity.is_of_list(&after);
        let coverage = Coverage::new(contents, id, grammar.jws, binds.iter().any(Bind::has_body));
        let signs_time = coverage.signs_time() || time.as_ref().is_some_and(|time| in_body(&time.from));
        identity.guarded = !token && !grammar.jws && !signs_time;
        let items = items.map(|items: Items| items.guarded(identity.guarded));
        Ok(Self {
            algorithms,
            steps,
            grammar,
            signature,
            every: spec.signature.every || repeated || numbered,
            repeated,
            all: spec.signature.all,
            groups: spec.signature.groups.clone(),
            coverage,
            url_decode: spec.url_decode.clone(),
            url_ports: spec.url_ports,
            body_escapes: spec.body_escapes,
            document,
            binds,
            leeway_ms: spec.signature.leeway.map_or(0, |leeway| i64::try_from(leeway.as_millis()).unwrap_or(i64::MAX)),
            time,
            keys,
            key_id,
            gzip: spec.gzip,
            identity,
            key_is_of_body,
            key_is_doubtful,
            event_type,
            items,
            challenges,
            reads_signature,
            once,
            before,
            after,
        })
    }

    /// Whether a source of this scheme can learn its secret in a handshake.
    pub(crate) fn learns_secret(&self) -> bool {
        self.challenges.iter().any(|challenge| challenge.keep.is_some())
    }

    /// The JSON text that is looked into.
    pub(crate) fn document<'a>(&'a self, request: &'a Request<'a>, signature: Option<(&'a Grammar, &'a str)>) -> Cow<'a, [u8]> {
        document(self.document.as_ref(), request, signature)
    }

    /// The texts of the signature, one at least, as they stand in the request.
    pub(crate) fn signatures<'a>(&self, inputs: &Inputs<'a>) -> Result<Vec<Cow<'a, [u8]>>, Rejection> {
        let texts = if self.every {
            self.signature.resolve_each(inputs, self.repeated)?
        } else {
            self.signature.resolve(inputs)?.map(|(_, text)| text).into_iter().collect()
        };
        if texts.is_empty() {
            return Err(Rejection::new(Reason::MissingSignature, "the request has no signature where this provider puts it"));
        }
        Ok(texts)
    }
}

/// Whether it is the body that says it, which the signature covers.
fn in_body(selector: &Selector) -> bool {
    selector.places().all(|place| matches!(place, Place::Body(_)))
}

fn headers_of<'s>(selectors: impl Iterator<Item = &'s Selector>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for place in selectors.flat_map(Selector::places) {
        if let Place::Header(name) = place
            && !names.contains(name)
        {
            names.push(name.clone());
        }
    }
    names
}
