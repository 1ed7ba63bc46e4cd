//! The rows of task and solution files: their shapes and their rules.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hothouse_domain::exec::check_seconds;
use hothouse_domain::{Invalid, Resources};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::verdict::Verdict;

/// Files by path, relative to `/workspace`.
pub(crate) type Files = BTreeMap<String, FileContent>;

/// A Python function and its tests: the shape of HumanEval. Other fields of such rows are ignored with a notice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(title = "function task")]
pub(crate) struct FunctionTask {
    /// Names the task. A number is taken as its text.
    #[serde(deserialize_with = "text_or_number")]
    pub(crate) task_id: String,
    /// The program's start, up to the body of the function. Functions that it defines completely may be used by the tests.
    pub(crate) prompt: String,
    /// The function that is tested.
    pub(crate) entry_point: String,
    /// Python that defines `check(candidate)`, which raises when the candidate is wrong. The candidate runs in another
    /// process: plain data goes in and comes out.
    pub(crate) test: String,
    /// What follows the prompt in the reference solution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) canonical_solution: Option<String>,
    /// What follows the prompt in the solution to score; preferred to `canonical_solution`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) completion: Option<String>,
    /// A whole program to score instead of `prompt + completion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) solution: Option<String>,
    /// Limits of this task.
    #[serde(default)]
    pub(crate) limits: Limits,
}

/// Any program and its tests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(title = "program task")]
#[serde(deny_unknown_fields)]
pub(crate) struct ProgramTask {
    /// Names the task. A number is taken as its text.
    #[serde(deserialize_with = "text_or_number")]
    pub(crate) task_id: String,
    /// Files that every solution gets; a solution's file with the same path wins.
    #[serde(default)]
    #[schema(inline)]
    pub(crate) files: Files,
    /// The solution to score when the solutions file has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(inline)]
    pub(crate) solution_files: Option<Files>,
    /// Where the text goes when a solution is given as `solution`, e.g. `main.py`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) solution_path: Option<String>,
    /// Run first, as an unprivileged user; must exit with 0. For compilers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) build: Option<Command>,
    /// How the program is run, as an unprivileged user: once per case, or once before `tests.command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<Command>,
    /// Standard input of `command` when there are no cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stdin: Option<String>,
    /// Runs of the program whose output is compared outside the sandbox. Either this or `tests`.
    #[serde(default)]
    pub(crate) cases: Vec<Case>,
    /// Hidden tests. Either this or `cases`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tests: Option<Tests>,
    /// Limits of this task.
    #[serde(default)]
    pub(crate) limits: Limits,
}

/// A file's content: its text, or an object for bytes and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum FileContent {
    /// Text.
    Text(String),
    /// Bytes or an executable file.
    Binary(BinaryFile),
}

/// A file that is not just text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BinaryFile {
    /// Its bytes in base64.
    pub(crate) base64: String,
    /// Whether it may be run.
    #[serde(default)]
    pub(crate) executable: bool,
}

impl FileContent {
    /// The bytes and the permission bits.
    pub(crate) fn bytes(&self) -> Result<(Vec<u8>, u32), String> {
        match self {
            Self::Text(text) => Ok((text.clone().into_bytes(), 0o644)),
            Self::Binary(file) => {
                let bytes = STANDARD.decode(&file.base64).map_err(|e| format!("is not base64: {e}"))?;
                Ok((bytes, if file.executable { 0o755 } else { 0o644 }))
            }
        }
    }
}

/// A program with its arguments, or a line for `/bin/sh -c`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Command {
    /// Program and arguments.
    Argv(Vec<String>),
    /// A command line for the shell.
    Shell(String),
}

/// One run of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// Standard input.
    #[serde(default)]
    pub(crate) stdin: String,
    /// Arguments after those of the command (which then is a list).
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// What it must print.
    pub(crate) expected_stdout: String,
    /// How it must exit.
    #[serde(default)]
    pub(crate) expected_exit_code: i32,
    /// How output is compared.
    #[serde(default)]
    pub(crate) compare: Compare,
}

