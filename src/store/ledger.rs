//! The step ledger: who may execute a step, and what came of it. One statement decides a claim; whoever extends or ends one gives its fence
//! and changes nothing where that has moved. Only the database's time counts. What an answer looks like is not decided here.

use std::{collections::HashMap, sync::Arc};

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::event::{BodyDigest, Key};

/// What becomes of a step whose lease ends before it is completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnLost {
    /// Nobody runs it again until somebody says what came of it.
    #[default]
    Hold,
    /// The next to claim it gets it, with the same effect key.
    Retry,
}

impl OnLost {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Retry => "retry",
        }
    }
}

/// Where a step is: `key` is that of tenant and run (`event::run_key`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub key: Key,
    pub step: Arc<str>,
}

/// A wish to execute a step.
#[derive(Clone, Debug)]
pub struct NewClaim {
    pub place: Place,
    pub tenant: Arc<str>,
    pub run: Arc<str>,
    /// The effect key, should the step be new.
    pub id: Uuid,
    pub claim_id: String,
    pub owner: Option<String>,
    pub lease_seconds: f64,
    pub on_lost: OnLost,
    pub input_hash: Option<String>,
}

/// A step as a claim left or found it.
#[derive(Debug)]
pub struct Claimed {
    pub id: Uuid,
    pub state: String,
    pub fence: i64,
    pub attempt: i32,
    pub claim_id: String,
    pub owner: Option<String>,
    pub input_hash: Option<String>,
    pub lease_until: Option<OffsetDateTime>,
    /// Seconds that the lease still has; below zero where it is lost.
    pub lease_left: Option<f64>,
    /// Seconds since it ended.
    pub ended_age: Option<f64>,
    pub result: Option<String>,
}

/// What a claim came to.
#[derive(Clone, Debug)]
pub enum Claim {
    Granted(Arc<Claimed>),
    /// It has its result, good or bad.
    Ended(Arc<Claimed>),
    Running(Arc<Claimed>),
    Unknown(Arc<Claimed>),
    InputChanged(Arc<Claimed>),
}

impl Claim {
    /// None where the row tells of a moment that is over, and another statement has to decide.
    fn of(claim: &NewClaim, row: &Arc<Claimed>) -> Option<Self> {
        if let (Some(before), Some(now)) = (&row.input_hash, &claim.input_hash)
            && before != now
        {
            return Some(Self::InputChanged(row.clone()));
        }
        let is_held = row.lease_left.is_some_and(|left| left >= 0.0);
        match row.state.as_str() {
            "done" | "failed" => Some(Self::Ended(row.clone())),
            "unknown" => Some(Self::Unknown(row.clone())),
            "running" if is_held && row.claim_id == claim.claim_id => Some(Self::Granted(row.clone())),
            "running" if is_held => Some(Self::Running(row.clone())),
            _ => None,
        }
    }
}

/// The indexes of the first of each, in the order in which rows are locked everywhere.
fn firsts<T>(items: &[T], place: impl Fn(&T) -> &Place) -> Vec<usize> {
    let mut indexes: Vec<usize> = (0..items.len()).collect();
    indexes.sort_by_key(|index| (place(&items[*index]), *index));
    indexes.dedup_by_key(|index| place(&items[*index]));
    indexes
}

/// Decides claims in one statement. A step that is done, held or unknown is only read: that writes nothing. None: ask again, for the row
/// changed while the statement looked at it.
pub async fn claim(connection: &mut PgConnection, claims: &[&NewClaim]) -> Result<Vec<Option<Claim>>, sqlx::Error> {
    let firsts = firsts(claims, |claim| &claim.place);
    let rows = claim_rows(connection, &firsts.iter().map(|index| claims[*index]).collect::<Vec<_>>()).await?;
    Ok(claims.iter().map(|claim| rows.get(&claim.place).and_then(|row| Claim::of(claim, row))).collect())
}

