//! The signature header's grammar: from its text to a bounded number of digests of the right width.
//! Compares nothing.

use std::borrow::Cow;

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use crate::{
    encoding::{BASE64, BASE64_URL, credentials, encoded},
    locate::jws,
    request::Repeated,
    spec::{Encoding, SignatureSpec},
};

const CANDIDATES_MAX: usize = 32;
/// Longer than any digest's text. A longer text is not even decoded.
const TEXT_BYTES_MAX: usize = 1400;
/// The same bound for a token that is the secret itself.
const TOKEN_BYTES_MAX: usize = 8192;

#[derive(Clone, Debug)]
pub(crate) struct Grammar {
    pub(crate) separator: Option<String>,
    pub(crate) pair: Option<String>,
    pub(crate) take: Vec<String>,
    pub(crate) prefix: Option<String>,
    prefix_optional: bool,
    skip: usize,
    max: usize,
    /// The ways in which digests may be written, at least one; the first is how we write them.
    encodings: Vec<Encoding>,
    /// The text is a token, and its claims are its members.
    pub(crate) jws: bool,
    /// Candidates are compared by their hash. So all have the same width, and the time tells
    /// nothing.
    hashed: bool,
}

/// How long a digest is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Width {
    Exactly(usize),
    UpTo(usize),
}

impl Width {
    fn fits(self, length: usize) -> bool {
        match self {
            Self::Exactly(width) => length == width,
            Self::UpTo(most) => (1..=most).contains(&length),
        }
    }
}

/// Digests that have the width, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    pub(crate) bytes: Vec<u8>,
    /// Where each digest ends.
    ends: Vec<usize>,
    /// The number of items that could be read, even if their width is wrong.
    pub(crate) readable: usize,
    items: usize,
}

impl Candidates {
    /// This digest alone, whatever its width.
    pub(crate) fn one(digest: Vec<u8>) -> Self {
        Self {
            ends: vec![digest.len()],
            bytes: digest,
            readable: 1,
            items: 1,
        }
    }

