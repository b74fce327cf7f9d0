//! Verification alone, for every built-in scheme: signature, time, event key and type of a body of 2 KiB, signed from the scheme itself.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hookonce::{
    event::{BodyDigest, key_of},
    provider::{Catalog, Draft, Request, Verifier, generate_secret, sample_body, sign, standard::Signer},
    settings::Source,
};

const NOW: i64 = 1_767_225_600;
/// For schemes with RSA, for which no key is made.
const RSA: &str = include_str!("../../tests/keys/rsa-1.pem");
const SIZES: [usize; 2] = [2048, 16384];

/// A sample of the scheme with text before its last brace, up to this size.
fn body(sample: Vec<u8>, size: usize) -> Vec<u8> {
    let mut body = sample;
    if body.last() != Some(&b'}') {
        return body;
    }
    body.pop();
    body.extend_from_slice(b",\"lines\":[");
    while body.len() + 160 < size {
        body.extend_from_slice(
            br#"{"id":"il_5f2c81a09b","object":"line_item","amount":4900,"description":"1 Team plan (at 49.00 / month)","quantity":1},"#,
        );
    }
    body.extend_from_slice(b"{}]}");
    body
}

fn schemes(criterion: &mut Criterion) {
    let catalog = Catalog::new(&Default::default()).expect("the built-in schemes");
    for size in SIZES {
        let mut group = criterion.benchmark_group(format!("verify {} KiB", size / 1024));
        group.throughput(Throughput::Bytes(size as u64));
        for name in catalog.names() {
            let Some(case) = Case::new(&catalog, name, size) else {
                eprintln!("{name}: not signed here, not measured");
                continue;
            };
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| bencher.iter(|| black_box(case.verify())));
        }
    }
}

struct Case {
    verifier: Verifier,
    headers: Vec<(String, String)>,
    url: Option<String>,
    body: Bytes,
}

impl Case {
    /// None where a scheme needs more than its own data to sign or to be set up.
    fn new(catalog: &Catalog, name: &str, size: usize) -> Option<Self> {
        let scheme = catalog.get(name)?;
        let event_type = Some("invoice.paid");
        let body = body(sample_body(scheme, "invoice.paid", "evt_1").ok()?, size);
        let secret = generate_secret(scheme, &mut rand::rng()).unwrap_or_else(|_| RSA.into());
        let url = Some("https://hooks.example.com/hooks/bench");
        let draft = Draft { id: "evt_1", event_type, unix_seconds: NOW, body: &body, url, method: "POST" };
        let signed = sign(scheme, &secret, &draft).ok()?;
        let source: Source = serde_json::from_value(serde_json::json!({ "provider": name })).ok()?;
        let verifier = Verifier::new(catalog, &source, &[secret]).ok()?;
        let case = Self { verifier, headers: signed.headers, url: signed.url, body: signed.body.into() };
        case.verify().then_some(case)
    }

    fn verify(&self) -> bool {
        let headers: Vec<(&str, &[u8])> = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let request = Request { method: "POST", url: self.url.as_deref(), query: None, headers: &headers, body: &self.body };
        self.verifier.verify(&request, NOW * 1000).is_ok()
    }
}

/// What each new event costs beside its verification.
fn parts(criterion: &mut Criterion) {
    let body = vec![b'x'; 2048];
    criterion.bench_function("body digest, 2 KiB", |bencher| bencher.iter(|| BodyDigest::of(black_box(&body))));
    criterion.bench_function("key of an event", |bencher| bencher.iter(|| key_of("stripe", black_box("evt_1Rb2kQ9mTzSample0000001"))));
    let signer = Signer::new(&"whsec_aGVsbG8gYmVuY2htYXJrIG9mIGhvb2tvbmNl".into()).expect("a secret");
    criterion.bench_function("sign an attempt, 2 KiB", |bencher| bencher.iter(|| signer.sign("019a0000", NOW, black_box(&body))));
}

criterion_group!(benches, schemes, parts);
criterion_main!(benches);
