//! What the group commit decides together: claims, completions and marks, each by its own
//! statement.

use sqlx::PgConnection;

use crate::{
    group_commit::Statement,
    store::{
        Error,
        dedup::{self, Mark, NewMark},
        ledger::{self, Claim, Completion, Fenced, NewClaim},
    },
};

pub struct Claims;

impl Statement for Claims {
    type Item = NewClaim;
    type Answer = Claim;

    fn bytes(claim: &NewClaim) -> usize {
        claim.place.step.len() + claim.run.len() + claim.claim_id.len()
    }

    async fn run(
        &self,
        connection: &mut PgConnection,
        claims: &[&NewClaim],
    ) -> Result<Vec<Option<Claim>>, Error> {
        Ok(ledger::claim(connection, claims).await?)
    }
}

pub struct Completions;

impl Statement for Completions {
    type Item = Completion;
    type Answer = Fenced<String>;

    fn bytes(completion: &Completion) -> usize {
        completion.result.len()
            + completion
                .emit
                .iter()
                .map(|event| event.body.len())
                .sum::<usize>()
    }

    async fn run(
        &self,
        connection: &mut PgConnection,
        completions: &[&Completion],
    ) -> Result<Vec<Option<Fenced<String>>>, Error> {
        Ok(ledger::complete(connection, completions).await?)
    }
}

pub struct Marks;

impl Statement for Marks {
    type Item = NewMark;
    type Answer = Mark;

    fn bytes(mark: &NewMark) -> usize {
        mark.claim_id.len()
    }

    async fn run(
        &self,
        connection: &mut PgConnection,
        marks: &[&NewMark],
    ) -> Result<Vec<Option<Mark>>, Error> {
        Ok(dedup::mark(connection, marks).await?)
    }
}
