//! The rules that no compiler holds: imports point down, siblings do not know each other, functions
//! and files stay short, the client brings nothing of the service, and no file names a package
//! registry's host.

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/imports.rs"]
mod imports;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The modules by layer, lowest first. A module imports from lower layers alone, never from a
/// sibling.
const LAYERS: [&[&str]; 10] = [
    // The words of all: shapes alone.
    &["contract"],
    &[
        "settings",
        "clock",
        "chance",
        "shutdown",
        "telemetry",
        "postgres",
        "tail",
        "meters",
        "notices",
        "outbound",
        "event",
        "problem",
        "readiness",
    ],
    &["routing", "ids", "backoff", "port", "handoff"],
    &["store"],
    // Written with the store's connections.
    &["group_commit"],
    // Engines: what is decided.
    &["intake", "ledger", "delivery", "maintenance"],
    // Faces: what is asked and answered.
    &["http", "gateway"],
    &["node"],
    &["cli"],
    &["main"],
];

/// Where the crates of this workspace have their code.
const SOURCES: [&str; 3] = ["src", "clients/rust/src", "crates/scheme/src"];

/// The phases of `crates/scheme` from the lowest up: none uses one above it or beside it. All other
/// files there are the ground below them.
const SCHEME_LAYERS: [&[&str]; 5] = [
    &["locate"],
    &["keys"],
    &["plan"],
    &["verify", "sign"],
    &["fuzz", "mod"],
];

const FUNCTION_LINES_MAX: usize = 70;
/// A test tells one story from its beginning to its end, so it may be longer.
const TEST_LINES_MAX: usize = 160;
const FILE_LINES_MAX: usize = 500;

/// Split so that this file does not name them itself.
const REGISTRY_HOSTS: [(&str, &str); 9] = [
    ("crates", ".io"),
    ("registry.npmjs", ".org"),
    ("npmjs", ".com"),
    ("pypi", ".org"),
    ("pythonhosted", ".org"),
    ("repo.maven", ".apache"),
    ("maven", ".org/maven2"),
    ("proxy.golang", ".org"),
    ("rubygems", ".org"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder, as (path from the root, text); what is no text is left out.
fn files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            // What a package manager has put there is not ours.
            if path.ends_with("node_modules") || path.ends_with(".venv") {
                continue;
            }
            open.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if let Ok(text) = fs::read_to_string(&path) {
            found.push((
                path.strip_prefix(root()).unwrap().display().to_string(),
                text,
            ));
        }
    }
    found.sort();
    found
}

fn rust(folder: &str) -> Vec<(String, String)> {
    files(folder)
        .into_iter()
        .filter(|(name, _)| name.ends_with(".rs"))
        .collect()
}

fn sources() -> Vec<(String, String)> {
    SOURCES.iter().flat_map(|folder| rust(folder)).collect()
}

/// The module that a file of src/ belongs to: `src/http/ingress.rs` → `http`.
fn module(file: &str) -> &str {
    let rest = file.strip_prefix("src/").unwrap_or(file);
    rest.split_once('/')
        .map_or_else(|| rest.trim_end_matches(".rs"), |(module, _)| module)
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// The code with comments and the contents of strings blanked, line for line: what is left are
/// names, braces and punctuation.
fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match (chars[at], chars.get(at + 1)) {
            ('/', Some('/')) => until(&chars, at, |rest| rest[0] == '\n'),
            ('/', Some('*')) => until(&chars, at, |rest| rest.starts_with(&['*', '/'])) + 2,
            ('r', Some('"' | '#')) if at == 0 || !is_word(chars[at - 1]) => {
                raw_string_end(&chars, at)
            }
            ('"', _) => string_end(&chars, at),
            ('\'', Some('\\')) => until(&chars, at + 3, |rest| rest[0] == '\'') + 1,
            ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => at + 3,
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            let end = end.min(chars.len());
            out.extend(chars[at..end].iter().filter(|c| **c == '\n'));
            at = end;
        }
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn until(chars: &[char], from: usize, stop: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len())
        .find(|at| stop(&chars[*at..]))
        .unwrap_or(chars.len())
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut end = at + 1;
    while end < chars.len() && chars[end] != '"' {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    end + 1
}

/// The end of `r#"…"#`; the start where it is no string (a raw identifier).
fn raw_string_end(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return at;
    }
    let close: Vec<char> = std::iter::once('"')
        .chain(std::iter::repeat_n('#', hashes))
        .collect();
    until(chars, at + 2 + hashes, |rest| rest.starts_with(&close)) + close.len()
}