/// How output is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Compare {
    /// Byte by byte.
    Exact,
    /// Line by line, blanks at the ends of lines and empty lines at the end left out.
    #[default]
    Lines,
    /// Word by word, whatever stands between them.
    Words,
}

/// Hidden tests: `python`, or `command` with `files`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tests {
    /// Python that imports functions from the solution's modules and raises when they are wrong. It runs in a process of its
    /// own; imported functions are called in another one, plain data goes in and comes out. Functions named `test…` are
    /// called after the text has run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) python: Option<String>,
    /// Modules of the solution that `python` may import; those of its top-level `.py` files when empty.
    #[serde(default)]
    pub(crate) modules: Vec<String>,
    /// Files that appear, readable for root alone, after the solution's processes are gone.
    #[serde(default)]
    #[schema(inline)]
    pub(crate) files: Files,
    /// Run as root in the directory of `files`; exit code 0 passes. Reads what the program printed on standard input,
    /// its exit code in `HOTHOUSE_EXIT_CODE`, its files under `/workspace`. Must not load the solution's code: run it
    /// with `setpriv --reuid=65534 --regid=65534 --clear-groups` instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<Command>,
}

/// Limits of one task; what is absent comes from the command line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// Wall time of each run, in seconds. 0.1 to 86,400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_s: Option<f64>,
    /// RAM and files in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory_bytes: Option<u64>,
    /// CPU time per wall time, in cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cpus: Option<f64>,
    /// Processes and threads at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pids: Option<u32>,
    /// Bytes that it may write to files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk_bytes: Option<u64>,
    /// Files that it may make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk_inodes: Option<u64>,
}

/// The limits of one attempt, all known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Bounds {
    pub(crate) timeout_s: f64,
    pub(crate) resources: Resources,
}

impl Limits {
    /// These limits over those of the command line.
    pub(crate) fn over(&self, base: &Bounds) -> Result<Bounds, Invalid> {
        let resources = Resources {
            cpus: self.cpus.unwrap_or(base.resources.cpus),
            memory_bytes: self.memory_bytes.unwrap_or(base.resources.memory_bytes),
            pids: self.pids.unwrap_or(base.resources.pids),
            disk_bytes: self.disk_bytes.unwrap_or(base.resources.disk_bytes),
            disk_inodes: self.disk_inodes.unwrap_or(base.resources.disk_inodes),
        };
        resources.validate()?;
        check_seconds("timeout_s", self.timeout_s, 0.1, 86_400.0)?;
        Ok(Bounds { timeout_s: self.timeout_s.unwrap_or(base.timeout_s), resources })
    }
}

/// One line of a solutions file. Several lines may have the same task; other fields are ignored with a notice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(title = "solution")]
pub(crate) struct SolutionRow {
    /// The task that it solves.
    #[serde(deserialize_with = "text_or_number")]
    pub(crate) task_id: String,
    /// What follows the prompt of a function task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) completion: Option<String>,
    /// A whole program: instead of prompt and completion, or the content of the task's `solution_path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) solution: Option<String>,
    /// The files of a program task's solution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(inline)]
    pub(crate) files: Option<Files>,
    /// The verdict or verdicts that it should get, for `--expect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expect: Option<Expect>,
    /// What it tries, for the table of `--expect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attack: Option<String>,
}

/// One verdict or several of which any will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Expect {
    /// This one.
    One(Verdict),
    /// Any of these.
    AnyOf(Vec<Verdict>),
}

impl From<Expect> for Vec<Verdict> {
    fn from(expect: Expect) -> Self {
        match expect {
            Expect::One(verdict) => vec![verdict],
            Expect::AnyOf(verdicts) => verdicts,
        }
    }
}

