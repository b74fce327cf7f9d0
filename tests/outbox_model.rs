//! The life of a delivery as a model, every order of events tried: nodes that look, claim, send,
//! stand still and crash, leases that end at any moment, answers that are lost, endings that arrive
//! late or twice, the rescuer, a soft stop, an operator, and replays. What a statement decides is
//! as in src/store/delivery. Broken variants, each a test of its own, show that the model can see.

use std::collections::BTreeSet;

use outbox::{Ending, Fault, Finish, Life, Open, Outbox, Row};
use stateright::{Checker, HasDiscoveries, Model, Property};

#[path = "outbox_model/outbox.rs"]
mod outbox;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    /// It has seen that this row is due, under this epoch.
    Looked(usize, u8),
    Holds {
        row: usize,
        epoch: u8,
        attempts: u8,
    },
    /// The ending is on its way, or its answer was lost: it is sent again until there is one.
    Telling(Ending),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    outbox: Outbox,
    nodes: Vec<(u8, Phase)>,
    /// Endings of whoever no longer listens, which may still arrive, any number of times.
    late: BTreeSet<Ending>,
    /// What an operator may still do.
    hands: u8,
    /// Where each of two callers has seen the cursor of a replay.
    seen: [Option<u8>; 2],
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    BornDue,
    /// `handed`: the node lives to hear of the commit.
    BornLeased {
        node: usize,
        handed: bool,
    },
    Look(usize, usize),
    Claim {
        node: usize,
        answer_lost: bool,
    },
    Tell(usize, Finish),
    Arrive {
        node: usize,
        answer_lost: bool,
    },
    ArriveLate(Ending),
    Crash(usize),
    LeaseEnds(usize, u8),
    Rescue(usize),
    Retry(usize),
    Cancel(usize),
    SeeCursor(usize),
    Advance(usize),
}

struct Protocol {
    nodes: usize,
    lives: u8,
    hands: u8,
    replay: bool,
    epoch_max: u8,
    late_max: usize,
    fault: Fault,
}

/// Nodes, and what is on its way.
impl World {
    fn life(&self, node: usize) -> Life {
        Life {
            node,
            life: self.nodes[node].0,
        }
    }

    fn keep_late(&mut self, protocol: &Protocol, ending: Ending) {
        if self.late.len() < protocol.late_max {
            self.late.insert(ending);
        }
    }

    fn tell(&mut self, node: usize, finish: Finish) -> Option<()> {
        let Phase::Holds {
            row,
            epoch,
            attempts,
        } = self.nodes[node].1
        else {
            return None;
        };
        let number = attempts + u8::from(finish != Finish::Release);
        self.nodes[node].1 = Phase::Telling(Ending {
            row,
            epoch,
            number,
            finish,
            by: self.life(node),
        });
        Some(())
    }

    /// Whether a row that is open becomes due again, should no node ever speak again and time end
    /// all leases.
    fn goes_on(&self, protocol: &Protocol, row: usize) -> bool {
        let later = Outbox {
            live: BTreeSet::new(),
            ..self.outbox.clone()
        };
        self.outbox.rows[row]
            .open
            .is_none_or(|open| !open.leased || protocol.rescues(&later, row, &open))
    }
}

impl Protocol {
    fn rescues(&self, outbox: &Outbox, row: usize, open: &Open) -> bool {
        match self.fault {
            Fault::NeverRescued => false,
            Fault::RescueLive => open.leased,
            _ => open.leased && !outbox.is_live(row, open.epoch),
        }
    }

    fn of_nodes(&self, world: &World, actions: &mut Vec<Action>) {
        for (node, (life, phase)) in world.nodes.iter().enumerate() {
            match phase {
                Phase::Idle => {
                    let due = world
                        .outbox
                        .rows
                        .iter()
                        .enumerate()
                        .filter(|(_, row)| row.open.is_some_and(|open| !open.leased));
                    actions.extend(due.map(|(row, _)| Action::Look(node, row)));
                }
                Phase::Looked(..) => actions
                    .extend([false, true].map(|answer_lost| Action::Claim { node, answer_lost })),
                Phase::Holds { .. } => {
                    actions.extend(
                        [Finish::Final, Finish::Retry, Finish::Release]
                            .map(|finish| Action::Tell(node, finish)),
                    );
                }
                Phase::Telling(_) => actions
                    .extend([false, true].map(|answer_lost| Action::Arrive { node, answer_lost })),
            }
            if life + 1 < self.lives && *phase != Phase::Idle {
                actions.push(Action::Crash(node));
            }
        }
    }

