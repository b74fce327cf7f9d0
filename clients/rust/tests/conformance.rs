//! The cases of clients/conformance.json that need no running service: verification and hashes. The
//! others are played against the service, by the tests of the repository's root.

use std::time::{Duration, SystemTime};

use hookonce_client::{Error, Verifier, input_hash, step_of_call};
use serde_json::{Value, json};

fn all_of(kind: &str) -> Vec<Value> {
    let file: Value =
        serde_json::from_str(include_str!("../../conformance.json")).expect("the cases");
    file[kind].as_array().expect("cases").clone()
}

fn cases() -> Vec<Value> {
    all_of("cases")
}

fn operations(case: &Value) -> Vec<Value> {
    case["do"].as_array().expect("operations").clone()
}

fn verified(operation: &Value) -> Value {
    let secrets: Vec<&str> = operation["secrets"]
        .as_array()
        .expect("secrets")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let now =
        SystemTime::UNIX_EPOCH + Duration::from_secs(operation["now"].as_u64().expect("a time"));
    let request = &operation["verify"];
    let headers = request["headers"].as_object().expect("headers").iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| (name, value.as_str().expect("text")))
        .collect();
    let verifier = Verifier::new(&secrets)
        .expect("secrets")
        .with_clock(move || now);
    match verifier.verify(headers, request["body"].as_str().expect("a body").into()) {
        Ok(event) => json!({ "event": {
            "id": event.id, "source": event.source, "key": event.key, "type": event.event_type, "attempt": event.attempt,
            "fence": event.fence, "replay": event.replay, "json": event.json::<Value>().expect("JSON"),
        } }),
        Err(Error::VerificationFailed(reason)) => {
            json!({ "error": "VerificationFailed", "reason": reason })
        }
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn relayed_requests_are_verified_as_in_all_clients() {
    let all: Vec<Value> = cases()
        .iter()
        .flat_map(operations)
        .filter(|operation| operation.get("verify").is_some())
        .collect();
    assert!(all.len() > 10, "the cases were not read");
    for operation in all {
        assert_eq!(verified(&operation), operation["expect"], "{operation}");
    }
}

#[test]
fn inputs_are_hashed_as_in_all_clients() {
    let all: Vec<Value> = cases()
        .iter()
        .flat_map(operations)
        .filter(|operation| operation.get("hash").is_some())
        .collect();
    assert!(!all.is_empty(), "the cases were not read");
    for operation in all {
        assert_eq!(
            json!({ "hash": input_hash(&operation["hash"]).expect("a hash") }),
            operation["expect"]
        );
    }
}

#[test]
fn calls_are_named_as_in_all_clients() {
    let all = all_of("calls");
    assert!(all.len() >= 12, "the calls were not read");
    for call in all {
        let occurrence = call["occurrence"].as_u64().unwrap_or(1);
        let step = step_of_call(
            call["tool"].as_str().expect("a tool"),
            &call["arguments"],
            u32::try_from(occurrence).expect("a number"),
        );
        assert_eq!(step.expect("a step"), call["step"], "{call}");
    }
}

#[test]
fn calls_without_a_name_are_refused_as_in_all_clients() {
    let all = all_of("calls_refused");
    assert!(!all.is_empty(), "the calls were not read");
    for call in all {
        let text = call["arguments_text"].as_str().expect("JSON");
        let tool = call["tool"].as_str().expect("a tool");
        // Half a character can't be text in Rust: reading it refuses it.
        let named = serde_json::from_str::<Value>(text)
            .map_err(Error::from)
            .and_then(|arguments| step_of_call(tool, &arguments, 1));
        assert!(named.is_err(), "{call}");
    }
}
