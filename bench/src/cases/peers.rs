//! What people would use instead: a hand-written Express handler with pg and pg-boss, and Restate.
//! Installed by `bench/setup`; one that is not there is reported as missing.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use tokio::net::TcpStream;

use super::first_seen;
use crate::{
    Bench,
    child::Running,
    events::{Provider, STRIPE_SECRET},
    flow::{Flow, relaying},
    hookonce::{Hookonce, Options, free_port},
    load::{Load, Order, Pace, exchange, send_each},
    pgbench,
    report::{Bound, Case},
    round::{Expect, Http, Requests, SingleRow, fresh},
    side::{Kind, Side, interleave},
    times::Keep,
};

const HOOKONCE: &str = "hookonce";
const EXPRESS: &str = "Express, pg, pg-boss";
const RESTATE: &str = "Restate";
const DATABASE: &str = "peers";
const CONNECTIONS: usize = 64;
/// Keys that are sent over and over.
const HOT: usize = 1_000;
const SINGLE_ROW: &str = "peers_single_row";
const RELAYED: &str = "peers_relayed";
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long Restate is given keys to know.
const FILL: Duration = Duration::from_secs(15);
const FILL_QUICK: Duration = Duration::from_secs(2);
/// Events a second that all relay as they come.
const PACED: f64 = 200.0;
/// The numbers of the events that are sent as fast as they are taken begin here, with room for so
/// many a second.
const FLOOD: usize = 10_000;
const PER_SECOND_MAX: f64 = 20_000.0;

/// A peer's processes, and where it takes requests.
pub struct Peer {
    name: &'static str,
    running: Vec<Running>,
    address: SocketAddr,
}