async fn claim_rows(connection: &mut PgConnection, claims: &[&NewClaim]) -> Result<HashMap<Place, Arc<Claimed>>, sqlx::Error> {
    let column = |of: fn(&NewClaim) -> &str| claims.iter().map(|claim| of(claim)).collect::<Vec<&str>>();
    let maybe = |of: fn(&NewClaim) -> Option<&str>| claims.iter().map(|claim| of(claim)).collect::<Vec<Option<&str>>>();
    let rows = sqlx::query!(
        r#"
        with u as (
            select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                                 $9::float8[], $10::text[])
                   as u (key, step, id, tenant, run, claim_id, owner, on_lost, lease_seconds, input_hash)
        ), found as materialized (
            select s.key, s.step, s.id, s.state, s.fence, s.attempt, s.claim_id, s.owner, s.input_hash, s.lease_until, s.ended_at,
                   s.result
              from u join step s on s.key = u.key and s.step = u.step
        ), taken as (
            insert into step as s (key, step, id, tenant, run, state, fence, attempt, claim_id, owner, on_lost, input_hash, claimed_at,
                                   lease_until)
            select u.key, u.step, u.id, u.tenant, u.run, 'running', 1, 1, u.claim_id, u.owner, u.on_lost, u.input_hash, now(),
                   now() + u.lease_seconds * interval '1 second'
              from u left join found f on f.key = u.key and f.step = u.step
             where f.key is null
                or ((f.state = 'released' or f.lease_until < now()) and coalesce(f.input_hash = u.input_hash, true))
             order by u.key, u.step
            on conflict (key, step) do update set
                state       = case when s.state = 'running' and s.on_lost = 'hold' then 'unknown' else 'running' end,
                lease_until = case when s.state = 'running' and s.on_lost = 'hold' then null else excluded.lease_until end,
                fence       = case when s.state = 'running' and s.on_lost = 'hold' then s.fence else s.fence + 1 end,
                attempt     = case when s.state = 'running' and s.on_lost = 'hold' then s.attempt else s.attempt + 1 end,
                claim_id    = case when s.state = 'running' and s.on_lost = 'hold' then s.claim_id else excluded.claim_id end,
                owner       = case when s.state = 'running' and s.on_lost = 'hold' then s.owner else excluded.owner end,
                on_lost     = case when s.state = 'running' and s.on_lost = 'hold' then s.on_lost else excluded.on_lost end,
                claimed_at  = case when s.state = 'running' and s.on_lost = 'hold' then s.claimed_at else excluded.claimed_at end,
                input_hash  = coalesce(s.input_hash, excluded.input_hash),
                end_digest  = null,
                expires_at  = null
             where (s.state = 'released' or s.lease_until < excluded.claimed_at)
               and coalesce(s.input_hash = excluded.input_hash, true)
            returning s.key, s.step, s.id, s.state, s.fence, s.attempt, s.claim_id, s.owner, s.input_hash, s.lease_until, s.ended_at, s.result
        )
        select key as "key!", step as "step!", id as "id!", state as "state!", fence as "fence!", attempt as "attempt!",
               claim_id as "claim_id!", owner, input_hash, lease_until, extract(epoch from lease_until - now())::float8 as lease_left,
               extract(epoch from now() - ended_at)::float8 as ended_age, result
          from (select * from taken
                union all
                select * from found f where not exists (select from taken t where t.key = f.key and t.step = f.step)) as r
        "#,
        &claims.iter().map(|claim| claim.place.key).collect::<Vec<_>>(),
        &column(|claim| &claim.place.step) as &[&str],
        &claims.iter().map(|claim| claim.id).collect::<Vec<_>>(),
        &column(|claim| &claim.tenant) as &[&str],
        &column(|claim| &claim.run) as &[&str],
        &column(|claim| &claim.claim_id) as &[&str],
        &maybe(|claim| claim.owner.as_deref()) as &[Option<&str>],
        &column(|claim| claim.on_lost.as_str()) as &[&str],
        &claims.iter().map(|claim| claim.lease_seconds).collect::<Vec<_>>(),
        &maybe(|claim| claim.input_hash.as_deref()) as &[Option<&str>],
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|r| {
            let (id, state, fence, attempt, claim_id, owner) = (r.id, r.state, r.fence, r.attempt, r.claim_id, r.owner);
            let (input_hash, lease_until, lease_left, ended_age, result) =
                (r.input_hash, r.lease_until, r.lease_left, r.ended_age, r.result);
            let row = Claimed { id, state, fence, attempt, claim_id, owner, input_hash, lease_until, lease_left, ended_age, result };
            (Place { key: r.key, step: r.step.into() }, Arc::new(row))
        })
        .collect())
}

