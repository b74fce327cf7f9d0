//! The description of the whole admin API and the ledger, at `/api/v1/openapi.json`. What is sent is described by the types that read it, and
//! scopes by what asks for them; a test holds the operations against the route table, and answers against what they are said to be.

use std::sync::LazyLock;

use actix_web::{
    HttpResponse,
    http::{Method, header},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::http::{
    admin::{conflicts, deliveries, events, parameters::PageQuery, rejections, replays, steps, tokens},
    auth::{api_need, ledger_need},
    error::scopes,
    ledger::{calls, dedup, place::TenantQuery, read},
};
use crate::problem::GATEWAY_PROBLEMS;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());

pub async fn show() -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CONTENT_TYPE, "application/json")).body(DOCUMENT.as_str())
}

type Shape = fn(&mut SchemaGenerator) -> Schema;

/// What a type's schema is where it stands alone.
fn inline<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    T::json_schema(generator)
}

fn shared<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

struct Operation {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    query: Option<Shape>,
    body: Option<Shape>,
    /// Status, and the schema or the media type of the body.
    answers: &'static [(u16, &'static str)],
    /// Beside those that any call may get.
    problems: &'static [u16],
}

impl Operation {
    const fn get(path: &'static str, summary: &'static str, answer: &'static [(u16, &'static str)]) -> Self {
        Self { method: "get", path, summary, query: None, body: None, answers: answer, problems: &[] }
    }

    const fn post(path: &'static str, summary: &'static str, answer: &'static [(u16, &'static str)]) -> Self {
        Self { method: "post", path, summary, query: None, body: None, answers: answer, problems: &[404] }
    }

    const fn query(self, query: Shape) -> Self {
        Self { query: Some(query), ..self }
    }

    const fn body(self, body: Shape) -> Self {
        Self { body: Some(body), ..self }
    }

    const fn or(self, problems: &'static [u16]) -> Self {
        Self { problems, ..self }
    }
}

