//! The signature scheme grammar as data: what `config/providers/*.toml` and a user's
//! `[providers.NAME]` are written in. Only the shape is here; the small languages inside the
//! strings (selectors, templates, secret steps) are read and checked where a scheme is compiled.

mod algorithm;
mod challenge;
mod identity;
mod items;
mod keys;
mod one_or_many;
mod source;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    algorithm::{Algorithm, Encoding, Gzip},
    challenge::{AnswerSpec, ChallengeSpec, MacText},
    identity::{Dedup, IdentitySpec, Named, Stability},
    items::{ItemsSpec, ItemsTable},
    keys::{KeyFormat, KeysSpec},
    one_or_many::OneOrMany,
    source::{SourceSpec, SplitAt},
};
use crate::period::Period;

/// One provider's scheme. A *selector* names a place in a request: `header:NAME` (`header:x-sig-*`
/// for numbered names), `body:a.b`, `body:list[0].id`, `body:list[].id` (all, joined with commas),
/// `raw:a.b` (that part of a JSON body as it stands), `member:GLOB` or `member:[1]` (the name of a
/// top-level member, by pattern or by place), `query:NAME` (`query:*` for any), `form:NAME`,
/// `header:NAME=VALUE` (only where it is that), `signature:MEMBER`, `claim:PATH` (of a token),
/// `body:` (the whole body); a path may be a JSON Pointer (RFC 6901), `body:/a/b`; `a|b` takes the
/// first that is there, `a+b` joins with a dot, and `b?` in a join may be missing.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SchemeSpec {
    /// The provider's name as people write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The page that documents the signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docs: Option<String>,
    /// What the facts were read in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// The provider's own library, or the one that it names, which judged genuine and forged
    /// requests alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<String>,
    /// What a user has to know, in a sentence or two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// How often and how long the provider sends again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<String>,
    /// Event types for samples: some of those there are, as recalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,

    /// Several where the provider lets its user choose: the digest's length tells which.
    pub algorithm: OneOrMany<Algorithm>,
    /// Default: hex; plain for `token`. Several where it is not established which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<OneOrMany<Encoding>>,
    /// What is signed: text with `{body}`, `{timestamp}`, `{id}`, `{url}`, `{method}`, `{secret}`,
    /// `{hash:ALGORITHM:ENCODING}` (of the body), `{lower:SELECTOR}` (in lower case) or
    /// `{SELECTOR}` (`{SELECTOR?}` may be missing, `{?SELECTOR}` must be there and adds nothing);
    /// `{path}`, `{host}` and `{base}` of the URL; `{form_sorted}`, `{query_sorted}`,
    /// `{url_and_form_sorted}`, `{listed:HEADER}`, `{json:body}`; `{{` is a brace. Of several, the
    /// first whose places are all there. Default: `{body}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<OneOrMany<String>>,
    /// The URL may be signed with its port or without.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub url_ports: bool,
    /// The body may be signed with what is not ASCII, and slashes, escaped as some writers of JSON
    /// do (`\u00e9`, `\/`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub body_escapes: bool,
    /// Selector of the JSON text that `body:` looks into, where it is not the body itself:
    /// `form:NAME` or `claim:NAME`, with `|body:` where it may be the body as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// What must hold besides the signature: a place, and the template of its value; `*` for any,
    /// empty for a place that must not be there. With `?` behind the place it is not compared where
    /// either side is missing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binds: BTreeMap<String, String>,
    /// Characters whose percent-encoding in `{url}` is undone before it is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_decode: Option<String>,
    /// From the secret as the provider's page shows it to the key: `strip:PREFIX` (`*` for any
    /// run), `base64`, `hex`, `text`, `nfkd`, `credentials` (as the encoding of that name),
    /// `after:SEPARATOR` (what stands behind the last), `sha1` (its hash).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret: Vec<String>,
    /// What the provider's secrets begin with, where that stays part of the key; used to make one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_starts: Option<String>,
    /// The provider signs with an API key of its user's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret_is_api_key: bool,
    /// Selector of the name of the key that signed; every secret is tried all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Bodies may come gzipped, and what is signed then; without it they are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gzip: Option<Gzip>,
    /// The keys are the provider's, and fetched; the source's secrets are then what tells its
    /// requests from those to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeysSpec>,
    /// Selector of what `{id}` stands for in the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Selector of the event key, or several that are joined; `?` behind one of several lets it be
    /// missing, and `body:` is the digest of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<OneOrMany<String>>,
    /// What makes two requests the same event. Default: `key` where there is one, else `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup: Option<Dedup>,
    /// What a request is known by that lacks the key: `body` or `none` (the default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_key: Option<Dedup>,
    /// Places that change when the provider sends an event again (`body:PATH`, `form:NAME`): left
    /// out of the body's digest, and so of the comparison with the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// What the event key was made of before `identity` was looked at again, where that was
    /// something else: what was recorded under it is still found. `body:` for the digest alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_before: Option<String>,
    /// Selector of the event type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// One request carries several events: where their list is, each an event of its own. A place
    /// (`body:` for a body that is a list), or a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<ItemsSpec>,
    /// How long the provider may send an event again: the least time to remember keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Period>,
    /// How long the provider waits for an answer, less a margin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack_budget: Option<Period>,
    /// Answers have no body: the provider insists.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bare_answers: bool,
    /// Answers to forms have no body: the provider would show it to people.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bare_answers_to_forms: bool,
    /// The text that events are answered with: the provider insists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Its content type; default: text/plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_type: Option<String>,
    /// Another provider's scheme that signs the requests without this one's signature: an older
    /// form, or a token instead of a digest. The source's secrets are tried with it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also: Option<String>,
    /// The content type that the provider sends; default: application/json.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,

    /// Where signatures are and how they are taken apart.
    pub signature: SignatureSpec,
    /// When a request was signed; without it the scheme signs no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeSpec>,
    /// How the facts were established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<ConfidenceSpec>,
    /// What the event key names, and how that is known. Without it the key is what its author says
    /// it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentitySpec>,
    /// Requests that are answered and not recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub challenge: Vec<ChallengeSpec>,
}