    /// The number of items that were looked at, which measures the work.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn looked_at(&self) -> usize {
        self.items
    }

    /// The digests, in the order in which they stood.
    pub(crate) fn each(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.ends.iter().enumerate().map(|(index, end)| {
            let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.bytes[start..*end]
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// Like `str::split_once`. A separator of one byte, as almost all are, is found by its byte.
fn split_once<'t>(text: &'t str, separator: &str) -> Option<(&'t str, &'t str)> {
    let [byte] = separator.as_bytes() else {
        return text.split_once(separator);
    };
    let at = memchr::memchr(*byte, text.as_bytes())?;
    Some((&text[..at], &text[at + 1..]))
}

impl Grammar {
    /// Errors name the key within `signature`.
    pub(crate) fn new(
        spec: &SignatureSpec,
        encodings: &[Encoding],
        hashed: bool,
    ) -> Result<Self, (&'static str, String)> {
        for (key, value) in [
            ("separator", &spec.separator),
            ("pair", &spec.pair),
            ("prefix", &spec.prefix),
            ("groups", &spec.groups),
        ] {
            if value.as_deref() == Some("") {
                return Err((key, "is empty: leave the key out".into()));
            }
        }
        if spec.pair.is_some() == spec.take.is_empty() {
            return Err((
                "take",
                "`pair` and `take` belong together: which names of the pairs are signatures?"
                    .into(),
            ));
        }
        let max = spec.candidates_max.unwrap_or(CANDIDATES_MAX);
        if !(1..=1024).contains(&max) {
            return Err(("candidates_max", "must be from 1 to 1024".into()));
        }
        Ok(Self {
            separator: spec.separator.clone(),
            pair: spec.pair.clone(),
            take: spec.take.clone(),
            prefix: spec.prefix.clone(),
            prefix_optional: spec.prefix_optional,
            skip: spec.skip,
            max,
            encodings: encodings.to_vec(),
            jws: spec.jws,
            hashed,
        })
    }

    fn items<'t>(&self, text: &'t str) -> impl Iterator<Item = &'t str> {
        let mut rest = Some(text);
        std::iter::from_fn(move || {
            let text = rest?;
            let (item, next) = match &self.separator {
                Some(separator) => split_once(text, separator)
                    .map_or((text, None), |(item, next)| (item, Some(next))),
                None => (text, None),
            };
            rest = next;
            Some(item.trim_ascii())
        })
    }

    /// A named member of the pairs. Without pairs the name is an index. It looks no further than
    /// the bound on items.
    pub(crate) fn member<'t>(
        &self,
        text: &'t str,
        name: &str,
    ) -> Result<Option<Cow<'t, str>>, Repeated> {
        if self.jws {
            return Ok(jws::claim(self.token(text).unwrap_or_default(), name));
        }
        let Some(pair) = &self.pair else {
            return Ok(name
                .parse()
                .ok()
                .filter(|index| *index < self.max)
                .and_then(|index| self.items(text).nth(index))
                .map(Cow::Borrowed));
        };
        let mut values = self
            .items(text)
            .take(self.max)
            .filter_map(|item| split_once(item, pair))
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value);
        let first = values.next();
        if values.next().is_some() {
            Err(Repeated(name.into()))
        } else {
            Ok(first.map(Cow::Borrowed))
        }
    }

    /// The token that the text is, behind its prefix.
    pub(crate) fn token<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.digest_of(text.trim_ascii())
    }

    /// Adds the digests of `text` that have the width.
    pub(crate) fn collect(
        &self,
        text: &str,
        width: Width,
        into: &mut Candidates,
    ) -> Result<(), TooMany> {
        for (index, item) in self.items(text).enumerate() {
            into.items += 1;
            if into.items > self.max {
                return Err(TooMany);
            }
            if index < self.skip {
                continue;
            }
            let Some(digest) = self.digest_of(item) else {
                continue;
            };
            let mut readable = false;
            for encoding in &self.encodings {
                let before = into.bytes.len();
                readable |= self.decode(*encoding, digest, width, &mut into.bytes);
                if into.bytes.len() > before {
                    into.ends.push(into.bytes.len());
                }
            }
            into.readable += usize::from(readable);
        }
        Ok(())
    }

    fn digest_of<'t>(&self, item: &'t str) -> Option<&'t str> {
        let digest = match &self.pair {
            Some(pair) => {
                split_once(item, pair)
                    .filter(|(key, _)| self.take.iter().any(|name| name == "*" || name == key))?
                    .1
            }
            None => item,
        };
        let digest = match &self.prefix {
            Some(prefix) => without(digest, prefix).or(self.prefix_optional.then_some(digest))?,
            None => digest,
        };
        (!digest.is_empty()).then_some(digest)
    }

    /// Appends the digest if it has the width. Says whether its text could be read at all.
    fn decode(&self, encoding: Encoding, text: &str, width: Width, into: &mut Vec<u8>) -> bool {
        let start = into.len();
        let readable = match encoding {
            Encoding::Plain | Encoding::Credentials if text.len() > TOKEN_BYTES_MAX => false,
            Encoding::Plain => {
                into.extend_from_slice(text.as_bytes());
                true
            }
            Encoding::Credentials => {
                let known = credentials(text);
                into.extend_from_slice(&Sha256::digest(known.as_deref().unwrap_or_default()));
                return known.is_some();
            }
            _ if text.len() > TEXT_BYTES_MAX => false,
            Encoding::Base64 => BASE64.decode_vec(text, into).is_ok(),
            Encoding::Base64url => BASE64_URL.decode_vec(text, into).is_ok(),
            Encoding::Hex => {
                into.resize(start + text.len() / 2, 0);
                // This decoder has no branches that depend on the digits.
                base16ct::mixed::decode(text, &mut into[start..]).is_ok()
            }
        };
        if readable && self.hashed {
            let hash = Sha256::digest(&into[start..]);
            into.truncate(start);
            into.extend_from_slice(&hash);
        } else if !readable || !width.fits(into.len() - start) {
            into.truncate(start);
        }
        readable
    }

    /// A digest's text as the provider writes it.
    pub(crate) fn encode(&self, digest: &[u8]) -> String {
        encoded(digest, self.encodings[0])
    }

    /// The header's value as the provider would write it. `leading` are the named members before
    /// the digest.
    pub(crate) fn write(&self, leading: &[(&str, &str)], digest: &[u8]) -> String {
        let digest = self.encode(digest);
        let mut items = Vec::new();
        for (name, value) in leading {
            items.push(
                self.pair
                    .as_ref()
                    .map_or_else(|| (*value).into(), |pair| format!("{name}{pair}{value}")),
            );
        }
        // A place before it for which no value is known is left empty.
        items.resize_with(items.len().max(self.skip), String::new);
        let digest = format!("{}{digest}", self.prefix.as_deref().unwrap_or_default());
        items.push(match (&self.pair, self.take.first()) {
            (Some(pair), Some(name)) => format!("{name}{pair}{digest}"),
            _ => digest,
        });
        items.join(self.separator.as_deref().unwrap_or_default())
    }
}

