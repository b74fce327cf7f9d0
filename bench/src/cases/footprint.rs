//! Memory and start-up.

use std::{sync::Arc, time::Duration};

use crate::{
    Bench,
    events::{Events, Provider},
    hookonce::Options,
    load::exchange,
    processor,
    report::{Bound, Case},
    round::fresh,
};

const DATABASE: &str = "footprint";
/// What a process takes to come to rest after its start.
const REST: Duration = Duration::from_secs(2);

pub async fn run(bench: &Bench) -> anyhow::Result<Case> {
    let mut case = Case::new(
        "Start and idle memory",
        "From the start of the process to its first acknowledgement, on a migrated database, asked every 2 ms; memory two seconds later.",
    );
    bench
        .hookonce
        .create_database(&bench.postgres, DATABASE)
        .await?;
    let options = Options::paused(DATABASE);
    let (mut ready, mut first, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds() {
        let events = fresh(Provider::Stripe, 2048, 1);
        let begin = std::time::Instant::now();
        let hookonce = bench.hookonce.start(&bench.postgres, &options).await?;
        acknowledge(hookonce.address, &events).await?;
        first.push(begin.elapsed().as_secs_f64() * 1000.0);
        ready.push(hookonce.started_within.as_secs_f64() * 1000.0);
        tokio::time::sleep(REST).await;
        idle.push(processor::resident_memory(hookonce.pid()) as f64 / 1_048_576.0);
        hookonce.stop().await;
    }
    case.figure("start to ready", "ms", ready, Bound::None);
    case.figure(
        "start to first ack on a migrated database",
        "ms",
        first,
        Bound::AtMost {
            floor: 300.0,
            goal: 100.0,
        },
    );
    case.figure(
        "idle memory",
        "MiB",
        idle,
        Bound::AtMost {
            floor: 25.0,
            goal: 25.0,
        },
    );
    Ok(case)
}

async fn acknowledge(address: std::net::SocketAddr, events: &Arc<Events>) -> anyhow::Result<()> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    events.write(0, &mut request);
    let status = exchange(&mut stream, &request, &mut answer).await?.status;
    anyhow::ensure!(status == 200, "the first event was answered {status}");
    Ok(())
}