const OPERATIONS: &[Operation] = &[
    Operation::get("/api/v1/events", "Events, newest first", &[(200, "Events")]).query(inline::<events::ListQuery>),
    Operation::get("/api/v1/events/{id}", "An event with its deliveries and conflicts", &[(200, "WholeEvent")]).or(&[404]),
    Operation::get("/api/v1/events/{id}/body", "The exact bytes", &[(200, "application/octet-stream")]).or(&[404]),
    Operation::get(
        "/api/v1/events/{id}/original",
        "The bytes as they came, where the event is a part of them",
        &[(200, "application/octet-stream")],
    )
    .or(&[404]),
    Operation::get("/api/v1/conflicts", "Conflicts, newest first, and how many each source has", &[(200, "Conflicts")])
        .query(inline::<conflicts::ListQuery>),
    Operation::get("/api/v1/conflicts/{id}", "A conflict with what differs from the first event", &[(200, "WholeConflict")]).or(&[404]),
    Operation::post("/api/v1/conflicts/{id}/relay", "Makes it an event of its own", &[(200, "RelayedConflict")]).or(&[404, 409, 410]),
    Operation::get("/api/v1/deliveries", "Deliveries, newest first", &[(200, "Deliveries")]).query(inline::<deliveries::ListQuery>),
    Operation::get("/api/v1/deliveries/{id}", "A delivery with its attempts", &[(200, "WholeDelivery")]).or(&[404]),
    Operation::post("/api/v1/deliveries/{id}/retry", "Makes it due now", &[(200, "Delivery")]).or(&[404, 409, 410]),
    Operation::post("/api/v1/deliveries/{id}/cancel", "Ends it", &[(200, "Delivery")]).or(&[404, 409]),
    Operation::get("/api/v1/destinations", "Destinations with counts", &[(200, "Destinations")]),
    Operation::post("/api/v1/destinations/{name}/pause", "Sends nothing to it until it is resumed", &[(200, "Paused")]),
    Operation::post("/api/v1/destinations/{name}/resume", "Ends the pause", &[(200, "Paused")]),
    Operation::get("/api/v1/rejections", "What was refused, newest first", &[(200, "Rejections")]).query(inline::<rejections::ListQuery>),
    Operation::get("/api/v1/rejections/{id}/explain", "The checks of one, and a name for its mistake", &[(200, "Explained")]).or(&[404]),
    Operation::get("/api/v1/replays", "Replays, newest first", &[(200, "Replays")]).query(inline::<PageQuery>),
    Operation::post("/api/v1/replays", "Begins a replay, or counts what it would make", &[(201, "Replay"), (200, "DryRun")])
        .body(shared::<replays::Request>),
    Operation::get("/api/v1/replays/{id}", "A replay", &[(200, "Replay")]).or(&[404]),
    Operation::post("/api/v1/replays/{id}/advance", "Makes its next deliveries", &[(200, "Advanced")])
        .body(shared::<replays::Advance>)
        .or(&[404, 409]),
    Operation::get("/api/v1/sources", "Sources with counts", &[(200, "Sources")]),
    Operation::get("/api/v1/sources/{name}/secret", "The secret that it has learnt", &[(200, "LearntSecret")]).or(&[404]),
    Operation::post("/api/v1/sources/{name}/secret/forget", "Opens it to the next handshake", &[(200, "Forgotten")]),
    Operation::post("/api/v1/prune", "Removes what is past its time", &[(200, "Pruned")]).or(&[]),
    Operation::get("/api/v1/status", "The node and its database", &[(200, "Status")]),
    Operation::get("/api/v1/steps", "Steps of all runs, newest first, without results", &[(200, "Steps")])
        .query(inline::<steps::ListQuery>),
    Operation::get("/api/v1/tokens", "Tokens, without the tokens themselves", &[(200, "Tokens")]).query(inline::<PageQuery>),
    Operation::post("/api/v1/tokens", "Makes a token, which is shown this once", &[(201, "NewToken")])
        .body(shared::<tokens::CreateBody>)
        .or(&[]),
    Operation::post("/api/v1/tokens/{id}/revoke", "Ends a token on every node within two seconds", &[(200, "Token")]),
    Operation::get("/api/v1/openapi.json", "This", &[(200, "application/json")]),
    Operation::get("/api/v1/stream", "The live tail, as server-sent events", &[(200, "text/event-stream")]),
    Operation::get("/v1/runs/{run}/steps", "The steps of a run with their results: a whole resume", &[(200, "Run")])
        .query(inline::<read::RunQuery>),
    Operation::get("/v1/runs/{run}/steps/{step}", "A step with its result", &[(200, "WholeStep")]).query(inline::<TenantQuery>).or(&[404]),
    Operation::post("/v1/runs/{run}/steps/{step}/claim", "Asks to execute a step", &[(201, "Granted"), (200, "EndedStep")])
        .query(inline::<TenantQuery>)
        .body(shared::<calls::ClaimBody>)
        .or(&[409, 422]),
    Operation::post("/v1/runs/{run}/steps/{step}/heartbeat", "Extends the lease", &[(200, "Extended")])
        .query(inline::<TenantQuery>)
        .body(shared::<calls::HeartbeatBody>)
        .or(&[404, 409]),
    Operation::post("/v1/runs/{run}/steps/{step}/complete", "Records the result, and the events that it emits", &[(200, "Settled")])
        .query(inline::<TenantQuery>)
        .body(shared::<calls::CompleteBody>)
        .or(&[404, 409, 413, 422]),
    Operation::post("/v1/runs/{run}/steps/{step}/release", "Gives a step back that was not executed", &[(200, "Settled")])
        .query(inline::<TenantQuery>)
        .body(shared::<calls::ReleaseBody>)
        .or(&[404, 409]),
    Operation::post("/v1/runs/{run}/steps/{step}/resolve", "Says what came of a step whose holder was lost", &[(200, "Settled")])
        .query(inline::<TenantQuery>)
        .body(shared::<calls::ResolveBody>)
        .or(&[404, 409, 413]),
    Operation::post("/v1/dedup/{scope}", "Whether a key is new", &[(200, "Marked")])
        .query(inline::<TenantQuery>)
        .body(shared::<dedup::MarkBody>)
        .or(&[409]),
    Operation::post("/v1/dedup/{scope}/done", "Says that a leased key was handled", &[(200, "DedupDone")])
        .query(inline::<TenantQuery>)
        .body(shared::<dedup::DoneBody>)
        .or(&[409]),
];

