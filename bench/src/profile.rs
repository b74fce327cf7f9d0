//! The load alone, against a server that somebody else started: for perf, callgrind or a debugger.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    events::{Events, Provider, Recipe},
    load::{Load, Order, Pace},
    round::{Latency, next_run},
};

#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[arg(long, default_value = "127.0.0.1:8080")]
    address: SocketAddr,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Stop after so many events instead
    #[arg(long)]
    count: Option<usize>,
    /// Bytes of the body
    #[arg(long, default_value_t = 2048)]
    size: usize,
    /// GitHub's events instead of Stripe's
    #[arg(long)]
    github: bool,
    /// So many keys over and over
    #[arg(long)]
    hot: Option<usize>,
    /// Signatures that do not match
    #[arg(long)]
    spoiled: bool,
    /// Another source's path
    #[arg(long)]
    source: Option<String>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let provider = if arguments.github {
        Provider::Github
    } else {
        Provider::Stripe
    };
    let signed = arguments
        .count
        .or(arguments.hot)
        .unwrap_or((arguments.seconds * 40_000.0) as usize);
    let source = arguments.source.as_deref().unwrap_or(provider.name());
    let recipe = Recipe {
        provider,
        size: arguments.size,
        source,
        run: next_run(),
        signed,
        spoiled: arguments.spoiled,
    };
    let order = match (arguments.count, arguments.hot) {
        (Some(count), _) => Order::Once(count),
        (None, Some(hot)) => Order::Among(hot),
        (None, None) => Order::From(0),
    };
    let load = Load {
        address: arguments.address,
        connections: arguments.connections,
        events: Arc::new(Events::new(&recipe)),
        pace: Pace::Closed,
        order,
        answered: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (begin, running) = (Instant::now(), load.start()?);
        running.measure(true);
        while !running.is_finished() && (arguments.count.is_some() || begin.elapsed().as_secs_f64() < arguments.seconds) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (seconds, [accepted, duplicate, conflict, refused, failed]) = (begin.elapsed().as_secs_f64(), running.counts());
        let latency = Latency::of(&running.stop().await?, 0);
        let answers = accepted + duplicate + conflict + refused;
        println!("{:.0}/s, p50 {} µs, p99 {} µs", answers as f64 / seconds, latency.p50, latency.p99);
        println!("{accepted} accepted, {duplicate} duplicate, {conflict} conflict, {refused} refused, {failed} failed");
        Ok(())
    })
}
