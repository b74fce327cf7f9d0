//! The yardstick: pgbench with one event a commit, through the single-row form of hookonce's
//! statement, on its schema, with the same body.

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

/// As `store::inbox::record` writes it: the conflict target named, the event and its delivery born
/// in the statement that decides whether the key is new. Key and id are made in the statement, for
/// pgbench has no UUIDs: some 3 µs that hookonce spends elsewhere.
const SCRIPT: &str = "\
with n as materialized (
    select KEY as key,
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

const NEW_KEY: &str = "gen_random_uuid()";
/// One of those that `fill_keys` put there.
const KNOWN_KEY: &str = "md5(:n::text)::uuid";

const HEADERS: &str = r#"[["user-agent","Stripe/1.0 (+https://stripe.com/docs/webhooks)"],["cache-control","no-cache"],["content-type","application/json; charset=utf-8"],["stripe-signature","t=1767225600,v1=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]]"#;

/// From the last connection to the window that is measured.
const WARM_UP: Duration = Duration::from_millis(400);
/// Longer than any run: it is stopped once its log reaches past the window.
const AT_MOST_SECONDS: &str = "120";
const LOGGED_WITHIN: Duration = Duration::from_secs(20);

pub struct Pgbench {
    running: Running,
    folder: std::path::PathBuf,
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
    /// Starts it, and waits until it is warm. With `known`, each event has one of so many keys that
    /// are there.
    pub async fn start(
        postgres: &Postgres,
        client: &Client,
        database: &str,
        connections: usize,
        body: &str,
        known: Option<usize>,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let folder = folder.join("pgbench");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let script = folder.join("script.sql");
        match known {
            None => fs::write(&script, SCRIPT.replace("KEY", NEW_KEY))?,
            Some(count) => fs::write(
                &script,
                format!(
                    "\\set n random(1, {count})\n{}",
                    SCRIPT.replace("KEY", KNOWN_KEY)
                ),
            )?,
        }
        let digest = format!(
            "\\x{}",
            hex::encode(<sha2::Sha256 as sha2::Digest>::digest(body.as_bytes()))
        );
        let mut command = Command::new(postgres.binaries().join("pgbench"));
        command
            .current_dir(&folder)
            .args(["-n", "-M", "prepared", "-l", "-h"])
            .arg(postgres.host())
            .args(["-U", postgres.user()]);
        command.args([
            "-c",
            &connections.to_string(),
            "-j",
            "1",
            "-T",
            AT_MOST_SECONDS,
        ]);
        command
            .arg("-D")
            .arg(format!("body={body}"))
            .arg("-D")
            .arg(format!("digest={digest}"))
            .arg("-D")
            .arg(format!("headers={HEADERS}"));
        command.arg("-f").arg(&script).arg(database);
        let running = Running::start(
            command,
            "pgbench",
            Signal::SIGTERM,
            &folder.join("output.log"),
        )?;
        let mut pgbench = Self { running, folder };
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

    /// What was committed in the window. Its log is written by the page: pgbench goes on until that
    /// reaches past the window.
    pub async fn finish(mut self, from: SystemTime, to: SystemTime) -> anyhow::Result<Tally> {
        let micros = |time: SystemTime| {
            time.duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_micros())
        };
        let window = micros(from)..micros(to);
        let deadline = Instant::now() + LOGGED_WITHIN;
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let (tally, latest) = self.tally(&window)?;
            if latest >= window.end {
                self.running.stop(Duration::from_secs(3)).await;
                anyhow::ensure!(tally.count > 0, "pgbench committed nothing in the window");
                return Ok(tally);
            }
            self.running.check().with_context(|| self.output())?;
            if Instant::now() > deadline {
                bail!(
                    "pgbench's log did not reach past the window: {}",
                    self.output()
                );
            }
        }
    }

    /// What the log says so far of the window, and the time (µs) of its last whole line.
    fn tally(&self, window: &std::ops::Range<u128>) -> anyhow::Result<(Tally, u128)> {
        let mut tally = Tally {
            count: 0,
            latencies: load::histogram(),
        };
        let mut latest = 0;
        for entry in fs::read_dir(&self.folder)?.flatten().filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("pgbench_log")
        }) {
            let text = fs::read_to_string(entry.path())?;
            // The last line may be a part of one.
            for line in text
                .rsplit_once('\n')
                .map_or("", |(whole, _)| whole)
                .lines()
            {
                // client, transaction, latency in µs, script, seconds, µs
                let fields: Vec<u64> = line
                    .split(' ')
                    .filter_map(|field| field.parse().ok())
                    .collect();
                let [_, _, latency, _, seconds, rest, ..] = fields[..] else {
                    continue;
                };
                let at = u128::from(seconds) * 1_000_000 + u128::from(rest);
                latest = latest.max(at);
                if window.contains(&at) {
                    tally.count += 1;
                    tally.latencies.saturating_record(latency.max(1));
                }
            }
        }
        Ok((tally, latest))
    }
}

/// Puts these keys into the table, where they are not there yet, as if their events had come
/// before.
pub async fn fill_keys(client: &Client, count: usize) -> anyhow::Result<()> {
    let insert = format!(
        "insert into event_key (key, event_id, body_digest, expires_at)
         select md5(n::text)::uuid, gen_random_uuid(), decode(md5(n::text) || md5(n::text), 'hex'), now() + interval '3 days'
           from generate_series(1, {count}) as n
         on conflict do nothing"
    );
    Ok(client.batch_execute(&insert).await?)
}