    fn of_rows(&self, world: &World, actions: &mut Vec<Action>) {
        for (at, row) in world.outbox.rows.iter().enumerate() {
            if row
                .open
                .is_some_and(|open| self.rescues(&world.outbox, at, &open))
            {
                actions.push(Action::Rescue(at));
            }
            if world.hands > 0 {
                actions.extend(row.ended.map(|_| Action::Retry(at)));
                actions.extend(row.open.map(|_| Action::Cancel(at)));
            }
        }
        actions.extend(
            world
                .outbox
                .live
                .iter()
                .map(|(row, epoch)| Action::LeaseEnds(*row, *epoch)),
        );
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            outbox: Outbox::new(),
            nodes: vec![(0, Phase::Idle); self.nodes],
            late: BTreeSet::new(),
            hands: self.hands,
            seen: [None; 2],
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.outbox.rows.is_empty() {
            actions.push(Action::BornDue);
            actions.extend([false, true].map(|handed| Action::BornLeased { node: 0, handed }));
            return;
        }
        self.of_nodes(world, actions);
        self.of_rows(world, actions);
        actions.extend(world.late.iter().map(|ending| Action::ArriveLate(*ending)));
        if self.replay {
            let see = |caller: &usize| world.seen[*caller].is_none() && world.outbox.cursor == 0;
            actions.extend((0..world.seen.len()).filter(see).map(Action::SeeCursor));
            actions.extend(
                (0..world.seen.len())
                    .filter(|caller| world.seen[*caller].is_some())
                    .map(Action::Advance),
            );
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::BornDue => world.outbox.rows.push(Row::born(false)),
            Action::BornLeased { node, handed } => {
                world.outbox.rows.push(Row::born(true));
                world.outbox.give(0, 1);
                if handed {
                    world.nodes[node].1 = Phase::Holds {
                        row: 0,
                        epoch: 1,
                        attempts: 0,
                    };
                }
            }
            Action::Look(node, row) => {
                world.nodes[node].1 = Phase::Looked(row, world.outbox.rows[row].open?.epoch)
            }
            Action::Claim { node, answer_lost } => {
                let Phase::Looked(row, seen) = world.nodes[node].1 else {
                    return None;
                };
                let claimed = world
                    .outbox
                    .claim(self.fault, row, seen)
                    .filter(|_| !answer_lost);
                let holds = |open: Open| Phase::Holds {
                    row,
                    epoch: open.epoch,
                    attempts: open.attempts,
                };
                world.nodes[node].1 = claimed.map_or(Phase::Idle, holds);
            }
            Action::Tell(node, finish) => world.tell(node, finish)?,
            Action::Arrive { node, answer_lost } => {
                let Phase::Telling(ending) = world.nodes[node].1 else {
                    return None;
                };
                world.outbox.finish(self.fault, ending);
                if !answer_lost {
                    world.keep_late(self, ending);
                    world.nodes[node].1 = Phase::Idle;
                }
            }
            Action::ArriveLate(ending) => world.outbox.finish(self.fault, ending),
            Action::Crash(node) => {
                if let Phase::Telling(ending) = world.nodes[node].1 {
                    world.keep_late(self, ending);
                }
                world.nodes[node] = (world.nodes[node].0 + 1, Phase::Idle);
            }
            Action::LeaseEnds(row, epoch) => drop(world.outbox.live.remove(&(row, epoch))),
            Action::Rescue(row) => world.outbox.rescue(row),
            Action::Retry(row) => {
                world.hands -= 1;
                world.outbox.retry(self.fault, row);
            }
            Action::Cancel(row) => {
                world.hands -= 1;
                world.outbox.cancel(row);
            }
            Action::SeeCursor(caller) => world.seen[caller] = Some(world.outbox.cursor),
            Action::Advance(caller) => {
                let seen = world.seen[caller].take()?;
                world.outbox.advance(self.fault, seen);
            }
        }
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NEVER_LOST, |_, world: &World| {
                world
                    .outbox
                    .rows
                    .iter()
                    .all(|row| row.open.is_some() != row.ended.is_some())
            }),
            Property::always(GOES_ON, |model: &Self, world: &World| {
                (0..world.outbox.rows.len()).all(|row| world.goes_on(model, row))
            }),
            Property::always(OLD_ENDING, |_, world: &World| {
                !world.outbox.happened.old_ending_counted
            }),
            Property::always(ONE_EPOCH, |_, world: &World| {
                !world.outbox.happened.epoch_given_twice
            }),
            Property::always(ONE_LEASE, |_, world: &World| {
                !world.outbox.happened.two_live_leases
            }),
            Property::always(COUNTED_ONCE, |_, world: &World| {
                let says = |row: &Row| {
                    row.open
                        .map(|open| open.attempts)
                        .or(row.ended.map(|(_, attempts)| attempts))
                };
                world.outbox.attempts.values().all(|times| *times == 1)
                    && world
                        .outbox
                        .rows
                        .iter()
                        .all(|row| says(row).is_none_or(|n| n == row.tried))
            }),
            Property::always(REPLAYED_ONCE, |_, world: &World| {
                world.outbox.rows.len() <= 2
            }),
            Property::sometimes("an old ending is on its way", |_, world: &World| {
                world
                    .late
                    .iter()
                    .any(|ending| ending.epoch < world.outbox.rows[ending.row].newest)
            }),
            Property::sometimes("a lease is given back untried", |_, world: &World| {
                world.outbox.rows.iter().any(|row| {
                    row.tried == 0 && row.open.is_some_and(|open| !open.leased && open.epoch > 0)
                })
            }),
            Property::sometimes("the operator has done all", |_, world: &World| {
                world.hands == 0
            }),
            Property::sometimes("an event is replayed", |model: &Self, world: &World| {
                !model.replay || world.outbox.rows.len() == 2
            }),
        ]
    }

    fn within_boundary(&self, world: &World) -> bool {
        world
            .outbox
            .rows
            .iter()
            .all(|row| row.open.is_none_or(|open| open.epoch <= self.epoch_max))
    }
}

