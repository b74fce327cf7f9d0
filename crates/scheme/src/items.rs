//! Requests that carry several events: where the list is, and what each item's key and type are. A request is split once it is verified; one
//! that can't be stays one event, so that nothing is lost.

use bytes::Bytes;

use super::{
    Rejection, Request, Verifier,
    candidates::Grammar,
    identity::{Compared, Identity, IdentityParts},
    json::{Pointers, elements},
    plan::Compiler,
    selector::{Inputs, Part, Place, Selector},
    verified::{Read, VerifiedRequest, accepted},
};
use crate::spec::{ItemsSpec, SchemeSpec};

/// A request of more items stays whole, unless the scheme says otherwise.
const COUNT_MAX: usize = 1000;
/// What a scheme may allow: all items of a request are written in one statement.
const COUNT_MAX_MAX: usize = 10_000;

pub struct Items {
    /// The list, as it stands, and its path; none where it is the whole document.
    list: Option<List>,
    pub identity: Identity,
    pub event_type: Option<Selector>,
    /// Places in an item.
    inside: Pointers,
    count_max: usize,
}

impl Compiler {
    /// None where the scheme does not split, or only where a source asks for it.
    pub fn items(&mut self, spec: &SchemeSpec) -> Option<Items> {
        let written = spec.items.as_ref()?;
        let table = matches!(written, ItemsSpec::Table(_));
        let at = |name: &str| if table { format!("items.{name}") } else { "items".into() };
        let items = written.table();
        let list = self.keep(&at("from"), list(&items.from));
        let mut inside = Pointers::default();
        // Without a key or a type of their own, the scheme's are those of an item.
        let (key, key_at) = if items.key.is_some() { (&items.key, at("key")) } else { (&spec.key, "key".into()) };
        let (event_type, type_at) =
            if items.event_type.is_some() { (&items.event_type, at("type")) } else { (&spec.event_type, "type".into()) };
        let event_type = event_type.as_deref().and_then(|text| self.selector(&type_at, text, &mut inside));
        let parts = IdentityParts {
            key: key.as_ref(),
            key_at: key_at.clone(),
            key_before: spec.key_before.as_deref().filter(|_| items.key.is_none()),
            dedup: items.dedup.or(if items.key.is_some() { None } else { spec.dedup }),
            dedup_at: at("dedup"),
            event_type: event_type.as_ref(),
        };
        let mut identity = self.identity(spec, &parts, &mut inside);
        identity.ignored = self.ignored(&SchemeSpec { ignore: in_items(&spec.ignore, &items.from), ..spec.clone() });
        let in_item =
            |parts: &Vec<_>| parts.iter().any(|part: &Part| matches!(part.place, Place::Body(_) | Place::Member(_) | Place::Whole));
        let named = identity.key.as_ref().is_none_or(|key| key.selectors().iter().any(|part| part.alternatives.iter().all(in_item)));
        self.demand(named || items.optional, &key_at, "with items it must name a place in the item (body:…): all items would have one key");
        let count_max = items.count_max.unwrap_or(COUNT_MAX);
        self.demand((1..=COUNT_MAX_MAX).contains(&count_max), &at("count_max"), &format!("must be 1 to {COUNT_MAX_MAX}"));
        (!items.optional).then_some(Items { list: list?, identity, event_type, inside, count_max })
    }
}

struct List {
    path: String,
    pointers: Pointers,
    index: usize,
}

/// Those of the ignored places that are in each item, as seen from there.
fn in_items(ignore: &[String], from: &str) -> Vec<String> {
    ignore.iter().filter_map(|place| Some(format!("body:{}", place.strip_prefix(from)?.strip_prefix("[].")?))).collect()
}

/// The place of a list: `body:` for the whole document.
fn list(from: &str) -> Result<Option<List>, String> {
    let wrong = || format!("{from:?} is no place of a list: write body: for the whole body, or body:PATH");
    let path = from.strip_prefix("body:").ok_or_else(wrong)?;
    if path.is_empty() {
        return Ok(None);
    }
    let mut pointers = Pointers::default();
    let index = pointers.add_raw(path).map_err(|_| wrong())?;
    Ok(Some(List { path: path.into(), pointers, index }))
}

impl Items {
    pub fn guarded(mut self, guarded: bool) -> Self {
        self.identity.guarded = guarded;
        self
    }

    /// Where a place of an item is in a request of one item.
    pub fn outside(&self, part: &Part) -> Part {
        let path = self.list.as_ref().map_or("", |list| &list.path);
        Part { written: format!("{path}[].{}", part.written), ..part.clone() }
    }

    /// The texts of the items in this document; none where there is no list, an empty one, or one that is too long.
    fn of<'d>(&self, document: &'d [u8]) -> Vec<&'d str> {
        let found = match &self.list {
            None => std::str::from_utf8(document).ok().and_then(|text| elements(text, self.count_max)),
            Some(List { pointers, index, .. }) => pointers.find(document).and_then(|found| match found.value(*index)? {
                std::borrow::Cow::Borrowed(text) => elements(text, self.count_max),
                std::borrow::Cow::Owned(_) => None,
            }),
        };
        found.unwrap_or_default()
    }
}

impl Items {
    /// What tells an item from others that is a request's body by itself.
    pub fn told_of(&self, verifier: &Verifier, request: &Request<'_>, compared: Compared) -> Result<Read, Rejection> {
        let found = self.inside.find(request.body);
        let inputs = Inputs { request, found: found.as_ref(), signature: None };
        verifier.told(&self.identity, self.event_type.as_ref(), &inputs, compared)
    }
}

impl Verifier {
    /// Whether requests may be split into several events.
    pub fn has_items(&self) -> bool {
        self.plan().items.is_some()
    }

    /// The events in a request whose signature is right. `document` is the JSON text that is looked into.
    pub(super) fn items(
        &self,
        document: &[u8],
        view: &Request<'_>,
        signature: Option<(&Grammar, &str)>,
    ) -> Result<Vec<VerifiedRequest>, Rejection> {
        let Some(items) = &self.plan().items else { return Ok(Vec::new()) };
        let elsewhere = !is_within(document, view.body);
        // What is no text has no items: they would be other bytes.
        if std::str::from_utf8(view.body).is_err() {
            return Ok(Vec::new());
        }
        let read = |text: &str| {
            let found = items.inside.find(text.as_bytes());
            // A part of the body shares its memory.
            let body = if elsewhere { Bytes::copy_from_slice(text.as_bytes()) } else { view.body.slice_ref(text.as_bytes()) };
            let request = Request { body: &body, ..*view };
            let inputs = Inputs { request: &request, found: found.as_ref(), signature };
            let read = self.told(&items.identity, items.event_type.as_ref(), &inputs, Compared::AsSent)?;
            Ok(accepted(body.clone(), read, elsewhere.then_some("application/json")))
        };
        items.of(document).into_iter().map(read).collect()
    }
}

/// Whether these bytes are a part of the body's own memory.
fn is_within(part: &[u8], body: &Bytes) -> bool {
    let (part, body) = (part.as_ptr_range(), body.as_ptr_range());
    body.start <= part.start && part.end <= body.end
}
