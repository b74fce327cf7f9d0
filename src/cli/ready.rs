//! `ready`: exit 0 when the service takes requests. For scripts and container health checks.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Exit, Globals, client::Client, output};

const INTERVAL: Duration = Duration::from_millis(200);

pub async fn run(globals: &Globals, wait: Option<Duration>) -> anyhow::Result<Exit> {
    let until = Instant::now() + wait.unwrap_or_default();
    loop {
        // A service that is still starting may not have written its address yet.
        let error = match ask(globals).await {
            Ok(true) => {
                output::one(globals, &json!({ "ready": true }), |_| "ready".into())?;
                return Ok(Exit::Done);
            }
            Ok(false) => anyhow::anyhow!(
                "hookonce is up but not ready: its database does not answer, or it is stopping"
            ),
            Err(error) => error,
        };
        if Instant::now() >= until {
            return Err(error);
        }
        sleep(INTERVAL).await;
    }
}

async fn ask(globals: &Globals) -> anyhow::Result<bool> {
    Client::find(globals)?.is_ready().await
}