impl Peer {
    fn http(&self, requests: Requests, connections: usize) -> Http {
        Http {
            address: self.address,
            pids: self.running.iter().map(Running::pid).collect(),
            database: None,
            connections,
            pace: Pace::Closed,
            requests,
            expect: Expect::Accepted,
        }
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

async fn wait_for(address: SocketAddr, running: &mut Running) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    while TcpStream::connect(address).await.is_err() {
        running.check()?;
        if Instant::now() > deadline {
            bail!("{address} did not get ready");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn node(folder: &Path, script: &str, port: u16) -> Command {
    let mut command = Command::new(folder.join("node_modules/.bin/node"));
    command
        .current_dir(folder)
        .arg(script)
        .env("PORT", port.to_string())
        .env("NODE_ENV", "production");
    command
}

fn express_database(handler: Option<u16>) -> String {
    format!("express_{}", handler.unwrap_or(0))
}

/// `handler`: where its worker posts what it recorded.
async fn express(bench: &Bench, folder: &Path, handler: Option<u16>) -> anyhow::Result<Peer> {
    let database = express_database(handler);
    bench.postgres.create_database(&database).await?;
    let port = free_port()?;
    let mut command = node(folder, "express.mjs", port);
    command
        .env("PGHOST", bench.postgres.host())
        .env("PGUSER", bench.postgres.user())
        .env("PGDATABASE", database)
        .env("SECRET", STRIPE_SECRET);
    if let Some(handler) = handler {
        command.env("HANDLER", format!("http://127.0.0.1:{handler}/"));
    }
    let mut running = Running::start(
        command,
        "the Express handler",
        Signal::SIGTERM,
        &bench.folder.join("express.log"),
    )?;
    wait_for(local(port), &mut running).await?;
    Ok(Peer {
        name: EXPRESS,
        running: vec![running],
        address: local(port),
    })
}

/// `handler`: where its handler `relay` posts what it is invoked with.
async fn restate(bench: &Bench, folder: &Path, handler: Option<u16>) -> anyhow::Result<Peer> {
    let binary = std::fs::read_dir(folder.join("node_modules/@restatedev"))?
        .flatten()
        .map(|entry| entry.path().join("bin/restate-server"))
        .find(|path| path.exists())
        .context("Restate's server is not installed for this machine")?;
    let [service, ingress, admin, own] = [free_port()?, free_port()?, free_port()?, free_port()?];
    let log = bench.folder.join("restate.log");
    let mut service_command = node(folder, "restate.mjs", service);
    if let Some(handler) = handler {
        service_command.env("HANDLER", format!("http://127.0.0.1:{handler}/"));
    }
    let mut served = Running::start(service_command, "Restate's service", Signal::SIGTERM, &log)?;
    let mut command = Command::new(binary);
    command
        .current_dir(&bench.folder)
        .args(["--node-name", "bench", "--base-dir"])
        .arg(bench.folder.join(format!("restate-{own}")));
    for (name, value) in [
        ("RESTATE_INGRESS__BIND_ADDRESS", local(ingress).to_string()),
        ("RESTATE_ADMIN__BIND_ADDRESS", local(admin).to_string()),
        ("RESTATE_BIND_ADDRESS", local(own).to_string()),
        (
            "RESTATE_LOG_SERVER__ROCKSDB_DISABLE_WAL_FSYNC",
            "false".to_owned(),
        ),
        ("RESTATE_LOG_FILTER", "warn".to_owned()),
        ("DO_NOT_TRACK", "1".to_owned()),
    ] {
        command.env(name, value);
    }
    let mut server = Running::start(command, "Restate", Signal::SIGTERM, &log)?;
    wait_for(local(service), &mut served).await?;
    wait_for(local(ingress), &mut server).await?;
    register(local(admin), service).await?;
    Ok(Peer {
        name: RESTATE,
        running: vec![served, server],
        address: local(ingress),
    })
}

/// Restate, if it is installed.
async fn restate_here(bench: &Bench) -> anyhow::Result<Peer> {
    let folder = folder(bench)
        .with_context(|| format!("no Restate in {}: run bench/setup", bench.peers.display()))?;
    restate(bench, &folder, None).await
}

/// DBOS on the benchmark's PostgreSQL, if it is built.
async fn dbos(bench: &Bench) -> anyhow::Result<Peer> {
    let program = bench.peers.join("dbos-peer");
    anyhow::ensure!(
        program.exists(),
        "no DBOS in {}: run bench/setup",
        bench.peers.display()
    );
    bench.postgres.create_database("dbos").await?;
    let port = free_port()?;
    let mut command = Command::new(program);
    command
        .env("PORT", port.to_string())
        .env("DBOS_DATABASE_URL", bench.postgres.url("dbos"));
    let mut running = Running::start(
        command,
        "DBOS",
        Signal::SIGTERM,
        &bench.folder.join("dbos.log"),
    )?;
    wait_for(local(port), &mut running).await?;
    Ok(Peer {
        name: "DBOS",
        running: vec![running],
        address: local(port),
    })
}

/// What takes idempotency keys, for as long as the sides are measured: a missing one is reported
/// under the case's name.
pub async fn with_keys(
    bench: &Bench,
    case: &str,
    provider: Provider,
    hot: usize,
) -> anyhow::Result<(Vec<Peer>, Vec<Side<'static>>)> {
    let (mut running, mut sides) = (Vec::new(), Vec::new());
    for peer in [dbos(bench).await, restate_here(bench).await] {
        match peer {
            Ok(peer) => {
                sides.extend(once_and_again(bench, &peer, provider, hot).await?);
                running.push(peer);
            }
            Err(error) => bench.missing(&format!("{case}: {error:#}")),
        }
    }
    Ok((running, sides))
}

/// Peers that know many keys, for as long as the sides are measured. Express' are put into its
/// table; Restate has those that it took in a while.
pub async fn knowing(bench: &Bench, count: usize) -> (Vec<Peer>, Vec<Side<'static>>) {
    let (mut running, mut sides) = (Vec::new(), Vec::new());
    for known in [
        express_knowing(bench, count).await,
        restate_knowing(bench, count).await,
    ] {
        match known {
            Ok((peer, side)) => {
                running.push(peer);
                sides.push(side);
            }
            Err(error) => bench.missing(&format!("repeats-cold: {error:#}")),
        }
    }
    (running, sides)
}

async fn express_knowing(bench: &Bench, count: usize) -> anyhow::Result<(Peer, Side<'static>)> {
    let folder = folder(bench)
        .with_context(|| format!("no Express in {}: run bench/setup", bench.peers.display()))?;
    let peer = express(bench, &folder, None).await?;
    let events = fresh(Provider::Stripe, 2048, count);
    let first: serde_json::Value = serde_json::from_str(&events.body_text(0))?;
    let id = first["id"].as_str().context("the event has no id")?;
    let fill = "insert into webhook_event (id, type, body)
        select left($1, -12) || lpad(n::text, 12, '0'), 'invoice.paid', convert_to($2, 'UTF8') from generate_series(0, $3::bigint - 1) as n";
    let client = bench.postgres.connect(&express_database(None)).await?;
    client
        .execute(fill, &[&id, &events.body_text(0), &i64::try_from(count)?])
        .await?;
    let http = Http {
        expect: Expect::Duplicate,
        ..peer.http(Requests::Fixed(events, count), CONNECTIONS)
    };
    let side = Side::http(format!("{EXPRESS}, duplicates"), http);
    Ok((peer, side))
}

async fn restate_knowing(bench: &Bench, count: usize) -> anyhow::Result<(Peer, Side<'static>)> {
    let peer = restate_here(bench).await?;
    let events = fresh(Provider::Restate, 2048, 0);
    let order = Order::Once(count);
    let load = Load {
        address: peer.address,
        connections: CONNECTIONS,
        events: events.clone(),
        pace: Pace::Closed,
        order,
        answered: None,
    };
    let (filling, deadline) = (
        load.start()?,
        Instant::now() + if bench.quick { FILL_QUICK } else { FILL },
    );
    while !filling.is_finished() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let [known, ..] = filling.counts();
    filling.stop().await?;
    let http = peer.http(
        Requests::Fixed(events, usize::try_from(known)?),
        CONNECTIONS,
    );
    let side = Side::http(format!("{RESTATE}, duplicates of {known}"), http);
    Ok((peer, side))
}

/// Two sides of a peer that takes idempotency keys: new ones, and some over and over, which are
/// used here for the first time.
async fn once_and_again(
    bench: &Bench,
    peer: &Peer,
    provider: Provider,
    hot: usize,
) -> anyhow::Result<[Side<'static>; 2]> {
    let events = fresh(provider, 2048, 0);
    send_each(peer.address, &events, hot)
        .await
        .with_context(|| format!("see {}'s log in {}", peer.name, bench.folder.display()))?;
    Ok([
        Side::http(
            peer.name,
            peer.http(
                Requests::Fresh {
                    provider,
                    size: 2048,
                },
                CONNECTIONS,
            ),
        ),
        Side::http(
            format!("{}, duplicates", peer.name),
            peer.http(Requests::Fixed(events, hot), CONNECTIONS),
        ),
    ])
}

/// Tells Restate where its service is, until it is ready to hear it.
async fn register(admin: SocketAddr, service: u16) -> anyhow::Result<()> {
    let body = format!(r#"{{"uri":"http://127.0.0.1:{service}"}}"#);
    let length = body.len();
    let request = format!(
        "POST /deployments HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let mut answer = Vec::new();
        if let Ok(mut stream) = TcpStream::connect(admin).await {
            let said = tokio::time::timeout(
                Duration::from_secs(10),
                exchange(&mut stream, request.as_bytes(), &mut answer),
            )
            .await;
            if said.is_ok_and(|said| said.is_ok_and(|said| said.status == 201)) {
                return Ok(());
            }
        }
        if Instant::now() > deadline {
            bail!(
                "Restate did not take its service: {}",
                String::from_utf8_lossy(&answer)
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The folder of `bench/setup`.
fn folder(bench: &Bench) -> Option<PathBuf> {
    let folder = bench.peers.clone();
    folder
        .join("node_modules/.bin/node")
        .exists()
        .then_some(folder)
}

pub async fn run(bench: &Bench) -> anyhow::Result<Case> {
    let mut case = Case::new(
        "Peers",
        "Events of 2 KiB. Express: verifies, then one transaction with INSERT … ON CONFLICT and a job in pg-boss. Restate: a handler that does \
         nothing, invoked with an idempotency key, its WAL fsync on, no signature. Duplicates: 1,000 keys over and over at 64 connections; \
         pgbench's statement finds each key there. Relaying: at 64 connections, to a handler that answers at once, at a fixed rate and \
         then as fast as they take events; Restate is sent to, and invokes a handler that posts the event on.",
    );
    let Some(folder) = folder(bench) else {
        bail!("no peers in {}: run bench/setup", bench.peers.display())
    };
    let mut peers = Vec::new();
    for (name, peer) in [
        (EXPRESS, express(bench, &folder, None).await),
        (RESTATE, restate(bench, &folder, None).await),
    ] {
        match peer {
            Ok(peer) => peers.push((
                peer,
                if name == RESTATE {
                    Provider::Restate
                } else {
                    Provider::Stripe
                },
            )),
            Err(error) => bench.missing(&format!("peers: {name}: {error:#}")),
        }
    }
    bench
        .hookonce
        .create_database(&bench.postgres, DATABASE)
        .await?;
    let hookonce = bench
        .hookonce
        .start(&bench.postgres, &Options::paused(DATABASE))
        .await?;
    for connections in first_seen::CONNECTIONS
        .into_iter()
        .filter(|connections| !bench.quick || *connections == CONNECTIONS)
    {
        // Peers take more than half a second for an answer to 256.
        let window = if connections > CONNECTIONS {
            bench.window()
        } else {
            bench.short_window()
        };
        let own = Http::new_events(
            &hookonce,
            Some(DATABASE),
            (Provider::Stripe, 2048),
            connections,
        );
        let mut sides = vec![Side::http(format!("hookonce, {connections}"), own)];
        for (peer, provider) in &peers {
            let requests = Requests::Fresh {
                provider: *provider,
                size: 2048,
            };
            sides.push(Side::http(
                format!("{}, {connections}", peer.name),
                peer.http(requests, connections),
            ));
        }
        case.series
            .extend(interleave(bench, &sides, bench.rounds(), window).await?);
    }
    for (name, floor, goal) in [(EXPRESS, 5.0, 10.0), (RESTATE, 10.0, 30.0)] {
        let sides = [
            format!("hookonce, {CONNECTIONS}"),
            format!("{name}, {CONNECTIONS}"),
        ];
        ratio(
            &mut case,
            &format!("first-seen/s ÷ {name}"),
            sides,
            Bound::AtLeast { floor, goal },
        );
    }
    duplicates(bench, &hookonce, &peers, &mut case).await?;
    drop(peers);
    hookonce.stop().await;
    relay(bench, &folder, &mut case).await;
    Ok(case)
}

/// The rate of the first side over that of the second, round by round, where both were measured.
fn ratio(case: &mut Case, name: &str, [own, other]: [String; 2], bound: Bound) {
    if let (Some(own), Some(other)) = (case.find(&own), case.find(&other)) {
        let values = own.ratios(other, |sample| sample.per_second);
        case.figure(name, "", values, bound);
    }
}

/// The same keys over and over.
async fn duplicates(
    bench: &Bench,
    hookonce: &Hookonce,
    peers: &[(Peer, Provider)],
    case: &mut Case,
) -> anyhow::Result<()> {
    let events = fresh(Provider::Stripe, 2048, HOT);
    send_each(hookonce.address, &events, HOT).await?;
    let own = Http::new_events(hookonce, None, (Provider::Stripe, 2048), CONNECTIONS);
    let own = Http {
        requests: Requests::Fixed(events, HOT),
        expect: Expect::Duplicate,
        ..own
    };
    let mut sides = vec![Side::http("hookonce, duplicates", own)];
    for (peer, provider) in peers {
        let events = fresh(*provider, 2048, HOT);
        send_each(peer.address, &events, HOT).await?;
        // Restate gives the first answer again.
        let expect = if *provider == Provider::Restate {
            Expect::Accepted
        } else {
            Expect::Duplicate
        };
        let http = Http {
            expect,
            ..peer.http(Requests::Fixed(events, HOT), CONNECTIONS)
        };
        sides.push(Side::http(format!("{}, duplicates", peer.name), http));
    }
    if pgbench::is_installed(&bench.postgres) {
        bench
            .hookonce
            .create_database(&bench.postgres, SINGLE_ROW)
            .await?;
        let single_row = SingleRow {
            database: SINGLE_ROW,
            connections: CONNECTIONS,
            size: 2048,
            known: Some(HOT),
        };
        sides.push(Side {
            name: "pgbench, duplicates".into(),
            kind: Kind::SingleRow(single_row),
        });
    }
    case.series
        .extend(interleave(bench, &sides, bench.rounds(), bench.short_window()).await?);
    for name in [EXPRESS, RESTATE, "pgbench"] {
        let sides = [
            "hookonce, duplicates".to_owned(),
            format!("{name}, duplicates"),
        ];
        ratio(case, &format!("duplicates/s ÷ {name}"), sides, Bound::None);
    }
    Ok(())
}

/// From the answer to the event's arrival at a handler that answers at once.
async fn relay(bench: &Bench, folder: &Path, case: &mut Case) {
    let mut rates = Vec::new();
    for name in [HOOKONCE, EXPRESS, RESTATE] {
        match relayed(bench, folder, name, case).await {
            Ok(rate) => rates.push((name, rate)),
            Err(error) => bench.missing(&format!("peers: {name}, relaying: {error:#}")),
        }
    }
    if let [(HOOKONCE, own), peers @ ..] = &rates[..] {
        for (name, rate) in peers {
            case.figure(
                &format!("relayed/s ÷ {name}"),
                "",
                vec![own / rate],
                Bound::None,
            );
        }
    }
}

/// The rate at which it relays while it takes events as fast as it can.
async fn relayed(bench: &Bench, folder: &Path, name: &str, case: &mut Case) -> anyhow::Result<f64> {
    let seconds = if bench.quick { 2.0 } else { 5.0 };
    let provider = if name == RESTATE {
        Provider::RestateSend
    } else {
        Provider::Stripe
    };
    let flow = Flow::of(
        provider,
        FLOOD + ((seconds + 2.0) * PER_SECOND_MAX) as usize,
        Keep::First,
    );
    let handler = flow.handler(0)?;
    // Dropped, and with that ended, when it was measured.
    let (hookonce, peer);
    let address = match name {
        HOOKONCE => {
            hookonce = relaying(bench, RELAYED, handler.port(), "").await?;
            hookonce.address
        }
        RESTATE => {
            peer = restate(bench, folder, Some(handler.port())).await?;
            peer.address
        }
        _ => {
            peer = express(bench, folder, Some(handler.port())).await?;
            peer.address
        }
    };
    let measured = async |pace, first| {
        let load = flow.load(address, CONNECTIONS, pace, Order::From(first))?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let from = flow.now();
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        let to = flow.now();
        load.stop().await?;
        anyhow::Ok((from, to))
    };
    let (from, to) = measured(Pace::Open(PACED), 0).await?;
    flow.settle(Duration::from_secs(3)).await;
    let relay = flow.stretch(from, to).relay;
    let (from, to) = measured(Pace::Closed, FLOOD).await?;
    let flooded = flow.stretch(from, to);
    case.figure(
        &format!("{name}: acknowledged to arrived at {PACED}/s, p50"),
        "ms",
        vec![relay.p50 as f64 / 1000.0],
        Bound::None,
    );
    case.figure(
        &format!("{name}: acknowledged to arrived at {PACED}/s, p99"),
        "ms",
        vec![relay.p99 as f64 / 1000.0],
        Bound::None,
    );
    case.figure(
        &format!("{name}: acknowledged/s while relaying"),
        "",
        vec![flooded.acks_per_second],
        Bound::None,
    );
    case.figure(
        &format!("{name}: relayed/s meanwhile"),
        "",
        vec![flooded.relayed_per_second],
        Bound::None,
    );
    Ok(flooded.relayed_per_second)
}
