//! The clients in other languages, and libraries that call through a gateway: their own tests, run
//! against this build's binary. Where a language is missing its tests are shown as ignored, with the
//! reason, and don't fail; with HOOKONCE_CLIENT_TESTS=required they do.

#[path = "clients/stripe.rs"]
mod stripe;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use libtest_mimic::{Arguments, Failed, Trial};
use sha2::{Digest as _, Sha256};

/// Where the languages' packages are put, by their own tools and from these projects' own files.
fn work_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The end of a command: its last lines are the error.
fn run(command: &mut Command) -> Result<String, String> {
    let name = format!("{:?}", command.get_program());
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{name}: {}\n{text}", output.status))
    }
}

fn tool(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Is the program here, and new enough?
fn has(program: &str, arguments: &[&str]) -> Result<(), String> {
    run(&mut tool(program, arguments))
        .map(drop)
        .map_err(|error| error.lines().next().unwrap_or_default().to_owned())
}

/// Does the setup once for these files of this checkout, which it may point to: its stamp tells
/// when either has changed.
fn once(
    folder: &Path,
    files: &[&str],
    setup: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let mut hash = Sha256::new_with_prefix(root().as_os_str().as_encoded_bytes());
    for file in files {
        hash.update(fs::read(root().join(file)).map_err(|error| format!("{file}: {error}"))?);
    }
    let (stamp, wanted) = (folder.join("set-up"), hex::encode(hash.finalize()));
    if fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == wanted) {
        return Ok(());
    }
    let text = |error: std::io::Error| format!("{}: {error}", folder.display());
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).map_err(text)?;
    eprintln!("setting up {}", folder.display());
    setup()?;
    fs::write(&stamp, wanted).map_err(text)
}

const PYTHON_VERSION: &str =
    "import sys, venv, ensurepip; assert sys.version_info >= (3, 10), 'older than 3.10'";

/// A virtual environment with the Python client and what its tests need.
fn python() -> Result<PathBuf, String> {
    python_with("python", "test")
}

fn python_with(name: &str, extra: &str) -> Result<PathBuf, String> {
    has("python3", &["-c", PYTHON_VERSION])?;
    let folder = work_folder().join(name);
    let program = folder.join("venv/bin/python");
    once(&folder, &["clients/python/pyproject.toml"], || {
        run(tool("python3", &["-m", "venv", "venv"]).current_dir(&folder))?;
        let package = format!("{}[{extra}]", root().join("clients/python").display());
        run(&mut tool(
            &program,
            &[
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-e",
                &package,
            ],
        ))
        .map(drop)
    })?;
    Ok(program)
}

/// A virtual environment with the official SDK of the Model Context Protocol.
fn python_mcp() -> Result<PathBuf, String> {
    has("python3", &["-c", PYTHON_VERSION])?;
    let folder = work_folder().join("python-mcp");
    let program = folder.join("venv/bin/python");
    let wanted = "tests/mcp_requirements.txt";
    once(&folder, &[wanted], || {
        run(tool("python3", &["-m", "venv", "venv"]).current_dir(&folder))?;
        let mut install = tool(&program, &["-m", "pip", "install", "--quiet"]);
        install.args(["--disable-pip-version-check", "-r"]);
        run(install.arg(root().join(wanted))).map(drop)
    })?;
    Ok(program)
}

/// The adapters' libraries are large, and their examples are started many times: both take minutes,
/// and are done where they are asked for.
const ADAPTERS: &str = "HOOKONCE_ADAPTER_TESTS";
/// Begins the reason why tests were not run that nobody asked for.
const NOT_ASKED: &str = "not asked for: ";

/// A virtual environment with what the Python client has adapters for.
fn python_adapters() -> Result<PathBuf, String> {
    if std::env::var_os(ADAPTERS).is_none_or(|value| value.is_empty()) {
        return Err(format!("{NOT_ASKED}set {ADAPTERS}=1"));
    }
    python_with("python-adapters", "adapters-test")
}

const TOKEN: &str = "test-token";
const SIGNING_SECRET: &str = "whsec_aG9va29uY2UtY29uZm9ybWFuY2Utc2VjcmV0";
/// The handlers of the tests, each at a port of its own.
const HANDLERS: [&str; 3] = ["fastapi", "flask", "node"];

