//! Judging any program.
//!
//! Whatever the solution wrote runs as an unprivileged user. With `cases` its output is compared in this process. With
//! `tests.command` the hidden files appear only after every process of the solution is gone, in a directory with a name
//! that it could not guess and that only root may enter, and the command's exit code is the verdict.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hothouse_domain::exec::MAX_OUTPUT_LIMIT;
use hothouse_domain::{ErrorCode, ExecSpec, Outcome, Usage};

use super::compare::difference;
use super::feed::{self, Ran};
use super::plan::Solution;
use super::python::{Harness, Job, describe};
use super::row::{Bounds, Case, Command, Files, ProgramTask, Tests};
use super::verdict::{Judgement, Verdict};
use crate::failure::Failure;
use crate::place::SandboxHandle;

const ONE_USER: &str = "needs a sandbox with more than one user, to keep the tests from the solution; \
                        `hothouse doctor` says how to get one";
const WORKSPACE: &str = "/workspace";
/// Whom untrusted programs run as.
const NOBODY: &str = "65534:65534";
/// Exits with 97 when there is a process beside PID 1 and the shell: the kernel answers for all at once.
const PROCESSES: &str = "kill -0 -1 2>/dev/null && exit 97\n";
/// How long children of a program that has ended may take to end too.
const MOMENT: Duration = Duration::from_millis(250);
/// Bytes of each output in a result.
const EXCERPT: usize = 4096;

/// Whom a solution's programs run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Users {
    /// An unprivileged user of the sandbox.
    Apart,
    /// The sandbox has one user only: the node was started by an ordinary user without a range of ids.
    OnlyRoot,
}

/// One attempt at a program task, in its sandbox.
#[derive(Debug)]
pub(super) struct Trial<'a> {
    pub(super) sandbox: &'a SandboxHandle,
    pub(super) task: &'a ProgramTask,
    pub(super) solution: &'a Solution,
    pub(super) bounds: &'a Bounds,
    pub(super) users: Users,
    /// For `tests.python`.
    pub(super) harness: Option<&'a Harness>,
}

/// A step that went well, or the verdict.
type Step<T> = Result<Result<T, Judgement>, Failure>;

macro_rules! step {
    ($step:expr) => {
        match $step? {
            Ok(value) => value,
            Err(judgement) => return Ok(judgement),
        }
    };
}

impl Users {
    /// Finds out in a sandbox that never sees a solution.
    pub(super) async fn of(sandbox: &SandboxHandle) -> Result<Self, Failure> {
        let spec = ExecSpec { user: Some(NOBODY.to_owned()), ..shell("exit 0") };
        match feed::exec(sandbox, spec, b"").await?.result.outcome {
            Outcome::Exited { code: 0 } => Ok(Self::Apart),
            Outcome::FailedToStart { .. } => Ok(Self::OnlyRoot),
            other => Err(Failure::new(ErrorCode::Internal, format!("sh in the image {}", describe(&other)))),
        }
    }
}