/// How a step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    Done,
    Failed,
}

impl End {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// An event that a step emits, with where it goes.
#[derive(Clone, Debug)]
pub struct Emitted {
    pub id: Uuid,
    pub key: Key,
    pub source: Arc<str>,
    pub event_key: String,
    pub event_type: Option<String>,
    pub body: String,
    pub digest: BodyDigest,
    pub window_seconds: f64,
    /// A delivery's id and its destination.
    pub deliveries: Vec<(Uuid, Arc<str>)>,
}

/// The result of a step, from the holder of this fence.
#[derive(Clone, Debug)]
pub struct Completion {
    pub place: Place,
    pub fence: i64,
    pub end: End,
    /// JSON as it was sent.
    pub result: String,
    /// Of the whole call: a repeat has the same.
    pub digest: [u8; 32],
    pub keep_seconds: f64,
    pub emit: Vec<Emitted>,
}

/// What a call that carries a fence came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Fenced<T> {
    Done(T),
    /// Another has the step, or it has ended otherwise: its fence and state.
    Stale(i64, String),
    Missing,
}

/// The headers that an emitted event is kept with, as those of a received one.
const EMITTED_HEADERS: &str = r#"[["content-type","application/json"]]"#;

/// Events column by column, sorted by key; each with the step that it needs to be completed.
struct EmittedColumns<'a> {
    keys: Vec<Uuid>,
    steps: Vec<&'a str>,
    events: Vec<&'a Emitted>,
    deliveries: DeliveryColumns<'a>,
}

/// Deliveries as (id, event, destination), column by column.
type DeliveryColumns<'a> = (Vec<Uuid>, Vec<Uuid>, Vec<&'a str>);

impl<'a> EmittedColumns<'a> {
    fn of(completions: &[&'a Completion]) -> Self {
        let mut rows: Vec<(&Place, &Emitted)> =
            completions.iter().flat_map(|completion| completion.emit.iter().map(|event| (&completion.place, event))).collect();
        rows.sort_by_key(|(_, event)| event.key);
        Self {
            keys: rows.iter().map(|(place, _)| place.key).collect(),
            steps: rows.iter().map(|(place, _)| &*place.step).collect(),
            deliveries: deliveries(rows.iter().map(|(_, event)| *event)),
            events: rows.into_iter().map(|(_, event)| event).collect(),
        }
    }

    /// Those with these ids.
    fn only(&self, ids: &[Uuid]) -> Self {
        let events = self.events.iter().copied().filter(|event| ids.contains(&event.id)).collect();
        Self { keys: Vec::new(), steps: Vec::new(), events, deliveries: Default::default() }
    }

    fn column<T>(&self, of: impl Fn(&'a Emitted) -> T) -> Vec<T> {
        self.events.iter().map(|event| of(event)).collect()
    }
}

fn deliveries<'a>(events: impl Iterator<Item = &'a Emitted>) -> DeliveryColumns<'a> {
    let rows = events.flat_map(|event| event.deliveries.iter().map(|(id, to)| (*id, event.id, &**to)));
    rows.fold(DeliveryColumns::default(), |(mut ids, mut events, mut destinations), (id, event, destination)| {
        ids.push(id);
        events.push(event);
        destinations.push(destination);
        (ids, events, destinations)
    })
}

/// Records results in one statement with the events that they emit. An event whose (source, key) is known is not written again; one with
/// another body is kept as a conflict. None: ask again.
///
/// A row that is there is changed by way of `on conflict`: an update locks rows in whatever order its plan finds them, and two batches with
/// the same steps would deadlock. This one goes by (key, step), as claims do.
pub async fn complete(connection: &mut PgConnection, completions: &[&Completion]) -> Result<Vec<Option<Fenced<()>>>, sqlx::Error> {
    let firsts = firsts(completions, |completion| &completion.place);
    let of_firsts: Vec<&Completion> = firsts.iter().map(|index| completions[*index]).collect();
    let events = EmittedColumns::of(&of_firsts);
    let rows = complete_rows(connection, &of_firsts, &events).await?;
    if let Some(unseen) = rows.first().map(|row| &row.unseen).filter(|unseen| !unseen.is_empty()) {
        conflicts(connection, &events.only(unseen)).await?;
    }
    let rows: HashMap<Place, CompletedRow> =
        rows.into_iter().map(|row| (Place { key: row.key, step: row.step.as_str().into() }, row)).collect();
    let answer = |(index, completion): (usize, &&Completion)| {
        let Some(CompletedRow { is_ended, state, fence, end_digest: digest, .. }) = rows.get(&completion.place) else {
            return Some(Fenced::Missing);
        };
        if *is_ended && firsts.contains(&index) {
            return Some(Fenced::Done(()));
        }
        let is_mine = *fence == completion.fence;
        match state.as_str() {
            "done" | "failed" if is_mine && digest.as_deref() == Some(&completion.digest[..]) => Some(Fenced::Done(())),
            // Ended by the first of this batch, or held when the statement began.
            _ if is_mine && (*is_ended || state == "running") => None,
            state => Some(Fenced::Stale(*fence, state.to_owned())),
        }
    };
    Ok(completions.iter().enumerate().map(answer).collect())
}

