//! The requests of the load: genuine events of Stripe's and GitHub's kinds, unique by number,
//! signed before the clock starts.
//!
//! A set holds one request as a template and 32 bytes of signature an event; a request is the
//! template with its number and signature put in, so the timed loop neither signs nor reads cold
//! memory.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use sha2::Sha256;

use crate::random::Random;

pub const STRIPE_SECRET: &str = "whsec_bench_0123456789abcdefghijklmnopqrstuv";
pub const GITHUB_SECRET: &str = "bench: it is a secret to nobody";

/// Digits of an event's number, in the id as in the body.
const DIGITS: usize = 12;
const SIGNATURE_DIGITS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    Stripe,
    Github,
    /// No provider: what Restate takes, the event with an idempotency key and without a signature.
    /// Gateways and DBOS take the same.
    Restate,
    /// The same for the handler that records a step.
    RestateStep,
    /// The same for the handler that posts the event on, which is invoked behind the answer.
    RestateSend,
}

impl Provider {
    /// The name of its source, or of Restate's handler.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stripe => "stripe",
            Self::Github => "github",
            Self::Restate => "receive",
            Self::RestateStep => "step",
            Self::RestateSend => "relay/send",
        }
    }

    fn is_restate(self) -> bool {
        matches!(self, Self::Restate | Self::RestateStep | Self::RestateSend)
    }

    fn secret(self) -> &'static str {
        match self {
            Self::Stripe => STRIPE_SECRET,
            Self::Github => GITHUB_SECRET,
            Self::Restate | Self::RestateStep | Self::RestateSend => "",
        }
    }
}

/// Many signed requests that differ by their number alone.
pub struct Events {
    template: Vec<u8>,
    /// Where the number's digits stand.
    numbers: Vec<usize>,
    signature: Option<usize>,
    /// What is hashed: this, then the template from `body` on.
    signed_prefix: String,
    body: usize,
    mac: Hmac<Sha256>,
    signatures: Vec<[u8; 32]>,
}

/// What a request is made of.
pub struct Recipe<'a> {
    pub provider: Provider,
    /// Bytes of the body.
    pub size: usize,
    /// The path's last part: the source's name, if it is to be found.
    pub source: &'a str,
    /// Tells the events of one set from those of another.
    pub run: u64,
    /// How many are signed in advance; those beyond are signed when they are sent.
    pub signed: usize,
    /// A signature that does not match.
    pub spoiled: bool,
}

impl Events {
    pub fn new(recipe: &Recipe<'_>) -> Self {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let body = body(recipe);
        let (head, signed_prefix) = head(recipe, now, body.len());
        let template = format!("{head}{body}").into_bytes();
        let mark = "#".repeat(DIGITS);
        let numbers = memchr::memmem::find_iter(&template, mark.as_bytes()).collect();
        let signature = memchr::memmem::find(&template, "~".repeat(SIGNATURE_DIGITS).as_bytes());
        let secret = if recipe.spoiled {
            "another secret"
        } else {
            recipe.provider.secret()
        };
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
            .expect("HMAC takes keys of any length");
        let mut events = Self {
            template,
            numbers,
            signature,
            signed_prefix,
            body: head.len(),
            mac,
            signatures: Vec::new(),
        };
        let mut buffer = Vec::new();
        events.signatures = (0..recipe.signed)
            .map(|number| events.sign(number, &mut buffer))
            .collect();
        events
    }

    /// The bytes of a request.
    pub fn write(&self, number: usize, request: &mut Vec<u8>) {
        let Some(at) = self.signature else {
            return self.fill(number, request);
        };
        let signature = match self.signatures.get(number) {
            Some(signature) => *signature,
            None => self.sign(number, request),
        };
        self.fill(number, request);
        let place = &mut request[at..at + SIGNATURE_DIGITS];
        hex::encode_to_slice(signature, place).expect("the place has two digits a byte");
    }

    /// The body of one event as text.
    pub fn body_text(&self, number: usize) -> String {
        let mut request = Vec::new();
        self.write(number, &mut request);
        String::from_utf8_lossy(&request[self.body..]).into_owned()
    }

    /// The number in an id or key of ours.
    pub fn number(id: &[u8]) -> Option<usize> {
        std::str::from_utf8(id.get(id.len().checked_sub(DIGITS)?..)?)
            .ok()?
            .parse()
            .ok()
    }

    fn fill(&self, number: usize, request: &mut Vec<u8>) {
        request.clear();
        request.extend_from_slice(&self.template);
        let mut digits = [b'0'; DIGITS];
        let mut rest = number;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        for at in &self.numbers {
            request[*at..*at + DIGITS].copy_from_slice(&digits);
        }
    }

    fn sign(&self, number: usize, buffer: &mut Vec<u8>) -> [u8; 32] {
        self.fill(number, buffer);
        let mut mac = self.mac.clone();
        mac.update(self.signed_prefix.as_bytes());
        mac.update(&buffer[self.body..]);
        mac.finalize().into_bytes().into()
    }
}

