//! The table of tools: what each is called, what a model reads of it, what it may do, and what
//! answers it.

use std::{future::Future, sync::Arc};

use anyhow::anyhow;
use futures_util::future::BoxFuture;
use rmcp::model::{JsonObject, ToolAnnotations};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    events, issues, rejections, replays,
    session::{Reporter, Session},
    steps,
};
use crate::cli::Failure;

/// What a tool does, which decides to whom it is offered and what it says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Reads,
    /// It changes nothing, but the API asks for the scope operate.
    Counts,
    /// It changes what can't be undone. `again` says whether a repeat changes more, `beyond` whether
    /// it reaches others than hookonce.
    Writes {
        again: bool,
        beyond: bool,
    },
}

impl Kind {
    fn annotations(self) -> ToolAnnotations {
        match self {
            Self::Reads | Self::Counts => ToolAnnotations::new().read_only(true).open_world(false),
            Self::Writes { again, beyond } => ToolAnnotations::new()
                .read_only(false)
                .destructive(true)
                .idempotent(!again)
                .open_world(beyond),
        }
    }
}

type Answer = BoxFuture<'static, anyhow::Result<Value>>;

pub struct Tool {
    pub name: &'static str,
    pub kind: Kind,
    pub described: rmcp::model::Tool,
    pub call: Box<dyn Fn(Arc<Session>, JsonObject, Reporter) -> Answer + Send + Sync>,
}