/// A step that was to be completed, as it was before.
struct CompletedRow {
    key: Key,
    step: String,
    state: String,
    fence: i64,
    end_digest: Option<Vec<u8>>,
    /// Whether it was ended now.
    is_ended: bool,
    /// Of the whole batch: events whose key another was first with while the statement ran.
    unseen: Vec<Uuid>,
}

type CompletedRows = Result<Vec<CompletedRow>, sqlx::Error>;

async fn complete_rows(connection: &mut PgConnection, completions: &[&Completion], events: &EmittedColumns<'_>) -> CompletedRows {
    sqlx::query_as!(
        CompletedRow,
        r#"
        with u (key, step, fence, state, result, digest, keep_seconds) as (
            select * from unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bytea[], $7::float8[])
        ), ended as (
            insert into step as s (key, step, id, tenant, run, attempt, claim_id, on_lost, claimed_at, state, fence, result, end_digest,
                                   ended_at, expires_at)
            select h.key, h.step, h.id, h.tenant, h.run, h.attempt, h.claim_id, h.on_lost, h.claimed_at, u.state, u.fence, u.result, u.digest,
                   now(), now() + u.keep_seconds * interval '1 second'
              from u join step h on h.key = u.key and h.step = u.step and h.fence = u.fence and h.state = 'running'
             order by h.key, h.step on conflict (key, step) do update
                set (state, result, end_digest, ended_at, expires_at, lease_until) =
                    (excluded.state, excluded.result, excluded.end_digest, excluded.ended_at, excluded.expires_at, null)
             where s.fence = excluded.fence and s.state = 'running' returning s.key, s.step
        ), v as (
            select v.* from unnest($8::uuid[], $9::text[], $10::uuid[], $11::uuid[], $12::text[], $13::text[], $14::text[], $15::bytea[],
                                   $16::bytea[], $17::float8[])
                   as v (run_key, step, id, key, source, event_key, event_type, body, digest, window_seconds)
              join ended on ended.key = v.run_key and ended.step = v.step
        ), k as (
            insert into event_key (key, event_id, body_digest, expires_at)
            select distinct on (key) key, id, digest, now() + window_seconds * interval '1 second' from v order by key, id
            on conflict (key) do update set (event_id, body_digest, expires_at) = (excluded.event_id, excluded.body_digest, excluded.expires_at) where event_key.expires_at <= now() returning event_id
        ), e as (
            insert into event (id, key, source, event_key, event_type, headers, body, body_digest)
            select v.id, v.key, v.source, v.event_key, v.event_type, $18, v.body, v.digest from v join k on k.event_id = v.id
            returning id, key, source, octet_length(body) as bytes
        ), o as (
            insert into outbox (id, key, event_id, source, destination, body_bytes, state, epoch)
            select d.id, e.key, e.id, e.source, d.destination, e.bytes, 'pending', 0
              from unnest($19::uuid[], $20::uuid[], $21::text[]) as d (id, event_id, destination) join e on e.id = d.event_id
        ), c as (
            insert into conflict (key, body_digest, id, event_id, kind, source, event_key, event_type, headers, body)
            select v.key, v.digest, v.id, first.event_id, 'other_body', v.source, v.event_key, v.event_type, $18, v.body
              from v join event_key first on first.key = v.key and first.body_digest <> v.digest and first.expires_at > now()
             order by v.key, v.digest on conflict (key, body_digest) do nothing
        )
        select s.key as "key!", s.step as "step!", s.state as "state!", s.fence as "fence!", s.end_digest as "end_digest?",
               exists (select from ended where ended.key = s.key and ended.step = s.step) as "is_ended!",
               array(select v.id from v where not exists (select from k where k.event_id = v.id)
                                          and not exists (select from event_key first where first.key = v.key and first.expires_at > now())) as "unseen!"
          from u join step s on s.key = u.key and s.step = u.step
        "#,
        &completions.iter().map(|completion| completion.place.key).collect::<Vec<_>>(),
        &completions.iter().map(|completion| &*completion.place.step).collect::<Vec<_>>() as &[&str],
        &completions.iter().map(|completion| completion.fence).collect::<Vec<_>>(),
        &completions.iter().map(|completion| completion.end.as_str()).collect::<Vec<_>>() as &[&str],
        &completions.iter().map(|completion| &*completion.result).collect::<Vec<_>>() as &[&str],
        &completions.iter().map(|completion| &completion.digest[..]).collect::<Vec<_>>() as &[&[u8]],
        &completions.iter().map(|completion| completion.keep_seconds).collect::<Vec<_>>(),
        &events.keys,
        &events.steps as &[&str],
        &events.column(|event| event.id),
        &events.column(|event| event.key),
        &events.column(|event| &*event.source) as &[&str],
        &events.column(|event| &*event.event_key) as &[&str],
        &events.column(|event| event.event_type.as_deref()) as &[Option<&str>],
        &events.column(|event| event.body.as_bytes()) as &[&[u8]],
        &events.column(|event| &event.digest.0[..]) as &[&[u8]],
        &events.column(|event| event.window_seconds),
        EMITTED_HEADERS,
        &events.deliveries.0,
        &events.deliveries.1,
        &events.deliveries.2 as &[&str],
    )
    .fetch_all(connection)
    .await
}

