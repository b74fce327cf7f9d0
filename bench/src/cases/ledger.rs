//! The ledger: claims and completions of new steps, and claims of steps that have ended, against
//! what else records a step once.

use crate::{
    Bench,
    events::Provider,
    hookonce::Options,
    report::{Bound, Case},
    side::{Kind, Side, interleave},
    steps::{Steps, Work, finish},
};

use super::{
    gateway::{HOT, rows_written},
    peers,
};

const NEW: &str = "ledger";
const ENDED: &str = "ledger_ended";
const CONNECTIONS: [usize; 3] = [1, 16, 64];
const STEPS_ROWS_EACH: i64 = 2;

pub async fn run(bench: &Bench) -> anyhow::Result<Case> {
    let mut case = Case::new(
        "The ledger",
        "A pair is the claim and the completion of a new step, two calls over HTTP, on_lost hold. A finished step is claimed again: one call, \
         which gives its result. DBOS: a workflow of one step behind an HTTP handler, its id the idempotency key, on the same PostgreSQL. Restate: a \
         handler that records one step, invoked with an idempotency key. A duplicate is the same key again, of 1,000.",
    );
    for database in [NEW, ENDED] {
        bench
            .hookonce
            .create_database(&bench.postgres, database)
            .await?;
    }
    let new = bench
        .hookonce
        .start(&bench.postgres, &Options::paused(NEW))
        .await?;
    let ended = bench
        .hookonce
        .start(&bench.postgres, &Options::paused(ENDED))
        .await?;
    let set = finish(&ended, ENDED, HOT).await?;
    let mut sides: Vec<Side<'_>> = CONNECTIONS
        .iter()
        .map(|connections| Side {
            name: format!("claim + complete, {connections}"),
            kind: Kind::Steps(Steps::of(&new, NEW, *connections, Work::Pairs)),
        })
        .collect();
    let again = Steps::of(
        &ended,
        ENDED,
        CONNECTIONS[2],
        Work::Ended { set, count: HOT },
    );
    // The first readers of a row mark it as committed, which is a change of its page.
    again
        .measure(bench, std::time::Duration::from_millis(200))
        .await?;
    sides.push(Side {
        name: "finished step, 64".into(),
        kind: Kind::Steps(again),
    });
    let (running, others) = peers::with_keys(bench, "ledger", Provider::RestateStep, HOT).await?;
    sides.extend(others);
    case.series = interleave(bench, &sides, bench.rounds(), bench.short_window()).await?;
    drop(running);
    new.stop().await;
    ended.stop().await;
    let written = rows_written(bench, ENDED).await? - STEPS_ROWS_EACH * HOT as i64;
    figures(&mut case, written);
    Ok(case)
}

fn figures(case: &mut Case, written: i64) {
    let wal = case
        .find("finished step, 64")
        .map(|series| series.values(|sample| sample.wal_bytes))
        .unwrap_or_default();
    let figures = [
        (
            "finished step/s ÷ claim + complete/s at 64",
            case.rates("finished step, 64", "claim + complete, 64"),
            Bound::None,
        ),
        (
            "claim + complete/s ÷ DBOS at 64",
            case.rates("claim + complete, 64", "DBOS"),
            Bound::AtLeast {
                floor: 1.0,
                goal: 5.0,
            },
        ),
        (
            "finished step/s ÷ DBOS' duplicates/s",
            case.rates("finished step, 64", "DBOS, duplicates"),
            Bound::AtLeast {
                floor: 1.0,
                goal: 5.0,
            },
        ),
        (
            "claim + complete/s ÷ Restate, one step, at 64",
            case.rates("claim + complete, 64", "Restate"),
            Bound::AtLeast {
                floor: 5.0,
                goal: 10.0,
            },
        ),
        (
            "finished step/s ÷ Restate's duplicates/s",
            case.rates("finished step, 64", "Restate, duplicates"),
            Bound::AtLeast {
                floor: 5.0,
                goal: 10.0,
            },
        ),
    ];
    for (name, ratios, bound) in figures {
        if let Some(ratios) = ratios {
            case.figure(name, "", ratios, bound);
        }
    }
    case.figure(
        "WAL of a finished step's claim",
        "bytes",
        wal,
        Bound::AtMost {
            floor: 1.0,
            goal: 0.0,
        },
    );
    case.figure(
        "rows written by all claims of finished steps",
        "",
        vec![written as f64],
        Bound::AtMost {
            floor: 0.0,
            goal: 0.0,
        },
    );
}