impl Trial<'_> {
    pub(super) async fn judge(&self) -> Result<Judgement, Failure> {
        let Solution::Files(files) = self.solution else {
            return Ok(Judgement::new(Verdict::Error, "a program task has a solution that is not files"));
        };
        let mut all = self.task.files.clone();
        all.extend(files.clone());
        self.write(WORKSPACE, &all).await?;
        if self.users == Users::Apart {
            let own = format!("chown -R {NOBODY} {WORKSPACE}");
            let ran = self.as_root(shell(&own), b"").await?;
            if ran.result.outcome != (Outcome::Exited { code: 0 }) {
                return Ok(not_judged("handing the files over", &ran));
            }
        }
        let mut usage = Usage::default();
        if let Some(build) = &self.task.build {
            let ran = self.as_nobody(spec_of(build), b"").await?;
            if ran.result.outcome != (Outcome::Exited { code: 0 }) {
                return Ok(ended(&ran, "the build"));
            }
            usage = ran.result.usage;
        }
        let judged = match &self.task.tests {
            None => self.judge_cases().await?,
            Some(Tests { python: Some(text), modules, .. }) => {
                self.judge_python(text, modules, files).await?
            }
            Some(Tests { command: Some(command), files, .. }) => self.judge_command(command, files).await?,
            Some(_) => Judgement::new(Verdict::Error, "tests have neither python nor command"),
        };
        Ok(judged.with_usage(usage))
    }

    /// Runs every case until one fails.
    async fn judge_cases(&self) -> Result<Judgement, Failure> {
        let Some(command) = &self.task.command else {
            return Ok(Judgement::new(Verdict::Error, "cases without a command"));
        };
        let mut passed = Judgement::new(Verdict::Passed, "");
        for (at, case) in self.task.cases.iter().enumerate() {
            let judged = self.judge_case(command, case).await?;
            if judged.verdict != Verdict::Passed {
                let during = format!("case {} of {}", at + 1, self.task.cases.len());
                return Ok(Judgement { during, ..judged }.with_usage(passed.usage));
            }
            passed = judged.with_usage(passed.usage);
        }
        step!(self.nothing_left(None).await);
        Ok(passed)
    }

    async fn judge_case(&self, command: &Command, case: &Case) -> Result<Judgement, Failure> {
        let mut spec = spec_of(command);
        if let Some(argv) = &mut spec.argv {
            argv.extend(case.args.iter().cloned());
        }
        let room = case.expected_stdout.len() as u64 * 2 + (64 << 10);
        spec.output_limit_bytes = Some(room.min(MAX_OUTPUT_LIMIT));
        let ran = self.as_nobody(spec, case.stdin.as_bytes()).await?;
        let expected = Outcome::Exited { code: case.expected_exit_code };
        if ran.result.outcome != expected {
            return Ok(ended(&ran, "the program"));
        }
        let dropped = ran.result.truncated.stdout_dropped_bytes;
        let differs = if dropped > 0 {
            Some(format!("standard output has {dropped} bytes more than are looked at"))
        } else {
            difference(case.compare, &case.expected_stdout, &ran.stdout)
        };
        Ok(match differs {
            Some(how) => with_output(Judgement::new(Verdict::Failed, how), &ran),
            None => with_output(Judgement::new(Verdict::Passed, ""), &ran),
        })
    }

    async fn judge_python(
        &self,
        tests: &str,
        modules: &[String],
        solution: &Files,
    ) -> Result<Judgement, Failure> {
        let Some(harness) = self.harness else {
            return Ok(Judgement::new(Verdict::Error, "there is no harness for the tests"));
        };
        if self.users == Users::OnlyRoot && self.task.build.is_some() {
            return Ok(Judgement::new(Verdict::Error, format!("tests.python after build {ONE_USER}")));
        }
        let own =
            |path: &String| path.strip_suffix(".py").filter(|name| !name.contains('/')).map(str::to_owned);
        let modules =
            if modules.is_empty() { solution.keys().filter_map(own).collect() } else { modules.to_vec() };
        step!(self.nothing_left(None).await);
        let job = Job {
            prompt: None,
            source: None,
            entry_point: None,
            directory: Some(WORKSPACE),
            timeout_s: self.bounds.timeout_s,
            tests,
            modules,
        };
        harness.judge(self.sandbox, &job).await
    }

    async fn judge_command(&self, command: &Command, files: &Files) -> Result<Judgement, Failure> {
        if self.users == Users::OnlyRoot {
            return Ok(Judgement::new(Verdict::Error, format!("tests.command {ONE_USER}")));
        }
        let mut stdin = Vec::new();
        let mut program = None;
        if let Some(run) = &self.task.command {
            let input = self.task.stdin.as_deref().unwrap_or_default();
            let ran = self.as_nobody(spec_of(run), input.as_bytes()).await?;
            match ran.result.outcome {
                Outcome::Exited { code } => program = Some(code),
                _ => return Ok(ended(&ran, "the program")),
            }
            stdin.clone_from(&ran.stdout);
        }
        let hidden = format!("/tests-{}", uuid::Uuid::new_v4().simple());
        step!(self.nothing_left(Some(&hidden)).await);
        self.write(&hidden, files).await?;
        let mut env = BTreeMap::from([("HOTHOUSE_TESTS".to_owned(), hidden.clone())]);
        if let Some(code) = program {
            env.insert("HOTHOUSE_EXIT_CODE".to_owned(), code.to_string());
        }
        let ran = self.as_root(ExecSpec { env, cwd: Some(hidden), ..spec_of(command) }, &stdin).await?;
        Ok(match ran.result.outcome {
            Outcome::Exited { code: 0 } => {
                step!(self.nothing_left(None).await);
                with_output(Judgement::new(Verdict::Passed, ""), &ran)
            }
            Outcome::FailedToStart { .. } => not_judged("the tests", &ran),
            _ => ended(&ran, "the tests"),
        })
    }

    /// Makes sure that no process is left; then makes the directory for the tests if asked.
    async fn nothing_left(&self, then_make: Option<&str>) -> Step<()> {
        let left = |what: &str| Ok(Err(Judgement::new(Verdict::Failed, format!("left {what} behind"))));
        let mut script = PROCESSES.to_owned();
        if let Some(directory) = then_make {
            // Through a link, the tests could take their own files for the solution's.
            script += &format!(
                "[ -z \"$(find {WORKSPACE} -type l)\" ] || exit 98\nmkdir -m 700 {directory} || exit 99\n"
            );
        }
        script += "exit 96";
        let until = Instant::now() + MOMENT;
        loop {
            let ran = self.as_root(shell(&script), b"").await?;
            match ran.result.outcome {
                Outcome::Exited { code: 96 } => return Ok(Ok(())),
                // Zombies are about to be reaped, and children of what just ended get a moment.
                Outcome::Exited { code: 97 } if Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Outcome::Exited { code: 97 } => return left("processes"),
                Outcome::Exited { code: 98 } => return left("a symbolic link"),
                // A shell started in this sandbox before; now so much is left that none can.
                Outcome::FailedToStart { .. } => return left("too many processes"),
                Outcome::OomKilled => {
                    let why = "used more memory than its limit";
                    return Ok(Err(Judgement::new(Verdict::OomKilled, why)));
                }
                _ => return Ok(Err(not_judged("looking for what is left", &ran))),
            }
        }
    }

    async fn write(&self, directory: &str, files: &Files) -> Result<(), Failure> {
        if files.is_empty() {
            return Ok(());
        }
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let (bytes, mode) = content.bytes().map_err(|e| Failure::usage(path, e))?;
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(mode);
            tar.append_data(&mut header, path, bytes.as_slice()).map_err(|e| Failure::io(path, &e))?;
        }
        let bytes = Bytes::from(tar.into_inner().map_err(|e| Failure::io("packing files", &e))?);
        let once = futures::stream::once(std::future::ready(Ok(bytes)));
        self.sandbox.tar_in(directory, once).await.map(drop)
    }

    async fn as_nobody(&self, spec: ExecSpec, stdin: &[u8]) -> Result<Ran, Failure> {
        let user = (self.users == Users::Apart).then(|| NOBODY.to_owned());
        let env = BTreeMap::from([("HOME".to_owned(), WORKSPACE.to_owned())]);
        let spec = ExecSpec { user, cwd: Some(WORKSPACE.to_owned()), env, ..spec };
        self.as_root(spec, stdin).await
    }

    async fn as_root(&self, spec: ExecSpec, stdin: &[u8]) -> Result<Ran, Failure> {
        let spec = ExecSpec { timeout_s: Some(self.bounds.timeout_s), grace_s: Some(0.0), ..spec };
        feed::exec(self.sandbox, spec, stdin).await
    }
}