fn text_or_number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "task_id is neither a string nor a number")]
    enum Either {
        Text(String),
        Number(i64),
    }
    let text = match Either::deserialize(from)? {
        Either::Text(text) => text,
        Either::Number(number) => number.to_string(),
    };
    if text.is_empty() || text.len() > 512 {
        return Err(serde::de::Error::custom("task_id is empty or longer than 512 bytes"));
    }
    Ok(text)
}

/// Checks the paths and contents of files.
pub(crate) fn check_files(field: &str, files: &Files) -> Result<(), Invalid> {
    for (path, content) in files {
        let bad = |reason: String| Invalid::new(format!("{field}.{path:?}"), reason);
        let odd = |part: &str| matches!(part, "" | "." | "..");
        if path.len() > 1024 || path.contains('\0') || path.split('/').any(odd) {
            return Err(bad("is not a plain relative path: no leading '/', no '.', no '..'".to_owned()));
        }
        content.bytes().map_err(bad)?;
    }
    Ok(())
}

impl ProgramTask {
    /// Checks what serde cannot.
    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        check_files("files", &self.files)?;
        check_files("solution_files", self.solution_files.as_ref().unwrap_or(&Files::new()))?;
        if let Some(path) = &self.solution_path {
            let one = Files::from([(path.clone(), FileContent::Text(String::new()))]);
            check_files("solution_path", &one)?;
        }
        for (field, command) in [("build", &self.build), ("command", &self.command)] {
            check_command(field, command.as_ref())?;
        }
        match (&self.tests, self.cases.is_empty()) {
            (Some(_), false) => Err(Invalid::new("tests", "and cases are both given; give one of them")),
            (None, true) => Err(Invalid::new("cases", "and tests are both missing; give one of them")),
            (Some(tests), true) => self.validate_tests(tests),
            (None, false) => self.validate_cases(),
        }
    }

    fn validate_cases(&self) -> Result<(), Invalid> {
        if self.stdin.is_some() {
            return Err(Invalid::new("stdin", "is not used with cases; each case has its own"));
        }
        match &self.command {
            None => Err(Invalid::new("command", "is missing; cases need it")),
            Some(Command::Shell(_)) if self.cases.iter().any(|case| !case.args.is_empty()) => {
                Err(Invalid::new("command", "is a string; cases with args need a list"))
            }
            Some(_) => Ok(()),
        }
    }

    fn validate_tests(&self, tests: &Tests) -> Result<(), Invalid> {
        check_files("tests.files", &tests.files)?;
        check_command("tests.command", tests.command.as_ref())?;
        match (&tests.python, &tests.command) {
            (Some(_), Some(_)) => Err(Invalid::new("tests", "has both python and command; give one of them")),
            (None, None) => Err(Invalid::new("tests", "has neither python nor command; give one of them")),
            (Some(_), None) if !tests.files.is_empty() => {
                Err(Invalid::new("tests.files", "go with tests.command, not with tests.python"))
            }
            (Some(_), None) if self.command.is_some() || self.stdin.is_some() => {
                Err(Invalid::new("command", "and stdin are not used with tests.python"))
            }
            (None, Some(_)) if !tests.modules.is_empty() => {
                Err(Invalid::new("tests.modules", "go with tests.python, not with tests.command"))
            }
            (None, Some(_)) if self.stdin.is_some() && self.command.is_none() => {
                Err(Invalid::new("stdin", "needs command"))
            }
            (Some(_), None) | (None, Some(_)) => Ok(()),
        }
    }
}

fn check_command(field: &str, command: Option<&Command>) -> Result<(), Invalid> {
    let empty = match command {
        None => false,
        Some(Command::Argv(argv)) => argv.first().is_none_or(String::is_empty),
        Some(Command::Shell(line)) => line.trim().is_empty(),
    };
    if empty { Err(Invalid::new(field, "is empty; give a list or a line for the shell")) } else { Ok(()) }
}
