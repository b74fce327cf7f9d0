//! What looks wrong with a secret: the slips of the hand that make every signature fail. They are
//! told but never mended, because a secret is used just as it is written. No text here contains any
//! of the secret.

use crate::plan::catalog::Scheme;

/// What secrets of other kinds begin with, and what those are.
const OTHER_KINDS: [(&str, &str); 20] = [
    ("sk_live_", "an API key of Stripe's kind"),
    ("sk_test_", "an API key of Stripe's kind"),
    ("sk_", "an API key"),
    ("rk_live_", "a restricted API key of Stripe's"),
    ("rk_test_", "a restricted API key of Stripe's"),
    ("pk_", "a publishable key"),
    (
        "whsec_",
        "a signing secret as Stripe and Standard Webhooks have them",
    ),
    ("ghp_", "an access token of GitHub's"),
    ("gho_", "an access token of GitHub's"),
    ("ghs_", "an access token of GitHub's"),
    ("github_pat_", "an access token of GitHub's"),
    ("glpat-", "an access token of GitLab's"),
    ("xoxb-", "a bot token of Slack's"),
    ("xoxp-", "a user token of Slack's"),
    ("xapp-", "an app token of Slack's"),
    ("shpat_", "an access token of Shopify's"),
    ("sk-", "an API key"),
    ("SG.", "an API key of SendGrid's"),
    ("AKIA", "an access key of AWS"),
    ("Bearer ", "a whole Authorization header"),
];

/// Names that are pasted with their value or instead of it.
const NAMES: [&str; 7] = [
    "app_secret",
    "client_secret",
    "signing_secret",
    "webhook_secret",
    "secret",
    "token",
    "password",
];

/// Texts that are in examples in the secret's place.
const STAND_INS: [&str; 7] = [
    "changeme",
    "change-me",
    "your-secret",
    "your_secret",
    "xxxx",
    "todo",
    "…",
];

/// What looks wrong with this secret of this scheme. Each doubt is the end of a sentence, "looks
/// wrong: it …". None contains any of the secret.
pub fn doubts(scheme: &Scheme, secret: &str) -> Vec<String> {
    let mut found = Vec::new();
    let bare = secret.trim();
    if secret.ends_with(['\n', '\r']) {
        found.push("ends in a line break".to_owned());
    } else if bare != secret {
        found.push("has blanks around it".to_owned());
    }
    let quote = ['"', '\'', '`', '“', '”'];
    if bare.len() > 1 && bare.starts_with(quote) && bare.ends_with(quote) {
        found.push("has quotes around it".to_owned());
    }
    let bare = bare.trim_matches(quote);
    let lower = bare.to_lowercase();
    let is_named = |name: &str| {
        lower
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.trim_start().starts_with(['=', ':']))
    };
    if let Some(name) = NAMES.iter().find(|name| is_named(name)) {
        found.push(format!(
            "begins with the name {name}: paste what stands behind it"
        ));
    } else if let Some((_, kind)) = OTHER_KINDS
        .iter()
        .find(|(start, _)| bare.starts_with(start) && !is_own(scheme, start))
    {
        found.push(format!(
            "looks like {kind}, which {} does not sign with",
            label(scheme)
        ));
    }
    if STAND_INS.iter().any(|stand_in| lower.contains(stand_in))
        || bare.starts_with('<') && bare.ends_with('>')
        || bare.contains("...")
    {
        found.push("is what stands in examples".to_owned());
    }
    if let Some(start) = scheme
        .spec
        .secret_starts
        .as_deref()
        .filter(|start| !bare.starts_with(start))
    {
        found.push(format!(
            "does not begin with {start}, as those of {} do",
            label(scheme)
        ));
    }
    found
}

/// Whether the provider's own secrets begin like this.
fn is_own(scheme: &Scheme, start: &str) -> bool {
    let spec = &scheme.spec;
    let stripped = spec
        .secret
        .iter()
        .filter_map(|step| step.strip_prefix("strip:"))
        .any(|prefix| {
            let fixed = prefix.split('*').next().unwrap_or_default();
            !fixed.is_empty() && (fixed.starts_with(start) || start.starts_with(fixed))
        });
    // The generic schemes take any secret, and some providers sign with an API key.
    let api_key = spec.secret_is_api_key && !matches!(start, "whsec_" | "Bearer ");
    stripped
        || api_key
        || scheme
            .spec
            .secret_starts
            .as_deref()
            .is_some_and(|own| own.starts_with(start))
        || spec.confidence.is_none()
}

fn label(scheme: &Scheme) -> &str {
    scheme.spec.label.as_deref().unwrap_or(&scheme.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::catalog;

    #[test]
    fn slips_are_named_and_right_secrets_are_not_doubted() {
        let catalog = catalog();
        let said = |provider: &str, secret: &str| {
            doubts(catalog.get(provider).unwrap(), secret).join("; ")
        };
        for (provider, secret, expected) in [
            ("github", "\"s3cret-of-mine\"", "has quotes around it"),
            ("github", "s3cret-of-mine\n", "ends in a line break"),
            ("github", " s3cret-of-mine", "has blanks around it"),
            (
                "github",
                "whsec_abcdef",
                "looks like a signing secret as Stripe and Standard Webhooks have them, which GitHub does not sign with",
            ),
            (
                "stripe",
                "sk_live_abcdef",
                "looks like an API key of Stripe's kind",
            ),
            ("stripe", "abcdef", "does not begin with whsec_"),
            ("slack", "xoxb-1-2", "looks like a bot token of Slack's"),
            (
                "figma",
                "app_secret: 1f00",
                "begins with the name app_secret",
            ),
            ("figma", "app_secret", "begins with the name app_secret"),
            ("token", "Bearer token=abc", ""),
            ("shopify", "<client secret>", "is what stands in examples"),
        ] {
            assert!(
                said(provider, secret).contains(expected),
                "{provider} {secret:?}: {}",
                said(provider, secret)
            );
        }
        for (provider, secret) in [
            ("github", "It's a Secret to Everybody"),
            ("stripe", "whsec_abcdef"),
            ("svix", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            ("paystack", "sk_live_abcdef"),
            ("hmac", "whsec_abcdef"),
            ("token", "a b"),
            ("slack", "8f742231b10e8888abcd99yyyzzz85a5"),
        ] {
            assert_eq!(said(provider, secret), "", "{provider} {secret:?}");
        }
    }
}
