//! Adds what this node counted to the counts of all nodes, every few seconds. A database that does
//! not answer gets the sum later; a node that is killed loses the last seconds.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    backoff::jittered,
    meters::{Count, Meters},
    store::{
        counts::{self, Came, Subject},
        link::Db,
    },
};

const INTERVAL: Duration = Duration::from_secs(10);

type Kind = (Subject, Arc<str>, &'static str);

/// Adds up until the node stops, and once more then.
pub async fn run(pool: Db, meters: Meters, stopping: CancellationToken) {
    let mut added = HashMap::new();
    loop {
        let pause = tokio::time::sleep(jittered(INTERVAL, 0.25));
        let goes_on = stopping.run_until_cancelled(pause).await.is_some();
        add(&pool, &meters, &mut added).await;
        if !goes_on {
            return;
        }
    }
}

/// Adds what came since the last time that worked.
async fn add(pool: &Db, meters: &Meters, added: &mut HashMap<Kind, u64>) {
    let now = [
        (Subject::Source, meters.requests()),
        (Subject::Destination, meters.attempts()),
    ];
    let now = now
        .into_iter()
        .flat_map(|(subject, counts)| counts.into_iter().map(move |count| (subject, count)));
    let now: HashMap<Kind, u64> = now
        .map(|(subject, (name, word, count)): (_, Count)| ((subject, name, word), count))
        .collect();
    let came = came(&now, added);
    if came.is_empty() {
        return;
    }
    match counts::add(pool, &came).await {
        Ok(()) => *added = now,
        Err(error) => tracing::warn!(%error, "counts were not added and are added later"),
    }
}

fn came(now: &HashMap<Kind, u64>, added: &HashMap<Kind, u64>) -> Vec<Came> {
    let since = now.iter().map(|(kind, count)| {
        let before = added.get(kind).copied().unwrap_or(0);
        (kind, count - before)
    });
    since
        .filter(|(_, count)| *count > 0)
        .map(|((subject, name, word), count)| Came {
            subject: *subject,
            name: name.to_string(),
            word,
            count: i32::try_from(count).unwrap_or(i32::MAX),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_since_is_added() {
        let kind = (Subject::Source, Arc::from("stripe"), "accepted");
        let at = |count| HashMap::from([(kind.clone(), count)]);
        let one = came(&at(5), &at(3));
        assert_eq!((one.len(), one[0].count), (1, 2));
        assert!(came(&at(5), &at(5)).is_empty());
        assert_eq!(came(&at(5), &HashMap::new())[0].count, 5);
    }
}
