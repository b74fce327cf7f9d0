//! Chance, all of it from here: secrets and names that nobody guesses, and jitter. What must be the
//! same in each run of a test takes a fraction, or a generator, as a parameter.

/// Bytes that nobody can guess, from a generator that the operating system has seeded.
#[expect(clippy::disallowed_methods, reason = "this is the source")]
pub fn bytes<const N: usize>() -> [u8; N] {
    rand::random()
}

/// A number of at least 0 and less than 1, each alike.
#[expect(clippy::disallowed_methods, reason = "this is the source")]
pub fn fraction() -> f64 {
    rand::random()
}
