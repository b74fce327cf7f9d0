//! What the statements of src/store/delivery decide, and what they would if they were wrong.

use std::collections::{BTreeMap, BTreeSet};

/// What an implementation might get wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    None,
    /// A claim leaves the epoch as it is.
    ClaimKeepsEpoch,
    /// A claim takes the row whatever became of it since it was seen.
    ClaimUnseen,
    /// A claim takes the row out of the outbox, and its holder is to write how it ended.
    ClaimRemoves,
    /// An ending counts whatever epoch it gives.
    EpochUnchecked,
    /// An ending counts under its epoch also where the row is no longer leased.
    StateUnchecked,
    /// What is given back untried counts as an attempt.
    ReleaseCounts,
    /// The rescuer takes leases that are not over.
    RescueLive,
    /// Nobody looks for leases that are over.
    NeverRescued,
    /// What is retried by hand is as if born anew, with the first epoch.
    HandStartsOver,
    /// What is retried by hand stays among those that ended.
    HandCopies,
    /// What is retried by hand has its attempts counted on.
    HandKeepsAttempts,
    /// A page of a replay is made wherever the cursor stands.
    CursorUnchecked,
}

/// A process of a node, between two crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Life {
    pub node: usize,
    pub life: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Finish {
    /// Delivered, or dead.
    Final,
    /// To be tried again.
    Retry,
    /// Untried: the node stops, is paused, or has too little of its lease left.
    Release,
}

/// What a node says of a delivery that it leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ending {
    pub row: usize,
    pub epoch: u8,
    /// Which attempt it was.
    pub number: u8,
    pub finish: Finish,
    pub by: Life,
}

/// A row of `outbox`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Open {
    pub leased: bool,
    pub epoch: u8,
    pub attempts: u8,
}

/// A delivery: its row in `outbox`, that in `delivery_ended`, and what is true of it whatever they
/// say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub open: Option<Open>,
    /// Its epoch and attempts.
    pub ended: Option<(u8, u8)>,
    /// Attempts that were recorded since it was born or retried by hand.
    pub tried: u8,
    /// The highest epoch that was ever given.
    pub newest: u8,
}

impl Row {
    pub fn born(leased: bool) -> Self {
        Self {
            open: Some(Open {
                leased,
                epoch: leased.into(),
                attempts: 0,
            }),
            ended: None,
            tried: 0,
            newest: 0,
        }
    }
}

/// What must not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Happened {
    pub epoch_given_twice: bool,
    pub two_live_leases: bool,
    pub old_ending_counted: bool,
}

/// The tables, with what is true of them whatever they say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outbox {
    pub rows: Vec<Row>,
    /// Leases that time has not ended, whoever still knows of them: row and epoch.
    pub live: BTreeSet<(usize, u8)>,
    /// How often each attempt was recorded.
    pub attempts: BTreeMap<(usize, u8, Life), u8>,
    /// Where a replay of one event stands.
    pub cursor: u8,
    pub happened: Happened,
}

/// The statements of src/store/delivery.
impl Outbox {
    pub fn new() -> Self {
        Self {
            rows: Vec::new(),
            live: BTreeSet::new(),
            attempts: BTreeMap::new(),
            cursor: 0,
            happened: Happened::default(),
        }
    }

    /// `delivery/claim.sql`: only where the row is pending under the epoch that was seen.
    pub fn claim(&mut self, fault: Fault, row: usize, seen: u8) -> Option<Open> {
        let open = self.rows[row].open.as_mut()?;
        if fault != Fault::ClaimUnseen && (open.leased || open.epoch != seen) {
            return None;
        }
        open.leased = true;
        open.epoch += u8::from(fault != Fault::ClaimKeepsEpoch);
        let claimed = *open;
        if fault == Fault::ClaimRemoves {
            self.rows[row].open = None;
        }
        self.give(row, claimed.epoch);
        Some(claimed)
    }

    /// `delivery/finish.sql`: only where the row is leased under the ending's epoch.
    pub fn finish(&mut self, fault: Fault, ending: Ending) {
        let row = &mut self.rows[ending.row];
        let counts = |open: &Open| {
            (open.leased || fault == Fault::StateUnchecked)
                && (open.epoch == ending.epoch || fault == Fault::EpochUnchecked)
        };
        let Some(open) = row.open.filter(counts) else {
            return;
        };
        match ending.finish {
            Finish::Final => {
                row.open = None;
                row.ended = Some((open.epoch, ending.number));
            }
            Finish::Retry => {
                row.open = Some(Open {
                    leased: false,
                    attempts: ending.number,
                    ..open
                })
            }
            Finish::Release => {
                let attempts = open.attempts + u8::from(fault == Fault::ReleaseCounts);
                row.open = Some(Open {
                    leased: false,
                    attempts,
                    ..open
                });
            }
        }
        if ending.finish != Finish::Release {
            row.tried += 1;
            *self
                .attempts
                .entry((ending.row, ending.epoch, ending.by))
                .or_default() += 1;
        }
        self.happened.old_ending_counted |= row.newest != ending.epoch;
        self.live.remove(&(ending.row, ending.epoch));
    }

    /// `delivery::rescue`: the epoch stays.
    pub fn rescue(&mut self, row: usize) {
        let Some(open) = &mut self.rows[row].open else {
            return;
        };
        open.leased = false;
    }

    /// `delivery::retry`
    pub fn retry(&mut self, fault: Fault, row: usize) {
        let row = &mut self.rows[row];
        let Some((epoch, attempts)) = row.ended else {
            return;
        };
        if fault != Fault::HandCopies {
            row.ended = None;
        }
        row.tried = 0;
        row.open = Some(Open {
            leased: false,
            epoch: if fault == Fault::HandStartsOver {
                0
            } else {
                epoch + 1
            },
            attempts: if fault == Fault::HandKeepsAttempts {
                attempts
            } else {
                0
            },
        });
    }

    /// `delivery::cancel`
    pub fn cancel(&mut self, row: usize) {
        let Some(open) = self.rows[row].open.take() else {
            return;
        };
        self.rows[row].ended = Some((open.epoch + 1, open.attempts));
        self.live.retain(|(leased, _)| *leased != row);
    }

    /// `delivery::advance`: only where the cursor stands where it was seen.
    pub fn advance(&mut self, fault: Fault, seen: u8) {
        if self.cursor == seen || fault == Fault::CursorUnchecked {
            self.cursor = seen + 1;
            self.rows.push(Row::born(false));
        }
    }

    /// A lease is given, in whatever statement.
    pub fn give(&mut self, row: usize, epoch: u8) {
        self.happened.two_live_leases |= self.live.iter().any(|(leased, _)| *leased == row);
        self.happened.epoch_given_twice |= epoch <= self.rows[row].newest;
        self.rows[row].newest = self.rows[row].newest.max(epoch);
        self.live.insert((row, epoch));
    }

    pub fn is_live(&self, row: usize, epoch: u8) -> bool {
        self.live.contains(&(row, epoch))
    }
}