/// Keeps as conflicts what another batch was first with while the statement ran: that could not see with which body.
async fn conflicts(connection: &mut PgConnection, events: &EmittedColumns<'_>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        insert into conflict (key, body_digest, id, event_id, kind, source, event_key, event_type, headers, body)
        select v.key, v.digest, v.id, first.event_id, 'other_body', v.source, v.event_key, v.event_type, $8, v.body
          from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[])
                 as v (id, key, source, event_key, event_type, body, digest)
               join event_key first on first.key = v.key and first.body_digest <> v.digest
         order by v.key, v.digest
        on conflict (key, body_digest) do nothing
        "#,
        &events.column(|event| event.id),
        &events.column(|event| event.key),
        &events.column(|event| &*event.source) as &[&str],
        &events.column(|event| &*event.event_key) as &[&str],
        &events.column(|event| event.event_type.as_deref()) as &[Option<&str>],
        &events.column(|event| event.body.as_bytes()) as &[&[u8]],
        &events.column(|event| &event.digest.0[..]) as &[&[u8]],
        EMITTED_HEADERS,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What a step's row says, for a call that changed nothing.
async fn stale<T>(executor: impl PgExecutor<'_>, place: &Place) -> Result<Fenced<T>, sqlx::Error> {
    let row = sqlx::query!("select fence, state from step where key = $1 and step = $2", place.key, &*place.step)
        .fetch_optional(executor)
        .await?;
    Ok(row.map_or(Fenced::Missing, |row| Fenced::Stale(row.fence, row.state)))
}

/// Makes the lease end so much later from now. A lease that is over is extended too, where nobody has asked for the step meanwhile.
pub async fn heartbeat(
    executor: impl PgExecutor<'_> + Copy,
    place: &Place,
    fence: i64,
    lease_seconds: f64,
) -> Result<Fenced<OffsetDateTime>, sqlx::Error> {
    let until = sqlx::query_scalar!(
        r#"
        update step set lease_until = now() + $4 * interval '1 second'
         where key = $1 and step = $2 and fence = $3 and state = 'running'
        returning lease_until as "lease_until!"
        "#,
        place.key,
        &*place.step,
        fence,
        lease_seconds,
    )
    .fetch_optional(executor)
    .await?;
    match until {
        Some(until) => Ok(Fenced::Done(until)),
        None => stale(executor, place).await,
    }
}

