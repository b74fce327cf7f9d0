//! Requests that carry several events: where the list is, and what each item's key and type are. A
//! request is split once it is verified. One that can't be split stays one event, so that nothing
//! is lost.

use crate::{
    compiler::Compiler,
    locate::{
        json::Pointers,
        scan::elements,
        selector::{Part, Place, Selector},
    },
    plan::identity::{Identity, IdentityParts},
    spec::{ItemsSpec, SchemeSpec},
};

/// A request with more items stays whole, unless the scheme says otherwise.
const COUNT_MAX: usize = 1000;
/// The most that a scheme may allow, because all items of a request are written in one statement.
const COUNT_MAX_MAX: usize = 10_000;

/// Where the events of one request are, and how they are told apart.
pub(crate) struct Items {
    /// The list as it is written, and its path. None if it is the whole document.
    list: Option<List>,
    pub(crate) identity: Identity,
    pub(crate) event_type: Option<Selector>,
    /// Places in an item.
    pub(crate) inside: Pointers,
    count_max: usize,
}

impl Compiler {
    /// None if the scheme does not split, or only for a source that asks for it.
    pub(crate) fn items(&mut self, spec: &SchemeSpec) -> Option<Items> {
        let written = spec.items.as_ref()?;
        let table = matches!(written, ItemsSpec::Table(_));
        let at = |name: &str| {
            if table {
                format!("items.{name}")
            } else {
                "items".into()
            }
        };
        let items = written.table();
        let list = self.keep(&at("from"), list(&items.from));
        let mut inside = Pointers::default();
        // Without a key or a type of its own, an item has the scheme's.
        let (key, key_at) = if items.key.is_some() {
            (&items.key, at("key"))
        } else {
            (&spec.key, "key".into())
        };
        let (event_type, type_at) = if items.event_type.is_some() {
            (&items.event_type, at("type"))
        } else {
            (&spec.event_type, "type".into())
        };
        let event_type = event_type
            .as_deref()
            .and_then(|text| self.selector(&type_at, text, &mut inside));
        let parts = IdentityParts {
            key: key.as_ref(),
            key_at: key_at.clone(),
            key_before: spec.key_before.as_deref().filter(|_| items.key.is_none()),
            dedup: items.dedup.or(if items.key.is_some() {
                None
            } else {
                spec.dedup
            }),
            dedup_at: at("dedup"),
            event_type: event_type.as_ref(),
        };
        let mut identity = self.identity(spec, &parts, &mut inside);
        identity.ignored = self.ignored(&SchemeSpec {
            ignore: in_items(&spec.ignore, &items.from),
            ..spec.clone()
        });
        let message =
            "with items it must name a place in the item (body:…): all items would have one key";
        self.demand(is_in_item(&identity) || items.optional, &key_at, message);
        let count_max = items.count_max.unwrap_or(COUNT_MAX);
        self.demand(
            (1..=COUNT_MAX_MAX).contains(&count_max),
            &at("count_max"),
            &format!("must be 1 to {COUNT_MAX_MAX}"),
        );
        (!items.optional).then_some(Items {
            list: list?,
            identity,
            event_type,
            inside,
            count_max,
        })
    }
}

/// Whether the key, if there is one, has a part that is an item's own.
fn is_in_item(identity: &Identity) -> bool {
    let inside =
        |part: &Part| matches!(part.place, Place::Body(_) | Place::Member(_) | Place::Whole);
    let own = |selector: &Selector| {
        selector
            .alternatives
            .iter()
            .all(|parts| parts.iter().any(inside))
    };
    identity
        .key
        .as_ref()
        .is_none_or(|key| key.selectors().iter().any(own))
}

struct List {
    path: String,
    pointers: Pointers,
    index: usize,
}

/// The ignored places that are in each item, as paths from the item.
fn in_items(ignore: &[String], from: &str) -> Vec<String> {
    ignore
        .iter()
        .filter_map(|place| {
            Some(format!(
                "body:{}",
                place.strip_prefix(from)?.strip_prefix("[].")?
            ))
        })
        .collect()
}

/// The place of a list: `body:` for the whole document.
fn list(from: &str) -> Result<Option<List>, String> {
    let wrong =
        || format!("{from:?} is no place of a list: write body: for the whole body, or body:PATH");
    let path = from.strip_prefix("body:").ok_or_else(wrong)?;
    if path.is_empty() {
        return Ok(None);
    }
    let mut pointers = Pointers::default();
    let index = pointers.add_raw(path).map_err(|_| wrong())?;
    Ok(Some(List {
        path: path.into(),
        pointers,
        index,
    }))
}

impl Items {
    /// Says whether the signature covers neither the key nor a time (`guarded`).
    pub(crate) fn guarded(mut self, guarded: bool) -> Self {
        self.identity.guarded = guarded;
        self
    }

    /// Where a place of an item is in a request that has one item.
    pub(crate) fn outside(&self, part: &Part) -> Part {
        let path = self.list.as_ref().map_or("", |list| &list.path);
        Part {
            written: format!("{path}[].{}", part.written),
            ..part.clone()
        }
    }

    /// The texts of the items in this document. Empty if there is no list, or if it is empty or too
    /// long.
    pub(crate) fn of<'d>(&self, document: &'d [u8]) -> Vec<&'d str> {
        let found = match &self.list {
            None => std::str::from_utf8(document)
                .ok()
                .and_then(|text| elements(text, self.count_max)),
            Some(List {
                pointers, index, ..
            }) => pointers
                .find(document)
                .and_then(|found| match found.value(*index)? {
                    std::borrow::Cow::Borrowed(text) => elements(text, self.count_max),
                    std::borrow::Cow::Owned(_) => None,
                }),
        };
        found.unwrap_or_default()
    }
}
