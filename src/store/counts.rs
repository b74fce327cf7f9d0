//! Counts by minute, for all nodes together: requests by source and outcome, attempts by
//! destination and result.

use sqlx::PgExecutor;
use time::OffsetDateTime;

/// What came within a minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Came {
    pub subject: Subject,
    pub name: String,
    pub word: &'static str,
    pub count: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    Source,
    Destination,
}

impl Subject {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// Adds what came to the minute that the database's clock shows. No two of them may be of the same
/// subject, name and word.
pub async fn add(executor: impl PgExecutor<'_>, came: &[Came]) -> Result<(), sqlx::Error> {
    let subjects: Vec<&str> = came.iter().map(|one| one.subject.as_str()).collect();
    let names: Vec<&str> = came.iter().map(|one| one.name.as_str()).collect();
    let words: Vec<&str> = came.iter().map(|one| one.word).collect();
    let counts: Vec<i32> = came.iter().map(|one| one.count).collect();
    sqlx::query!(
        r#"
        with at as (select date_trunc('hour', now(), 'UTC') as hour, extract(minute from now())::integer as minute)
        insert into hour_count as h (subject, name, word, hour, minutes, total)
        select u.subject, u.name, u.word, at.hour,
               array_fill(0, array[at.minute]) || u.count || array_fill(0, array[59 - at.minute]), u.count
          from unnest($1::text[], $2::text[], $3::text[], $4::integer[]) as u (subject, name, word, count), at
         order by u.subject, u.name, u.word
        on conflict (subject, hour, name, word) do update set
            total = h.total + excluded.total,
            minutes = (select array_agg(old + new order by minute)
                         from unnest(h.minutes, excluded.minutes) with ordinality as one (old, new, minute))
        "#,
        &subjects as &[&str],
        &names as &[&str],
        &words as &[&str],
        &counts
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// How much of one word came of a source or destination.
#[derive(Clone, Debug, PartialEq)]
pub struct Lately {
    pub name: String,
    pub word: String,
    /// Within the last sixty minutes.
    pub last_hour: i64,
    /// Within the last 24 hours, of which the first may be part.
    pub last_day: i64,
    /// Within the same sixty minutes of each of the seven days before, on average over the days that
    /// had any.
    pub usual_hour: f64,
}

/// Reads at most 39 rows of each subject's word, however long counts are kept.
pub async fn lately(
    executor: impl PgExecutor<'_>,
    subject: Subject,
) -> Result<Vec<Lately>, sqlx::Error> {
    sqlx::query_file_as!(Lately, "src/store/lately.sql", subject.as_str())
        .fetch_all(executor)
        .await
}

/// Deletes the hours that began before this time.
pub async fn prune(
    executor: impl PgExecutor<'_>,
    before: OffsetDateTime,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "delete from hour_count where subject in ('source', 'destination') and hour < $1",
        before
    )
    .execute(executor)
    .await?;
    Ok(done.rows_affected())
}
