//! The yardstick: pgbench with one event a commit, through the single-row form of hookonce's statement, on its schema, with the same body.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use nix::sys::signal::Signal;
use tokio_postgres::Client;

use crate::{child::Running, load, postgres::Postgres};

/// As `store::inbox::record` writes it: the conflict target named, the event and its delivery born in the statement that decides whether the key
/// is new. Key and id are made in the statement, for pgbench has no UUIDs: some 3 µs that hookonce spends elsewhere.
const SCRIPT: &str = "\
with n as materialized (
    select gen_random_uuid() as key,
           (lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
            || right(replace(gen_random_uuid()::text, '-', ''), 19))::uuid as id
), k as (
    insert into event_key (key, event_id, body_digest, expires_at)
    select key, id, :digest::bytea, now() + 259200 * interval '1 second' from n
    on conflict (key) do nothing
    returning event_id
), e as (
    insert into event (id, key, source, event_key, event_type, headers, body, body_digest)
    select n.id, n.key, 'stripe', n.key::text, 'invoice.paid', :headers, :body::bytea, :digest::bytea from n join k on k.event_id = n.id
    returning id, key
), o as (
    insert into outbox (id, key, event_id, source, destination, body_bytes, state, epoch)
    select id, key, id, 'stripe', 'paused', length(:body), 'pending', 0 from e
)
select id from e;
";

const HEADERS: &str = r#"[["user-agent","Stripe/1.0 (+https://stripe.com/docs/webhooks)"],["cache-control","no-cache"],["content-type","application/json; charset=utf-8"],["stripe-signature","t=1767225600,v1=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]]"#;

/// From the last connection to the window that is measured.
const WARM_UP: Duration = Duration::from_millis(400);

pub struct Pgbench {
    running: Running,
    folder: std::path::PathBuf,
    ends: Duration,
}

/// What one run came to in its window.
pub struct Tally {
    pub count: u64,
    pub latencies: Histogram<u64>,
}

pub fn is_installed(postgres: &Postgres) -> bool {
    postgres.binaries().join("pgbench").exists()
}

impl Pgbench {
    /// Starts it, and waits until it is warm. It runs for the window and a little more.
    pub async fn start(
        postgres: &Postgres,
        client: &Client,
        database: &str,
        connections: usize,
        body: &str,
        window: Duration,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let folder = folder.join("pgbench");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let script = folder.join("script.sql");
        fs::write(&script, SCRIPT)?;
        let ends = Duration::from_secs_f64((window + WARM_UP).as_secs_f64().ceil() + 1.0);
        let digest = format!("\\x{}", hex::encode(<sha2::Sha256 as sha2::Digest>::digest(body.as_bytes())));
        let mut command = Command::new(postgres.binaries().join("pgbench"));
        command.current_dir(&folder).args(["-n", "-M", "prepared", "-l", "-h"]).arg(postgres.host()).args(["-U", postgres.user()]);
        command.args(["-c", &connections.to_string(), "-j", "1", "-T", &ends.as_secs().to_string()]);
        command.arg("-D").arg(format!("body={body}")).arg("-D").arg(format!("digest={digest}")).arg("-D").arg(format!("headers={HEADERS}"));
        command.arg("-f").arg(&script).arg(database);
        let running = Running::start(command, "pgbench", Signal::SIGTERM, &folder.join("output.log"))?;
        let mut pgbench = Self { running, folder, ends };
        pgbench.wait_until_warm(client, connections).await?;
        Ok(pgbench)
    }

    async fn wait_until_warm(&mut self, client: &Client, connections: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let query = "select count(*) from pg_stat_activity where application_name = 'pgbench'";
        loop {
            let connected: i64 = client.query_one(query, &[]).await?.get(0);
            if usize::try_from(connected)? >= connections {
                tokio::time::sleep(WARM_UP).await;
                return Ok(());
            }
            self.running.check().with_context(|| self.output())?;
            if Instant::now() > deadline {
                bail!("pgbench did not connect");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn pid(&self) -> i32 {
        self.running.pid()
    }

    fn output(&self) -> String {
        fs::read_to_string(self.folder.join("output.log")).unwrap_or_default()
    }

    /// Waits for its end and reads what was committed in the window.
    pub async fn finish(mut self, from: SystemTime, to: SystemTime) -> anyhow::Result<Tally> {
        self.running.wait(self.ends + Duration::from_secs(20)).await.with_context(|| self.output())?;
        let micros = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
        let window = micros(from)..micros(to);
        let mut tally = Tally { count: 0, latencies: load::histogram() };
        for entry in fs::read_dir(&self.folder)?.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("pgbench_log")) {
            for line in fs::read_to_string(entry.path())?.lines() {
                // client, transaction, latency in µs, script, seconds, µs
                let fields: Vec<u64> = line.split(' ').filter_map(|field| field.parse().ok()).collect();
                let [_, _, latency, _, seconds, rest, ..] = fields[..] else { continue };
                if window.contains(&(u128::from(seconds) * 1_000_000 + u128::from(rest))) {
                    tally.count += 1;
                    tally.latencies.saturating_record(latency.max(1));
                }
            }
        }
        if tally.count == 0 {
            bail!("pgbench committed nothing: {}", self.output());
        }
        Ok(tally)
    }
}
