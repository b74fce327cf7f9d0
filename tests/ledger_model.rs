//! The claim protocol of the ledger as a model, every order of events tried: workers that pause,
//! crash and start again, leases that end at any moment, answers that are lost, calls that arrive
//! late or twice, holders who abandon, sweeps, somebody who resolves. Broken variants show that the model can see.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model, Property};

/// What an implementation might get wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// Who takes a lost step over gets the fence of who lost it.
    FenceStays,
    /// A completion counts whatever its fence.
    FenceUnchecked,
    /// A step that is to be held is given to the next, as one to be retried.
    HoldIsRetried,
    /// The next holder is given an effect key of its own.
    NewEffectKey,
    /// Who has abandoned a step may still complete it: it is free for the next under the old fence.
    AbandonKeepsHolder,
    /// The sweep makes a step unknown whose lease has not ended.
    SweepIsEarly,
    /// The sweep tells of a step once more that it has told of.
    ToldAgain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Life {
    worker: u8,
    life: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Call {
    Claim,
    Complete(u8),
    Release(u8),
    /// The holder stops and does not know the outcome.
    Abandon(u8),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Granted(u8),
    Ended,
    Busy,
    Accepted,
    Stale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Running {
        live: bool,
    },
    /// Whether the event that says so is written.
    Unknown {
        told: bool,
    },
    Released,
    /// Free for the next; its holder may have executed it.
    Abandoned,
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Step {
    state: State,
    fence: u8,
    holder: Life,
    effect_key: Life,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    /// A call is on its way, or its answer was lost: it is sent again until there is one.
    Calling(Call),
    Holding(u8),
    /// The effect has happened; nobody has been told.
    Worked(u8),
    Finished,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    step: Option<Step>,
    workers: Vec<(u8, Phase)>,
    /// Calls of whoever no longer listens, which may still arrive, any number of times.
    late: BTreeSet<(Life, Call)>,
    effects: u8,
    /// Fences whose completion was accepted.
    accepted: BTreeSet<u8>,
    /// Fence, who holds it, and with which effect key: everything that was ever granted.
    grants: BTreeSet<(u8, Life, Life)>,
    /// Fences of which an event has said that their outcome is unknown.
    told: Vec<u8>,
    fence_fell: bool,
    /// The sweep took a step from a holder whose lease had not ended.
    taken_early: bool,
    /// A completion was accepted from a fence that another had overtaken.
    stale_accepted: bool,
    stale_refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Begin(usize, Call),
    Work(usize),
    Arrive {
        worker: usize,
        answer_lost: bool,
    },
    ArriveLate(Life, Call),
    Crash(usize),
    LeaseEnds,
    /// A sweep of any node: what is lost becomes unknown, with its event, in one statement.
    Sweep,
    Resolve {
        executed: bool,
    },
}

struct Protocol {
    workers: u8,
    lives: u8,
    hold: bool,
    fence_max: u8,
    /// Calls that the network may keep for later.
    late_max: usize,
    fault: Fault,
}

impl World {
    /// What the ledger's statements decide. `hold` is what the holder asked for.
    fn serve(&mut self, protocol: &Protocol, from: Life, call: Call) -> Answer {
        let before = self.step.as_ref().map_or(0, |step| step.fence);
        let answer = match call {
            Call::Claim => self.claim(protocol, from),
            Call::Complete(fence) => self.complete(protocol, fence),
            Call::Release(fence) => match &mut self.step {
                Some(step)
                    if step.fence == fence && matches!(step.state, State::Running { .. }) =>
                {
                    step.state = State::Released;
                    Answer::Accepted
                }
                Some(step) if step.fence == fence && step.state == State::Released => {
                    Answer::Accepted
                }
                _ => Answer::Stale,
            },
            Call::Abandon(fence) => self.abandon(protocol, fence),
        };
        self.fence_fell |= self.step.as_ref().map_or(0, |step| step.fence) < before;
        self.stale_refused |= answer == Answer::Stale;
        if let Answer::Granted(fence) = answer {
            let key = self.step.as_ref().expect("granted").effect_key;
            self.grants.insert((fence, from, key));
        }
        answer
    }

    fn claim(&mut self, protocol: &Protocol, from: Life) -> Answer {
        let Some(step) = &mut self.step else {
            self.step = Some(Step {
                state: State::Running { live: true },
                fence: 1,
                holder: from,
                effect_key: from,
            });
            return Answer::Granted(1);
        };
        match step.state {
            State::Done => return Answer::Ended,
            State::Unknown { .. } => return Answer::Busy,
            State::Running { live: true } if step.holder == from => {
                return Answer::Granted(step.fence);
            }
            State::Running { live: true } => return Answer::Busy,
            State::Running { live: false }
                if protocol.hold && protocol.fault != Fault::HoldIsRetried =>
            {
                step.state = State::Unknown { told: false };
                return Answer::Busy;
            }
            State::Running { live: false } | State::Released | State::Abandoned => {}
        }
        step.state = State::Running { live: true };
        step.holder = from;
        if protocol.fault != Fault::FenceStays {
            step.fence += 1;
        }
        if protocol.fault == Fault::NewEffectKey {
            step.effect_key = from;
        }
        Answer::Granted(step.fence)
    }

    fn complete(&mut self, protocol: &Protocol, fence: u8) -> Answer {
        let Some(step) = &mut self.step else {
            return Answer::Stale;
        };
        let is_mine = step.fence == fence || protocol.fault == Fault::FenceUnchecked;
        match step.state {
            State::Abandoned if is_mine && protocol.fault == Fault::AbandonKeepsHolder => {
                step.state = State::Done;
                self.stale_accepted = true;
                Answer::Accepted
            }
            State::Running { .. } if is_mine => {
                step.state = State::Done;
                self.stale_accepted |= step.fence != fence;
                self.accepted.insert(fence);
                Answer::Accepted
            }
            // The repeat of the completion that counted.
            State::Done if self.accepted.contains(&fence) => Answer::Accepted,
            _ => Answer::Stale,
        }
    }

    fn abandon(&mut self, protocol: &Protocol, fence: u8) -> Answer {
        match &mut self.step {
            Some(step) if step.fence == fence && matches!(step.state, State::Running { .. }) => {
                step.state = if protocol.hold {
                    State::Unknown { told: false }
                } else {
                    State::Abandoned
                };
                Answer::Accepted
            }
            // The repeat of the call.
            Some(step)
                if step.fence == fence
                    && matches!(step.state, State::Unknown { .. } | State::Abandoned) =>
            {
                Answer::Accepted
            }
            _ => Answer::Stale,
        }
    }

    /// Whether a sweep has something to do.
    fn is_lost(&self, protocol: &Protocol) -> bool {
        self.step.as_ref().is_some_and(|step| match step.state {
            State::Unknown { told } => !told || protocol.fault == Fault::ToldAgain,
            State::Running { live } => {
                protocol.hold && (!live || protocol.fault == Fault::SweepIsEarly)
            }
            _ => false,
        })
    }

    fn sweep(&mut self) {
        let step = self.step.as_mut().expect("lost");
        self.taken_early |= step.state == (State::Running { live: true });
        step.state = State::Unknown { told: true };
        // More than two of a fence tell no more than two do.
        if self.told.iter().filter(|told| **told == step.fence).count() < 2 {
            self.told.push(step.fence);
        }
    }

    fn life(&self, worker: usize) -> Life {
        Life {
            worker: u8::try_from(worker).expect("few workers"),
            life: self.workers[worker].0,
        }
    }

    /// The worker has its answer; its call may be in the network a second time.
    fn hear(&mut self, protocol: &Protocol, worker: usize, call: Call, answer: Answer) {
        self.keep_late(protocol, worker, call);
        self.workers[worker].1 = match (call, answer) {
            (Call::Claim, Answer::Granted(fence)) => Phase::Holding(fence),
            (Call::Claim, Answer::Busy) => Phase::Idle,
            _ => Phase::Finished,
        };
    }

    fn keep_late(&mut self, protocol: &Protocol, worker: usize, call: Call) {
        if self.late.len() < protocol.late_max {
            self.late.insert((self.life(worker), call));
        }
    }

    /// Whether anybody may still execute the step under this fence.
    fn may_still_work(&self, fence: u8) -> bool {
        let holds = |(index, (_, phase)): (usize, &(u8, Phase))| match phase {
            Phase::Holding(held) => *held == fence,
            Phase::Calling(Call::Claim) => self
                .step
                .as_ref()
                .is_some_and(|step| step.holder == self.life(index)),
            _ => false,
        };
        self.workers.iter().enumerate().any(holds)
    }

    fn resolve(&mut self, executed: bool) {
        let step = self.step.as_mut().expect("lost");
        step.state = if executed {
            State::Done
        } else {
            State::Released
        };
        step.fence += 1;
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            step: None,
            workers: vec![(0, Phase::Idle); usize::from(self.workers)],
            late: BTreeSet::new(),
            effects: 0,
            accepted: BTreeSet::new(),
            grants: BTreeSet::new(),
            told: Vec::new(),
            fence_fell: false,
            taken_early: false,
            stale_accepted: false,
            stale_refused: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (worker, (life, phase)) in world.workers.iter().enumerate() {
            match phase {
                Phase::Idle => actions.push(Action::Begin(worker, Call::Claim)),
                Phase::Calling(call) => {
                    actions.extend([false, true].map(|answer_lost| Action::Arrive {
                        worker,
                        answer_lost,
                    }));
                    // Who is cancelled while it completes abandons; its completion may come later.
                    if let Call::Complete(fence) = call {
                        actions.push(Action::Begin(worker, Call::Abandon(*fence)));
                    }
                }
                Phase::Holding(fence) => actions.extend([
                    Action::Work(worker),
                    Action::Begin(worker, Call::Release(*fence)),
                    Action::Begin(worker, Call::Abandon(*fence)),
                ]),
                Phase::Worked(fence) => actions.extend([
                    Action::Begin(worker, Call::Complete(*fence)),
                    Action::Begin(worker, Call::Abandon(*fence)),
                ]),
                Phase::Finished => {}
            }
            if life + 1 < self.lives && !matches!(phase, Phase::Idle | Phase::Finished) {
                actions.push(Action::Crash(worker));
            }
        }
        actions.extend(
            world
                .late
                .iter()
                .map(|(life, call)| Action::ArriveLate(*life, *call)),
        );
        let Some(step) = &world.step else { return };
        if step.state == (State::Running { live: true }) {
            actions.push(Action::LeaseEnds);
        }
        if world.is_lost(self) {
            actions.push(Action::Sweep);
        }
        if matches!(
            step.state,
            State::Unknown { .. } | State::Running { live: false }
        ) {
            // Who resolves knows: the effect happened, or it did not and no holder is left who
            // could still cause it.
            if world.effects > 0 {
                actions.push(Action::Resolve { executed: true });
            } else if !world.may_still_work(step.fence) {
                actions.push(Action::Resolve { executed: false });
            }
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Begin(worker, call) => {
                if let Phase::Calling(given_up) = world.workers[worker].1 {
                    world.keep_late(self, worker, given_up);
                }
                world.workers[worker].1 = Phase::Calling(call);
            }
            Action::Work(worker) => {
                let Phase::Holding(fence) = world.workers[worker].1 else {
                    return None;
                };
                world.workers[worker].1 = Phase::Worked(fence);
                world.effects += 1;
            }
            Action::Arrive {
                worker,
                answer_lost,
            } => {
                let Phase::Calling(call) = world.workers[worker].1 else {
                    return None;
                };
                let answer = world.serve(self, world.life(worker), call);
                if !answer_lost {
                    world.hear(self, worker, call, answer);
                }
            }
            Action::ArriveLate(from, call) => {
                world.serve(self, from, call);
            }
            Action::Crash(worker) => {
                if let Phase::Calling(call) = world.workers[worker].1 {
                    world.keep_late(self, worker, call);
                }
                world.workers[worker] = (world.workers[worker].0 + 1, Phase::Idle);
            }
            Action::LeaseEnds => world.step.as_mut()?.state = State::Running { live: false },
            Action::Sweep => world.sweep(),
            Action::Resolve { executed } => world.resolve(executed),
        }
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "at most one effect under hold",
                |model: &Self, world: &World| !model.hold || world.effects <= 1,
            ),
            Property::always("one completion counts", |_, world: &World| {
                world.accepted.len() <= 1
            }),
            Property::always("a stale completion never counts", |_, world: &World| {
                !world.stale_accepted
            }),
            Property::always("the fence only grows", |_, world: &World| !world.fence_fell),
            Property::always("a fence has one holder", |_, world: &World| {
                world
                    .grants
                    .iter()
                    .all(|a| world.grants.iter().all(|b| a.0 != b.0 || a.1 == b.1))
            }),
            Property::always("the effect key stays", |_, world: &World| {
                world
                    .grants
                    .iter()
                    .map(|grant| grant.2)
                    .collect::<BTreeSet<_>>()
                    .len()
                    <= 1
            }),
            Property::always("a lease that has not ended counts", |_, world: &World| {
                !world.taken_early
            }),
            Property::always("an unknown outcome is told once", |_, world: &World| {
                let told: BTreeSet<&u8> = world.told.iter().collect();
                told.len() == world.told.len()
            }),
            Property::sometimes(
                "an unknown outcome is told",
                |model: &Self, world: &World| !model.hold || !world.told.is_empty(),
            ),
            Property::sometimes("a step is done", |_, world: &World| {
                !world.accepted.is_empty()
            }),
            Property::sometimes("a stale call is refused", |_, world: &World| {
                world.stale_refused
            }),
            Property::sometimes("a step is taken over", |_, world: &World| {
                world.grants.iter().any(|grant| grant.0 > 1)
            }),
        ]
    }

    fn within_boundary(&self, world: &World) -> bool {
        world
            .step
            .as_ref()
            .is_none_or(|step| step.fence <= self.fence_max)
    }
}

