//! A scheme, compiled: every string of it read once, every mistake reported with its key. It runs
//! nothing.

use std::borrow::Cow;

use crate::{
    compiler::Compiler,
    error::SchemeError,
    keys::{key::Step, published::Keys},
    locate::{
        document::document,
        json::Pointers,
        selector::{Inputs, Place, Selector},
        signature_text::Grammar,
        template::Template,
    },
    period::Period,
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
    spec::{Algorithm, Gzip, IdentitySpec, SchemeSpec},
};

/// The most headers that are counted in a request: each is one bit.
const HEADERS_MAX: usize = u64::BITS as usize;

/// A compiled scheme.
pub(crate) struct Plan {
    /// Not empty.
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) steps: Vec<Step>,
    pub(crate) grammar: Grammar,
    pub(crate) signature: Selector,
    /// Every alternative counts, not only the first.
    pub(crate) every: bool,
    pub(crate) repeated: bool,
    /// Every item must match.
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
    /// The same body always has the same key and is one event.
    pub(crate) key_is_of_body: bool,
    /// The key comes from a list's values, or its author does not say that it names an event. Under
    /// such a key another body is another event.
    pub(crate) key_is_doubtful: bool,
    pub(crate) event_type: Option<Selector>,
    pub(crate) items: Option<Items>,
    pub(crate) challenges: Vec<Challenge>,
    /// The key or the type is a part of the signature's own text.
    pub(crate) reads_signature: bool,
    /// Headers that a request may have only once, because whoever reads the other copy would see
    /// another request.
    pub(crate) once: Vec<String>,
    /// Places in the body that verifying needs, and those read once it is done.
    pub(crate) before: Pointers,
    pub(crate) after: Pointers,
}

/// The parts of a scheme, each compiled by itself. None if it is wrong.
struct Parts {
    grammar: Option<Grammar>,
    signature: Option<Selector>,
    contents: Vec<Template>,
    steps: Option<Vec<Step>>,
    time: Option<Time>,
    binds: Vec<Bind>,
    keys: Option<Keys>,
    document: Option<Selector>,
    id: Option<Selector>,
    key_id: Option<Selector>,
    event_type: Option<Selector>,
    identity: Identity,
    items: Option<Items>,
    challenges: Vec<Challenge>,
    before: Pointers,
    after: Pointers,
}

impl Parts {
    /// Compiles the parts in an order that users know, because mistakes are told in it.
    fn compile(compiler: &mut Compiler, spec: &SchemeSpec) -> Self {
        let (mut before, mut after) = (Pointers::default(), Pointers::default());
        let algorithms = spec.algorithm.as_slice();
        let grammar = compiler.grammar(spec, algorithms.contains(&Algorithm::Token));
        let signature = compiler.signature(spec, &mut before);
        let contents = compiler.contents(spec, &mut before);
        compiler.cross_check(spec, &contents);
        let steps = spec.secret.iter().enumerate();
        let steps = steps
            .map(|(at, step)| compiler.keep(&format!("secret[{at}]"), Step::parse(step)))
            .collect();
        let time = spec
            .time
            .as_ref()
            .and_then(|time| compiler.time(time, &mut before));
        let binds = compiler.binds(&spec.binds, &mut before);
        let keys = compiler.keys(spec, &mut before);
        let document = spec
            .document
            .as_deref()
            .and_then(|text| compiler.document(text));
        let id = spec
            .id
            .as_deref()
            .and_then(|id| compiler.selector("id", id, &mut before));
        let key_id = spec
            .key_id
            .as_deref()
            .and_then(|text| compiler.selector("key_id", text, &mut before));
        let event_type = spec
            .event_type
            .as_deref()
            .and_then(|text| compiler.selector("type", text, &mut after));
        let identity = compiler.own_identity(spec, event_type.as_ref(), &mut after);
        let items = compiler.items(spec);
        let challenges = compiler.challenges(&spec.challenge, algorithms);
        Self {
            grammar,
            signature,
            contents,
            steps,
            time,
            binds,
            keys,
            document,
            id,
            key_id,
            event_type,
            identity,
            items,
            challenges,
            before,
            after,
        }
    }

    /// The headers that a request may have only once: those of which at least one place is read.
    fn once(&self, signature_repeats: bool) -> Vec<String> {
        let read = [
            self.time.as_ref().map(|time| &time.from),
            self.id.as_ref(),
            self.event_type.as_ref(),
        ];
        let signed_once = self.signature.as_ref().filter(|_| !signature_repeats);
        let of_key = self.identity.key.iter().flat_map(|key| key.selectors());
        headers_of(read.into_iter().flatten().chain(of_key).chain(signed_once))
    }
}

impl Compiler {
    fn own_identity(
        &mut self,
        spec: &SchemeSpec,
        event_type: Option<&Selector>,
        places: &mut Pointers,
    ) -> Identity {
        let (key_at, dedup_at) = ("key".into(), "dedup".into());
        let (key, key_before) = (spec.key.as_ref(), spec.key_before.as_deref());
        let parts = IdentityParts {
            key,
            key_at,
            key_before,
            dedup: spec.dedup,
            dedup_at,
            event_type,
        };
        let mut identity = self.identity(spec, &parts, places);
        identity.ignored = self.ignored(spec);
        identity
    }
}