fn tool<T, F>(
    kind: Kind,
    name: &'static str,
    title: &str,
    description: &'static str,
    handler: fn(Arc<Session>, T, Reporter) -> F,
) -> Tool
where
    T: DeserializeOwned + JsonSchema + Send + 'static,
    F: Future<Output = anyhow::Result<Value>> + Send + 'static,
{
    let described = rmcp::model::Tool::new(name, description, schema::<T>())
        .with_title(title)
        .with_annotations(kind.annotations());
    Tool {
        name,
        kind,
        described,
        call: Box::new(move |session, given, reporter| match read::<T>(given) {
            Ok(asked) => Box::pin(handler(session, asked, reporter)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }),
    }
}

/// The arguments, or what is wrong with which: the model reads it and can do better.
fn read<T: DeserializeOwned>(given: JsonObject) -> anyhow::Result<T> {
    serde_path_to_error::deserialize(Value::Object(given)).map_err(|error| {
        let place = error.path().to_string();
        let what = error.into_inner();
        let message = if place == "." {
            format!("arguments: {what}")
        } else {
            format!("arguments: {place}: {what}")
        };
        anyhow!(Failure::usage(message))
    })
}

/// The schema of the arguments in one piece: not every client follows references.
fn schema<T: JsonSchema>() -> JsonObject {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator();
    let mut schema = generator.root_schema_for::<T>();
    schema.remove("title");
    match schema.to_value() {
        Value::Object(members) => members,
        _ => JsonObject::new(),
    }
}

pub fn all() -> Vec<Tool> {
    let mut tools = of_events();
    tools.extend(of_failures());
    tools.extend(of_steps());
    tools.extend(of_replays());
    tools
}

fn of_events() -> Vec<Tool> {
    vec![
        tool(
            Kind::Reads,
            "get_status",
            "Status",
            "What there is: the service and its database, the sources that send webhooks (with counts of a day), and the destinations that events go to (waiting, delivered, dead). Begin here for the names that other tools take.",
            events::status,
        ),
        tool(
            Kind::Reads,
            "find_events",
            "Find events",
            "Finds webhook events by hookonce's id, the provider's key, source, type and time; newest first. An event is a verified request seen for the first time: exact repeats are answered and not kept (get_status has how many came).",
            events::find,
        ),
        tool(
            Kind::Reads,
            "get_event",
            "What happened to an event",
            "An event with all that happened to it: its deliveries to destinations, each with its attempts (status, error, how long), when the next try is due (due_at), and conflicts: requests that came under the same key with another body. Body and headers only where asked for.",
            events::get,
        ),
        tool(
            Kind::Reads,
            "get_delivery",
            "A delivery",
            "One delivery with its attempts, oldest first, and when the next try is due (due_at).",
            events::delivery,
        ),
        tool(
            Kind::Reads,
            "wait_for_event",
            "Wait for an event",
            "Waits until an event of a source, type or key comes, or gives up. Events of the last seconds before the call count too (look_back_s), since what caused the event may have been faster than this call. The answer says whether one was found.",
            events::wait,
        ),
    ]
}

fn of_failures() -> Vec<Tool> {
    vec![
        tool(
            Kind::Reads,
            "list_issues",
            "What is failing",
            "What is failing, by cause: deliveries by destination and class of error (failing: tried again; dead: given up), and refused requests by source and reason. Made of the newest deliveries and rejections, so counts of deliveries are of those that were looked at.",
            issues::list,
        ),
        tool(
            Kind::Reads,
            "list_rejections",
            "Refused requests",
            "Requests that were refused lately, newest first, and how many there were by source and reason since the service started. They are a sample, kept for a while in the memory of the one node that is asked.",
            rejections::list,
        ),
        tool(
            Kind::Reads,
            "explain_rejection",
            "Why a request was refused",
            "Each check of a refused request with what it found, and names for the usual mistakes (diagnoses). Anybody can send such a request: what it says is not even the provider's word.",
            rejections::explain,
        ),
    ]
}

fn of_steps() -> Vec<Tool> {
    vec![
        tool(
            Kind::Reads,
            "list_steps",
            "Steps of the ledger",
            "Steps of runs of your own code, newest first, without results. Those of status unknown wait for somebody to say what came of them: their holder was lost.",
            steps::list,
        ),
        tool(
            Kind::Reads,
            "get_step",
            "A step",
            "One step of a run: its state, fence, owner and times; its result and the evidence kept with it only where asked for.",
            steps::get,
        ),
        tool(
            Kind::Writes {
                again: false,
                beyond: false,
            },
            "resolve_step",
            "Resolve a step",
            "Says what came of a step whose holder was lost. Look first, in the system that the step acted on, whether its effect is there: a wrong answer makes the effect happen twice, or never. Can't be undone; the same call again changes nothing.",
            steps::resolve,
        ),
    ]
}

fn of_replays() -> Vec<Tool> {
    vec![
        tool(
            Kind::Counts,
            "replay_dry_run",
            "Count a replay",
            "Counts what a replay would deliver, and where to. Sends nothing.",
            replays::dry_run,
        ),
        tool(
            Kind::Writes {
                again: true,
                beyond: true,
            },
            "replay",
            "Replay events",
            "Delivers stored events again. Handlers get them with the same ids and act again unless they know them. Only right after replay_dry_run with exactly the same filter, and once for each such count.",
            replays::replay,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_tool_says_truly_what_it_does() {
        let tools = all();
        let names: BTreeSet<&str> = tools.iter().map(|tool| tool.name).collect();
        assert_eq!(names.len(), tools.len());
        for tool in &tools {
            let hints = tool.described.annotations.as_ref().expect("hints");
            let writes = matches!(tool.kind, Kind::Writes { .. });
            assert_eq!(hints.read_only_hint, Some(!writes), "{}", tool.name);
            assert_eq!(
                hints.destructive_hint.is_some() && hints.idempotent_hint.is_some(),
                writes,
                "{}",
                tool.name
            );
            let schema = &tool.described.input_schema;
            assert_eq!(schema["type"], "object", "{}", tool.name);
            assert_eq!(schema["additionalProperties"], false, "{}", tool.name);
            let text = serde_json::to_string(schema).expect("JSON");
            assert!(!text.contains("$ref"), "{}: {text}", tool.name);
        }
    }
}