/// The modules that a file names through `crate::` (or `hookonce::` in the binary), in `use` trees
/// as in paths.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["crate::", "hookonce::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| is_word(c) || c == ':') {
                continue;
            }
            let rest = &code[at + root.len()..];
            match rest.trim_start().strip_prefix('{') {
                Some(tree) => found.extend(tree_heads(tree)),
                None => found.extend(head(rest)),
            }
        }
    }
    found
}

/// The first names in a `use` tree: `{a::b, c::{d, e}}` → a, c.
fn tree_heads(tree: &str) -> Vec<String> {
    let mut depth = 0;
    let mut heads = Vec::new();
    let mut item = String::new();
    for c in tree.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.extend(head(&std::mem::take(&mut item))),
            _ if depth == 0 => item.push(c),
            _ => {}
        }
    }
    heads.extend(head(&item));
    heads
}

fn head(path: &str) -> Option<String> {
    let name: String = path
        .trim_start()
        .chars()
        .take_while(|c| is_word(*c))
        .collect();
    (!name.is_empty()).then_some(name)
}

/// What is wrong with one file's imports.
fn import_faults(file: &str, text: &str) -> Vec<String> {
    let from = module(file);
    if from == "lib" {
        return Vec::new();
    }
    let Some(own) = layer(from) else {
        return vec![format!(
            "{file}: module {from} is in no layer: add it to LAYERS"
        )];
    };
    let fault = |to: String| {
        let theirs = layer(&to)?;
        let allowed = to == from || theirs < own;
        let direction = if theirs == own {
            "its sibling"
        } else {
            "the higher"
        };
        (!allowed).then(|| format!("{file}: {from} imports {direction} {to}"))
    };
    imports(&code_only(text))
        .into_iter()
        .filter_map(fault)
        .collect()
}