impl Plan {
    /// Compiles a scheme, or tells all that is wrong in it.
    pub(crate) fn new(spec: &SchemeSpec) -> Result<Self, Vec<SchemeError>> {
        let mut compiler = Compiler::default();
        let mut parts = Parts::compile(&mut compiler, spec);
        let once = parts.once(spec.signature.repeated);
        compiler.demand(
            once.len() <= HEADERS_MAX,
            "",
            &format!("names more than {HEADERS_MAX} headers"),
        );
        let made = (
            parts.grammar.take(),
            parts.signature.take(),
            parts.steps.take(),
        );
        match made {
            (Some(grammar), Some(signature), Some(steps)) if compiler.errors.is_empty() => {
                Ok(Self::of(spec, grammar, signature, steps, once, parts))
            }
            _ => Err(compiler.errors),
        }
    }

    /// Puts together what was compiled, and adds what follows from several parts.
    fn of(
        spec: &SchemeSpec,
        grammar: Grammar,
        signature: Selector,
        steps: Vec<Step>,
        once: Vec<String>,
        parts: Parts,
    ) -> Self {
        let Parts {
            contents,
            time,
            binds,
            keys,
            document,
            id,
            key_id,
            event_type,
            ..
        } = parts;
        let Parts {
            mut identity,
            items,
            challenges,
            before,
            after,
            ..
        } = parts;
        let algorithms = spec.algorithm.as_slice().to_vec();
        let reads_signature = grammar.jws
            || identity.reads_signature()
            || event_type.as_ref().is_some_and(is_of_signature);
        let key_is_of_body = document.is_none() && items.is_none() && identity.is_of_body();
        let key_is_doubtful = !is_established(spec) || identity.is_of_list(&after);
        let every = spec.signature.every || spec.signature.repeated || is_numbered(&signature);
        let coverage = Coverage::new(contents, id, grammar.jws, binds.iter().any(Bind::has_body));
        let signs_time =
            coverage.signs_time() || time.as_ref().is_some_and(|time| in_body(&time.from));
        identity.guarded = !algorithms.contains(&Algorithm::Token) && !grammar.jws && !signs_time;
        Self {
            algorithms,
            steps,
            grammar,
            signature,
            every,
            repeated: spec.signature.repeated,
            all: spec.signature.all,
            groups: spec.signature.groups.clone(),
            coverage,
            url_decode: spec.url_decode.clone(),
            url_ports: spec.url_ports,
            body_escapes: spec.body_escapes,
            document,
            binds,
            leeway_ms: spec.signature.leeway.map_or(0, millis),
            time,
            keys,
            key_id,
            gzip: spec.gzip,
            items: items.map(|items| items.guarded(identity.guarded)),
            identity,
            key_is_of_body,
            key_is_doubtful,
            event_type,
            challenges,
            reads_signature,
            once,
            before,
            after,
        }
    }

    /// Whether a source of this scheme can learn its secret in a handshake.
    pub(crate) fn learns_secret(&self) -> bool {
        self.challenges
            .iter()
            .any(|challenge| challenge.keep.is_some())
    }

    /// The JSON text that is looked into.
    pub(crate) fn document<'a>(
        &'a self,
        request: &'a Request<'a>,
        signature: Option<(&'a Grammar, &'a str)>,
    ) -> Cow<'a, [u8]> {
        document(self.document.as_ref(), request, signature)
    }

    /// The texts of the signature as they are in the request, at least one.
    pub(crate) fn signatures<'a>(
        &self,
        inputs: &Inputs<'a>,
    ) -> Result<Vec<Cow<'a, [u8]>>, Rejection> {
        let texts = if self.every {
            self.signature.resolve_each(inputs, self.repeated)?
        } else {
            self.signature
                .resolve(inputs)?
                .map(|(_, text)| text)
                .into_iter()
                .collect()
        };
        if texts.is_empty() {
            return Err(Rejection::new(
                Reason::MissingSignature,
                "the request has no signature where this provider puts it",
            ));
        }
        Ok(texts)
    }
}

/// Whether a part of it is the signature's own text.
fn is_of_signature(selector: &Selector) -> bool {
    selector.places().any(Place::is_of_signature)
}

/// Whether it names several places at once, each of which counts.
fn is_numbered(selector: &Selector) -> bool {
    selector
        .places()
        .any(|place| matches!(place, Place::Headers(_) | Place::Queries))
}

/// Whether the key is known to name an event. A key of which the scheme says nothing counts as
/// known, because its author chose it.
fn is_established(spec: &SchemeSpec) -> bool {
    spec.identity
        .as_ref()
        .is_none_or(IdentitySpec::is_established)
}

fn millis(period: Period) -> i64 {
    i64::try_from(period.as_millis()).unwrap_or(i64::MAX)
}

/// Whether the value is in the body, which the signature covers.
fn in_body(selector: &Selector) -> bool {
    selector
        .places()
        .all(|place| matches!(place, Place::Body(_)))
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
