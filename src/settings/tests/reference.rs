//! `config/default.toml` and the JSON schema against the types.

use super::*;

/// default.toml names each key that the types know, and no other, so the reference can't fall
/// behind.
#[test]
fn the_reference_has_every_key() {
    let (text, _) = include_str!("../../../config/default.toml")
        .split_once("# [providers.")
        .unwrap();
    let names: std::collections::BTreeSet<String> = text
        .lines()
        .filter_map(|line| {
            line.trim_start_matches('#')
                .trim()
                .split_once(" = ")
                .map(|(name, _)| name.to_owned())
        })
        .filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        .collect();
    let schema = schema();
    let mut known = std::collections::BTreeSet::new();
    for table in [
        "Ingress",
        "Admin",
        "Database",
        "Relay",
        "Egress",
        "Retry",
        "Breaker",
        "Ledger",
        "LedgerScope",
        "Retention",
        "Rejections",
        "Log",
        "Source",
        "Destination",
        "Route",
        "Gateway",
        "GatewayPath",
    ] {
        known.extend(
            schema["$defs"][table]["properties"]
                .as_object()
                .unwrap_or_else(|| panic!("no {table}"))
                .keys()
                .cloned(),
        );
    }
    known.retain(|name| !matches!(name.as_str(), "breaker" | "scopes" | "paths"));
    let missing: Vec<_> = known.difference(&names).collect();
    let unknown: Vec<_> = names.difference(&known).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "missing: {missing:?}, unknown: {unknown:?}"
    );
}

/// All commented examples together load as settings, except for the files that they name.
#[test]
fn the_references_examples_are_right() {
    let is_example = |line: &&str| {
        line.starts_with('[')
            || line
                .split_once(" = ")
                .is_some_and(|(name, _)| !name.contains(' '))
    };
    let line = |line: &'static str| line.strip_prefix("# ").filter(is_example).unwrap_or(line);
    let text: Vec<&str> = include_str!("../../../config/default.toml")
        .lines()
        .map(line)
        .collect();
    let database = ("DATABASE_URL", "postgres://localhost/x");
    let secrets = [
        ("STRIPE_WEBHOOK_SECRET", "whsec_a"),
        ("BILLING_TOKEN", "t"),
        ("SHOP_AUTHORIZATION", "Bearer s"),
        ("PROXY_USER_AND_PASSWORD", "u:p"),
    ];
    let environment: Vec<_> = secrets.into_iter().chain([database]).collect();
    let found = problems(&text.join("\n"), &environment);
    let missing_files: Vec<_> = found
        .iter()
        .filter(|problem| problem.contains(": can't read /run/secrets/"))
        .collect();
    assert_eq!((missing_files.len(), found.len()), (3, 3), "{found:#?}");
}

#[test]
fn the_schema_asks_for_nothing_that_has_a_default() {
    let schema = schema();
    assert_eq!(
        schema["$defs"]["Relay"]["properties"]["lease"]["default"],
        "20s"
    );
    assert_eq!(
        schema["$defs"]["Relay"]["required"]
            .as_array()
            .map_or(0, Vec::len),
        0
    );
    assert_eq!(schema["required"].as_array().map_or(0, Vec::len), 0);
    assert_eq!(
        schema["$defs"]["Route"]["required"],
        serde_json::json!(["source", "destination"])
    );
}