/// Objects as `name:type`, all of whose names are there unless they begin with `~`; `?` may be null, `[…]` is a list, a capital letter begins
/// another of these.
const ANSWERS: &[(&str, &str)] = &[
    ("Event", "id:uuid source:string event_type:string? event_key:string received_at:time body_bytes:integer mark:string?"),
    ("Events", "items:[Event] next:uuid?"),
    (
        "WholeEvent",
        "id:uuid source:string event_type:string? event_key:string received_at:time headers:any body_digest:string body_bytes:integer \
         mark:string? conflicts:[Conflict] deliveries:[Delivery] ~type_dropped:string ~original:Original ~body:string \
         ~body_base64:string",
    ),
    ("Original", "items:integer body_bytes:integer body_digest:string"),
    (
        "Conflict",
        "id:uuid event:uuid kind:string source:string event_key:string event_type:string? received_at:time body_digest:string \
         body_bytes:integer relayed_as:uuid?",
    ),
    ("Conflicts", "items:[Conflict] next:uuid? counts:[ConflictCount]"),
    ("ConflictCount", "source:string conflicts:integer not_relayed:integer"),
    (
        "WholeConflict",
        "id:uuid event:uuid kind:string source:string event_key:string event_type:string? received_at:time first_received_at:time? \
         relayed_as:uuid? headers:any differences:any ~body:string ~body_base64:string",
    ),
    ("RelayedConflict", "id:uuid event:uuid destinations:[string]"),
    (
        "Delivery",
        "id:uuid event:uuid source:string destination:string state:string attempts:integer replay:uuid? created_at:time due_at:time? ended_at:time?",
    ),
    ("Deliveries", "items:[Delivery] next:uuid?"),
    (
        "WholeDelivery",
        "id:uuid event:uuid source:string destination:string state:string attempts:[Attempt] replay:uuid? created_at:time due_at:time? ended_at:time?",
    ),
    (
        "Attempt",
        "number:integer started_at:time latency_ms:number? outcome:string status:integer? error:string? detail:string? ~response:string \
         ~response_base64:string",
    ),
    (
        "Destination",
        "name:string url:string configured:boolean paused:boolean pending:integer leased:integer delivered_24h:integer dead_24h:integer",
    ),
    ("Destinations", "items:[Destination] next:uuid?"),
    ("Paused", "name:string paused:boolean changed:boolean"),
    ("Rejection", "id:uuid source:string? reason:string detail:string? method:string target:string rejected_at:time? body_bytes:integer?"),
    ("Rejections", "items:[Rejection] next:uuid? counts:any"),
    (
        "Explained",
        "id:uuid source:string? reason:string detail:string? method:string target:string rejected_at:time? body_bytes:integer? headers:any \
         ~body_digest:string ~body_prefix:string ~body_prefix_base64:string checks:any secrets:any diagnoses:any",
    ),
    ("Replay", "id:uuid filter:any created_at:time deliveries:integer done:boolean ended_at:time?"),
    ("Replays", "items:[Replay] next:uuid?"),
    ("DryRun", "dry_run:boolean events:integer unrouted:integer deliveries:integer destinations:[DryDestination]"),
    ("DryDestination", "destination:string deliveries:integer"),
    ("Advanced", "created:integer deliveries:integer done:boolean"),
    (
        "Source",
        "name:string provider:string url:string secrets:integer secret:string learnt_at:time? destinations:[string] events_24h:integer \
         marked_24h:integer conflicts:integer last_event_at:time?",
    ),
    ("Sources", "items:[Source] next:uuid?"),
    ("LearntSecret", "name:string secret:string learnt_at:time?"),
    ("Forgotten", "name:string forgotten:boolean"),
    ("Pruned", "partitions:[string] held:[string] keys:integer conflicts:integer steps:integer dedup_keys:integer"),
    ("Status", "version:string sources:integer destinations:integer paused:[string] schema_version:integer? database:Database"),
    (
        "Database",
        "server_version:string database:string size_bytes:integer events_estimate:integer keys_estimate:integer open_deliveries:integer \
         partitions:integer oldest_event_at:time? oldest_open_delivery_at:time?",
    ),
    (
        "Step",
        "effect_key:uuid tenant:string? run:string step:string status:string fence:integer attempt:integer owner:string? on_lost:string \
         input_hash:string? claimed_at:time lease_until:time? ended_at:time?",
    ),
    ("Steps", "items:[Step] next:uuid?"),
    (
        "WholeStep",
        "effect_key:uuid tenant:string? run:string step:string status:string fence:integer attempt:integer owner:string? on_lost:string \
         input_hash:string? claimed_at:time lease_until:time? ended_at:time? result:any evidence:any",
    ),
    ("Run", "items:[WholeStep] next:uuid?"),
    ("Granted", "fence:integer attempt:integer effect_key:uuid lease_until:time?"),
    ("EndedStep", "status:string result:any"),
    ("Extended", "fence:integer lease_until:time"),
    ("Settled", "status:string fence:integer"),
    ("Marked", "status:string ~fence:integer ~lease_until:time ~first_at:time"),
    ("DedupDone", "status:string"),
    ("Token", "id:uuid scopes:[string] tenant:string? created_at:time revoked_at:time?"),
    ("Tokens", "items:[Token] next:uuid?"),
    ("NewToken", "id:uuid scopes:[string] tenant:string? created_at:time revoked_at:time? token:string"),
];

