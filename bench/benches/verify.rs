//! Verification alone, for every built-in scheme: signature, time, event key and type of a body of
//! 2 KiB, signed from the scheme itself; then the parts that it is made of, and what a new event
//! costs beside it.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hookonce::{
    event::{BodyDigest, key_of},
    store::inbox::{self, Lessee, NewDelivery, NewEvent},
};
use hookonce_scheme::{
    Catalog, Draft, Request, Verifier, generate_secret, parts, sample_body, sign, spec::SourceSpec,
    standard::Signer,
};
use uuid::Uuid;

const NOW: i64 = 1_767_225_600;
/// For schemes with RSA, for which no key is made.
const RSA: &str = include_str!("../../tests/keys/rsa-1.pem");
const BATCH: usize = 128;
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
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter(|| black_box(case.verify()))
            });
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
        let draft = Draft {
            id: "evt_1",
            headers: &[],
            event_type,
            unix_seconds: NOW,
            body: &body,
            url,
            method: "POST",
        };
        let signed = sign(scheme, &secret, &draft).ok()?;
        let source = SourceSpec {
            provider: name.to_owned(),
            ..SourceSpec::default()
        };
        let verifier = Verifier::new(catalog, &source, &[secret]).ok()?;
        let case = Self {
            verifier,
            headers: signed.headers,
            url: signed.url,
            body: signed.body.into(),
        };
        case.verify().then_some(case)
    }

    fn with<T>(&self, look: impl FnOnce(&Request<'_>) -> T) -> T {
        let headers: Vec<(&str, &[u8])> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let request = Request {
            method: "POST",
            url: self.url.as_deref(),
            query: None,
            headers: &headers,
            body: &self.body,
        };
        look(&request)
    }

    fn verify(&self) -> bool {
        self.with(|request| self.verifier.verify(request, NOW * 1000).is_ok())
    }
}

/// What a verification of Stripe's is made of, and what each new event costs beside it.
fn parts(criterion: &mut Criterion) {
    let catalog = Catalog::new(&Default::default()).expect("the built-in schemes");
    let stripe = Case::new(&catalog, "stripe", 2048).expect("Stripe's scheme signs");
    stripe.with(|request| {
        let verifier = &stripe.verifier;
        assert!(
            parts::key_and_type(verifier, request).is_some()
                && parts::content_pieces(verifier, request, "1767225600").is_some()
        );
        criterion.bench_function("key and type, 2 KiB", |bencher| {
            bencher.iter(|| parts::key_and_type(verifier, black_box(request)))
        });
        criterion.bench_function("content from its template", |bencher| {
            bencher.iter(|| parts::content_pieces(verifier, black_box(request), "1767225600"));
        });
    });
    criterion.bench_function("encode a digest", |bencher| {
        bencher.iter(|| parts::encode_digest(&stripe.verifier, black_box(&[7; 32])))
    });
    let body = vec![b'x'; 2048];
    criterion.bench_function("body digest, 2 KiB", |bencher| {
        bencher.iter(|| BodyDigest::of(black_box(&body)))
    });
    criterion.bench_function("key of an event", |bencher| {
        bencher.iter(|| key_of("stripe", black_box("evt_1Rb2kQ9mTzSample0000001")))
    });
    let signer =
        Signer::new(&"whsec_aGVsbG8gYmVuY2htYXJrIG9mIGhvb2tvbmNl".into()).expect("a secret");
    criterion.bench_function("sign an attempt, 2 KiB", |bencher| {
        bencher.iter(|| signer.sign("019a0000", NOW, black_box(&body)))
    });
    batch(criterion, &stripe);
}

const LESSEE: Lessee = Lessee {
    node: Uuid::nil(),
    lease_seconds: 30.0,
};

/// The arguments of the statement that records a batch, with one delivery an event.
fn batch(criterion: &mut Criterion, case: &Case) {
    let request = case
        .with(|request| case.verifier.verify(request, NOW * 1000))
        .expect("a right signature");
    let event = || NewEvent {
        id: Uuid::now_v7(),
        key: hookonce::event::Key(Uuid::new_v4()),
        id_text: String::new(),
        guard: None,
        key_before: None,
        mark: None,
        source: "stripe".into(),
        window_seconds: 259_200.0,
        headers: r#"[["user-agent","Stripe/1.0"],["content-type","application/json"]]"#.into(),
        request: request.clone(),
        original: None,
    };
    let events: Vec<NewEvent> = std::iter::repeat_with(event).take(BATCH).collect();
    let deliveries: Vec<NewDelivery> = events.iter().map(delivery).collect();
    let events: Vec<&NewEvent> = events.iter().collect();
    criterion.bench_function(&format!("encode a batch of {BATCH}, 2 KiB"), |bencher| {
        bencher.iter(|| inbox::batch(LESSEE, black_box(&events), &deliveries));
    });
}

fn delivery(of: &NewEvent) -> NewDelivery {
    let (event_id, key, source) = (of.id, of.key, of.source.clone());
    NewDelivery {
        id: hookonce::contract::DeliveryId(Uuid::now_v7()),
        event_id: hookonce::contract::EventId(event_id),
        key,
        source,
        destination: "h".into(),
        body_bytes: 2048,
        leased: true,
    }
}

criterion_group!(benches, schemes, parts);
criterion_main!(benches);
