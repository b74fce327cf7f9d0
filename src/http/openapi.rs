//! The description of the API (OpenAPI 3.1). It is made from the tables of routes and from the
//! types that their handlers take and return.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    error::scopes,
    sketch::{Content, Sketch},
    table::{Entry, Face},
};
use crate::{
    contract::{GatewayProblem, Problem, Ready, Refused, Taken, URN},
    problem::GATEWAY_PROBLEMS,
};

const SCHEMAS: &str = "/components/schemas";
/// Problems that any call may get.
const PROBLEMS: [u16; 5] = [401, 403, 429, 500, 503];

pub fn document(faces: &[Face]) -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = SCHEMAS.into());
    let (mut asked, mut said) = (
        settings.clone().into_generator(),
        settings.for_serialize().into_generator(),
    );
    let mut paths = Map::new();
    for (face, entry) in faces
        .iter()
        .flat_map(|face| face.entries.iter().map(move |entry| (face, entry)))
    {
        let item = paths
            .entry(format!("{}{}", face.prefix, entry.path))
            .or_insert_with(|| json!({}));
        item[entry.method.as_str().to_ascii_lowercase()] =
            described(face, entry, &mut asked, &mut said);
    }
    paths.extend(public(&mut said));
    let schemas = schemas(asked, said);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hookonce",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The admin API (/api/v1), the ledger (/v1), and what the public port answers (/hooks). A gateway has the API of its upstream; what it says in its own name is a GatewayProblem.",
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

/// Statuses of a request that is not taken.
const REFUSALS: [u16; 9] = [400, 401, 404, 405, 408, 413, 415, 429, 503];

/// What is asked without a token, at the public port.
fn public(said: &mut SchemaGenerator) -> Map<String, Value> {
    let answer = |kind: &str, schema: schemars::Schema| json!({ "description": "done", "content": { kind: { "schema": schema } } });
    let taken = answer("application/json", said.subschema_for::<Taken>());
    let refused = answer("application/problem+json", said.subschema_for::<Refused>());
    let ready = answer("application/json", said.subschema_for::<Ready>());
    let mut responses = Map::from_iter([("200".to_owned(), taken)]);
    responses.extend(REFUSALS.map(|status| (status.to_string(), refused.clone())));
    let described = |summary: &str, path: &str, responses: Value| {
        json!({
            "summary": summary,
            "description": "Takes no token.",
            "tags": ["public"],
            "security": [],
            "parameters": path_parameters(path),
            "responses": responses,
        })
    };
    let hook = "/hooks/{source}";
    let mut hooks = described("Takes a provider's request", hook, responses.into());
    hooks["requestBody"] = json!({ "required": true, "content": { "*/*": {} } });
    let live = json!({ "200": { "description": "done" } });
    let ready = json!({ "200": ready, "503": ready });
    Map::from_iter([
        (hook.to_owned(), json!({ "post": hooks })),
        (
            "/livez".to_owned(),
            json!({ "get": described("The process runs", "", live) }),
        ),
        (
            "/readyz".to_owned(),
            json!({ "get": described("Whether the node takes requests", "", ready) }),
        ),
    ])
}

/// All schemas that are referred to. An answer has exactly the members that are described, but a
/// problem may have more.
fn schemas(mut asked: SchemaGenerator, mut said: SchemaGenerator) -> Map<String, Value> {
    let mut answers = said.take_definitions(true);
    for schema in answers
        .values_mut()
        .filter(|schema| schema["properties"].is_object())
    {
        schema["additionalProperties"] = false.into();
    }
    let mut schemas: Map<String, Value> = asked
        .take_definitions(true)
        .into_iter()
        .chain(answers)
        .collect();
    schemas.insert("Problem".into(), Problem::json_schema(&mut said).into());
    let mut gateways: Value = GatewayProblem::json_schema(&mut said).into();
    schemas.extend(said.take_definitions(true));
    let mut kinds: Vec<String> = GATEWAY_PROBLEMS
        .iter()
        .map(|(_, kind)| format!("{URN}{kind}"))
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    gateways["properties"]["type"]["enum"] = kinds.into();
    schemas.insert("GatewayProblem".into(), gateways);
    schemas
}

fn described(
    face: &Face,
    entry: &Entry,
    asked: &mut SchemaGenerator,
    said: &mut SchemaGenerator,
) -> Value {
    let mut sketch = Sketch {
        asked,
        said,
        query: None,
        body: None,
        answers: Vec::new(),
    };
    (entry.describe)(&mut sketch);
    let Sketch {
        query,
        body,
        answers,
        ..
    } = sketch;
    let mut responses = Map::new();
    for (status, content) in answers {
        let content = match content {
            Content::Json(schema) => json!({ "application/json": { "schema": schema } }),
            Content::Media(kind) => json!({ kind: {} }),
        };
        responses.insert(
            status.to_string(),
            json!({ "description": "done", "content": content }),
        );
    }
    let reads_input = query.is_some() || body.is_some() || entry.path.contains('{');
    for status in PROBLEMS
        .iter()
        .chain(reads_input.then_some(&400))
        .chain(entry.problems)
    {
        responses.insert(
            status.to_string(),
            json!({ "$ref": "#/components/responses/Problem" }),
        );
    }
    let mut parameters = path_parameters(entry.path);
    let properties = query
        .and_then(|query| query.get("properties").and_then(Value::as_object).cloned())
        .unwrap_or_default();
    parameters.extend(
        properties
            .into_iter()
            .map(|(name, schema)| json!({ "name": name, "in": "query", "schema": schema })),
    );
    let mut described = json!({
        "summary": entry.summary,
        "description": format!("Takes a token of scope {}.", scopes(entry.need)),
        "tags": [face.tag],
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(body) = body {
        described["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": body } } });
    }
    described
}

/// The path's parameters, which stand in braces. One called `id` is a UUID.
fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split(['{', '}']).skip(1).step_by(2);
    let parameters = names.map(|name| {
        let schema = if name == "id" {
            json!({ "type": "string", "format": "uuid" })
        } else {
            json!({ "type": "string" })
        };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    parameters.collect()
}

fn problem_response(schema: &str) -> Value {
    let content = json!({ "schema": { "$ref": format!("#{SCHEMAS}/{schema}") } });
    json!({ "description": "RFC 9457 problem details", "content": { "application/problem+json": content } })
}