pub fn document() -> Value {
    let mut generator =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into()).into_generator();
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let item = paths.entry(operation.path).or_insert_with(|| json!({}));
        item[operation.method] = described(operation, &mut generator);
    }
    let mut schemas: Map<String, Value> = generator.take_definitions(true).into_iter().collect();
    schemas.extend(ANSWERS.iter().map(|(name, fields)| ((*name).to_owned(), object(fields))));
    schemas.insert("Problem".into(), problem());
    schemas.insert("GatewayProblem".into(), gateway_problem());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hookonce",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The admin API (/api/v1) and the ledger (/v1). A gateway has the API of its upstream; what it says in its own name is a GatewayProblem.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "responses": { "Problem": problem_response("Problem"), "GatewayProblem": problem_response("GatewayProblem") },
        },
    })
}

fn described(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let method = Method::from_bytes(operation.method.to_ascii_uppercase().as_bytes()).unwrap_or(Method::GET);
    let is_ledger = operation.path.starts_with("/v1");
    let need = if is_ledger { ledger_need(&method) } else { api_need(&method, operation.path) };
    let mut responses = Map::new();
    for (status, content) in operation.answers {
        let content = match content.contains('/') {
            true => json!({ *content: {} }),
            false => json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{content}") } } }),
        };
        responses.insert(status.to_string(), json!({ "description": "done", "content": content }));
    }
    let reads_input = operation.query.is_some() || operation.body.is_some() || operation.path.contains('{');
    let common = [401, 403, 429, 500, 503].iter().chain(reads_input.then_some(&400));
    for status in common.chain(operation.problems) {
        responses.insert(status.to_string(), json!({ "$ref": "#/components/responses/Problem" }));
    }
    let mut described = json!({
        "summary": operation.summary,
        "description": format!("Takes a token of scope {}.", scopes(need)),
        "tags": [if is_ledger { "ledger" } else { "admin" }],
        "parameters": parameters(operation, generator),
        "responses": responses,
    });
    if let Some(body) = operation.body {
        described["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": body(generator) } } });
    }
    described
}

