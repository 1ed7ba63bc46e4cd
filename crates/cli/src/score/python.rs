//! Judging Python: the harness runs the tests, an unprivileged worker that it forks runs the solution.
//!
//! The harness' exit code is the verdict, and no process that runs the solution's code can choose it: see `harness.py`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use hothouse_domain::{ErrorCode, ExecSpec, Outcome};

use super::feed::{self, Ran};
use super::verdict::{Judgement, Verdict};
use super::wire::{self, Writer};
use crate::failure::Failure;
use crate::place::SandboxHandle;

const SOURCE: &str = concat!(include_str!("harness.py"), "\n\nmain()\n");
/// Compiling the harness takes an interpreter as long as starting does, so it is done once per run, by the interpreter
/// of the image, and the code goes to every attempt.
const COMPILE: &str = "import marshal,sys\n\
    code=compile(sys.stdin.buffer.read(),'harness.py','exec',0,True,2)\n\
    sys.stdout.buffer.write(marshal.dumps(code))";
const START: &str = "import marshal,posix\n\
    def take(n):\n b=b''\n while len(b)<n:\n  b+=posix.read(0,n-len(b))\n return b\n\
    exec(marshal.loads(take(int(take(8),16))))";
/// Where sandboxes look for programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The harness ends an attempt itself when its time is up, and can then tell where. This much later the guest does.
pub(super) const BACKSTOP_S: f64 = 1.0;

/// The compiled harness, ready to be sent.
#[derive(Debug)]
pub(super) struct Harness(Vec<u8>);

/// What the harness needs to know.
#[derive(Debug)]
pub(super) struct Job<'a> {
    /// The start of a function task's program, whose functions the tests may use.
    pub(super) prompt: Option<&'a str>,
    /// The solution's program; `None` when it consists of files.
    pub(super) source: Option<&'a str>,
    /// The function that the tests' `check` gets; `None` when they import what they need.
    pub(super) entry_point: Option<&'a str>,
    /// Where the solution's files are.
    pub(super) directory: Option<&'a str>,
    pub(super) timeout_s: f64,
    pub(super) tests: &'a str,
    /// Modules that the tests may import from the solution.
    pub(super) modules: Vec<String>,
}

impl Harness {
    /// Compiles the harness with this machine's own interpreter, which is that of the image `host`; ours is the only
    /// program that it sees. `None` where that does not work: compiling in a sandbox then tells why.
    pub(super) async fn compile_here() -> Option<Self> {
        let compile = || {
            let mut child = Command::new("python3")
                .args(["-I", "-S", "-c", COMPILE])
                .env_clear()
                .env("PATH", PATH)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .ok()?;
            // One that does not read all of it does not end well either.
            drop(child.stdin.take()?.write_all(SOURCE.as_bytes()));
            let output = child.wait_with_output().ok()?;
            let done = output.status.success() && !output.stdout.is_empty();
            done.then(|| Self(wire::frame(&output.stdout)))
        };
        tokio::task::spawn_blocking(compile).await.ok().flatten()
    }

    /// Compiles the harness in a sandbox that never sees a solution.
    pub(super) async fn compile(sandbox: &SandboxHandle) -> Result<Self, Failure> {
        let spec = ExecSpec { timeout_s: Some(60.0), ..python(COMPILE) };
        let ran = feed::exec(sandbox, spec, SOURCE.as_bytes()).await?;
        match &ran.result.outcome {
            Outcome::Exited { code: 0 } if !ran.stdout.is_empty() => Ok(Self(wire::frame(&ran.stdout))),
            outcome => {
                let said = String::from_utf8_lossy(&ran.stderr);
                let what = describe(outcome);
                Err(Failure::new(ErrorCode::Unsupported, format!("python3 in the image: {what} {said}"))
                    .hint("python tasks need Python 3.8 or later in the image"))
            }
        }
    }

    /// Runs one attempt.
    pub(super) async fn judge(&self, sandbox: &SandboxHandle, job: &Job<'_>) -> Result<Judgement, Failure> {
        let spec = ExecSpec {
            timeout_s: Some(job.timeout_s + BACKSTOP_S),
            grace_s: Some(0.0),
            cwd: Some("/".to_owned()),
            ..python(START)
        };
        let ran = feed::exec(sandbox, spec, &self.input(job)).await?;
        Ok(judgement(&ran))
    }

    /// The harness reads the tests only after it has forked the worker; until then they stay in the pipe.
    fn input(&self, job: &Job<'_>) -> Vec<u8> {
        let [first, second] = job.parts();
        [self.0.as_slice(), &first.frame(), &second.frame()].concat()
    }
}

impl Job<'_> {
    /// What is told before the worker is forked, and what after.
    pub(super) fn parts(&self) -> [Writer; 2] {
        let job = self;
        let mut first = Writer::default();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0.1 to 86,400 seconds")]
        let timeout_ms = (job.timeout_s * 1000.0) as u64;
        first.map(5).text("prompt").maybe(job.prompt).text("source").maybe(job.source);
        first.text("entry_point").maybe(job.entry_point).text("directory").maybe(job.directory);
        first.text("timeout_ms").number(timeout_ms);
        let mut second = Writer::default();
        second.map(2).text("source").text(job.tests);
        second.text("modules").texts(job.modules.iter().map(String::as_str));
        [first, second]
    }
}