/// What the trials are told of the service.
struct Known {
    url: String,
    description: String,
}

static KNOWN: OnceLock<Known> = OnceLock::new();

/// One hookonce for all, with its own Postgres.
struct Service {
    process: Child,
    folder: tempfile::TempDir,
}

impl Service {
    fn start() -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("hookonce-clients-")
            .tempdir()
            .map_err(|error| error.to_string())?;
        let free_port = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr());
            listener.expect("a port").port()
        };
        let ports = HANDLERS.map(|name| (name, free_port()));
        let gateways = stripe::places(free_port);
        let config = config(&ports) + &stripe::config(&gateways);
        fs::write(folder.path().join("hookonce.toml"), config)
            .map_err(|error| error.to_string())?;
        let log = fs::File::create(folder.path().join("log")).map_err(|error| error.to_string())?;
        let process = in_folder(&folder, &["serve"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let service = Self {
            process: process.map_err(|error| error.to_string())?,
            folder,
        };
        let read =
            |name: &str| fs::read_to_string(service.folder.path().join(name)).unwrap_or_default();
        run(&mut in_folder(&service.folder, &["ready", "--wait", "60s"]))
            .map_err(|error| format!("{error}{}", read("log")))?;
        let url = format!("http://{}", read("data/admin.address").trim());
        let ports: serde_json::Map<_, _> = ports
            .into_iter()
            .map(|(name, port)| (name.to_owned(), port.into()))
            .collect();
        let description = serde_json::json!({ "url": url, "folder": service.folder.path(), "handler_ports": ports, "gateways": stripe::description(&gateways) }).to_string();
        KNOWN.get_or_init(|| Known { url, description });
        Ok(service)
    }
}

impl Drop for Service {
    /// Asks it to stop, as a service manager would, and waits: its Postgres goes with it.
    fn drop(&mut self) {
        let _ = run(Command::new("kill").arg(self.process.id().to_string()));
        let _ = self.process.wait();
    }
}

fn in_folder(folder: &tempfile::TempDir, arguments: &[&str]) -> Command {
    let mut command = tool(env!("CARGO_BIN_EXE_hookonce"), arguments);
    command
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
        .env("HOOKONCE_DATA_DIR", folder.path().join("data"))
        .env("HOOKONCE_TOKEN", TOKEN);
    command
}

fn config(ports: &[(&str, u16)]) -> String {
    let mut config = format!(
        "[ingress]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:0\"\ntoken = {TOKEN:?}\n"
    );
    config += "[relay]\npoll_interval = \"20ms\"\n";
    for (name, port) in ports {
        config += &format!(
            "[destinations.{name}]\nurl = \"http://127.0.0.1:{port}/webhooks\"\nsigning_secret = {SIGNING_SECRET:?}\n"
        );
        config += "retry = { base = \"10ms\", cap = \"100ms\" }\n";
        config += &format!(
            "[[routes]]\nsource = \"ledger\"\ntypes = [\"{name}.*\"]\ndestination = {name:?}\n"
        );
    }
    config
}

/// A command that finds the binary and the running service.
fn against_service(command: &mut Command) -> Result<(), Failed> {
    let service = KNOWN.get().expect("started before the trials");
    command
        .env("HOOKONCE_BIN", env!("CARGO_BIN_EXE_hookonce"))
        .env("HOOKONCE_TEST_SERVICE", &service.description);
    command
        .env("HOOKONCE_URL", &service.url)
        .env("HOOKONCE_TOKEN", TOKEN)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    run(command).map(drop).map_err(Failed::from)
}

/// A tool of the Python client, with its caches outside the sources.
fn in_python(program: &Path, arguments: &[&str]) -> Result<(), Failed> {
    let mut command = tool(program, arguments);
    against_service(
        command
            .current_dir(root().join("clients/python"))
            .env("MYPY_CACHE_DIR", work_folder().join("mypy")),
    )
}

const NODE_VERSION: &str =
    "if (Number(process.versions.node.split('.')[0]) < 20) throw new Error('older than 20')";
