//! `status`: the whole service in one screen. It exits 1 where something needs a person.

use serde::Serialize;

use super::{
    Exit, Globals,
    client::Client,
    output::{self, Column, columns},
};
use crate::contract::{
    ConflictCount, Conflicts, Destination, DestinationState, Page, Source, Status, Step,
};

/// A source that has this many an hour at this time of the day, and none now, is silent.
const USUAL_HOUR_MIN: f64 = 10.0;
/// From so many requests on, the share of refused ones is judged.
const REQUESTS_MIN: i64 = 10;

/// What needs a person, with the command to begin with.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Need {
    what: String,
    next: String,
}

/// What the commands below say, together.
#[derive(Debug, Serialize)]
struct Whole {
    version: String,
    database: crate::contract::Database,
    sources: Vec<Source>,
    destinations: Vec<Destination>,
    needs: Vec<Need>,
}

const SOURCES: [Column<Source>; 6] = columns!(
    Source;
    "SOURCE" => name,
    "LAST HOUR" => last_hour.accepted,
    "USUAL" => usual_hour,
    "DUPLICATES" => last_hour.duplicate,
    "REFUSED" => last_hour.rejected,
    "LAST EVENT" => last_event_at,
);

const DESTINATIONS: [Column<Destination>; 6] = columns!(
    Destination;
    "DESTINATION" => name,
    "STATE" => state,
    "DELIVERED LAST HOUR" => last_hour.delivered,
    "OPEN" => pending,
    "OLDEST OPEN" => oldest_open_at,
    "DEAD 24H" => dead_24h,
);

pub async fn run(globals: &Globals) -> anyhow::Result<Exit> {
    let client = Client::find(globals)?;
    let Status {
        version, database, ..
    } = client.get("/api/v1/status").await?;
    let Page { items: sources, .. } = client.get::<Page<Source>>("/api/v1/sources").await?;
    let Page {
        items: destinations,
        ..
    } = client
        .get::<Page<Destination>>("/api/v1/destinations")
        .await?;
    let unknown: Page<Step> = client.get("/api/v1/steps?status=unknown&limit=1").await?;
    let conflicts: Conflicts = client.get("/api/v1/conflicts?limit=1").await?;
    let mut needs: Vec<Need> = sources.iter().filter_map(of_source).collect();
    needs.extend(destinations.iter().flat_map(of_destination));
    needs.extend(conflicts.counts.iter().filter_map(of_conflicts));
    needs.extend(unknown.items.first().map(of_step));
    let whole = Whole {
        version,
        database,
        sources,
        destinations,
        needs,
    };
    output::one(globals, &whole, text)?;
    Ok(if whole.needs.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn of_source(source: &Source) -> Option<Need> {
    let (name, hour) = (output::printable(&source.name), &source.last_hour);
    let taken = hour.accepted + hour.duplicate + hour.conflict;
    let refused = hour.rejected + hour.busy + hour.unavailable;
    if refused > taken && refused + taken >= REQUESTS_MIN {
        return Some(Need {
            what: format!(
                "source {name}: {refused} of {} requests were refused in the last hour",
                refused + taken
            ),
            next: format!("hookonce rejections list --source {name}"),
        });
    }
    (taken == 0 && source.usual_hour >= USUAL_HOUR_MIN).then(|| Need {
        what: format!(
            "source {name}: nothing came in the last hour, where {:.0} are usual",
            source.usual_hour
        ),
        next: format!("hookonce rejections list --source {name}"),
    })
}

fn of_destination(destination: &Destination) -> Vec<Need> {
    let name = output::printable(&destination.name);
    let error = destination.last_error.as_deref().unwrap_or("an error");
    let state = match destination.state {
        DestinationState::Ok => None,
        DestinationState::Failing => Some(format!("attempts fail with {error}")),
        DestinationState::Open => Some(format!("its breaker is open: attempts fail with {error}")),
        DestinationState::Paused => Some("is paused".into()),
    };
    let state = state.map(|state| Need {
        what: format!("destination {name}: {state}, {} open", destination.pending),
        next: match destination.state {
            DestinationState::Paused => format!("hookonce destinations resume {name}"),
            _ => format!("hookonce deliveries list --destination {name} --state pending"),
        },
    });
    let dead = (destination.dead_24h > 0).then(|| Need {
        what: format!(
            "destination {name}: {} deliveries died in the last day",
            destination.dead_24h
        ),
        next: format!("hookonce deliveries list --destination {name} --state dead"),
    });
    state.into_iter().chain(dead).collect()
}

fn of_conflicts(count: &ConflictCount) -> Option<Need> {
    let name = output::printable(&count.source);
    (count.conflicts > 0).then(|| Need {
        what: format!("source {name}: {} conflicts are kept", count.conflicts),
        next: format!("hookonce events conflicts list --source {name}"),
    })
}

fn of_step(step: &Step) -> Need {
    Need {
        what: format!(
            "step {} of run {}: whether it was executed is not known, and there may be more",
            output::printable(&step.step),
            output::printable(&step.run)
        ),
        next: "hookonce ledger list --status unknown".into(),
    }
}

fn text(whole: &Whole) -> String {
    let Whole {
        version,
        database,
        sources,
        destinations,
        needs,
    } = whole;
    let mut text = format!(
        "hookonce {}, PostgreSQL {}, {} MiB, {} events, {} open deliveries\n",
        output::printable(version),
        output::printable(&database.server_version),
        database.size_bytes >> 20,
        database.events_estimate,
        database.open_deliveries
    );
    if !sources.is_empty() {
        text += &format!("\n{}", output::table(sources, &SOURCES));
    }
    if !destinations.is_empty() {
        text += &format!("\n{}", output::table(destinations, &DESTINATIONS));
    }
    text += "\n";
    if needs.is_empty() {
        text += "Nothing needs a person.\n";
    }
    for need in needs {
        text += &format!("{}\n    {}\n", need.what, need.next);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_looked_at_where_most_is_refused_or_nothing_comes() {
        let mut source: Source = serde_json::from_value(serde_json::json!({
            "name": "s", "provider": "stripe", "url": "", "secrets": 1, "secret": "set",
            "learnt_at": null, "destinations": [], "events_24h": 0, "marked_24h": 0, "conflicts": 0,
            "last_event_at": null, "usual_hour": 0.0,
            "last_hour": crate::contract::SourceCounts::default(),
            "last_day": crate::contract::SourceCounts::default(),
        }))
        .unwrap();
        assert_eq!(of_source(&source), None);
        source.usual_hour = 20.0;
        assert!(of_source(&source).unwrap().what.contains("20 are usual"));
        source.last_hour.accepted = 4;
        assert_eq!(of_source(&source), None);
        source.last_hour.rejected = 6;
        assert!(of_source(&source).unwrap().what.contains("6 of 10"));
    }

    #[test]
    fn a_destination_is_looked_at_where_it_fails_is_paused_or_has_dead_ones() {
        let mut destination = Destination {
            name: "d".into(),
            ..Destination::default()
        };
        assert!(of_destination(&destination).is_empty());
        destination.state = DestinationState::Failing;
        destination.last_error = Some("timeout".into());
        destination.dead_24h = 2;
        let needs = of_destination(&destination);
        assert_eq!(needs.len(), 2);
        assert!(needs[0].what.contains("timeout") && needs[1].what.contains("2 deliveries"));
    }
}