fn python(program: &str) -> ExecSpec {
    let argv = ["python3", "-I", "-S", "-c", program];
    ExecSpec { argv: Some(argv.map(str::to_owned).to_vec()), ..ExecSpec::default() }
}

/// The exit codes of `harness.py`; every other end is not a pass.
pub(super) fn judgement(ran: &Ran) -> Judgement {
    let report = wire::read_texts(&ran.stdout).unwrap_or_default();
    let mut texts = report.into_iter();
    let mut text = || texts.next().unwrap_or_default();
    let (reason, during, stdout, stderr) = (text(), text(), text(), text());
    let verdict = match &ran.result.outcome {
        Outcome::Exited { code: 90 } => Verdict::Passed,
        Outcome::Exited { code: 91 } | Outcome::Signalled { .. } => Verdict::Failed,
        Outcome::Exited { code: 92 } | Outcome::TimedOut => Verdict::TimedOut,
        Outcome::OomKilled => Verdict::OomKilled,
        Outcome::Exited { .. } | Outcome::FailedToStart { .. } | Outcome::Lost { .. } => Verdict::Error,
    };
    let reason = match (verdict, reason.is_empty()) {
        (Verdict::Passed, _) => String::new(),
        (Verdict::OomKilled, _) => "used more memory than its limit".to_owned(),
        (_, false) => reason,
        (_, true) => {
            let said = String::from_utf8_lossy(&ran.stderr);
            let last = said.lines().last().unwrap_or_default();
            format!("the harness {} {last}", describe(&ran.result.outcome)).trim_end().to_owned()
        }
    };
    let base = Judgement::new(verdict, reason);
    Judgement { during, stdout, stderr, usage: ran.result.usage, ..base }
}

/// An outcome in words that follow the name of a program.
pub(super) fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited { code } => format!("exited with code {code}"),
        Outcome::Signalled { signal } => format!("was ended by signal {signal}"),
        Outcome::TimedOut => "ran out of time".to_owned(),
        Outcome::OomKilled => "used more memory than its limit".to_owned(),
        Outcome::FailedToStart { reason } => format!("did not start: {reason}"),
        Outcome::Lost { reason } => format!("was lost: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use hothouse_domain::{Encoding, ExecResult, Truncated, Usage};
    use test_case::test_case;

    use super::*;

    fn ran(outcome: Outcome, stdout: Vec<u8>) -> Ran {
        let result = ExecResult {
            exec_id: "x".parse().unwrap(),
            outcome,
            stdout: String::new(),
            stderr: String::new(),
            encoding: Encoding::Utf8,
            truncated: Truncated::default(),
            output_held_open: false,
            duration_s: 0.1,
            usage: Usage::default(),
            replayed: false,
            value: None,
            error: None,
            displays: Vec::new(),
            omitted: Vec::new(),
        };
        Ran { result, stdout, stderr: b"Traceback\nBoom: x\n".to_vec() }
    }

    #[test_case(Outcome::Exited { code: 90 } => (Verdict::Passed, String::new()))]
    #[test_case(Outcome::Exited { code: 0 } => (Verdict::Error, "the harness exited with code 0 Boom: x".into()); "success is not zero")]
    #[test_case(Outcome::Exited { code: 91 } => (Verdict::Failed, "the harness exited with code 91 Boom: x".into()))]
    #[test_case(Outcome::Exited { code: 1 } => (Verdict::Error, "the harness exited with code 1 Boom: x".into()))]
    #[test_case(Outcome::Signalled { signal: 9 } => (Verdict::Failed, "the harness was ended by signal 9 Boom: x".into()))]
    #[test_case(Outcome::TimedOut => (Verdict::TimedOut, "the harness ran out of time Boom: x".into()))]
    #[test_case(Outcome::OomKilled => (Verdict::OomKilled, "used more memory than its limit".into()))]
    #[test_case(Outcome::Lost { reason: "gone".into() } => (Verdict::Error, "the harness was lost: gone Boom: x".into()))]
    fn only_one_exit_code_passes_whatever_was_printed(outcome: Outcome) -> (Verdict, String) {
        let judged = judgement(&ran(outcome, b"passed".to_vec()));
        (judged.verdict, judged.reason)
    }

    #[test]
    fn the_report_explains() {
        let mut report = Writer::default();
        report.texts(["why", "f(1)", "out", "err"].into_iter());
        let judged = judgement(&ran(Outcome::Exited { code: 91 }, report.frame()));
        assert_eq!((judged.reason.as_str(), judged.during.as_str()), ("why", "f(1)"));
        assert_eq!((judged.stdout.as_str(), judged.stderr.as_str()), ("out", "err"));
    }
}
