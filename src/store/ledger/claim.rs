//! Claims: a step that is new, released or lost is given to the caller. One that is done, held or
//! unknown is only read. Who waits for it is not decided here.

use std::{collections::HashMap, sync::Arc};

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::place::{StepAddress, firsts};
use crate::contract::{EffectKey, OnLost, StepState};

/// A request to execute a step.
#[derive(Clone, Debug)]
pub struct NewClaim {
    pub place: StepAddress,
    pub tenant: Arc<str>,
    pub run: Arc<str>,
    /// The effect key, used if the step is new.
    pub id: Uuid,
    pub claim_id: String,
    pub owner: Option<String>,
    pub lease_seconds: f64,
    pub on_lost: OnLost,
    pub input_hash: Option<String>,
    /// JSON: what the caller of a gateway asked for.
    pub about: Option<String>,
}

/// A step as a claim left or found it.
#[derive(Debug)]
pub struct Claimed {
    pub id: EffectKey,
    pub state: StepState,
    pub fence: i64,
    pub attempt: i32,
    pub claim_id: String,
    pub owner: Option<String>,
    pub input_hash: Option<String>,
    pub claimed_at: OffsetDateTime,
    pub lease_until: Option<OffsetDateTime>,
    /// Seconds left of the lease. Below zero if it is over.
    pub lease_left: Option<f64>,
    pub ended_at: Option<OffsetDateTime>,
    pub result: Option<String>,
    /// JSON: why there is no result, if the step was executed and its result could not be kept.
    pub result_not_kept: Option<String>,
    /// JSON: what the last holder said who stopped without knowing the outcome.
    pub error: Option<String>,
    /// When the claim was decided.
    pub at: OffsetDateTime,
}

impl Claimed {
    /// Seconds since the step ended.
    pub fn ended_age(&self) -> Option<f64> {
        self.ended_at
            .map(|ended_at| (self.at - ended_at).as_seconds_f64())
    }
}

/// The outcome of a claim.
#[derive(Clone, Debug)]
pub enum Claim {
    Granted(Arc<Claimed>),
    /// The step has its result, good or bad.
    Ended(Arc<Claimed>),
    Running(Arc<Claimed>),
    Unknown(Arc<Claimed>),
    InputChanged(Arc<Claimed>),
    /// Another owner holds the step under this very claim id.
    ClaimIdReused(Arc<Claimed>),
}

impl Claim {
    /// None if the row is out of date, so that another statement has to decide.
    fn of(claim: &NewClaim, row: &Arc<Claimed>) -> Option<Self> {
        if let (Some(before), Some(now)) = (&row.input_hash, &claim.input_hash)
            && before != now
        {
            return Some(Self::InputChanged(row.clone()));
        }
        let is_held = row.lease_left.is_some_and(|left| left >= 0.0);
        match row.state {
            StepState::Done | StepState::Failed => Some(Self::Ended(row.clone())),
            StepState::Unknown => Some(Self::Unknown(row.clone())),
            StepState::Running if is_held && row.claim_id == claim.claim_id => {
                Some(if row.owner == claim.owner {
                    Self::Granted(row.clone())
                } else {
                    Self::ClaimIdReused(row.clone())
                })
            }
            StepState::Running if is_held => Some(Self::Running(row.clone())),
            _ => None,
        }
    }
}

/// Decides claims in one statement. A step that is done, held or unknown is only read, so nothing
/// is written. None means that the caller must ask again, because the row changed while the
/// statement looked at it.
pub async fn claim(
    connection: &mut PgConnection,
    claims: &[&NewClaim],
) -> Result<Vec<Option<Claim>>, sqlx::Error> {
    let firsts = firsts(claims, |claim| &claim.place);
    let rows = claim_rows(
        connection,
        &firsts
            .iter()
            .map(|index| claims[*index])
            .collect::<Vec<_>>(),
    )
    .await?;
    Ok(claims
        .iter()
        .map(|claim| rows.get(&claim.place).and_then(|row| Claim::of(claim, row)))
        .collect())
}

async fn claim_rows(
    connection: &mut PgConnection,
    claims: &[&NewClaim],
) -> Result<HashMap<StepAddress, Arc<Claimed>>, sqlx::Error> {
    let column =
        |of: fn(&NewClaim) -> &str| claims.iter().map(|claim| of(claim)).collect::<Vec<&str>>();
    let maybe = |of: fn(&NewClaim) -> Option<&str>| {
        claims
            .iter()
            .map(|claim| of(claim))
            .collect::<Vec<Option<&str>>>()
    };
    let rows = sqlx::query_file!(
        "src/store/ledger/claim.sql",
        &claims
            .iter()
            .map(|claim| claim.place.key.0)
            .collect::<Vec<_>>(),
        &column(|claim| &claim.place.step) as &[&str],
        &claims.iter().map(|claim| claim.id).collect::<Vec<_>>(),
        &column(|claim| &claim.tenant) as &[&str],
        &column(|claim| &claim.run) as &[&str],
        &column(|claim| &claim.claim_id) as &[&str],
        &maybe(|claim| claim.owner.as_deref()) as &[Option<&str>],
        &column(|claim| claim.on_lost.as_str()) as &[&str],
        &claims
            .iter()
            .map(|claim| claim.lease_seconds)
            .collect::<Vec<_>>(),
        &maybe(|claim| claim.input_hash.as_deref()) as &[Option<&str>],
        &maybe(|claim| claim.about.as_deref()) as &[Option<&str>],
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|r| {
            let row = Claimed {
                id: r.id.into(),
                state: r.state,
                fence: r.fence,
                attempt: r.attempt,
                claim_id: r.claim_id,
                owner: r.owner,
                input_hash: r.input_hash,
                claimed_at: r.claimed_at,
                lease_until: r.lease_until,
                lease_left: r.lease_left,
                ended_at: r.ended_at,
                result: r.result,
                result_not_kept: r.result_not_kept,
                error: r.error,
                at: r.at,
            };
            (
                StepAddress {
                    key: r.key.into(),
                    step: r.step.into(),
                },
                Arc::new(row),
            )
        })
        .collect())
}
