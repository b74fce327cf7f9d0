//! The command that sends a stored event again, as its provider would: for a shell.

use std::borrow::Cow;

use hookonce_scheme::{Samples, Scheme, id_headers, is_form};

use crate::{
    cli::{Failure, Globals, client::Client, config},
    contract::{Page, Source, WholeEvent},
};

/// A longer body is read from the service instead of being written into the command.
const INLINE_BYTES_MAX: usize = 2_000;

/// The command for an event of the service that the client speaks to.
pub async fn command_for(
    globals: &Globals,
    client: &Client,
    event: &WholeEvent,
) -> anyhow::Result<String> {
    let Page { items, .. } = client.get::<Page<Source>>("/api/v1/sources").await?;
    let source = items.into_iter().find(|source| source.name == event.source);
    let source = source.ok_or_else(|| {
        let name = &event.source;
        Failure::not_found(format!(
            "the source {name:?} is no longer in the service's settings"
        ))
    })?;
    let catalog = config::catalog(globals)?;
    let scheme = catalog
        .get(&source.provider)
        .ok_or_else(|| Failure::not_found(catalog.not_known(&source.provider)))?;
    Ok(command(event, scheme, &source.provider))
}

/// A command line. The body stands in it, if it is a short text and the whole of its request;
/// otherwise it comes from the service.
fn command(event: &WholeEvent, scheme: &Scheme, provider: &str) -> String {
    let mut words = vec![
        "hookonce".to_owned(),
        "send".into(),
        quoted(provider).into(),
    ];
    let mut say = |option: &str, value: &str| {
        words.extend([option.to_owned(), quoted(value).into_owned()]);
    };
    say("--source", &event.source);
    if let Some(event_type) = &event.event_type {
        say("--type", event_type);
    }
    let header = |wanted: &str| {
        let found = event
            .headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value)
    };
    if let Some(id) = id_headers(scheme).into_iter().find_map(header) {
        say("--id", id);
    }
    let known = Samples::of(&scheme.name).map(Samples::headers);
    for (name, usual) in known.into_iter().flatten() {
        // What `send` sends anyway is not repeated.
        if let Some(value) = header(name).filter(|value| *value != usual) {
            say("--header", &format!("{name}: {value}"));
        }
    }
    let text = event.body.as_deref().filter(|body| {
        event.original.is_none() && body.len() <= INLINE_BYTES_MAX && !body.contains('\0')
    });
    let is_form = text.is_some_and(|text| is_form(text.as_bytes()));
    if let Some(kind) = header("content-type").filter(|_| !is_form && text.is_none()) {
        say("--header", &format!("content-type: {kind}"));
    }
    say("--data", "-");
    let body = match text {
        Some(text) => format!("printf %s {}", quoted(text)),
        None => format!("hookonce events show {} --original", event.id),
    };
    format!("{body} | {}", words.join(" "))
}

/// A text as one word of a shell. A NUL can stand in none, and was looked for.
fn quoted(text: &str) -> Cow<'_, str> {
    shlex::try_quote(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hookonce_scheme::Catalog;
    use serde_json::json;

    use super::*;

    fn event(body: &str) -> WholeEvent {
        let id = "01890000-0000-7000-8000-000000000000";
        let event = json!({
            "id": id, "source": "repo's", "event_type": "issues.opened", "event_key": "k",
            "received_at": "2026-03-01T09:30:00Z", "body_digest": "", "body_bytes": body.len(),
            "mark": null, "conflicts": [], "deliveries": [], "body": body,
            "headers": [["x-github-delivery", "d-1"], ["x-github-hook-id", "7"], ["x-real-ip", "::1"]],
        });
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn the_command_has_id_type_body_and_the_providers_own_headers() {
        let catalog = Catalog::new(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:?}"));
        let github = catalog.get("github").unwrap();
        let body = "{\"a\":\"it's $HOME\"}";
        let words = shlex::split(&command(&event(body), github, "github")).unwrap();
        let expected = [
            "printf",
            "%s",
            body,
            "|",
            "hookonce",
            "send",
            "github",
            "--source",
            "repo's",
            "--type",
            "issues.opened",
            "--id",
            "d-1",
            "--header",
            "x-github-hook-id: 7",
            "--data",
            "-",
        ];
        assert_eq!(words, expected);
        let long = command(&event(&"x".repeat(INLINE_BYTES_MAX + 1)), github, "github");
        let start = "hookonce events show 01890000-0000-7000-8000-000000000000 --original | ";
        assert!(long.starts_with(start), "{long}");
    }
}
