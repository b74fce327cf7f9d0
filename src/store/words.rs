//! Decodes columns whose words are enums of `contract`. The schema's checks hold the columns to
//! these words.

use sqlx::{
    Decode, Postgres, Type,
    error::BoxDynError,
    postgres::{PgTypeInfo, PgValueRef},
};

use crate::contract::{AttemptOutcome, ConflictKind, DeliveryState, Mark, OnLost, StepState};

macro_rules! words {
    ($($name:ident),+) => {$(
        impl Type<Postgres> for $name {
            fn type_info() -> PgTypeInfo {
                <str as Type<Postgres>>::type_info()
            }

            fn compatible(kind: &PgTypeInfo) -> bool {
                <str as Type<Postgres>>::compatible(kind)
            }
        }

        impl<'r> Decode<'r, Postgres> for $name {
            fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
                let word = <&str as Decode<Postgres>>::decode(value)?;
                Self::parse(word).ok_or_else(|| format!("{word:?} is no {}", stringify!($name)).into())
            }
        }
    )+};
}

words!(
    AttemptOutcome,
    ConflictKind,
    DeliveryState,
    Mark,
    OnLost,
    StepState
);