/// How the facts were established: of the signature, and the best of id, time to answer and
/// retries.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ConfidenceSpec {
    /// How the facts about the signature were established.
    pub scheme: String,
    /// The same of the id, the time to answer and the retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
}

/// Where signatures are and how their text is taken apart: the value is split at `separator`, each
/// item at the first `pair` into a name and a digest, of which those named in `take` count; then
/// `prefix` is taken off. Where there are `groups`, each is a signature of its own, with a time of
/// its own.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SignatureSpec {
    /// Selector: `header:NAME`, with `|` for other names of the same header; or another place.
    pub from: String,
    /// The signature is a token that signs itself (JWS in its compact form); its claims are
    /// `claim:PATH`, and the content is the token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub jws: bool,
    /// How far a token's `exp` and `nbf` may be off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leeway: Option<Period>,
    /// Each alternative that is there counts, not the first alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub every: bool,
    /// The header may stand more than once; each counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// Every item must match, not one alone; for `token`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// What stands between signatures that have a time each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<String>,
    /// What stands between the items; without it there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    /// What stands between a name and its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<String>,
    /// The names whose values are digests; `*` for any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub take: Vec<String>,
    /// What stands before a digest. One that ends in a blank has no case (RFC 9110, section 11.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// A digest may come without the prefix.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prefix_optional: bool,
    /// Items at the front that are no digests; `signature:0` names the first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip: usize,
    /// More items than this are refused before any is computed; default 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates_max: Option<usize>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// When a request was signed, and how near to now that must be.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TimeSpec {
    /// Selector.
    pub from: String,
    /// How it is written; default: seconds.
    #[serde(default)]
    pub unit: TimeUnit,
    /// How far the request's time may be from ours; without it the time is read and not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Period>,
    /// A request may come without it; for times that the signature covers, so that nobody else can
    /// leave it out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// To which side of now the tolerance counts; default: both.
    #[serde(default)]
    pub direction: Direction,
}

/// How a time is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Seconds since 1970, in digits.
    #[default]
    S,
    /// Milliseconds since 1970, in digits.
    Ms,
    /// RFC 3339: `1994-11-06T08:49:37Z`.
    Rfc3339,
    /// RFC 9110, section 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`.
    #[serde(rename = "http-date")]
    HttpDate,
}

/// Which times are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Those too long ago, and those too far ahead.
    #[default]
    Both,
    /// Those too long ago alone.
    Past,
}
