//! What people would use instead: a hand-written Express handler with pg and pg-boss, and Restate. Installed by `bench/setup`; one that is not there
//! is reported as missing.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use tokio::net::TcpStream;

use crate::{
    Bench,
    child::Running,
    events::{Provider, STRIPE_SECRET},
    flow::Flow,
    hookonce::{Options, free_port},
    load::{Order, Pace, exchange, send_each},
    report::{Bound, Case, Series},
    round::{Expect, Http, Requests, fresh},
    side::{Side, interleave},
};

const DATABASE: &str = "peers";
const CONNECTIONS: usize = 64;
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A peer's processes; the last is the one that takes the requests.
pub struct Peer {
    name: &'static str,
    running: Vec<Running>,
    address: SocketAddr,
}

impl Peer {
    fn http(&self, requests: Requests) -> Http {
        Http {
            address: self.address,
            pid: self.running.last().map_or(0, Running::pid),
            database: None,
            connections: CONNECTIONS,
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
    command.current_dir(folder).arg(script).env("PORT", port.to_string()).env("NODE_ENV", "production");
    command
}

/// `handler`: where its worker posts what it recorded.
async fn express(bench: &Bench, folder: &Path, handler: Option<u16>) -> anyhow::Result<Peer> {
    let database = format!("express_{}", handler.unwrap_or(0));
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
    let mut running = Running::start(command, "the Express handler", Signal::SIGTERM, &bench.folder.join("express.log"))?;
    wait_for(local(port), &mut running).await?;
    Ok(Peer { name: "Express", running: vec![running], address: local(port) })
}

async fn restate(bench: &Bench, folder: &Path) -> anyhow::Result<Peer> {
    let binary = std::fs::read_dir(folder.join("node_modules/@restatedev"))?
        .flatten()
        .map(|entry| entry.path().join("bin/restate-server"))
        .find(|path| path.exists())
        .context("Restate's server is not installed for this machine")?;
    let [service, ingress, admin, own] = [free_port()?, free_port()?, free_port()?, free_port()?];
    let log = bench.folder.join("restate.log");
    let mut handler = Running::start(node(folder, "restate.mjs", service), "Restate's service", Signal::SIGTERM, &log)?;
    let mut command = Command::new(binary);
    command.current_dir(&bench.folder).args(["--node-name", "bench", "--base-dir"]).arg(bench.folder.join("restate"));
    for (name, value) in [
        ("RESTATE_INGRESS__BIND_ADDRESS", local(ingress).to_string()),
        ("RESTATE_ADMIN__BIND_ADDRESS", local(admin).to_string()),
        ("RESTATE_BIND_ADDRESS", local(own).to_string()),
        ("RESTATE_LOG_SERVER__ROCKSDB_DISABLE_WAL_FSYNC", "false".to_owned()),
        ("RESTATE_LOG_FILTER", "warn".to_owned()),
        ("DO_NOT_TRACK", "1".to_owned()),
    ] {
        command.env(name, value);
    }
    let mut server = Running::start(command, "Restate", Signal::SIGTERM, &log)?;
    wait_for(local(service), &mut handler).await?;
    wait_for(local(ingress), &mut server).await?;
    register(local(admin), service).await?;
    Ok(Peer { name: "Restate", running: vec![handler, server], address: local(ingress) })
}

/// Restate, if it is installed.
async fn restate_here(bench: &Bench) -> anyhow::Result<Peer> {
    let folder = folder(bench).with_context(|| format!("no Restate in {}: run bench/setup", bench.peers.display()))?;
    restate(bench, &folder).await
}

/// DBOS on the benchmark's PostgreSQL, if it is built.
async fn dbos(bench: &Bench) -> anyhow::Result<Peer> {
    let program = bench.peers.join("dbos-peer");
    anyhow::ensure!(program.exists(), "no DBOS in {}: run bench/setup", bench.peers.display());
    bench.postgres.create_database("dbos").await?;
    let port = free_port()?;
    let mut command = Command::new(program);
    command.env("PORT", port.to_string()).env("DBOS_DATABASE_URL", bench.postgres.url("dbos"));
    let mut running = Running::start(command, "DBOS", Signal::SIGTERM, &bench.folder.join("dbos.log"))?;
    wait_for(local(port), &mut running).await?;
    Ok(Peer { name: "DBOS", running: vec![running], address: local(port) })
}

/// What takes idempotency keys, for as long as the sides are measured: a missing one is reported under the case's name.
pub async fn with_keys(bench: &Bench, case: &str, provider: Provider, hot: usize) -> anyhow::Result<(Vec<Peer>, Vec<Side<'static>>)> {
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

/// Two sides of a peer that takes idempotency keys: new ones, and some over and over, which are used here for the first time.
async fn once_and_again(bench: &Bench, peer: &Peer, provider: Provider, hot: usize) -> anyhow::Result<[Side<'static>; 2]> {
    let events = fresh(provider, 2048, 0);
    send_each(peer.address, &events, hot).await.with_context(|| format!("see {}'s log in {}", peer.name, bench.folder.display()))?;
    Ok([
        Side::http(peer.name, peer.http(Requests::Fresh { provider, size: 2048 })),
        Side::http(format!("{}, duplicates", peer.name), peer.http(Requests::Fixed(events, hot))),
    ])
}

/// Tells Restate where its service is, until it is ready to hear it.
async fn register(admin: SocketAddr, service: u16) -> anyhow::Result<()> {
    let body = format!(r#"{{"uri":"http://127.0.0.1:{service}"}}"#);
    let length = body.len();
    let request =
        format!("POST /deployments HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let mut answer = Vec::new();
        if let Ok(mut stream) = TcpStream::connect(admin).await {
            let said = tokio::time::timeout(Duration::from_secs(10), exchange(&mut stream, request.as_bytes(), &mut answer)).await;
            if said.is_ok_and(|said| said.is_ok_and(|said| said.status == 201)) {
                return Ok(());
            }
        }
        if Instant::now() > deadline {
            bail!("Restate did not take its service: {}", String::from_utf8_lossy(&answer));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The folder of `bench/setup`.
fn folder(bench: &Bench) -> Option<PathBuf> {
    let folder = bench.peers.clone();
    folder.join("node_modules/.bin/node").exists().then_some(folder)
}

pub async fn run(bench: &Bench) -> anyhow::Result<Case> {
    let mut case = Case::new(
        "Peers",
        "New events of 2 KiB at 64 connections. Express: verifies, then one transaction with INSERT … ON CONFLICT and a job in pg-boss. Restate: \
         a handler that does nothing, invoked with an idempotency key, its WAL fsync on, no signature.",
    );
    let Some(folder) = folder(bench) else { bail!("no peers in {}: run bench/setup", bench.peers.display()) };
    bench.hookonce.create_database(&bench.postgres, DATABASE).await?;
    let hookonce = bench.hookonce.start(&bench.postgres, &Options::paused(DATABASE)).await?;
    let own = Http::new_events(&hookonce, Some(DATABASE), (Provider::Stripe, 2048), CONNECTIONS);
    let mut sides = vec![Side::http("hookonce", own)];
    let mut peers = Vec::new();
    match express(bench, &folder, None).await {
        Ok(peer) => {
            sides.push(Side::http("Express, pg, pg-boss", peer.http(Requests::Fresh { provider: Provider::Stripe, size: 2048 })));
            peers.push(peer);
        }
        Err(error) => bench.missing(&format!("peers: Express: {error:#}")),
    }
    match restate(bench, &folder).await {
        Ok(peer) => {
            sides.push(Side::http("Restate", peer.http(Requests::Fresh { provider: Provider::Restate, size: 2048 })));
            peers.push(peer);
        }
        Err(error) => bench.missing(&format!("peers: Restate: {error:#}")),
    }
    case.series = interleave(bench, &sides, bench.rounds(), bench.window()).await?;
    let rate = |sample: &crate::round::Sample| sample.per_second;
    for (name, floor, goal) in [("Express, pg, pg-boss", 5.0, 10.0), ("Restate", 10.0, 30.0)] {
        if let Some(peer) = case.series.iter().find(|series| series.name == name) {
            let ratios = case.series[0].ratios(peer, rate);
            case.figure(&format!("first-seen/s ÷ {name}"), "", ratios, Bound::AtLeast { floor, goal });
        }
    }
    drop(peers);
    hookonce.stop().await;
    relay(bench, &folder, &mut case).await?;
    Ok(case)
}

/// Express with its worker, from the answer to the handler.
async fn relay(bench: &Bench, folder: &Path, case: &mut Case) -> anyhow::Result<()> {
    let seconds = if bench.quick { 4.0 } else { 10.0 };
    let flow = Flow::lasting(seconds + 2.0);
    let handler = flow.handler(0)?;
    let peer = match express(bench, folder, Some(handler.port())).await {
        Ok(peer) => peer,
        Err(error) => {
            bench.missing(&format!("peers: pg-boss' worker: {error:#}"));
            return Ok(());
        }
    };
    let load = flow.load(peer.address, CONNECTIONS, Pace::Closed, Order::From(0))?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let from = flow.now();
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let to = flow.now();
    load.stop().await?;
    flow.settle(Duration::from_secs(5)).await;
    let stretch = flow.stretch(from, to);
    case.figure("Express with pg-boss: relayed/s", "", vec![stretch.relayed_per_second], Bound::None);
    case.figure("Express with pg-boss: acknowledged to arrived, p50", "ms", vec![stretch.relay.p50 as f64 / 1000.0], Bound::None);
    let mut series = Series::new("Express with pg-boss, relaying");
    let used = crate::processor::Used { seconds, ..Default::default() };
    series.samples.push(crate::round::Sample::of_rate(stretch.acks_per_second, &used, stretch.relay));
    case.series.push(series);
    Ok(())
}
