//! What can happen to a delivery, in SQL: its state, epoch and attempts after each, as
//! src/store/delivery says.

use hookonce::store::{
    delivery::{self, Attempt, Finish, Finished},
    link,
    link::Db,
    schema,
};
use uuid::Uuid;

use crate::app::*;

struct Delivery {
    pool: Db,
    id: Uuid,
    key: Uuid,
}

impl Delivery {
    /// Born due, with its event.
    async fn new() -> Self {
        let pool = schema::pool(&link::options(&database().await).expect("a URL"), 2);
        let (id, key) = (Uuid::now_v7(), Uuid::now_v7());
        let born =
            "with e as (insert into event (id, key, source, event_key, headers, body, body_digest)
                         values ($1, $2, 's', 'k', '[]', '', decode(repeat('00', 32), 'hex')))
             insert into outbox (id, key, event_id, source, destination, body_bytes, state, epoch)
             values ($1, $2, $1, 's', 'd', 0, 'pending', 0)";
        sqlx::query(born)
            .bind(id)
            .bind(key)
            .execute(&pool)
            .await
            .expect("a delivery");
        Self { pool, id, key }
    }

    /// Its state, epoch and attempts.
    async fn is(&self) -> (String, i64, i32) {
        let row = sqlx::query_as("select state, epoch, attempts from delivery where id = $1")
            .bind(self.id);
        row.fetch_one(&self.pool).await.expect("one row")
    }

    async fn claim(&self) {
        let claimed = delivery::claim(&self.pool, Uuid::now_v7(), 30.0, &[("d", 1)], 1 << 20)
            .await
            .expect("a claim");
        assert_eq!(claimed.len(), 1);
    }

    async fn rescue(&self) {
        let over =
            "update outbox set lease_until = now() - interval '1 second' where state = 'leased'";
        sqlx::query(over)
            .execute(&self.pool)
            .await
            .expect("a lease that is over");
        assert_eq!(
            delivery::rescue(&self.pool, None)
                .await
                .expect("a rescue")
                .0,
            1
        );
    }

    /// Whether the ending under this epoch counted.
    async fn finish(&self, epoch: i64, number: i32, finish: Finish) -> bool {
        let ending = Finished {
            id: self.id.into(),
            key: self.key.into(),
            epoch,
            number,
            finish,
        };
        !delivery::finish(&self.pool, &[&ending])
            .await
            .expect("an answer")
            .is_empty()
    }
}

fn attempt() -> Attempt {
    let started_at = time::OffsetDateTime::now_utc();
    Attempt {
        id: Uuid::now_v7(),
        started_at,
        latency_ms: 1,
        status: Some(500),
        error: Some("status"),
        detail: None,
        response: None,
    }
}

fn again() -> Finish {
    Finish::Retry(attempt(), 0.0)
}

fn delivered() -> Finish {
    Finish::Delivered(Attempt {
        error: None,
        ..attempt()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_change_of_a_delivery_does_what_its_table_says() {
    let delivery = Delivery::new().await;
    assert_eq!(delivery.is().await, ("pending".into(), 0, 0));
    delivery.claim().await;
    assert_eq!(delivery.is().await, ("leased".into(), 1, 0));
    assert!(
        !delivery.finish(0, 1, delivered()).await,
        "an epoch that was never leased"
    );
    assert!(delivery.finish(1, 0, Finish::Release(0.0)).await);
    assert_eq!(
        delivery.is().await,
        ("pending".into(), 1, 0),
        "a release keeps the epoch and counts no attempt"
    );
    assert!(
        !delivery.finish(1, 1, again()).await,
        "it is no longer leased, though the epoch is still its own"
    );
    delivery.claim().await;
    assert!(delivery.finish(2, 1, again()).await);
    assert_eq!(delivery.is().await, ("pending".into(), 2, 1));
    assert!(
        !delivery.finish(2, 1, again()).await,
        "the repeat of an ending"
    );
    delivery.claim().await;
    delivery.rescue().await;
    assert_eq!(
        delivery.is().await,
        ("pending".into(), 3, 1),
        "a rescue keeps the epoch and counts no attempt"
    );
    assert!(
        !delivery.finish(3, 2, delivered()).await,
        "an ending after the rescue"
    );
    delivery.claim().await;
    assert!(
        !delivery.finish(3, 2, delivered()).await,
        "an ending under the epoch before"
    );
    assert!(delivery.finish(4, 2, delivered()).await);
    assert_eq!(delivery.is().await, ("delivered".into(), 4, 2));
    let attempts: Vec<i32> = sqlx::query_scalar("select number from attempt order by id")
        .fetch_all(&delivery.pool)
        .await
        .expect("attempts");
    assert_eq!(attempts, [1, 2], "each was counted once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_does_never_gives_an_epoch_twice() {
    let delivery = Delivery::new().await;
    let (pool, id) = (&delivery.pool, delivery.id);
    delivery.claim().await;
    assert!(
        !delivery::retry(pool, id).await.expect("an answer"),
        "what is leased is left alone"
    );
    assert!(delivery::cancel(pool, id).await.expect("an answer"));
    assert_eq!(delivery.is().await, ("cancelled".into(), 2, 0));
    assert!(
        !delivery.finish(1, 1, delivered()).await,
        "the attempt that was under way"
    );
    assert!(!delivery::cancel(pool, id).await.expect("an answer"));
    assert!(delivery::retry(pool, id).await.expect("an answer"));
    assert_eq!(delivery.is().await, ("pending".into(), 3, 0));
    assert!(
        delivery::retry(pool, id).await.expect("an answer"),
        "what waits is made due"
    );
    assert_eq!(delivery.is().await, ("pending".into(), 3, 0));
    delivery.claim().await;
    assert!(
        !delivery.finish(1, 1, delivered()).await,
        "the attempt that was under way"
    );
    assert!(delivery.finish(4, 1, Finish::Dead(attempt())).await);
    assert_eq!(delivery.is().await, ("dead".into(), 4, 1));
    assert!(delivery::retry(pool, id).await.expect("an answer"));
    assert_eq!(
        delivery.is().await,
        ("pending".into(), 5, 0),
        "a fresh budget"
    );
}
