//! What fuzzers call (`fuzz/`, and the tests below): every place in which this crate takes bytes
//! from outside apart. None may panic, and what is said of each must hold for any input.

use std::{collections::BTreeMap, sync::LazyLock};

use bytes::Bytes;
use secrecy::SecretString;

use crate::{
    keys::{key::width, key_set::KeySet},
    locate::{
        json::Pointers, jws, piece::Values, scan::elements, selector::Inputs,
        signature_text::Candidates, template::Template,
    },
    plan::catalog::Catalog,
    request::Request,
    sign::secret::generate_secret,
    spec::{Algorithm, KeyFormat, SourceSpec, SplitAt},
    verify::verifier::Verifier,
};

const NOW_UNIX_MS: i64 = 1_800_000_000_000;
const URL: &str = "https://hooks.example.com/hooks/x?a=1&b=%2F";

/// Each built-in scheme by name, with a secret that nobody has. Its requests are split if it can
/// split them.
static VERIFIERS: LazyLock<BTreeMap<String, Verifier>> = LazyLock::new(|| {
    let catalog = Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"));
    let verifier = |name: &String| {
        let scheme = catalog.get(name)?;
        // If no secret can be made, there are no keys or only fetched ones, so nothing matches.
        let secret = generate_secret(scheme, &mut rand::rng())
            .unwrap_or_else(|_| SecretString::from("arn:aws:sns:us-west-2:123456789012:MyTopic"));
        let items = scheme.spec.items.is_some().then_some(SplitAt::Known(true));
        let source = SourceSpec {
            provider: name.clone(),
            items,
            ..SourceSpec::default()
        };
        Some((
            name.clone(),
            Verifier::with_usable(&catalog, &source, &[secret]).ok()?,
        ))
    };
    let names: Vec<String> = catalog.names().map(str::to_owned).collect();
    names.iter().filter_map(verifier).collect()
});

/// The scheme that the first line names, else one that its bytes choose; and what follows the line.
fn chosen(input: &[u8]) -> Option<(&'static str, &'static Verifier, &[u8])> {
    let (name, rest) = split(input)?;
    let verifiers = &*VERIFIERS;
    let named = std::str::from_utf8(name)
        .ok()
        .and_then(|name| verifiers.get_key_value(name));
    let sum = name.iter().fold(0_usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(*byte))
    });
    let (name, verifier) = named.or_else(|| verifiers.iter().nth(sum % verifiers.len().max(1)))?;
    Some((name.as_str(), verifier, rest))
}

fn split(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = input.iter().position(|byte| *byte == b'\n')?;
    Some((&input[..at], &input[at + 1..]))
}

/// A signature's text. No more items than the bound are looked at, whatever the text is.
pub fn header(input: &[u8]) {
    let Some((name, verifier, text)) = chosen(input) else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let plan = verifier.plan();
    for algorithm in &plan.algorithms {
        let mut candidates = Candidates::default();
        let found = plan
            .grammar
            .collect(text, width(*algorithm), &mut candidates);
        assert!(
            found.is_err() || candidates.each().len() <= candidates.looked_at(),
            "{name}"
        );
        assert!(candidates.looked_at() <= 1025, "{name}");
    }
    for member in ["t", "v1", "0", "7", "ts"] {
        let _ = plan.grammar.member(text, member);
    }
}

/// A template and a body to fill it with.
pub fn template(input: &[u8]) {
    let Some((text, body)) = split(input) else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let mut pointers = Pointers::default();
    let Ok(template) = Template::parse(text, &mut pointers) else {
        return;
    };
    let body = Bytes::copy_from_slice(body);
    let headers: [(&str, &[u8]); 2] = [("x-list", b"x-list,x-other"), ("webhook-id", b"a")];
    let request = Request {
        method: "POST",
        url: Some(URL),
        query: None,
        headers: &headers,
        body: &body,
    };
    let found = pointers.find(&body);
    let inputs = Inputs {
        request: &request,
        found: found.as_ref(),
        signature: None,
    };
    let values = Values {
        timestamp: Some("1"),
        id: Some(b"i"),
        url_decode: Some("/"),
        ..Values::none(&inputs)
    };
    let _ = template.resolve(&values).map(|chunks| chunks.len());
}

/// A path and a text. A text in which values are found is JSON, and the elements of a list are
/// those that are in it.
pub fn json(input: &[u8]) {
    let Some((path, text)) = split(input) else {
        return;
    };
    let Ok(path) = std::str::from_utf8(path) else {
        return;
    };
    let mut pointers = Pointers::default();
    let (_, _, _) = (
        pointers.add(path),
        pointers.add_raw(path),
        pointers.add_name(path),
    );
    if pointers.find(text).is_some() {
        assert!(
            serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok(),
            "{}",
            String::from_utf8_lossy(text)
        );
    }
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    if let Some(found) = elements(text, 64) {
        let all: Vec<Box<serde_json::value::RawValue>> =
            serde_json::from_str(text).expect("a list");
        assert!(all.iter().map(|one| one.get()).eq(found), "{text}");
    }
}

/// A token. It is read only if it names an algorithm.
pub fn token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(token) = jws::Token::read(text) {
        assert!(jws::is_for_tokens(token.algorithm));
        let _ = token.is_current(0, NOW_UNIX_MS);
    }
    let _ = (jws::claim(text, "exp"), jws::claim(text, "a.b"));
}

/// What a provider's host gave as its keys.
pub fn keys(input: &[u8]) {
    for format in [KeyFormat::Jwks, KeyFormat::X509] {
        if let Ok(set) = KeySet::read(format, input) {
            assert!(!set.is_right(
                Algorithm::RsaSha256,
                None,
                b"message",
                std::iter::once(&input[..input.len().min(64)]),
                NOW_UNIX_MS
            ));
        }
    }
}

