//! Batches of the ledger that have the same steps at the same time.

use std::sync::Arc;

use hookonce::{
    contract::{OnLost, StepEnd},
    event::run_key,
    store::ledger::{self, Claim, Completion, Fenced, NewClaim, StepAddress},
};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::app::*;

const STEPS: usize = 300;
const ROUNDS: usize = 15;

fn place(round: usize, step: usize) -> StepAddress {
    StepAddress {
        key: run_key("", &format!("run-{round}-{}", step % 7)),
        step: format!("step-{step}").into(),
    }
}

fn claim(round: usize, step: usize) -> NewClaim {
    NewClaim {
        place: place(round, step),
        tenant: "".into(),
        run: format!("run-{round}-{}", step % 7).into(),
        id: Uuid::now_v7(),
        claim_id: "one".into(),
        owner: None,
        lease_seconds: 60.0,
        on_lost: OnLost::Hold,
        input_hash: None,
        about: None,
    }
}

fn completion(round: usize, step: usize) -> Completion {
    Completion {
        place: place(round, step),
        fence: 1,
        end: StepEnd::Done,
        result: "1".into(),
        result_not_kept: None,
        digest: [7; 32],
        keep_seconds: 60.0,
        emit: Vec::new(),
    }
}

async fn complete(
    connection: &mut PgConnection,
    completions: &[Completion],
    barrier: &tokio::sync::Barrier,
) -> usize {
    barrier.wait().await;
    let mut left: Vec<&Completion> = completions.iter().collect();
    let mut done = 0;
    while !left.is_empty() {
        let said = ledger::complete(connection, &left)
            .await
            .expect("no deadlock");
        done += said
            .iter()
            .filter(|said| matches!(said, Some(Fenced::Done(_))))
            .count();
        left = left
            .into_iter()
            .zip(&said)
            .filter_map(|(completion, said)| said.is_none().then_some(completion))
            .collect();
    }
    done
}

/// Each completion sent twice, in two batches at once, on connections whose plans find the rows in
/// different orders: no deadlock, and each is told that it is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_batches_with_the_same_steps_never_deadlock() {
    let app = spawn_app(&config(&[])).await;
    let mut connections = Vec::new();
    for plan in [
        "set enable_nestloop = off; set enable_mergejoin = off",
        "set enable_hashjoin = off; set enable_mergejoin = off",
    ] {
        let mut connection = PgConnection::connect(&app.database_url)
            .await
            .expect("the database");
        sqlx::raw_sql(plan)
            .execute(&mut connection)
            .await
            .expect("a plan");
        connections.push(connection);
    }
    let barrier = Arc::new(tokio::sync::Barrier::new(2));
    let mut order: Vec<usize> = (0..STEPS).collect();
    for round in 0..ROUNDS {
        // Where a row lies in the table says nothing of its place in a batch.
        order.sort_by_key(|step| std::cmp::Reverse(place(round, *step)));
        for steps in order.chunks(1) {
            let claims: Vec<NewClaim> = steps.iter().map(|step| claim(round, *step)).collect();
            let said = ledger::claim(&mut connections[0], &claims.iter().collect::<Vec<_>>())
                .await
                .expect("claims");
            assert!(
                said.iter()
                    .all(|said| matches!(said, Some(Claim::Granted(_)))),
                "{said:?}"
            );
        }
        let both = connections.drain(..).map(|mut connection| {
            let (completions, barrier) = (
                (0..STEPS)
                    .map(|step| completion(round, step))
                    .collect::<Vec<_>>(),
                barrier.clone(),
            );
            tokio::spawn(async move {
                let done = complete(&mut connection, &completions, &barrier).await;
                (connection, done)
            })
        });
        let both: Vec<_> = both.collect();
        for batch in both {
            let (connection, done) = batch.await.expect("a batch");
            assert_eq!(done, STEPS);
            connections.push(connection);
        }
    }
    app.stop().await;
}
