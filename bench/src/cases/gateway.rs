//! The Idempotency-Key gateway in front of an upstream that answers at once: first uses of keys,
//! and their repeats, against Restate and DBOS.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::ensure;

use crate::{
    Bench,
    events::Provider,
    handler::{Behaviour, Handler},
    hookonce::{Hookonce, Options, free_port},
    load::{Pace, send_each},
    report::{Bound, Case},
    round::{Expect, Http, Requests, fresh},
    side::{Side, interleave},
};

use super::peers;

const FIRST: &str = "gateway";
const AGAIN: &str = "gateway_again";
const CONNECTIONS: usize = 64;
/// Keys that are repeated.
pub const HOT: usize = 1_000;
/// A key's claim, and the record of its answer.
const ROWS_EACH: i64 = 2;

/// Rows of steps and dedup keys that were inserted, changed and removed by those who have
/// disconnected.
pub async fn rows_written(bench: &Bench, database: &str) -> anyhow::Result<i64> {
    let client = bench.postgres.connect(database).await?;
    let sum = "select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint from pg_stat_user_tables where relname in ('step', 'dedup_key')";
    Ok(client.query_one(sum, &[]).await?.get(0))
}

/// A hookonce with one gateway, and an upstream of its own.
struct Gateway {
    hookonce: Hookonce,
    upstream: Handler,
    executed: Arc<AtomicU64>,
    port: u16,
    database: &'static str,
}

impl Gateway {
    async fn start(bench: &Bench, database: &'static str) -> anyhow::Result<Self> {
        bench
            .hookonce
            .create_database(&bench.postgres, database)
            .await?;
        let (port, executed) = (free_port()?, Arc::new(AtomicU64::new(0)));
        let upstream = Handler::start(0, Behaviour::Make(executed.clone()))?;
        let extra = format!(
            "[gateways.bench]\nbind = \"127.0.0.1:{port}\"\nupstream = \"http://127.0.0.1:{}\"",
            upstream.port()
        );
        let hookonce = bench
            .hookonce
            .start(
                &bench.postgres,
                &Options {
                    extra: &extra,
                    ..Options::paused(database)
                },
            )
            .await?;
        Ok(Self {
            hookonce,
            upstream,
            executed,
            port,
            database,
        })
    }

    fn side(&self, name: &str, requests: Requests) -> Side<'static> {
        Side::http(
            name,
            Http {
                address: std::net::SocketAddr::from(([127, 0, 0, 1], self.port)),
                pids: vec![self.hookonce.pid()],
                database: Some(self.database.to_owned()),
                connections: CONNECTIONS,
                pace: Pace::Closed,
                requests,
                expect: Expect::Accepted,
            },
        )
    }

    async fn stop(self) {
        self.hookonce.stop().await;
        drop(self.upstream);
    }
}

pub async fn run(bench: &Bench) -> anyhow::Result<Case> {
    let mut case = Case::new(
        "The gateway",
        "POSTs of 2 KiB with an Idempotency-Key at 64 connections, through the gateway to an upstream that answers 201 at once. First: each key new, \
         claimed before it is sent and its answer recorded before it is given. Replay: 1,000 keys over and over. Restate and DBOS take the same \
         requests: Restate with a handler that does nothing, DBOS with a workflow of one step.",
    );
    let first = Gateway::start(bench, FIRST).await?;
    let again = Gateway::start(bench, AGAIN).await?;
    let hot = fresh(Provider::Restate, 2048, 0);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], again.port));
    // The second reading, for the first readers of a row mark it as committed, which is a change of
    // its page.
    for _ in 0..2 {
        send_each(address, &hot, HOT).await?;
    }
    let mut sides = vec![
        first.side(
            "first",
            Requests::Fresh {
                provider: Provider::Restate,
                size: 2048,
            },
        ),
        again.side("replay", Requests::Fixed(hot, HOT)),
    ];
    let (running, others) = peers::with_keys(bench, "gateway", Provider::Restate, HOT).await?;
    sides.extend(others);
    case.series = interleave(bench, &sides, bench.rounds(), bench.short_window()).await?;
    drop(running);
    let executed = again.executed.load(Ordering::Relaxed);
    ensure!(
        executed == HOT as u64,
        "{HOT} keys were executed {executed} times"
    );
    first.stop().await;
    again.stop().await;
    let written = rows_written(bench, AGAIN).await? - ROWS_EACH * HOT as i64;
    figures(&mut case, written);
    Ok(case)
}

fn figures(case: &mut Case, written: i64) {
    let wal = case
        .find("replay")
        .map(|series| series.values(|sample| sample.wal_bytes))
        .unwrap_or_default();
    let held = Bound::AtLeast {
        floor: 5.0,
        goal: 10.0,
    };
    for (name, ratios, bound) in [
        (
            "gateway: first/s ÷ Restate's first-seen/s",
            case.rates("first", "Restate"),
            held,
        ),
        (
            "gateway: replay/s ÷ Restate's duplicates/s",
            case.rates("replay", "Restate, duplicates"),
            held,
        ),
        (
            "gateway: replay/s ÷ first/s",
            case.rates("replay", "first"),
            Bound::None,
        ),
        (
            "gateway: first/s ÷ DBOS",
            case.rates("first", "DBOS"),
            Bound::None,
        ),
        (
            "gateway: replay/s ÷ DBOS' duplicates/s",
            case.rates("replay", "DBOS, duplicates"),
            Bound::None,
        ),
    ] {
        if let Some(ratios) = ratios {
            case.figure(name, "", ratios, bound);
        }
    }
    case.figure(
        "WAL of a replay",
        "bytes",
        wal,
        Bound::AtMost {
            floor: 1.0,
            goal: 0.0,
        },
    );
    case.figure(
        "rows written by all replays",
        "",
        vec![written as f64],
        Bound::AtMost {
            floor: 0.0,
            goal: 0.0,
        },
    );
}