/// Functions of more than `most` lines, as (line, name, lines), from the line of `fn` to the closing
/// brace.
fn long_functions(text: &str, most: usize) -> Vec<(usize, String, usize)> {
    let code = code_only(text);
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let length = function_lines(&lines[start..]);
        if length > most {
            found.push((start + 1, name, length));
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    words.by_ref().find(|word| *word == "fn")?;
    head(words.next()?)
}

fn function_lines(lines: &[&str]) -> usize {
    let mut depth = 0_i32;
    for (at, line) in lines.iter().enumerate() {
        for c in line.chars() {
            match c {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => {
                    depth -= 1;
                    if depth == 0 && c == '}' {
                        return at + 1;
                    }
                }
                ';' if depth == 0 => return at + 1,
                _ => {}
            }
        }
    }
    lines.len()
}

#[test]
fn imports_point_down_and_siblings_do_not_know_each_other() {
    let files = rust("src");
    assert!(files.len() > 5, "src/ was not read");
    let faults: Vec<String> = files
        .iter()
        .flat_map(|(file, text)| import_faults(file, text))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let crates = [
        ("src", "hookonce"),
        ("clients/rust/src", "hookonce_client"),
        ("crates/scheme/src", "hookonce_scheme"),
    ];
    for (root, name) in crates {
        let files = rust(root);
        assert!(files.len() > 5, "{root} was not read");
        let found = circles::circles(root, name, &files);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

/// The packages that a crate of this workspace is built of, with their features: `("hyper v1.12.0",
/// "client,http1")`.
fn tree(package: &str) -> Vec<(String, String)> {
    let mut command = Command::new(env!("CARGO"));
    command.args([
        "tree",
        "--offline",
        "--locked",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}|{f}",
        "--package",
        package,
    ]);
    let output = command.current_dir(root()).output().expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    text.lines()
        .filter_map(|line| line.split_once('|'))
        .map(|(package, features)| (package.to_owned(), features.to_owned()))
        .collect()
}

#[test]
fn the_client_brings_no_server_no_sql_and_nothing_of_the_service() {
    const SERVICE: [&str; 9] = [
        "hookonce",
        "actix",
        "sqlx",
        "postgres",
        "axum",
        "clap",
        "config",
        "tracing-subscriber",
        "tikv",
    ];
    let packages = tree("hookonce-client");
    assert!(packages.len() > 50, "the tree was not read");
    let names = |packages: &[(String, String)]| {
        packages
            .iter()
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
    };
    let brought = names(&packages).into_iter().filter(|package| {
        let name = package.split(' ').next().unwrap_or_default();
        name != "hookonce-client" && SERVICE.iter().any(|word| name.starts_with(word))
    });
    assert_eq!(brought.collect::<Vec<_>>(), Vec::<String>::new());
    let serves = |features: &str| {
        features
            .split(',')
            .any(|feature| feature.starts_with("server"))
    };
    let servers: Vec<_> = packages
        .into_iter()
        .filter(|(_, features)| serves(features))
        .collect();
    assert_eq!(
        names(&servers),
        Vec::<String>::new(),
        "they are built with a server"
    );
    assert!(
        tree("hookonce")
            .iter()
            .any(|(package, _)| package.starts_with("sqlx ")),
        "the test sees what is there"
    );
}

#[test]
fn the_schemes_bring_no_server_no_sql_and_nothing_that_waits() {
    const SERVICE: [&str; 8] = [
        "hookonce", "actix", "hyper", "reqwest", "sqlx", "postgres", "tokio", "tracing",
    ];
    let packages = tree("hookonce-scheme");
    assert!(packages.len() > 50, "the tree was not read");
    let is_theirs =
        |name: &str| name != "hookonce-scheme" && SERVICE.iter().any(|word| name.starts_with(word));
    let names = packages
        .iter()
        .filter_map(|(package, _)| package.split(' ').next());
    assert_eq!(
        names.filter(|name| is_theirs(name)).collect::<Vec<_>>(),
        Vec::<&str>::new()
    );
}

#[test]
fn each_phase_of_a_scheme_stands_on_those_before_it() {
    let (root, name) = ("crates/scheme/src", "hookonce_scheme");
    let files = rust(root);
    assert!(files.len() > 30, "{root} was not read");
    let found = circles::upward(root, name, &files, &SCHEME_LAYERS);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Whether a file holds nothing but tests.
fn is_of_tests(file: &str) -> bool {
    let mut parts = file.trim_end_matches(".rs").split('/');
    parts.any(|part| part == "tests" || part.ends_with("_tests"))
}

#[test]
fn functions_are_short() {
    let files = [sources(), rust("tests")].concat();
    let faults = files.iter().flat_map(|(file, text)| {
        let most = match is_of_tests(file) {
            true => TEST_LINES_MAX,
            false => FUNCTION_LINES_MAX,
        };
        let long = long_functions(text, most).into_iter();
        long.map(move |(line, name, lines)| format!("{file}:{line}: {name} has {lines} lines"))
    });
    assert_eq!(faults.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn files_are_short() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|(file, text)| (file, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(file, lines)| format!("{file}: {lines} lines"))
        .collect();
    assert!(
        long.is_empty(),
        "over {FILE_LINES_MAX} lines:\n{}",
        long.join("\n")
    );
}

#[test]
fn each_file_says_what_it_is_for() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(file, _)| file)
        .collect();
    assert!(silent.is_empty(), "no //! at the top of {silent:?}");
}

#[test]
fn sql_is_in_the_store_alone() {
    let outside: Vec<String> = sources()
        .into_iter()
        .filter(|(file, text)| module(file) != "store" && has_sql(text))
        .map(|(file, _)| file)
        .collect();
    // The managed server makes its database before anything else can connect to it.
    assert_eq!(outside, ["src/postgres/server.rs"]);
}

/// Whether a statement is sent, by one of sqlx's functions and macros or as a text.
fn has_sql(text: &str) -> bool {
    let code = code_only(text);
    let calls = [
        "sqlx::query",
        "sqlx::raw_sql",
        "query!(",
        "query_as!(",
        "query_scalar!(",
        // With a text, of which nothing is left here.
        ".execute()",
        ".fetch_one()",
        ".fetch_optional()",
        ".fetch_all()",
    ];
    calls.iter().any(|call| code.contains(call))
}

#[test]
fn no_file_names_a_registrys_host() {
    let folders = [
        "src",
        "crates",
        "config",
        "tests",
        "migrations",
        ".ci",
        ".cargo",
        "docs",
        "clients",
        "examples",
    ];
    let mut all: Vec<(String, String)> = folders
        .iter()
        .filter(|folder| root().join(folder).exists())
        .flat_map(|folder| files(folder))
        .collect();
    for entry in fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
    {
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        // The lock file is cargo's: each of its lines names the registry that cargo itself is set
        // to.
        if name != "Cargo.lock" {
            all.extend(fs::read_to_string(&entry).ok().map(|text| (name, text)));
        }
    }
    assert!(all.len() > 10, "the project was not read");
    let named: Vec<String> = all
        .iter()
        .flat_map(|(file, text)| {
            REGISTRY_HOSTS
                .iter()
                .map(|(a, b)| format!("{a}{b}"))
                .filter(|host| text.contains(host))
                .map(move |host| format!("{file}: {host}"))
        })
        .collect();
    assert!(named.is_empty(), "{}", named.join("\n"));
}

#[test]
fn tests_that_the_documents_name_are_there() {
    let text = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let named: Vec<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.contains("::"))
        .collect();
    assert!(named.len() > 40, "the table was not read");
    let sources: BTreeMap<String, String> = rust("tests/it").into_iter().chain(sources()).collect();
    let missing = named.iter().filter(|name| {
        let (path, function) = name.rsplit_once("::").unwrap();
        let path = path.trim_end_matches("::tests").replace("::", "/");
        let mut folders = std::iter::once("tests/it").chain(SOURCES);
        let found = folders.find_map(|folder| sources.get(&format!("{folder}/{path}.rs")));
        !found.is_some_and(|text| text.contains(&format!("fn {function}()")))
    });
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&&str>::new());
}

