//! Finds the known name that was probably meant by an unknown one.

/// The known name nearest to a wrong one, if a slip of the hand leads from one to the other. At
/// most a third of its characters and one more may be inserted, removed, changed or swapped.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    near(wrong, known).into_iter().next()
}

/// All that are as near as that, the nearest first.
pub fn near<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let near = wrong.chars().count() / 3 + 1;
    let mut found: Vec<(usize, &str)> = known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, _)| *distance <= near)
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(|(_, name)| name).collect()
}