const TYPESCRIPT: [&str; 9] = [
    "package.json",
    "package-lock.json",
    ".npmrc",
    "build.mjs",
    "tsconfig.json",
    "tsconfig.cjs.json",
    "tsconfig.test.json",
    "src",
    "test",
];
/// Beside the client, with the libraries of its adapters.
const ADAPTER_FILES: [&str; 6] = [
    "package.json",
    "package-lock.json",
    ".npmrc",
    "link.mjs",
    "examples",
    "test",
];

/// A copy of the TypeScript client with its compiler: nothing is written among the sources.
fn typescript() -> Result<PathBuf, String> {
    has("node", &["-e", NODE_VERSION])?;
    has("npm", &["--version"])?;
    typescript_in("typescript")
}

/// Under this name: trials run beside each other, and each builds its own copy.
fn typescript_in(name: &str) -> Result<PathBuf, String> {
    let folder = work_folder().join(name);
    let (from, to) = (root().join("clients/typescript"), folder.clone());
    let files = [
        "clients/typescript/package.json",
        "clients/typescript/package-lock.json",
        "clients/typescript/.npmrc",
    ];
    once(&folder, &files, || {
        copy(&from, &to, &TYPESCRIPT[..3])?;
        run(tool("npm", &["ci", "--ignore-scripts"]).current_dir(&to)).map(drop)
    })?;
    let _ = fs::remove_dir_all(folder.join("dist"));
    copy(&from, &folder, &TYPESCRIPT)?;
    Ok(folder)
}

/// The MCP server of this build's binary, as the official Python SDK meets it.
fn mcp_serve(program: &Path) -> Result<(), Failed> {
    against_service(tool(program, &["mcp_serve.py"]).current_dir(root().join("tests")))
}

/// The adapters' tests and examples, in a copy of the TypeScript client. Their libraries are many
/// and large, so only where it is asked for.
fn typescript_adapters(client: &Result<PathBuf, String>) -> Result<PathBuf, String> {
    if std::env::var_os(ADAPTERS).is_none_or(|value| value.is_empty()) {
        return Err(format!("{NOT_ASKED}set {ADAPTERS}=1"));
    }
    client.clone()?;
    let (from, to) = (
        root().join("clients/typescript/adapters"),
        typescript_in("typescript-adapters")?.join("adapters"),
    );
    let files = [
        "clients/typescript/adapters/package.json",
        "clients/typescript/adapters/package-lock.json",
        "clients/typescript/adapters/.npmrc",
    ];
    once(&to, &files, || {
        copy(&from, &to, &ADAPTER_FILES[..3])?;
        run(tool("npm", &["ci", "--ignore-scripts"]).current_dir(&to)).map(drop)
    })?;
    let _ = fs::remove_dir_all(to.join("dist"));
    copy(&from, &to, &ADAPTER_FILES)?;
    Ok(to)
}

/// Copies files and folders, in the place of those that are there.
fn copy(from: &Path, to: &Path, names: &[&str]) -> Result<(), String> {
    for name in names {
        let _ = fs::remove_dir_all(to.join(name));
        run(tool("cp", &["-R"]).arg(from.join(name)).arg(to))?;
    }
    Ok(())
}

fn in_typescript(folder: &Path) -> Result<(), Failed> {
    let mut command = tool("npm", &["test"]);
    against_service(
        command
            .current_dir(folder)
            .env("HOOKONCE_CLIENTS", root().join("clients")),
    )
}

/// One of the examples, with its arguments; it fails where it does not show what it is to show.
fn example(program: &Path, arguments: &[&str]) -> Result<(), Failed> {
    against_service(tool(program, arguments).current_dir(root().join("examples")))
}

/// Set for the run of this program without any language, which must not do the same again.
const WITHOUT_LANGUAGES: &str = "HOOKONCE_CLIENT_TESTS_WITHOUT_LANGUAGES";