fn parameters(operation: &Operation, generator: &mut SchemaGenerator) -> Vec<Value> {
    let in_path = operation.path.split(['{', '}']).skip(1).step_by(2).map(|name| {
        let schema = if name == "id" { json!({ "type": "string", "format": "uuid" }) } else { json!({ "type": "string" }) };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let mut parameters: Vec<Value> = in_path.collect();
    let query = operation.query.map(|query| query(generator).to_value()).unwrap_or_default();
    let properties = query["properties"].as_object().cloned().unwrap_or_default();
    parameters.extend(properties.into_iter().map(|(name, schema)| json!({ "name": name, "in": "query", "schema": schema })));
    parameters
}

fn object(fields: &str) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for (name, kind) in fields.split_whitespace().filter_map(|field| field.split_once(':')) {
        let optional = name.strip_prefix('~');
        properties.insert(optional.unwrap_or(name).to_owned(), value(kind));
        required.extend(optional.is_none().then(|| name.to_owned()));
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn value(kind: &str) -> Value {
    if let Some(items) = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']')) {
        return json!({ "type": "array", "items": value(items) });
    }
    let (kind, is_nullable) = kind.strip_suffix('?').map_or((kind, false), |kind| (kind, true));
    let of = |kind: &str| if is_nullable { json!([kind, "null"]) } else { json!(kind) };
    match kind {
        "any" => json!({}),
        "uuid" => json!({ "type": of("string"), "format": "uuid" }),
        "time" => json!({ "type": of("string"), "format": "date-time" }),
        kind if kind.starts_with(char::is_uppercase) => json!({ "$ref": format!("#/components/schemas/{kind}") }),
        kind => json!({ "type": of(kind) }),
    }
}

/// RFC 9457.
fn problem() -> Value {
    json!({
        "type": "object",
        "properties": {
            "type": { "type": "string", "pattern": "^urn:hookonce:problem:", "description": "For programs: it does not change" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string", "description": "For people: it may change" },
            "fence": { "type": "integer", "description": "Of step-running, outcome-unknown and stale-fence" },
            "owner": { "type": ["string", "null"], "description": "Of step-running" },
            "step_status": { "type": "string", "description": "Of stale-fence" },
        },
        "required": ["type", "title", "status"],
    })
}

fn gateway_problem() -> Value {
    let mut kinds: Vec<String> = GATEWAY_PROBLEMS.iter().map(|(_, kind)| format!("urn:hookonce:problem:{kind}")).collect();
    kinds.sort_unstable();
    kinds.dedup();
    json!({
        "type": "object",
        "properties": {
            "type": { "type": "string", "enum": kinds },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "run": { "type": "string", "description": "Of outcome-unknown: what `ledger resolve` asks for, with step and fence" },
            "step": { "type": "string" },
            "fence": { "type": "integer" },
            "upstream_status": { "type": "integer", "description": "Of body-not-retained" },
            "body_bytes": { "type": ["integer", "null"], "description": "Of body-not-retained" },
        },
        "required": ["type", "title", "status"],
    })
}

fn problem_response(schema: &str) -> Value {
    let content = json!({ "schema": { "$ref": format!("#/components/schemas/{schema}") } });
    json!({ "description": "RFC 9457 problem details", "content": { "application/problem+json": content } })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// `at("…")` and `step("…")` with their `.route(web::…` in a route table's text.
    fn routed(text: &str, prefix: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for service in text.split(".service(").skip(1) {
            let Some(path) = service.split('"').nth(1) else { continue };
            let path = match service.starts_with("step(") {
                true => format!("{prefix}/runs/{{run}}/steps/{{step}}/{path}"),
                false => format!("{prefix}{path}"),
            };
            let methods = service.split(".route(web::").skip(1).filter_map(|route| route.split_once("()"));
            found.extend(methods.map(|(method, _)| format!("{method} {path}")));
        }
        found
    }

    #[test]
    fn every_route_is_described_and_no_other() {
        let mut routes = routed(include_str!("mod.rs"), "/api/v1");
        routes.extend(routed(include_str!("../ledger/mod.rs"), "/v1"));
        assert!(routes.len() > 30, "the route tables were not read: {routes:?}");
        let described: BTreeSet<String> = OPERATIONS.iter().map(|operation| format!("{} {}", operation.method, operation.path)).collect();
        assert_eq!(described, routes);
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
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 30);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap_or(&reference);
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let claim = &document["paths"]["/v1/runs/{run}/steps/{step}/claim"]["post"];
        assert_eq!(claim["parameters"].as_array().map(Vec::len), Some(3));
        assert!(claim["description"].as_str().is_some_and(|text| text.contains("ledger")));
        assert_eq!(document["components"]["schemas"]["ClaimBody"]["required"], json!(["claim_id"]));
        let refunds = &document["paths"]["/api/v1/tokens"]["post"];
        assert!(refunds["description"].as_str().is_some_and(|text| text.contains("admin")));
    }
}
