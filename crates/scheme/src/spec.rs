//! The signature scheme grammar as data: what `config/providers/*.toml` and a user's `[providers.NAME]` are written in. Only the shape
//! is here; the small languages inside the strings (selectors, templates, secret steps) are read and checked by the provider layer.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IntoDeserializer as _, SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use crate::period::Period;

/// One provider's scheme. A *selector* names a place in a request: `header:NAME` (`header:x-sig-*` for numbered names), `body:a.b`,
/// `body:list[0].id`, `body:list[].id` (all, joined with commas), `raw:a.b` (that part of a JSON body as it stands), `member:GLOB` or
/// `member:[1]` (the name of a top-level member, by pattern or by place), `query:NAME` (`query:*` for any), `form:NAME`,
/// `header:NAME=VALUE` (only where it is that), `signature:MEMBER`, `claim:PATH` (of a token), `body:` (the whole body); a path may be a JSON Pointer (RFC 6901), `body:/a/b`;
/// `a|b` takes the first that is there, `a+b` joins with a dot, and `b?` in a join may be missing.
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
    /// The provider's own library, or the one that it names, which judged genuine and forged requests alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<String>,
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
    /// What is signed: text with `{body}`, `{timestamp}`, `{id}`, `{url}`, `{method}`, `{secret}`, `{hash:ALGORITHM:ENCODING}` (of the
    /// body), `{lower:SELECTOR}` (in lower case) or `{SELECTOR}` (`{SELECTOR?}` may be missing, `{?SELECTOR}` must be there and adds nothing); `{path}`,
    /// `{host}` and `{base}` of the URL; `{form_sorted}`, `{query_sorted}`, `{url_and_form_sorted}`, `{listed:HEADER}`, `{json:body}`; `{{` is a brace. Of several, the first whose places are all there. Default: `{body}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<OneOrMany<String>>,
    /// The URL may be signed with its port or without.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub url_ports: bool,
    /// The body may be signed with what is not ASCII, and slashes, escaped as some writers of JSON do (`\u00e9`, `\/`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub body_escapes: bool,
    /// Selector of the JSON text that `body:` looks into, where it is not the body itself: `form:NAME` or `claim:NAME`, with `|body:` where
    /// it may be the body as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// What must hold besides the signature: a place, and the template of its value; `*` for any, empty for a place that must not be there.
    /// With `?` behind the place it is not compared where either side is missing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binds: BTreeMap<String, String>,
    /// Characters whose percent-encoding in `{url}` is undone before it is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_decode: Option<String>,
    /// From the secret as the provider's page shows it to the key: `strip:PREFIX` (`*` for any run), `base64`, `hex`, `text`, `nfkd`,
    /// `credentials` (as the encoding of that name), `after:SEPARATOR` (what stands behind the last), `sha1` (its hash).
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
    /// The keys are the provider's, and fetched; the source's secrets are then what tells its requests from those to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeysSpec>,
    /// Selector of what `{id}` stands for in the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Selector of the event key, or several that are joined; `?` behind one of several lets it be missing, and `body:` is the digest of
    /// the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<OneOrMany<String>>,
    /// What makes two requests the same event. Default: `key` where there is one, else `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup: Option<Dedup>,
    /// What a request is known by that lacks the key: `body` or `none` (the default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_key: Option<Dedup>,
    /// Places that change when the provider sends an event again (`body:PATH`, `form:NAME`): left out of the body's digest, and so of the
    /// comparison with the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// What the event key was made of before `identity` was looked at again, where that was something else: what was recorded under it
    /// is still found. `body:` for the digest alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_before: Option<String>,
    /// Selector of the event type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// One request carries several events: where their list is, each an event of its own. A place (`body:` for a body that is a list), or a
    /// table.
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
    /// Another provider's scheme that signs the requests without this one's signature: an older form, or a token instead of a digest. The
    /// source's secrets are tried with it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also: Option<String>,
    /// The content type that the provider sends; default: application/json.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,

    pub signature: SignatureSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeSpec>,
    /// How the facts were established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<ConfidenceSpec>,
    /// What the event key names, and how that is known. Without it the key is what its author says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentitySpec>,
    /// Requests that are answered and not recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub challenge: Vec<ChallengeSpec>,
}