/// The head with marks for number and signature, and what is signed before the body.
fn head(recipe: &Recipe<'_>, now: u64, length: usize) -> (String, String) {
    let (mark, signature) = ("#".repeat(DIGITS), "~".repeat(SIGNATURE_DIGITS));
    let (own, signed_prefix) = match recipe.provider {
        Provider::Stripe => (
            format!(
                "user-agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\ncache-control: no-cache\r\n\
                 content-type: application/json; charset=utf-8\r\nstripe-signature: t={now},v1={signature}\r\n"
            ),
            format!("{now}."),
        ),
        Provider::Github => (
            format!(
                "user-agent: GitHub-Hookshot/7c1f3b2\r\ncontent-type: application/json\r\nx-github-event: push\r\n\
                 x-github-hook-id: 511230345\r\nx-github-hook-installation-target-id: 79929171\r\n\
                 x-github-hook-installation-target-type: repository\r\n\
                 x-github-delivery: {:08x}-{:04x}-4a1e-9c3d-{mark}\r\nx-hub-signature-256: sha256={signature}\r\n",
                recipe.run >> 16 & 0xffff_ffff,
                recipe.run & 0xffff
            ),
            String::new(),
        ),
        Provider::Restate | Provider::RestateStep | Provider::RestateSend => (
            format!(
                "content-type: application/json\r\nidempotency-key: evt_{:016x}{mark}\r\n",
                recipe.run
            ),
            String::new(),
        ),
    };
    let folder = if recipe.provider.is_restate() {
        "webhook"
    } else {
        "hooks"
    };
    let head = format!(
        "POST /{folder}/{} HTTP/1.1\r\nhost: hooks.bench.test\r\naccept: */*\r\n{own}content-length: {length}\r\n\r\n",
        recipe.source
    );
    (head, signed_prefix)
}

/// A body of exactly this size. Where the id stands, and what a database can compress, is as in the
/// providers' own examples.
fn body(recipe: &Recipe<'_>) -> String {
    let mark = "#".repeat(DIGITS);
    let run = recipe.run;
    let mut random = Random::new(7);
    let (mut text, end) = match recipe.provider {
        Provider::Stripe | Provider::Restate | Provider::RestateStep | Provider::RestateSend => (
            format!(
                r#"{{"id":"evt_{run:016x}{mark}","object":"event","api_version":"2025-03-31.basil","created":1767225600,"data":{{"object":{{"id":"in_1Rb2kQ9mTz{mark}","object":"invoice","customer":"cus_Rk3vXw81LpQz","currency":"eur","amount_due":4900,"status":"paid","lines":["#
            ),
            r#"{}]}},"livemode":false,"pending_webhooks":1,"request":{"id":null,"idempotency_key":null},"type":"invoice.paid"}"#,
        ),
        Provider::Github => (
            format!(
                r#"{{"ref":"refs/heads/main","before":"{run:016x}{run:012x}000000000000","after":"{run:016x}{run:012x}{mark}","repository":{{"id":186853002,"full_name":"northwind/orders","private":false}},"commits":["#
            ),
            r#"{}],"pusher":{"name":"jules","email":"jules@northwind.example"},"sender":{"login":"jules","id":21031067,"type":"User"}}"#,
        ),
    };
    while text.len() + end.len() + 200 < recipe.size {
        let _ = write!(
            text,
            r#"{{"id":"il_{:016x}","object":"line_item","amount":{},"description":"{} {} plan","quantity":{}}},"#,
            random.next(),
            random.next() % 10_000,
            1 + random.next() % 9,
            ["Team", "Solo", "Enterprise", "Trial"][(random.next() % 4) as usize],
            1 + random.next() % 30
        );
    }
    let fill = recipe
        .size
        .saturating_sub(text.len() + end.len() + r#"{"note":""},"#.len());
    let note: String = (0..fill)
        .map(|_| char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[(random.next() % 36) as usize]))
        .collect();
    let _ = write!(text, r#"{{"note":"{note}"}},"#);
    text + end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(provider: Provider, size: usize) -> Recipe<'static> {
        Recipe {
            provider,
            size,
            source: provider.name(),
            run: 0x1234_5678_9abc,
            signed: 2,
            spoiled: false,
        }
    }

    #[test]
    fn requests_have_their_size_are_json_and_differ() {
        for provider in [Provider::Stripe, Provider::Github, Provider::Restate] {
            for size in [2048, 16384] {
                let events = Events::new(&recipe(provider, size));
                let [first, third] = [0, 2].map(|number| events.body_text(number));
                assert_eq!(first.len(), size);
                assert_ne!(first, third);
                serde_json::from_str::<serde_json::Value>(&first).expect("JSON");
            }
        }
    }

    #[test]
    fn a_signature_made_late_is_the_one_made_in_advance() {
        let (mut early, mut late) = (Vec::new(), Vec::new());
        Events::new(&recipe(Provider::Stripe, 2048)).write(1, &mut early);
        Events::new(&Recipe {
            signed: 0,
            ..recipe(Provider::Stripe, 2048)
        })
        .write(1, &mut late);
        // The time in it may have moved on between the two.
        assert_eq!(early.len(), late.len());
        assert_eq!(
            Events::number(b"evt_0000123456789abc000000000042"),
            Some(42)
        );
    }
}
