//! A group commit and its connections.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hookonce::{
    group_commit::{GroupCommit, Options, Statement},
    meters::Meters,
    store::{Error, link, schema},
};
use sqlx::PgConnection;

use crate::app::*;

/// Says these errors, in their order, before it has an answer: the process that the server has for
/// the connection.
struct Script {
    errors: Mutex<Vec<Error>>,
    lost: AtomicUsize,
}

impl Statement for Script {
    type Item = ();
    type Answer = i32;

    fn bytes((): &()) -> usize {
        0
    }

    async fn run(
        &self,
        connection: &mut PgConnection,
        items: &[&()],
    ) -> Result<Vec<Option<i32>>, Error> {
        let process = sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(connection)
            .await?;
        match self.errors.lock().expect("errors").pop() {
            Some(error) => Err(error),
            None => Ok(vec![Some(process); items.len()]),
        }
    }

    fn lost_connection(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_changed_meanwhile_cost_no_connection() {
    let dialer = schema::for_few_statements(&link::options(&database().await).expect("a URL"));
    let options = Options {
        name: "script",
        meters: Meters::default(),
        rows_max: 8,
        bytes_max: 8,
        batch_rows_max: 8,
        batch_bytes_max: 8,
        writers: 1,
        linger: Duration::ZERO,
        write_timeout: LONG,
        tries_max: u32::MAX,
    };
    let commits = GroupCommit::new(
        Script {
            errors: Mutex::default(),
            lost: AtomicUsize::new(0),
        },
        dialer,
        None,
        options,
    );
    let says = |errors: Vec<Error>| *commits.statement().errors.lock().expect("errors") = errors;
    let first = commits.decide((), LONG).await.expect("an answer");
    says(vec![Error::Again, Error::Again]);
    assert_eq!(
        commits.decide((), LONG).await.expect("an answer"),
        first,
        "the same connection"
    );
    assert!(!commits.is_stuck() && commits.statement().lost.load(Ordering::Relaxed) == 0);
    says(vec![Error::Database(sqlx::Error::WorkerCrashed)]);
    assert_ne!(
        commits.decide((), LONG).await.expect("an answer"),
        first,
        "another connection"
    );
    assert_eq!(commits.statement().lost.load(Ordering::Relaxed), 1);
    commits.close().await;
}