fn protocol(workers: u8, lives: u8, hold: bool, fault: Fault) -> Protocol {
    Protocol {
        workers,
        lives,
        hold,
        fence_max: 3,
        late_max: 2,
        fault,
    }
}

/// Whether a counterexample of this property is found.
fn is_caught(hold: bool, fault: Fault, property: &'static str) -> bool {
    let found = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    protocol(2, 2, hold, fault)
        .checker()
        .finish_when(found)
        .spawn_bfs()
        .join()
        .discovery(property)
        .is_some()
}

#[test]
fn whatever_the_order_the_protocol_holds() {
    for hold in [true, false] {
        for (workers, lives) in [(2, 2), (3, 1)] {
            let checker = protocol(workers, lives, hold, Fault::None)
                .checker()
                .spawn_bfs()
                .join();
            eprintln!(
                "{workers} workers, {lives} lives, hold {hold}: {} states",
                checker.unique_state_count()
            );
            assert!(checker.is_done());
            checker.assert_properties();
        }
    }
}

#[test]
fn the_model_sees_what_is_broken() {
    for (hold, fault, property) in [
        (false, Fault::FenceStays, "a fence has one holder"),
        (
            false,
            Fault::FenceUnchecked,
            "a stale completion never counts",
        ),
        (true, Fault::HoldIsRetried, "at most one effect under hold"),
        (false, Fault::NewEffectKey, "the effect key stays"),
        (
            false,
            Fault::AbandonKeepsHolder,
            "a stale completion never counts",
        ),
        (
            true,
            Fault::SweepIsEarly,
            "a lease that has not ended counts",
        ),
        (true, Fault::ToldAgain, "an unknown outcome is told once"),
    ] {
        assert!(is_caught(hold, fault, property), "{fault:?}");
    }
}