/// One value, or a list of alternatives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl From<&str> for OneOrMany<String> {
    fn from(one: &str) -> Self {
        Self::One(one.into())
    }
}

/// As it is read by people: several are all of it, one behind the other.
impl fmt::Display for OneOrMany<String> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_slice().join(" + "))
    }
}

/// By hand, as the derived one hides what is wrong inside.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(text.into_deserializer()).map(OneOrMany::One)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// Where the events of one request are: a place alone, or a table.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ItemsSpec {
    From(String),
    Table(ItemsTable),
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ItemsTable {
    /// `body:` or `body:PATH`, of a list.
    pub from: String,
    /// Selector of an item's event key, where `body:` is the item, or several that are joined; default: the scheme's `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<OneOrMany<String>>,
    /// What makes two items the same event; default: `key` where there is one, else `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup: Option<Dedup>,
    /// Selector of an item's event type; default: the scheme's `type`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// A request of more items stays one event; default: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count_max: Option<usize>,
    /// Split only where the source says `items = true`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

impl ItemsSpec {
    pub fn table(&self) -> ItemsTable {
        match self {
            Self::From(from) => ItemsTable { from: from.clone(), ..ItemsTable::default() },
            Self::Table(table) => table.clone(),
        }
    }
}

/// By hand, as the derived one hides what is wrong inside.
impl<'de> Deserialize<'de> for ItemsSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ItemsSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a place or a table")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(ItemsSpec::From(text.into()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                ItemsTable::deserialize(de::value::MapAccessDeserializer::new(map)).map(ItemsSpec::Table)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// How the facts were established: of the signature, and the best of id, time to answer and retries.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ConfidenceSpec {
    pub scheme: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
}

/// What makes two requests of a source the same event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dedup {
    /// The event key.
    Key,
    /// The digest of the body, with the event type where that stands in a header.
    Body,
    /// Nothing: each request is an event of its own.
    None,
}

/// What a scheme says of its event key.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct IdentitySpec {
    /// What the key's parts name together; none where nothing makes two requests the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Named>,
    /// Whether they stay the same when the provider sends an event again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays: Option<Stability>,
    /// The page or library that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// What was looked at, and what was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