/// The text without its prefix. A prefix that ends in a blank is the name of a way to authenticate,
/// in which case does not matter (RFC 9110, section 11.1).
fn without<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    (start == prefix || prefix.ends_with(' ') && start.eq_ignore_ascii_case(prefix)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grammar(toml: &str, encoding: Encoding) -> Grammar {
        Grammar::new(&toml::from_str(toml).unwrap(), &[encoding], false).unwrap()
    }

    fn stripe() -> Grammar {
        grammar(
            "from = 'x'\nseparator = ','\npair = '='\ntake = ['v1']",
            Encoding::Hex,
        )
    }

    #[test]
    fn digests_are_taken_out_of_every_form() {
        let standard = grammar(
            "from = 'x'\nseparator = ' '\npair = ','\ntake = ['v1']",
            Encoding::Base64,
        );
        let github = grammar("from = 'x'\nprefix = 'sha256='", Encoding::Hex);
        let bearer = grammar(
            "from = 'x'\nprefix = 'Bearer '\nprefix_optional = true",
            Encoding::Hex,
        );
        let positional = grammar("from = 'x'\nseparator = ','\nskip = 1", Encoding::Hex);
        for (grammar, text, readable, bytes) in [
            (&stripe(), "t=1,v1=AABB,v1=ccdd,v0=eeff", 2, "aabbccdd"),
            (&stripe(), "t=1, v1=aabb", 1, "aabb"),
            (&stripe(), "t=1,v1=aa,v1=zz,v1=", 1, ""),
            (&stripe(), "t=1,v0=aabb", 0, ""),
            (&stripe(), "", 0, ""),
            (&standard, "v1,qrs= v1a,qrs= v1,qrs", 2, "aabbaabb"),
            (&standard, "v1,", 0, ""),
            (&github, "sha256=aabb", 1, "aabb"),
            (&github, "sha1=aabb", 0, ""),
            (&github, "aabb", 0, ""),
            (&github, "sha256=aab", 0, ""),
            (&bearer, "Bearer aabb", 1, "aabb"),
            (&bearer, "aabb", 1, "aabb"),
            (&positional, "1234,aabb,ccdd", 2, "aabbccdd"),
        ] {
            let mut found = Candidates::default();
            grammar
                .collect(text, Width::Exactly(2), &mut found)
                .unwrap();
            assert_eq!(
                (found.readable, hex::encode(&found.bytes).as_str()),
                (readable, bytes),
                "{text}"
            );
        }
    }

    #[test]
    fn more_items_than_the_bound_are_refused() {
        let mut found = Candidates::default();
        assert_eq!(
            stripe().collect(&"v1=aabb,".repeat(10_000), Width::Exactly(2), &mut found),
            Err(TooMany)
        );
        assert!(
            found.bytes.len() <= 64,
            "no more than the bound is ever decoded"
        );
        assert_eq!(
            stripe().collect(
                &"v0=aabb,".repeat(10_000),
                Width::Exactly(2),
                &mut Candidates::default()
            ),
            Err(TooMany)
        );
    }

    #[test]
    fn members_are_found_once_or_refused() {
        assert_eq!(stripe().member("t=12,v1=aa", "t"), Ok(Some("12".into())));
        assert_eq!(stripe().member("v1=aa", "t"), Ok(None));
        assert_eq!(stripe().member("t=1,t=2", "t"), Err(Repeated("t".into())));
    }

    #[test]
    fn a_grammar_without_sense_is_refused() {
        for toml in [
            "separator = ''",
            "pair = '='",
            "take = ['v1']",
            "candidates_max = 0",
        ] {
            let spec: SignatureSpec = toml::from_str(&format!("from = 'x'\n{toml}")).unwrap();
            assert!(
                Grammar::new(&spec, &[Encoding::Hex], false).is_err(),
                "{toml}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in any::<String>(), separator in proptest::option::of("\\PC{1,2}"), pair in proptest::option::of("\\PC{1,2}")) {
            for encoding in [Encoding::Hex, Encoding::Base64, Encoding::Base64url, Encoding::Plain] {
                let spec = SignatureSpec {
                    from: "header:x".into(), jws: false, leeway: None, every: false, repeated: false, all: false, groups: None, separator: separator.clone(), pair: pair.clone(),
                    take: pair.iter().map(|_| "v1".into()).collect(), prefix: None, prefix_optional: false, skip: 0, candidates_max: None,
                };
                let grammar = Grammar::new(&spec, &[encoding], encoding == Encoding::Plain).unwrap();
                let _ = grammar.collect(&text, Width::Exactly(32), &mut Candidates::default());
                let _ = grammar.member(&text, "t");
            }
        }

        #[test]
        fn what_is_written_is_read(digest in proptest::collection::vec(any::<u8>(), 32), time in 0u32..) {
            for encoding in [Encoding::Hex, Encoding::Base64, Encoding::Base64url] {
                let grammar = Grammar { encodings: vec![encoding], ..stripe() };
                let time = time.to_string();
                let text = grammar.write(&[("t", &time)], &digest);
                let mut found = Candidates::default();
                grammar.collect(&text, Width::Exactly(32), &mut found).unwrap();
                prop_assert_eq!(&found.bytes, &digest);
                prop_assert_eq!(grammar.member(&text, "t").unwrap(), Some(time.into()));
            }
        }
    }
}
