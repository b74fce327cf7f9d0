//! The only source of chance: secrets and names that nobody can guess, and jitter. Code that a test
//! has to repeat takes a fraction or a generator as a parameter instead.

/// Bytes that nobody can guess, from a generator that the operating system has seeded.
#[expect(clippy::disallowed_methods, reason = "this is the source")]
pub fn bytes<const N: usize>() -> [u8; N] {
    rand::random()
}

/// A uniform number in 0..1.
#[expect(clippy::disallowed_methods, reason = "this is the source")]
pub fn fraction() -> f64 {
    rand::random()
}
