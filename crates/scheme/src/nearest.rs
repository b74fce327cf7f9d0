//! Which known name was meant by one that is not known.

/// The known name nearest to a wrong one, where they are near enough for a slip of the hand: at
/// most a third of its characters and one more are inserted, removed, changed or swapped.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = wrong.chars().count() / 3 + 1;
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, _)| *distance <= near)
        .min()
        .map(|(_, name)| name)
}
