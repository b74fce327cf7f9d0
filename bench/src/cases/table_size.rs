//! The key table at 0, 1 and 10 million rows, each a database of its own with a hookonce of its
//! own, measured in turn.

use tokio_postgres::Client;

use crate::{
    Bench,
    events::Provider,
    hookonce::{Hookonce, Options},
    report::{Bound, Case, Series},
    round::{Expect, Http, fresh, measure_all},
    side::undisturbed,
};

const MILLIONS: [u64; 3] = [0, 1, 10];
const MILLIONS_QUICK: [u64; 2] = [0, 1];
/// Repeats a round.
const EVENTS: usize = 6_000;
const EVENTS_QUICK: usize = 5_000;

struct Place {
    database: String,
    hookonce: Hookonce,
    client: Client,
    millions: u64,
}

/// Keys as they would be: random, with their digest and an end. On two connections, for it takes
/// long.
async fn fill(bench: &Bench, database: &str, client: &Client, millions: u64) -> anyhow::Result<()> {
    client
        .batch_execute("alter table event_key drop constraint event_key_pkey")
        .await?;
    let half = millions * 500_000;
    let insert = async |first: u64| {
        let insert = format!(
            "insert into event_key (key, event_id, body_digest, expires_at)
             select md5(n::text)::uuid, md5((n + 1)::text)::uuid, decode(md5(n::text) || md5(n::text), 'hex'), now() + interval '3 days'
               from generate_series({first}, {}) as n",
            first + half - 1
        );
        anyhow::Ok(
            bench
                .postgres
                .connect(database)
                .await?
                .batch_execute(&insert)
                .await?,
        )
    };
    tokio::try_join!(insert(1), insert(half + 1))?;
    client
        .batch_execute(
            "set maintenance_work_mem = '512MB'; set max_parallel_maintenance_workers = 2;
             alter table event_key add primary key (key);
             analyze event_key; checkpoint",
        )
        .await?;
    Ok(())
}

async fn places(bench: &Bench) -> anyhow::Result<Vec<Place>> {
    let mut places = Vec::new();
    let sizes: &[u64] = if bench.quick {
        &MILLIONS_QUICK
    } else {
        &MILLIONS
    };
    for millions in sizes {
        let database = format!("keys_{millions}");
        bench
            .hookonce
            .create_database(&bench.postgres, &database)
            .await?;
        let client = bench.postgres.connect(&database).await?;
        if *millions > 0 {
            fill(bench, &database, &client, *millions).await?;
        }
        let options = Options::paused(&database);
        let hookonce = bench.hookonce.start(&bench.postgres, &options).await?;
        places.push(Place {
            database,
            hookonce,
            client,
            millions: *millions,
        });
    }
    Ok(places)
}

pub async fn run(bench: &Bench) -> anyhow::Result<Case> {
    let mut case = Case::new(
        "Size of the key table",
        "Keys that are there already, random as hookonce's are; 64 connections. shared_buffers are 128 MB: the index of 10 million keys does not fit. \
         Each round begins after a checkpoint, when every page touched is logged whole.",
    );
    let places = places(bench).await?;
    let names = |kind: &str| {
        places
            .iter()
            .map(|place| Series::new(&format!("{kind}, {} million keys", place.millions)))
            .collect::<Vec<_>>()
    };
    let (mut new, mut again) = (names("first seen"), names("duplicates"));
    let count = if bench.quick { EVENTS_QUICK } else { EVENTS };
    for _ in 0..bench.rounds() {
        for (at, place) in places.iter().enumerate() {
            place.client.batch_execute("checkpoint").await?;
            let http = Http::new_events(&place.hookonce, None, (Provider::Stripe, 2048), 64);
            let sample = undisturbed(bench, &new[at].name, async || {
                http.measure(bench, bench.short_window()).await
            })
            .await?;
            new[at].samples.push(sample);
            again[at].samples.push(cold(bench, place, count).await?);
        }
    }
    let rate = |sample: &crate::round::Sample| sample.per_second;
    for at in 1..places.len() {
        let millions = places[at].millions;
        let bound = if millions == 10 {
            Bound::AtLeast {
                floor: 0.65,
                goal: 0.95,
            }
        } else {
            Bound::None
        };
        case.figure(
            &format!("first-seen/s at {millions} million keys ÷ at 0"),
            "",
            new[at].ratios(&new[0], rate),
            bound,
        );
        case.figure(
            &format!("cold duplicates/s at {millions} million keys ÷ at 0"),
            "",
            again[at].ratios(&again[0], rate),
            Bound::None,
        );
    }
    case.series = new.into_iter().chain(again).collect();
    for place in places {
        place.hookonce.stop().await;
    }
    Ok(case)
}

/// Duplicates that are in the table and not in memory: sent through one hookonce, then through
/// another that was never told.
async fn cold(bench: &Bench, place: &Place, count: usize) -> anyhow::Result<crate::round::Sample> {
    let events = fresh(Provider::Stripe, 2048, count);
    measure_all(
        bench,
        &place.hookonce,
        &place.client,
        &events,
        count,
        Expect::Accepted,
    )
    .await?;
    let options = Options::paused(&place.database);
    let other = bench.hookonce.start(&bench.postgres, &options).await?;
    let sample = measure_all(
        bench,
        &other,
        &place.client,
        &events,
        count,
        Expect::Duplicate,
    )
    .await?;
    other.stop().await;
    Ok(sample)
}
