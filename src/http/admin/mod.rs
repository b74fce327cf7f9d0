//! The admin API: `/api/v1`, JSON, a bearer token, problem+json for errors. This file has its table
//! of routes.

mod conflicts;
mod deliveries;
mod destinations;
mod events;
mod parameters;
mod rejections;
mod replays;
mod sources;
mod steps;
mod stream;
mod tokens;

use std::sync::LazyLock;

use actix_web::web;

use super::{
    answer::JsonText,
    ledger, openapi,
    table::{Entry, Face, get, post},
    tokens::Need,
};

/// The largest body of a call. Ten thousand ids fit into it.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Adds the API. The application has to provide `web::Data<AdminState>`.
pub fn configure(config: &mut web::ServiceConfig) {
    face().mount(config, BODY_BYTES_MAX, true);
}

fn face() -> Face {
    Face {
        prefix: "/api/v1",
        tag: "admin",
        strangers: (Need::Read, Need::Operate),
        entries: [
            of_events(),
            of_deliveries(),
            of_replays(),
            of_the_node(),
            of_secrets(),
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

/// The description of the whole API, including the ledger.
async fn description() -> JsonText {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| openapi::document(&[face(), ledger::face()]).to_string());
    JsonText(&TEXT)
}

fn of_events() -> Vec<Entry> {
    use Need::{Operate, Read};
    vec![
        get("/events", Read, events::list, "Events, newest first"),
        get(
            "/events/{id}",
            Read,
            events::show,
            "An event with its deliveries and conflicts",
        )
        .or(&[404]),
        get("/events/{id}/body", Read, events::body, "The exact bytes").or(&[404]),
        get(
            "/events/{id}/original",
            Read,
            events::original_body,
            "The bytes as they came, where the event is a part of them",
        )
        .or(&[404]),
        get(
            "/conflicts",
            Read,
            conflicts::list,
            "Conflicts, newest first, and how many each source has",
        ),
        get(
            "/conflicts/{id}",
            Read,
            conflicts::show,
            "A conflict with what differs from the first event",
        )
        .or(&[404]),
        post(
            "/conflicts/{id}/relay",
            Operate,
            conflicts::relay,
            "Makes it an event of its own",
        )
        .or(&[404, 409, 410]),
        get(
            "/rejections",
            Read,
            rejections::list,
            "What was refused, newest first",
        ),
        get(
            "/rejections/{id}/explain",
            Read,
            rejections::explain,
            "The checks of one, and a name for its mistake",
        )
        .or(&[404]),
    ]
}

fn of_deliveries() -> Vec<Entry> {
    use Need::{Operate, Read};
    vec![
        get(
            "/deliveries",
            Read,
            deliveries::list,
            "Deliveries, newest first",
        ),
        get(
            "/deliveries/{id}",
            Read,
            deliveries::show,
            "A delivery with its attempts",
        )
        .or(&[404]),
        post(
            "/deliveries/{id}/retry",
            Operate,
            deliveries::retry,
            "Makes it due now",
        )
        .or(&[404, 409, 410]),
        post(
            "/deliveries/{id}/cancel",
            Operate,
            deliveries::cancel,
            "Ends it",
        )
        .or(&[404, 409]),
        get(
            "/destinations",
            Read,
            destinations::list,
            "Destinations with counts",
        ),
        post(
            "/destinations/{name}/pause",
            Operate,
            destinations::pause,
            "Sends nothing to it until it is resumed",
        )
        .or(&[404]),
        post(
            "/destinations/{name}/resume",
            Operate,
            destinations::resume,
            "Ends the pause",
        )
        .or(&[404]),
    ]
}

fn of_replays() -> Vec<Entry> {
    use Need::{Operate, Read};
    vec![
        get("/replays", Read, replays::list, "Replays, newest first"),
        post(
            "/replays",
            Operate,
            replays::create,
            "Begins a replay, or counts what it would make",
        )
        .or(&[404]),
        get("/replays/{id}", Read, replays::show, "A replay").or(&[404]),
        post(
            "/replays/{id}/advance",
            Operate,
            replays::advance,
            "Makes its next deliveries",
        )
        .or(&[404, 409]),
    ]
}

fn of_the_node() -> Vec<Entry> {
    use Need::{Admin, Read};
    vec![
        get("/sources", Read, sources::list, "Sources with counts"),
        get(
            "/status",
            Read,
            sources::status,
            "The node and its database",
        ),
        get(
            "/steps",
            Read,
            steps::list,
            "Steps of all runs, newest first, without results",
        ),
        get("/openapi.json", Read, description, "This"),
        get(
            "/token",
            Read,
            tokens::own,
            "What the token of this call may do",
        ),
        get(
            "/stream",
            Read,
            stream::stream,
            "The live tail, as server-sent events",
        ),
        post(
            "/prune",
            Admin,
            sources::prune,
            "Removes what is past its time",
        ),
    ]
}

/// These routes need the admin scope, because whoever reads a source's secret can speak in its
/// name.
fn of_secrets() -> Vec<Entry> {
    use Need::Admin;
    vec![
        get(
            "/sources/{name}/secret",
            Admin,
            sources::secret,
            "The secret that it has learnt",
        )
        .or(&[404]),
        post(
            "/sources/{name}/secret/forget",
            Admin,
            sources::forget,
            "Opens it to the next handshake",
        )
        .or(&[404]),
        get(
            "/tokens",
            Admin,
            tokens::list,
            "Tokens, without the tokens themselves",
        ),
        post(
            "/tokens",
            Admin,
            tokens::create,
            "Makes a token, which is shown this once",
        ),
        post(
            "/tokens/{id}/revoke",
            Admin,
            tokens::revoke,
            "Ends a token on every node within two seconds",
        )
        .or(&[404]),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_route_asks_for_its_scope() {
        let entries = face().entries;
        let need = |method: &str, path: &str| {
            let mut found = entries
                .iter()
                .filter(|entry| entry.method.as_str() == method && entry.path == path);
            found
                .next()
                .unwrap_or_else(|| panic!("no {method} {path}"))
                .need
        };
        for (method, path, expected) in [
            ("GET", "/events", Need::Read),
            ("GET", "/steps", Need::Read),
            ("GET", "/sources", Need::Read),
            ("POST", "/deliveries/{id}/retry", Need::Operate),
            ("POST", "/replays", Need::Operate),
            ("POST", "/prune", Need::Admin),
            ("GET", "/tokens", Need::Admin),
            ("GET", "/sources/{name}/secret", Need::Admin),
            ("POST", "/sources/{name}/secret/forget", Need::Admin),
        ] {
            assert_eq!(need(method, path), expected, "{method} {path}");
        }
        // Reading takes the weakest scope, and changing never does.
        for entry in &entries {
            assert_eq!(
                entry.need == Need::Read,
                entry.method == "GET" && entry.need != Need::Admin,
                "{}",
                entry.path
            );
        }
    }

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn what_is_referred_to_is_there() {
        let document = openapi::document(&[face(), ledger::face()]);
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 30);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap_or(&reference);
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let claim = &document["paths"]["/v1/runs/{run}/steps/{step}/claim"]["post"];
        assert_eq!(claim["parameters"].as_array().map(Vec::len), Some(3));
        assert!(
            claim["description"]
                .as_str()
                .is_some_and(|text| text.contains("ledger"))
        );
        assert_eq!(
            document["components"]["schemas"]["ClaimBody"]["required"],
            json!(["claim_id"])
        );
        let tokens = &document["paths"]["/api/v1/tokens"]["post"];
        assert!(
            tokens["description"]
                .as_str()
                .is_some_and(|text| text.contains("admin"))
        );
    }
}