fn spec_of(command: &Command) -> ExecSpec {
    match command {
        Command::Argv(argv) => ExecSpec { argv: Some(argv.clone()), ..ExecSpec::default() },
        Command::Shell(line) => shell(line),
    }
}

fn shell(line: &str) -> ExecSpec {
    ExecSpec { shell: Some(line.to_owned()), ..ExecSpec::default() }
}

/// The verdict on something that did not end as it had to.
fn ended(ran: &Ran, what: &str) -> Judgement {
    let outcome = &ran.result.outcome;
    let verdict = match outcome {
        Outcome::TimedOut => Verdict::TimedOut,
        Outcome::OomKilled => Verdict::OomKilled,
        Outcome::Exited { .. } | Outcome::Signalled { .. } | Outcome::FailedToStart { .. } => Verdict::Failed,
        Outcome::Lost { .. } => Verdict::Error,
    };
    with_output(Judgement::new(verdict, format!("{what} {}", describe(outcome))), ran)
}

/// A failure that is not the solution's.
fn not_judged(what: &str, ran: &Ran) -> Judgement {
    let judged = Judgement::new(Verdict::Error, format!("{what} {}", describe(&ran.result.outcome)));
    with_output(judged, ran)
}

fn with_output(judged: Judgement, ran: &Ran) -> Judgement {
    let (stdout, stderr) = (excerpt(&ran.stdout), excerpt(&ran.stderr));
    Judgement { stdout, stderr, usage: ran.result.usage, ..judged }
}

/// The start and the end.
fn excerpt(bytes: &[u8]) -> String {
    if bytes.len() <= EXCERPT {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let (head, tail) = (&bytes[..EXCERPT / 2], &bytes[bytes.len() - EXCERPT / 2..]);
    let cut = bytes.len() - EXCERPT;
    format!("{}\n[... {cut} bytes ...]\n{}", String::from_utf8_lossy(head), String::from_utf8_lossy(tail))
}