/// Gives a step back unexecuted: that was no attempt. The repeat of a release changes nothing. `any_input`: the next may bring another.
pub async fn release(
    executor: impl PgExecutor<'_> + Copy,
    place: &Place,
    fence: i64,
    keep_seconds: f64,
    any_input: bool,
) -> Result<Fenced<()>, sqlx::Error> {
    let changed = sqlx::query!(
        r#"
        update step set state = 'released', lease_until = null, attempt = attempt - 1, expires_at = now() + $4 * interval '1 second',
               input_hash = case when not $5 then input_hash end
         where key = $1 and step = $2 and fence = $3 and state = 'running'
        "#,
        place.key,
        &*place.step,
        fence,
        keep_seconds,
        any_input,
    )
    .execute(executor)
    .await?;
    if changed.rows_affected() > 0 {
        return Ok(Fenced::Done(()));
    }
    Ok(match stale(executor, place).await? {
        Fenced::Stale(held, state) if held == fence && state == "released" => Fenced::Done(()),
        other => other,
    })
}

/// The holder itself does not know what came of it, and says why. A held step is unknown from now on; another may be claimed again at once.
pub async fn give_up(executor: impl PgExecutor<'_>, place: &Place, fence: i64, evidence: &str) -> Result<bool, sqlx::Error> {
    let changed = sqlx::query!(
        r#"
        update step
           set state = case when on_lost = 'hold' then 'unknown' else 'running' end,
               lease_until = case when on_lost = 'retry' then now() end,
               evidence = $4
         where key = $1 and step = $2 and fence = $3 and state = 'running'
        "#,
        place.key,
        &*place.step,
        fence,
        evidence,
    )
    .execute(executor)
    .await?;
    Ok(changed.rows_affected() > 0)
}

/// What somebody found out about a step whose holder was lost.
#[derive(Clone, Debug)]
pub struct Resolution {
    pub expected_fence: i64,
    /// None: it was not executed, and may be claimed again.
    pub end: Option<End>,
    pub result: Option<String>,
    pub evidence: String,
    pub digest: [u8; 32],
    pub keep_seconds: f64,
}

/// Says what came of a step that is unknown, or whose lease is over. The fence is raised, so that the lost holder has no more say. Returns
/// the new fence.
pub async fn resolve(executor: impl PgExecutor<'_> + Copy, place: &Place, resolution: &Resolution) -> Result<Fenced<i64>, sqlx::Error> {
    let fence = sqlx::query_scalar!(
        r#"
        update step
           set state = coalesce($4, 'released'), fence = fence + 1, result = $5, evidence = $6, end_digest = $7, lease_until = null,
               ended_at = case when $4::text is not null then now() end,
               expires_at = now() + $8 * interval '1 second'
         where key = $1 and step = $2 and fence = $3 and (state = 'unknown' or state = 'running' and lease_until < now())
        returning fence
        "#,
        place.key,
        &*place.step,
        resolution.expected_fence,
        resolution.end.map(End::as_str),
        resolution.result,
        resolution.evidence,
        &resolution.digest[..],
        resolution.keep_seconds,
    )
    .fetch_optional(executor)
    .await?;
    if let Some(fence) = fence {
        return Ok(Fenced::Done(fence));
    }
    let raised = resolution.expected_fence.saturating_add(1);
    let repeated = sqlx::query_scalar!(
        "select fence from step where key = $1 and step = $2 and fence = $3 and end_digest = $4",
        place.key,
        &*place.step,
        raised,
        &resolution.digest[..],
    )
    .fetch_optional(executor)
    .await?;
    match repeated {
        Some(fence) => Ok(Fenced::Done(fence)),
        None => stale(executor, place).await,
    }
}

/// Of these steps those that somebody who waits should ask for again: they have ended, were given back, or their lease is over.
pub async fn settled(executor: impl PgExecutor<'_>, keys: &[Uuid], steps: &[&str]) -> Result<Vec<Place>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select u.key as "key!", u.step as "step!"
          from unnest($1::uuid[], $2::text[]) as u (key, step)
         where not exists (select from step s
                            where s.key = u.key and s.step = u.step and s.state = 'running' and s.lease_until >= now())
        "#,
        keys,
        steps as &[&str],
    )
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(|row| Place { key: row.key, step: row.step.into() }).collect())
}