/// This very program where no language is: it says what it did not run, and fails where that is
/// asked for.
fn a_missing_language_is_said() -> Result<(), Failed> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = |value: &str| {
        let mut command = Command::new(&program);
        command
            .env("PATH", "")
            .env(WITHOUT_LANGUAGES, "1")
            .env("HOOKONCE_CLIENT_TESTS", value)
            .stdin(Stdio::null());
        command.output().map_err(|error| error.to_string())
    };
    for (value, must_pass) in [("", true), ("required", false)] {
        let output = output(value)?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() != must_pass {
            return Err(format!("HOOKONCE_CLIENT_TESTS={value}: {}\n{text}", output.status).into());
        }
        for name in [
            "python: tests",
            "python: mcp serve",
            "example: killed agent",
            "typescript: tests",
            "stripe's library for python",
            "stripe's library for node",
        ] {
            if !text.contains(&format!("{name}: NOT RUN: ")) {
                return Err(format!(
                    "HOOKONCE_CLIENT_TESTS={value} does not say that {name:?} was not run:\n{text}"
                )
                .into());
            }
        }
    }
    Ok(())
}

/// A trial where its setup succeeded; else one that is shown as ignored, or fails where all are
/// required.
fn trial<T>(name: &str, setup: &Result<T, String>, test: fn(&T) -> Result<(), Failed>) -> Trial
where
    T: Clone + Send + 'static,
{
    match setup.clone() {
        Ok(ready) => Trial::test(name, move || test(&ready)),
        Err(reason) => {
            let is_required = !reason.starts_with(NOT_ASKED)
                && std::env::var("HOOKONCE_CLIENT_TESTS").is_ok_and(|value| value == "required");
            let summary = reason.lines().next().unwrap_or_default().to_owned();
            eprintln!("{name}: NOT RUN: {reason}");
            Trial::test(format!("{name}: not run: {summary}"), move || {
                Err(reason.into())
            })
            .with_ignored_flag(!is_required)
        }
    }
}

fn main() {
    let arguments = Arguments::from_args();
    if arguments.list {
        libtest_mimic::run(&arguments, Vec::new()).exit();
    }
    let (python, python_mcp, typescript) = (python(), python_mcp(), typescript());
    let adapters = python_adapters();
    let typescript_adapters = typescript_adapters(&typescript);
    let (stripe_python, stripe_node) = (stripe::python(), stripe::node());
    let setups = [
        &python,
        &python_mcp,
        &adapters,
        &typescript_adapters,
        &typescript,
        &stripe_python,
        &stripe_node,
    ];
    let has_trials = setups.iter().any(|setup| setup.is_ok());
    let service = has_trials.then(|| {
        Service::start().unwrap_or_else(|error| panic!("no service for the tests: {error}"))
    });
    let mut trials = vec![
        trial("python: types", &python, |program| {
            in_python(program, &["-m", "mypy"])
        }),
        trial("python: tests", &python, |program| {
            in_python(program, &["-m", "pytest", "-p", "no:cacheprovider"])
        }),
        trial("python: adapters", &adapters, |program| {
            in_python(
                program,
                &["-m", "pytest", "-p", "no:cacheprovider", "adapters"],
            )
        }),
        trial("example: killed agent", &python, |program| {
            example(program, &["killed_agent.py"])
        }),
        trial(
            "example: killed agent, killed elsewhere",
            &python,
            |program| example(program, &["killed_agent.py", "2"]),
        ),
        trial(
            "example: killed agent, killed elsewhere again",
            &python,
            |program| example(program, &["killed_agent.py", "3"]),
        ),
        trial("example: loop agent", &python, |program| {
            example(program, &["loop_agent.py"])
        }),
        trial("example: queue consumer", &python, |program| {
            example(program, &["queue_consumer.py"])
        }),
        trial("example: payment gateway", &python, |program| {
            example(program, &["payment_gateway.py"])
        }),
        trial("python: mcp serve", &python_mcp, |program| {
            mcp_serve(program)
        }),
        trial("typescript: tests", &typescript, |folder| {
            in_typescript(folder)
        }),
        trial("stripe's library for python", &stripe_python, |program| {
            stripe::in_python(program)
        }),
        trial("stripe's library for node", &stripe_node, |folder| {
            stripe::in_node(folder)
        }),
        trial("typescript: adapters", &typescript_adapters, |folder| {
            in_typescript(folder)
        }),
    ];
    if std::env::var_os(WITHOUT_LANGUAGES).is_none() {
        trials.push(Trial::test(
            "a language that is missing is said to be",
            a_missing_language_is_said,
        ));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(service);
    conclusion.exit();
}
