//! What a source sets itself, and schemes of its own.

use super::*;

#[test]
fn a_source_sets_what_differs() {
    let scheme = json!({"header": "X-Acme-Signature", "prefix": "sha512=", "algorithm": "hmac-sha512", "encoding": "base64"});
    let source = SourceSpec {
        key: Some("header:x-acme-id|body:data.id".into()),
        ..with_scheme("hmac", scheme)
    };
    let acme = verifier(&source, &["s"]);
    let sent = Sent::signed(&acme, &"s".into(), "x", NOW, r#"{"data":{"id":42}}"#);
    assert!(
        sent.headers
            .iter()
            .any(|(name, value)| name == "x-acme-signature" && value.starts_with("sha512="))
    );
    let verified = sent.verify(&acme, NOW).unwrap();
    assert_eq!(
        (
            verified.event_key().unwrap_or_default(),
            verified.key_is_signed()
        ),
        ("id_1", false)
    );
    let verified = sent.without("x-acme-id").verify(&acme, NOW).unwrap();
    assert_eq!(
        (
            verified.event_key().unwrap_or_default(),
            verified.key_is_signed()
        ),
        ("42", true)
    );
    let token = verifier(
        &with_scheme("token", json!({"header": "x-token"})),
        &["open sesame"],
    );
    for (value, reason) in [
        ("open sesame", "accepted"),
        ("Bearer open sesame", "accepted"),
        ("open", "no_match"),
        ("open sesame!", "no_match"),
    ] {
        assert_eq!(
            Sent::new(&[("x-token", value)], "{}").reason(&token),
            reason,
            "{value}"
        );
    }
}

#[test]
fn mistakes_of_a_source_are_named_with_their_key() {
    let keys = |source: &SourceSpec, secrets: &[&str]| {
        let secrets: Vec<SecretString> = secrets.iter().map(|secret| (*secret).into()).collect();
        let errors = Verifier::new(&catalog(), source, &secrets)
            .err()
            .unwrap_or_default();
        errors
            .into_iter()
            .map(|error| error.key)
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&source("nobody"), &["s"]), ["provider"]);
    assert_eq!(
        keys(&source("wise"), &["s"]),
        ["secrets[0]"],
        "no public key"
    );
    assert_eq!(keys(&source("github"), &["s", ""]), ["secrets[1]"]);
    assert_eq!(keys(&source("github"), &[]), ["secrets"]);
    assert_eq!(
        keys(
            &source("standard-webhooks"),
            &["whsec_", "no base64", "whsec_AAEC"]
        ),
        ["secrets[0]", "secrets[1]"]
    );
    assert_eq!(
        keys(&with_scheme("hmac", json!({"hedaer": "x"})), &["s"]),
        ["scheme.hedaer"]
    );
    assert_eq!(
        keys(&with_scheme("hmac", json!({"algorithm": "md5"})), &["s"]),
        ["scheme.algorithm"]
    );
    assert_eq!(
        keys(
            &SourceSpec {
                key: Some("id".into()),
                ..source("stripe")
            },
            &["s"]
        ),
        ["key"]
    );
}

#[test]
fn grammars_for_other_providers_work_as_data() {
    for toml in [
        // Basic authentication: the header is the secret, in base64.
        "algorithm = 'token'\nencoding = 'base64'\n[signature]\nfrom = 'header:authorization'\nprefix = 'Basic '",
        // Twitch, Zoom, HubSpot, Webflow and Cloudinary's kinds.
        "algorithm = 'hmac-sha256'\ncontent = '{header:x-id}{timestamp}{body}'\nkey = 'header:x-id'\n[signature]\nfrom = 'header:x-sig'\nprefix = 'sha256='\n[time]\nfrom = 'header:x-time'\nunit = 'rfc3339'\ntolerance = '10m'",
        "algorithm = 'hmac-sha1'\nencoding = 'base64url'\ncontent = '{method}{body}{timestamp}'\n[signature]\nfrom = 'header:x-sig'\n[time]\nfrom = 'header:x-time'\nunit = 'ms'\ntolerance = '5m'\ndirection = 'past'",
        "algorithm = 'sha1'\ncontent = '{body}{timestamp}{secret}'\n[signature]\nfrom = 'header:x-sig'\n[time]\nfrom = 'header:x-time'\ntolerance = '2h'",
        "algorithm = 'hmac-sha384'\nsecret = ['hex']\n[signature]\nfrom = 'header:x-sig|header:y-sig'\nevery = true\nseparator = ';'\npair = '='\ntake = ['h1', 'h2']",
        "algorithm = 'hmac-sha512'\ncontent = '[{timestamp};{body}]'\n[signature]\nfrom = 'header:x-sig'\nseparator = '&'\npair = '='\ntake = ['s']\n[time]\nfrom = 'signature:t'",
        "algorithm = 'hmac-sha256'\ncontent = '{timestamp}:{body}'\n[signature]\nfrom = 'header:x-sig'\n[time]\nfrom = 'body:at'\nunit = 'ms'\ntolerance = '1m'",
    ] {
        let catalog = own(toml);
        let secret =
            generate_secret(catalog.get("own").unwrap(), &mut StdRng::seed_from_u64(3)).unwrap();
        let verifier = Verifier::new(&catalog, &source("own"), std::slice::from_ref(&secret))
            .unwrap_or_else(|errors| panic!("{errors:?}"));
        let sent = Sent::signed(
            &verifier,
            &secret,
            "t",
            NOW,
            &format!(r#"{{"at":{}}}"#, NOW * 1000),
        );
        assert_eq!(sent.reason(&verifier), "accepted", "{toml}");
        let token = toml.contains("token");
        assert_eq!(
            sent.verify(&verifier, NOW)
                .is_ok_and(|verified| verified.event_key().is_some()),
            toml.contains("key ="),
            "{toml}"
        );
        assert_eq!(
            sent.clone()
                .body(&format!(r#"{{"at":{},"b":1}}"#, NOW * 1000))
                .reason(&verifier),
            if token { "accepted" } else { "no_match" },
            "{toml}"
        );
        let stale = toml.contains("tolerance");
        assert_eq!(
            sent.verify(&verifier, NOW + 10_000).err(),
            stale.then_some("timestamp_too_old"),
            "{toml}"
        );
    }
}