const NEVER_LOST: &str = "a delivery is open or ended, never both and never neither";
const GOES_ON: &str = "what is open can go on, whoever is gone";
const OLD_ENDING: &str = "an ending under an old epoch changes nothing";
const ONE_EPOCH: &str = "no epoch is given twice";
const ONE_LEASE: &str = "a delivery has one live lease at most";
const COUNTED_ONCE: &str = "each attempt is counted once";
const REPLAYED_ONCE: &str = "a replay makes each delivery once";

fn nodes_that_crash(fault: Fault) -> Protocol {
    Protocol {
        nodes: 2,
        lives: 2,
        hands: 1,
        replay: false,
        epoch_max: 3,
        late_max: 1,
        fault,
    }
}

fn nodes_and_an_operator(fault: Fault) -> Protocol {
    Protocol {
        nodes: 2,
        lives: 1,
        hands: 2,
        replay: false,
        epoch_max: 4,
        late_max: 1,
        fault,
    }
}

fn a_node_and_a_replay(fault: Fault) -> Protocol {
    Protocol {
        nodes: 1,
        lives: 2,
        hands: 1,
        replay: true,
        epoch_max: 2,
        late_max: 1,
        fault,
    }
}

fn holds(protocol: Protocol) {
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    eprintln!("{} states", checker.unique_state_count());
    assert!(checker.is_done());
    checker.assert_properties();
}

/// That a counterexample of this property is found.
fn is_caught(protocol: Protocol, property: &'static str) {
    let found = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    let checker = protocol.checker().finish_when(found).spawn_bfs().join();
    assert!(
        checker.discovery(property).is_some(),
        "the model does not see it"
    );
}

#[test]
fn whatever_the_order_a_delivery_is_made_and_counted() {
    holds(nodes_that_crash(Fault::None));
    holds(nodes_and_an_operator(Fault::None));
}

#[test]
fn whatever_the_order_a_replay_makes_each_delivery_once() {
    holds(a_node_and_a_replay(Fault::None));
}

#[test]
fn a_claim_that_keeps_the_epoch_is_seen() {
    is_caught(nodes_that_crash(Fault::ClaimKeepsEpoch), ONE_EPOCH);
}

#[test]
fn a_claim_that_forgets_what_it_saw_is_seen() {
    is_caught(nodes_that_crash(Fault::ClaimUnseen), ONE_LEASE);
}

#[test]
fn a_claim_that_takes_the_row_away_is_seen() {
    is_caught(nodes_that_crash(Fault::ClaimRemoves), NEVER_LOST);
}

#[test]
fn an_ending_without_its_epoch_is_seen() {
    is_caught(nodes_that_crash(Fault::EpochUnchecked), OLD_ENDING);
}

#[test]
fn an_ending_of_what_is_no_longer_leased_is_seen() {
    is_caught(nodes_that_crash(Fault::StateUnchecked), COUNTED_ONCE);
}

#[test]
fn a_release_that_counts_as_an_attempt_is_seen() {
    is_caught(nodes_that_crash(Fault::ReleaseCounts), COUNTED_ONCE);
}

#[test]
fn a_rescue_before_the_leases_end_is_seen() {
    is_caught(nodes_that_crash(Fault::RescueLive), ONE_LEASE);
}

#[test]
fn a_lease_that_nobody_rescues_is_seen() {
    is_caught(nodes_that_crash(Fault::NeverRescued), GOES_ON);
}

#[test]
fn a_retry_by_hand_that_starts_the_epochs_over_is_seen() {
    is_caught(nodes_and_an_operator(Fault::HandStartsOver), ONE_EPOCH);
}

#[test]
fn a_retry_by_hand_that_leaves_the_old_row_is_seen() {
    is_caught(nodes_and_an_operator(Fault::HandCopies), NEVER_LOST);
}

#[test]
fn a_retry_by_hand_that_counts_the_attempts_on_is_seen() {
    is_caught(
        nodes_and_an_operator(Fault::HandKeepsAttempts),
        COUNTED_ONCE,
    );
}

#[test]
fn a_replay_that_forgets_its_cursor_is_seen() {
    is_caught(a_node_and_a_replay(Fault::CursorUnchecked), REPLAYED_ONCE);
}
