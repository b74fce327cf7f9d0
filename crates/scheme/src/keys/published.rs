//! Public keys that the provider publishes: where a request says they are, whether that is one of
//! the provider's places, and what was fetched from there. Nothing is fetched here. A check that
//! lacks a key says which one; its caller fetches the key and checks again.

use std::{collections::BTreeMap, sync::Arc};

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::{
    compiler::Compiler,
    glob,
    keys::key_set::{KeySet, KnownKeys},
    locate::{
        json::Pointers,
        selector::{Inputs, Place, Selector},
    },
    rejection::{Need, Reason, Rejection},
    spec::{KeyFormat, SchemeSpec},
};

const URL_BYTES_MAX: usize = 1024;
/// A scheme's `[keys]`.
pub(crate) struct Keys {
    from: Origin,
    hosts: Vec<String>,
    path: String,
    format: KeyFormat,
    /// What must be one of the source's secrets, because the provider signs for all of its
    /// customers with the same keys.
    expect: Option<Selector>,
    post: BTreeMap<String, String>,
}

enum Origin {
    Url(String),
    At(Selector),
}

impl Compiler {
    /// The compiled `[keys]`.
    pub(crate) fn keys(&mut self, spec: &SchemeSpec, before: &mut Pointers) -> Option<Keys> {
        let keys = spec.keys.as_ref()?;
        self.demand(
            spec.algorithm
                .as_slice()
                .iter()
                .all(|algorithm| algorithm.is_public()),
            "algorithm",
            "must be one of public keys, as they are fetched (keys)",
        );
        let is_url = keys.from.contains("://");
        let from = if is_url {
            let sound =
                Url::parse(&keys.from).is_ok_and(|url| url.scheme() == "https" && url.has_host());
            self.demand(
                sound,
                "keys.from",
                "must start with https://, or name a place (header:NAME, body:PATH)",
            );
            Some(Origin::Url(keys.from.clone()))
        } else {
            self.selector("keys.from", &keys.from, before)
                .map(Origin::At)
        };
        self.demand(
            is_url || !keys.hosts.is_empty(),
            "keys.hosts",
            "is missing: whoever sends a request would choose the key",
        );
        for (index, host) in keys.hosts.iter().enumerate() {
            let labels = host.split('.').filter(|label| !label.is_empty()).count();
            let fixed = host
                .rsplit('.')
                .take(2)
                .all(|label| !label.contains(['*', '{']));
            self.demand(
                labels > 1 && fixed,
                &format!("keys.hosts[{index}]"),
                "must be a host, whose last two parts have no *",
            );
        }
        let expect = keys
            .expect
            .as_deref()
            .and_then(|text| self.selector("keys.expect", text, before));
        let contents = spec
            .content
            .as_ref()
            .map_or(&[][..], |content| content.as_slice());
        let personal = expect.is_some()
            || !keys.post.is_empty()
            || contents.iter().any(|content| content.contains("{secret}"));
        self.demand(
            personal,
            "keys.expect",
            "is missing: the provider's keys sign for all its customers, so something must be this source's own",
        );
        let path = keys.path.clone().unwrap_or_else(|| "*".into());
        Some(Keys {
            from: from?,
            hosts: keys.hosts.clone(),
            path,
            format: keys.format,
            expect,
            post: keys.post.clone(),
        })
    }
}

impl Keys {
    /// The keys for this request. `key_id` is the name in its token.
    pub(crate) fn find(
        &self,
        inputs: &Inputs<'_>,
        key_id: Option<&str>,
        secrets: &[SecretString],
        known: &KnownKeys,
        now_unix_ms: i64,
    ) -> Result<(Arc<KeySet>, Need), Rejection> {
        let mut need = self.need(inputs, key_id, secrets)?;
        let Some(set) = known.get(&need.id, now_unix_ms) else {
            return Err(Rejection::lacking(need));
        };
        need.is_refresh = true;
        Ok((set, need))
    }

    /// The names of the keys for this request, or where they can be fetched. None if the request
    /// names no allowed place.
    pub(crate) fn told(
        &self,
        inputs: &Inputs<'_>,
        key_id: Option<&str>,
        known: &KnownKeys,
        now_unix_ms: i64,
    ) -> Option<String> {
        let need = self.need(inputs, key_id, &[]).ok()?;
        let wanted = key_id.map_or_else(String::new, |id| format!(", the token names {id:?}"));
        Some(match known.get(&need.id, now_unix_ms) {
            Some(set) => format!("the keys of {}: {}{wanted}", need.url, set.names()),
            None => format!(
                "no key of {} is here: it was not fetched, or not to be had{wanted}",
                need.url
            ),
        })
    }

