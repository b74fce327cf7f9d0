//! Words of the API as values of arguments: they are listed where one is wrong, and completed.

use clap::{ValueEnum, builder::PossibleValue};

use crate::contract::{DeliveryState, ReplayStatus, Scope, StepOutcome, StepState};

macro_rules! values {
    ($($name:ident),+) => {$(
        impl ValueEnum for $name {
            fn value_variants<'a>() -> &'a [Self] {
                Self::ALL
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                Some(PossibleValue::new(self.as_str()))
            }
        }
    )+};
}

values!(DeliveryState, ReplayStatus, StepState);

impl ValueEnum for StepOutcome {
    fn value_variants<'a>() -> &'a [Self] {
        Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let value = PossibleValue::new(self.as_str());
        Some(match self {
            Self::Done | Self::Failed => value,
            Self::NotExecuted => value.help("It may be claimed again"),
        })
    }
}

impl ValueEnum for Scope {
    fn value_variants<'a>() -> &'a [Self] {
        Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Read => "Look at everything",
            Self::Operate => "And retry, replay, pause, cancel; the ledger too",
            Self::Admin => "And prune, and manage tokens",
            Self::Ledger => "Claim and complete steps, dedup; nothing else",
        };
        Some(PossibleValue::new(self.as_str()).help(help))
    }
}