impl IdentitySpec {
    /// Whether it is established that two requests with one key are one event.
    pub fn is_established(&self) -> bool {
        matches!(self.names, Some(Named::Delivery | Named::Event)) && self.stays == Some(Stability::Stated)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Named {
    /// One event on its way to one endpoint, however often it is tried.
    Delivery,
    Event,
    /// What somebody did: several events may come of it. No key alone.
    Action,
    /// What something was done to. No key alone.
    Object,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stability {
    /// A source that was read says so.
    Stated,
    /// Remembered, not read again.
    Recalled,
    /// Not established.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Gzip {
    /// The compressed bytes.
    AsSent,
    /// What they unpack to.
    Unpacked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    #[serde(rename = "hmac-sha1")]
    HmacSha1,
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    #[serde(rename = "hmac-sha384")]
    HmacSha384,
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
    /// A plain hash of the content, which must name `{secret}`.
    #[serde(rename = "sha1")]
    Sha1,
    #[serde(rename = "sha256")]
    Sha256,
    /// The same; Keccak as it was before SHA-3, as Ethereum has it.
    #[serde(rename = "keccak-256")]
    Keccak256,
    /// The secret itself is sent.
    Token,
    Ed25519,
    /// The secret is the public key (PEM, or its base64); signatures are DER, or two numbers of 32 bytes.
    #[serde(rename = "ecdsa-p256-sha256")]
    EcdsaP256Sha256,
    /// PKCS #1 v1.5 with a key of 2048 bits at least; the secret is the public key (PEM, or its base64).
    #[serde(rename = "rsa-sha256")]
    RsaSha256,
    /// The same over SHA-1, for keys that are fetched.
    #[serde(rename = "rsa-sha1")]
    RsaSha1,
}

impl Algorithm {
    /// Whether what checks it is no secret.
    pub fn is_public(self) -> bool {
        matches!(self, Self::Ed25519 | Self::EcdsaP256Sha256 | Self::RsaSha256 | Self::RsaSha1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Either case.
    Hex,
    /// The standard alphabet, padded or not.
    Base64,
    /// The URL-safe alphabet, padded or not.
    Base64url,
    Plain,
    /// As in an Authorization header: what `Basic` holds in base64, what stands after `Bearer`, or anything else as it is. For tokens.
    Credentials,
}

/// Where signatures are and how their text is taken apart: the value is split at `separator`, each item at the first `pair` into a name
/// and a digest, of which those named in `take` count; then `prefix` is taken off. Where there are `groups`, each is a signature of its own,
/// with a time of its own.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SignatureSpec {
    /// Selector: `header:NAME`, with `|` for other names of the same header; or another place.
    pub from: String,
    /// The signature is a token that signs itself (JWS in its compact form); its claims are `claim:PATH`, and the content is the token.
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub take: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
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

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TimeSpec {
    /// Selector.
    pub from: String,
    #[serde(default)]
    pub unit: TimeUnit,
    /// How far the request's time may be from ours; without it the time is read and not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Period>,
    /// A request may come without it; for times that the signature covers, so that nobody else can leave it out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    #[serde(default)]
    pub direction: Direction,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    #[default]
    S,
    Ms,
    Rfc3339,
    /// RFC 9110, section 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`.
    #[serde(rename = "http-date")]
    HttpDate,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    #[default]
    Both,
    Past,
}

/// A handshake: a request that is answered and not recorded. The answer's texts are templates, as `content` is, with `{mac}` besides.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ChallengeSpec {
    /// The request's method; default: POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// By selector the value that marks the handshake: `*` for any, empty for a place that must not be there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, String>,
    /// The handshake comes without a signature.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsigned: bool,
    /// Selector of a token that must be the source's `verify_token` (without one: one of its secrets).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Content whose digest, made and written as the provider's signatures are, is `{mac}` in the answer. Where the handshake is unsigned,
    /// only plain words get one: up to 256 printable characters of ASCII, none of `{}[]"<>&`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// What that content may be made of where the handshake is unsigned: whoever asks gets its digest. Default: word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_text: Option<MacText>,
    /// Default: 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The answer's body: a text, or the members of a JSON object. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerSpec>,
    /// The answer's headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Selector of a URL that is called (GET, on one of `keys.hosts`) before the handshake is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visit: Option<String>,
    /// Selector of the source's secret, which comes in this handshake; kept only while the source has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
}

/// Where the provider's public keys are.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct KeysSpec {
    /// A URL (https), or the selector of one in the request.
    pub from: String,
    pub format: KeyFormat,
    /// The hosts that such a URL may be on; `*` for any run within one part of the name, `{region}` for the name of a cloud's region
    /// (`us-east-1`) and nothing else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The path that it must have, with `*` for any run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Selector of what must be one of the source's secrets, as the keys sign for all of the provider's customers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// Members of a JSON object to post for a key: `{kid}` is the token's key id, `{user}` and `{password}` the source's secret around its
    /// colon.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub post: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyFormat {
    /// A certificate in PEM, of an RSA key; its dates count.
    X509,
    /// RFC 7517: a set, or one key.
    Jwks,
}

/// Texts that can be no event of the provider's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MacText {
    /// 256 characters of ASCII at most, none of `{}[]"<>&`: no JSON, no XML, no form.
    Word,
    /// 32 hex digits at most.
    Hex,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text or a table")]
pub enum AnswerSpec {
    Text(String),
    /// Strings are templates; other values stand as they are.
    Object(serde_json::Map<String, serde_json::Value>),
}

/// True for where the provider has them, false for not at all; or a place.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "expected true, false or a place such as \"body:events\"")]
pub enum SplitAt {
    Known(bool),
    Place(String),
}

/// What a source says of its scheme: its provider, and what it sets itself.
#[derive(Clone, Debug, Default)]
pub struct SourceSpec {
    pub provider: String,
    /// Whether one request is split into several events, and where they are; None: as the provider.
    pub items: Option<SplitAt>,
    /// Where the event key is, in the grammar of a scheme's `key`; None: the provider's.
    pub key: Option<OneOrMany<String>>,
    pub dedup: Option<Dedup>,
    /// Places that are ignored besides those of the provider's scheme.
    pub ignore: Vec<String>,
    /// The secret comes in the provider's handshake.
    pub learn_secret: bool,
    /// Fields of the provider's scheme that this source sets itself.
    pub scheme: Option<serde_json::Map<String, serde_json::Value>>,
}
