//! The rules of the statements in src/store: what several of them say alike is written in one
//! place, and only one folder changes deliveries.
//!
//! A checked statement is one literal or one file, so nothing can be put together from parts. A
//! part that several statements share is a file of src/store/blocks; each statement has its text
//! between `-- begin NAME` and `-- end NAME`. After a change of a block: HOOKONCE_WRITE_SQL=1 cargo
//! test --test sql

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const STORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store");

/// All files of the store that end so, as (path below the store, text).
fn files(extension: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(STORE)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .expect("a folder")
                    .map(|entry| entry.expect("an entry").path()),
            );
        } else if path.extension().is_some_and(|found| found == extension) {
            let text = fs::read_to_string(&path).expect("a text");
            found.push((
                path.strip_prefix(STORE)
                    .expect("below the store")
                    .to_owned(),
                text,
            ));
        }
    }
    found.sort();
    assert!(!found.is_empty(), "src/store was not read");
    found
}

fn is_block(path: &Path) -> bool {
    path.starts_with("blocks")
}

/// The blocks by name.
fn blocks() -> BTreeMap<String, String> {
    let name = |path: &Path| {
        path.file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    };
    files("sql")
        .into_iter()
        .filter(|(path, _)| is_block(path))
        .map(|(path, text)| (name(&path), text))
        .collect()
}

/// The statement with each block as it is in `blocks`, indented as its marker is; which blocks it
/// has.
fn with_blocks(
    statement: &str,
    blocks: &BTreeMap<String, String>,
) -> Result<(String, Vec<String>), String> {
    let (mut text, mut names) = (String::new(), Vec::new());
    let mut lines = statement.lines();
    while let Some(line) = lines.next() {
        text += &format!("{line}\n");
        let Some((indent, name)) = line.split_once("-- begin ") else {
            continue;
        };
        let block = blocks
            .get(name)
            .ok_or(format!("there is no block {name}"))?;
        text.extend(block.lines().map(|line| format!("{indent}{line}\n")));
        let end = format!("{indent}-- end {name}");
        lines
            .find(|line| *line == end)
            .ok_or(format!("the block {name} has no end"))?;
        text += &format!("{end}\n");
        names.push(name.to_owned());
    }
    Ok((text, names))
}

#[test]
fn what_statements_share_is_the_same_in_all() {
    let blocks = blocks();
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    let mut faults = Vec::new();
    for (path, text) in files("sql").into_iter().filter(|(path, _)| !is_block(path)) {
        let (expected, names) = with_blocks(&text, &blocks)
            .unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
        names
            .into_iter()
            .for_each(|name| *uses.entry(name).or_default() += 1);
        if expected == text {
            continue;
        }
        if std::env::var_os("HOOKONCE_WRITE_SQL").is_some() {
            fs::write(Path::new(STORE).join(&path), expected).expect("the statement");
        } else {
            faults.push(path);
        }
    }
    assert!(
        faults.is_empty(),
        "a block is not as in src/store/blocks; HOOKONCE_WRITE_SQL=1 writes it: {faults:?}"
    );
    let lonely: Vec<&String> = blocks
        .keys()
        .filter(|name| uses.get(*name).is_none_or(|uses| *uses < 2))
        .collect();
    assert!(
        lonely.is_empty(),
        "blocks that fewer than two statements have: {lonely:?}"
    );
}

#[test]
fn a_block_that_differs_is_seen() {
    let blocks = BTreeMap::from([("b".to_owned(), "from t\nwhere x\n".to_owned())]);
    let whole = "select 1\n  -- begin b\n  from t\n  where x\n  -- end b\nlimit 1\n";
    assert_eq!(
        with_blocks(whole, &blocks),
        Ok((whole.to_owned(), vec!["b".to_owned()]))
    );
    let other = whole.replace("where x", "where y");
    assert_eq!(
        with_blocks(&other, &blocks),
        Ok((whole.to_owned(), vec!["b".to_owned()]))
    );
    assert!(with_blocks("-- begin c\n-- end c\n", &blocks).is_err());
    assert!(with_blocks("-- begin b\nfrom t\n", &blocks).is_err());
}

/// Each statement file is run by a Rust file of the store.
#[test]
fn no_statement_is_left_over() {
    let code: String = files("rs").into_iter().map(|(_, text)| text).collect();
    let statements = files("sql").into_iter().filter(|(path, _)| !is_block(path));
    let unused: Vec<PathBuf> = statements
        .map(|(path, _)| path)
        .filter(|path| !code.contains(&format!("\"src/store/{}\"", path.display())))
        .collect();
    assert!(unused.is_empty(), "{unused:?}");
}

/// What changes deliveries, or writes one down.
const CHANGES: [&str; 6] = [
    "update outbox",
    "delete from outbox",
    "insert into outbox",
    "delete from delivery_ended",
    "insert into delivery_ended",
    "insert into attempt",
];

/// The changes of deliveries in a text that are not in a block.
fn changes(text: &str) -> Vec<&'static str> {
    let empty: BTreeMap<String, String> = blocks()
        .into_keys()
        .map(|name| (name, String::new()))
        .collect();
    let bare = with_blocks(text, &empty).map_or(text.to_owned(), |(text, _)| text);
    CHANGES
        .into_iter()
        .filter(|change| bare.contains(change))
        .collect()
}

/// All changes of a delivery are in its folder; its birth, which other statements have in them, is
/// a block.
#[test]
fn deliveries_are_changed_in_one_room() {
    let all = [files("rs"), files("sql")].concat();
    let outside = all
        .into_iter()
        .filter(|(path, _)| !path.starts_with("delivery") && !is_block(path));
    let faults: Vec<_> = outside
        .map(|(path, text)| (path, changes(&text)))
        .filter(|(_, changes)| !changes.is_empty())
        .collect();
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(
        changes("with a as (update outbox set x = 1)"),
        ["update outbox"]
    );
    assert!(changes("-- begin born\ninsert into outbox\n-- end born\n").is_empty());
}

/// A statement over this many lines is a file.
const LINES_MAX: usize = 20;

#[test]
fn long_statements_are_files() {
    let mut long = Vec::new();
    for (path, text) in files("rs") {
        let statements = text
            .split("r#\"")
            .skip(1)
            .filter_map(|rest| rest.split("\"#").next());
        long.extend(
            statements
                .map(|statement| statement.lines().count())
                .filter(|lines| *lines > LINES_MAX)
                .map(|lines| (path.clone(), lines)),
        );
    }
    assert!(long.is_empty(), "over {LINES_MAX} lines: {long:?}");
}