/// A whole request: headers, an empty line and a body. It is not accepted as an event, because
/// nobody has the secret.
pub fn scheme(input: &[u8]) {
    let Some((name, verifier, rest)) = chosen(input) else {
        return;
    };
    let mut headers: Vec<(String, &[u8])> = Vec::new();
    let mut rest = rest;
    while let Some((line, after)) = split(rest) {
        rest = after;
        let Some(at) = line.iter().position(|byte| *byte == b':') else {
            break;
        };
        headers.push((
            String::from_utf8_lossy(&line[..at]).to_ascii_lowercase(),
            line[at + 1..].trim_ascii(),
        ));
    }
    let headers: Vec<(&str, &[u8])> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    let body = Bytes::copy_from_slice(rest);
    for method in ["POST", "GET"] {
        let request = Request {
            method,
            url: Some(URL),
            query: None,
            headers: &headers,
            body: &body,
        };
        let accepted = verifier
            .verify(&request, NOW_UNIX_MS)
            .is_ok_and(|verified| verified.challenge().is_none());
        assert!(!accepted, "{name}");
        let _ = verifier.explain(&request, NOW_UNIX_MS);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::locate::selector::Place;

    type Target = (&'static str, fn(&[u8]));

    const ROUNDS: usize = 1500;
    const ODD: &[u8] = b"{}[]\",:=.|+?&%\\\n\0\xff 0a";

    /// One or a few changes of an input: bytes flipped, taken out, put in, a part repeated, two
    /// inputs joined.
    fn changed(rng: &mut StdRng, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[rng.random_range(0..seeds.len())].clone();
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(0..=input.len());
            match rng.random_range(0..6) {
                0 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
                1 if at < input.len() => drop(input.remove(at)),
                2 => input.insert(at, ODD[rng.random_range(0..ODD.len())]),
                3 => {
                    let part = input[at..]
                        .iter()
                        .take(rng.random_range(0..40))
                        .copied()
                        .collect::<Vec<_>>();
                    for _ in 0..rng.random_range(1..9) {
                        input.splice(at..at, part.iter().copied());
                    }
                }
                4 => input.truncate(at),
                _ => {
                    let other = &seeds[rng.random_range(0..seeds.len())];
                    input.truncate(at);
                    input.extend_from_slice(&other[rng.random_range(0..=other.len())..]);
                }
            }
        }
        input
    }

    #[test]
    fn fuzz_targets_hold_over_their_seeds_and_changes_of_them() {
        let targets: [Target; 6] = [
            ("header", header),
            ("template", template),
            ("json", json),
            ("token", token),
            ("keys", keys),
            ("scheme", scheme),
        ];
        for (name, target) in targets {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../fuzz/corpus")
                .join(name);
            let mut files: Vec<_> = fs::read_dir(folder)
                .unwrap()
                .map(|file| file.unwrap().path())
                .collect();
            files.sort();
            let seeds: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
            assert!(seeds.len() > 2, "{name}");
            seeds.iter().for_each(|seed| target(seed));
            let mut rng = StdRng::seed_from_u64(11);
            for _ in 0..ROUNDS {
                target(&changed(&mut rng, &seeds));
            }
        }
    }

    #[test]
    fn every_scheme_is_fuzzed_by_name() {
        let mut rng = StdRng::seed_from_u64(12);
        assert!(VERIFIERS.len() > 180, "{}", VERIFIERS.len());
        let bodies: [&[u8]; 4] = [
            b"{\"id\":1,\"events\":[{}]}",
            b"a=1&b=2",
            b"",
            b"--x\r\n\r\n--x--",
        ];
        for (name, verifier) in &*VERIFIERS {
            let names: Vec<&str> = verifier.plan().once.iter().map(String::as_str).collect();
            for body in bodies {
                let mut text = format!("{name}\n").into_bytes();
                for header in &names {
                    let value: String = (0..rng.random_range(0..60))
                        .map(|_| char::from(rng.random_range(32..127_u8)))
                        .collect();
                    text.extend_from_slice(format!("{header}: {value}\n").as_bytes());
                }
                text.extend_from_slice(b"\n");
                text.extend_from_slice(body);
                scheme(&text);
                let seeds = [text];
                (0..4).for_each(|_| scheme(&changed(&mut rng, &seeds)));
            }
        }
    }

    /// Counts work instead of timing it: bytes that are decoded and items that are looked at,
    /// against the bytes that are hashed of a body of 64 KiB.
    #[test]
    fn ten_thousand_signatures_cost_less_than_a_body_of_64_kib() {
        let mut most = 0;
        for (name, verifier) in &*VERIFIERS {
            let plan = verifier.plan();
            let Some(Place::Header(header)) = plan.signature.places().next() else {
                continue;
            };
            let separator = plan
                .grammar
                .separator
                .as_deref()
                .or(plan.groups.as_deref())
                .unwrap_or(",");
            let one = plan.grammar.write(&[], &[7; 32]);
            let text = vec![one; 10_000].join(separator);
            for algorithm in &plan.algorithms {
                let mut candidates = Candidates::default();
                let _ = plan
                    .grammar
                    .collect(&text, width(*algorithm), &mut candidates);
                let work = candidates.bytes.len() + 64 * candidates.looked_at();
                assert!(work < 64 << 10, "{name}: {work}");
                most = most.max(work);
            }
            let body = Bytes::new();
            let headers: [(&str, &[u8]); 1] = [(header, text.as_bytes())];
            let request = Request {
                method: "POST",
                url: Some(URL),
                query: None,
                headers: &headers,
                body: &body,
            };
            assert!(verifier.verify(&request, NOW_UNIX_MS).is_err(), "{name}");
        }
        assert!(most > 0);
    }
}