/// The rows of the table below a heading of ARCHITECTURE.md, each with its cells.
fn table_below(heading: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text
        .split(heading)
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .unwrap_or_default();
    let rows = section
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1);
    let cells = |row: &str| {
        row.trim_matches('|')
            .split(" | ")
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    rows.map(cells).collect()
}

#[test]
fn each_rule_lives_where_the_document_says() {
    let rows = table_below("## Where a rule lives");
    assert_eq!(rows.len(), 8, "{rows:?}");
    let quoted = |cell: &str| {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for row in &rows {
        let (files, begin) = (quoted(&row[1]), quoted(&row[2]));
        // One word for all files, or one for each.
        assert!(begin.len() == 1 || begin.len() == files.len(), "{row:?}");
        for (at, file) in files.iter().enumerate() {
            let word = begin.get(at).unwrap_or(&begin[0]);
            let text = fs::read_to_string(root().join(file))
                .unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(code_only(&text).contains(word), "{file} has no {word}");
        }
    }
}

#[test]
fn each_of_twelve_words_is_explained_once() {
    let words: BTreeSet<String> = table_below("## Words")
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    assert_eq!(words.len(), 12, "{words:?}");
}

/// The numbers between the first and the last migration that no file has and the folder's README
/// does not name.
fn unexplained_gaps(names: &[&str], readme: &str) -> Vec<String> {
    let number = |name: &&str| {
        name.split_once('_')
            .filter(|(_, rest)| rest.ends_with(".sql"))?
            .0
            .parse::<u32>()
            .ok()
    };
    let used: BTreeSet<u32> = names.iter().filter_map(number).collect();
    let all = 1..=used.last().copied().unwrap_or(0);
    all.filter(|n| !used.contains(n))
        .map(|n| format!("{n:04}"))
        .filter(|n| !readme.contains(n.as_str()))
        .collect()
}

#[test]
fn gaps_in_the_migrations_numbers_are_explained() {
    let all = files("migrations");
    let names: Vec<&str> = all
        .iter()
        .filter_map(|(name, _)| name.strip_prefix("migrations/"))
        .collect();
    let readme = fs::read_to_string(root().join("migrations/README.md")).unwrap();
    assert!(names.len() > 5, "the migrations were not read");
    assert_eq!(
        unexplained_gaps(&names, &readme),
        Vec::<String>::new(),
        "say in migrations/README.md why there is none"
    );
    assert_eq!(
        unexplained_gaps(&["0001_a.sql", "0003_b.sql", "README.md"], ""),
        ["0002"]
    );
}

#[test]
fn the_test_sees_what_it_is_to_see() {
    assert!(has_sql("connection.execute(\"create table t ()\")") && !has_sql("command.execute(x)"));
    let faults = |file: &str, text: &str| import_faults(file, text).len();
    assert_eq!(
        faults(
            "src/store/inbox.rs",
            "use crate::{event::Key, http::error};"
        ),
        1
    );
    assert_eq!(
        faults("src/intake/receiver.rs", "fn f() { crate::delivery::go() }"),
        1
    );
    assert_eq!(
        faults(
            "src/http/ingress.rs",
            "use crate::{\n    event::{Key, TypeGlob},\n    store,\n};\n// crate::delivery\nconst S: &str = \"crate::cli\";"
        ),
        0
    );
    assert_eq!(
        faults("src/settings/load.rs", "use crate::clock::Clock;"),
        1
    );
    assert_eq!(faults("src/routing.rs", "use crate::event::TypeGlob;"), 0);
    assert_eq!(faults("src/unheard_of.rs", ""), 1);
    assert_eq!(
        imports("use crate::{a::{b, c}, d as e, f};")
            .into_iter()
            .collect::<Vec<_>>(),
        ["a", "d", "f"]
    );
    let long = format!(
        "fn short() {{}}\nfn long() {{\n{}}}\n",
        "    f('{', \"}\");\n".repeat(FUNCTION_LINES_MAX - 1)
    );
    assert_eq!(
        long_functions(&long, FUNCTION_LINES_MAX),
        [(2, "long".to_owned(), FUNCTION_LINES_MAX + 1)]
    );
    assert_eq!(
        code_only("a r#\"x \" } y\"# b '\\'' c /* } */ 'x' <'a> \"\\\"\" d"),
        "a  b  c   <'a>  d"
    );
}
