//! `deliveries`: list, show, retry, cancel.

use clap::Subcommand;

use super::{
    Exit, Failure, Globals,
    client::Client,
    output::{self, Column, columns},
};
use crate::contract::{Attempt, Delivery, DeliveryId, DeliveryState, EventId, WholeDelivery};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Newest first
    List {
        #[arg(long, value_enum)]
        state: Option<DeliveryState>,
        #[arg(long)]
        destination: Option<String>,
        #[arg(long)]
        source: Option<String>,
        #[arg(long, value_name = "ID")]
        event: Option<EventId>,
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// One with its attempts
    Show { id: DeliveryId },
    /// Due now, with a fresh budget of attempts
    Retry {
        #[arg(required = true)]
        id: Vec<DeliveryId>,
    },
    /// Never deliver
    Cancel {
        #[arg(required = true)]
        id: Vec<DeliveryId>,
    },
}

pub const COLUMNS: [Column<Delivery>; 7] = columns!(
    Delivery;
    "DELIVERY" => id,
    "EVENT" => event,
    "SOURCE" => source,
    "DESTINATION" => destination,
    "STATE" => state,
    "ATTEMPTS" => attempts,
    "CREATED" => created_at,
);
const FIELDS: [Column<WholeDelivery>; 9] = columns!(
    WholeDelivery;
    "delivery" => id,
    "event" => event,
    "source" => source,
    "destination" => destination,
    "state" => state,
    "replay" => replay,
    "created" => created_at,
    "due" => due_at,
    "ended" => ended_at,
);
const ATTEMPT_COLUMNS: [Column<Attempt>; 7] = columns!(
    Attempt;
    "ATTEMPT" => number,
    "STARTED" => started_at,
    "MS" => latency_ms,
    "OUTCOME" => outcome,
    "STATUS" => status,
    "ERROR" => error,
    "DETAIL" => detail,
);

pub async fn run(globals: &Globals, command: Command) -> anyhow::Result<Exit> {
    let client = Client::find(globals)?;
    match command {
        Command::List {
            state,
            destination,
            source,
            event,
            limit,
        } => {
            let state = state.map(|state| state.to_string());
            let query = [
                ("state", state),
                ("destination", destination),
                ("source", source),
                ("event", event.map(|id| id.to_string())),
            ];
            let deliveries: Vec<Delivery> =
                client.list("/api/v1/deliveries", &query, limit).await?;
            output::list(globals, &deliveries, &COLUMNS)?;
            Ok(Exit::Done)
        }
        Command::Show { id } => {
            let delivery: WholeDelivery = client.get(&format!("/api/v1/deliveries/{id}")).await?;
            output::one(globals, &delivery, text)?;
            Ok(Exit::Done)
        }
        Command::Retry { id } => each(globals, &client, &id, "retry").await,
        Command::Cancel { id } => each(globals, &client, &id, "cancel").await,
    }
}

fn text(delivery: &WholeDelivery) -> String {
    let mut text = output::fields(delivery, &FIELDS);
    if !delivery.attempts.is_empty() {
        text.push_str(&format!(
            "\n{}",
            output::table(&delivery.attempts, &ATTEMPT_COLUMNS)
        ));
    }
    let response = delivery
        .attempts
        .last()
        .and_then(|attempt| attempt.response.as_deref());
    if let Some(response) = response.filter(|response| !response.is_empty()) {
        text.push_str(&format!(
            "\nlast response: {}\n",
            output::printable(response)
        ));
    }
    text
}

/// Does the same to each delivery. A failure for one does not keep the others from it.
async fn each(
    globals: &Globals,
    client: &Client,
    ids: &[DeliveryId],
    action: &str,
) -> anyhow::Result<Exit> {
    let mut done: Vec<Delivery> = Vec::new();
    let mut errors = Vec::new();
    for id in ids {
        match client
            .post(&format!("/api/v1/deliveries/{id}/{action}"), None)
            .await
        {
            Ok(delivery) => done.push(delivery),
            Err(error) => errors.push(error),
        }
    }
    if done.is_empty()
        && let [_] = errors.as_slice()
    {
        return Err(errors.remove(0));
    }
    output::list(globals, &done, &COLUMNS)?;
    for error in &errors {
        anstream::eprintln!("\x1b[1;31merror:\x1b[0m {error:#}");
    }
    Ok(match (done.is_empty(), errors.is_empty()) {
        (_, true) => Exit::Done,
        (false, false) => Exit::Partly,
        (true, false) => exit_of(&errors),
    })
}

/// The exit code that all errors have in common, else `Failed`.
fn exit_of(errors: &[anyhow::Error]) -> Exit {
    let exit = |error: &anyhow::Error| {
        error
            .downcast_ref::<Failure>()
            .map_or(Exit::Failed, |failure| failure.exit)
    };
    let first = errors.first().map_or(Exit::Failed, exit);
    if errors.iter().all(|error| exit(error) == first) {
        first
    } else {
        Exit::Failed
    }
}