    fn need(
        &self,
        inputs: &Inputs<'_>,
        key_id: Option<&str>,
        secrets: &[SecretString],
    ) -> Result<Need, Rejection> {
        let url = match &self.from {
            Origin::Url(url) => url.clone(),
            Origin::At(selector) => {
                let found = selector.resolve(inputs)?;
                let (_, value) = found.ok_or_else(|| {
                    Rejection::new(
                        Reason::MissingSignature,
                        "the request does not say where its key is",
                    )
                })?;
                self.allowed(&value).ok_or_else(|| {
                    Rejection::new(Reason::NoMatch, "the key's URL is none of the provider's")
                })?
            }
        };
        let (id, post) = if self.post.is_empty() {
            (url.clone(), None)
        } else {
            let key_id = key_id
                .filter(|id| id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic()));
            let key_id = key_id.ok_or_else(|| {
                Rejection::new(Reason::MalformedSignature, "the token names no key")
            })?;
            (
                format!("{url}#{key_id}"),
                Some(self.posted(key_id, secrets)),
            )
        };
        Ok(Need {
            id,
            url,
            format: self.format,
            post,
            is_refresh: false,
        })
    }

    fn posted(&self, key_id: &str, secrets: &[SecretString]) -> SecretString {
        let secret = secrets.first().map_or("", |secret| secret.expose_secret());
        let (user, password) = secret.split_once(':').unwrap_or((secret, ""));
        let filled = |text: &str| {
            text.replace("{kid}", key_id)
                .replace("{user}", user)
                .replace("{password}", password)
        };
        let object: serde_json::Map<String, serde_json::Value> = self
            .post
            .iter()
            .map(|(name, text)| (name.clone(), filled(text).into()))
            .collect();
        serde_json::Value::Object(object).to_string().into()
    }

    /// The URL, if it is on one of the provider's hosts, by https and at the default port.
    pub(crate) fn allowed(&self, url: &[u8]) -> Option<String> {
        let url = self.on_host(url)?;
        glob::matches(&self.path, url.path()).then(|| url.into())
    }

    /// Like `allowed`, at any path.
    pub(crate) fn on_host(&self, url: &[u8]) -> Option<Url> {
        let text = std::str::from_utf8(url)
            .ok()
            .filter(|text| text.len() <= URL_BYTES_MAX)?;
        let url = Url::parse(text).ok()?;
        let plain = url.scheme() == "https"
            && url.port().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let host = url.domain()?;
        (plain && self.hosts.iter().any(|known| is_host(known, host))).then_some(url)
    }

    /// Whether the value that must be the source's own is one of its secrets.
    pub(crate) fn expects(
        &self,
        inputs: &Inputs<'_>,
        secrets: &[SecretString],
    ) -> Result<(), Rejection> {
        let Some(selector) = &self.expect else {
            return Ok(());
        };
        let value = selector.resolve(inputs)?.map(|(_, value)| value);
        let own = value.is_some_and(|value| {
            secrets
                .iter()
                .any(|secret| secret.expose_secret().as_bytes() == &value[..])
        });
        let place = selector
            .places()
            .next()
            .map(Place::to_string)
            .unwrap_or_default();
        if own {
            Ok(())
        } else {
            Err(Rejection::new(
                Reason::NoMatch,
                format!("{place} is none of the source's secrets"),
            ))
        }
    }
}

/// Whether a host fits a pattern. `*` stands for letters, digits and hyphens within one part of a
/// name. `{region}` stands for a cloud region's name alone, because any other name may be anybody's
/// (`sns.s3.amazonaws.com` is a bucket).
fn is_host(pattern: &str, host: &str) -> bool {
    let (pattern, host): (Vec<&str>, Vec<&str>) =
        (pattern.split('.').collect(), host.split('.').collect());
    let fits = |(pattern, label): (&&str, &&str)| {
        !label.is_empty()
            && (*pattern == REGION && is_region(label) || glob::matches(pattern, label))
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    pattern.len() == host.len() && pattern.iter().zip(&host).all(fits)
}

const REGION: &str = "{region}";

/// As Amazon names its regions (docs.aws.amazon.com/global-infrastructure/latest/regions): two
/// letters, words, a number (`us-gov-west-1`).
fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let [area, words @ .., number] = parts.as_slice() else {
        return false;
    };
    let is_word =
        |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    area.len() == 2
        && !words.is_empty()
        && [area].into_iter().chain(words).all(is_word)
        && matches!(number.len(), 1 | 2)
        && number.bytes().all(|byte| byte.is_ascii_digit())
}
