//! The program that `run` and `exec` start: its flags, and what its end means to whoever started us.

use hothouse_domain::{ErrorCode, ExecResult, ExecSpec, Outcome};

use super::terminal;
use crate::failure::{EXIT_OWN, Failure};
use crate::flags::{EnvFlag, duration, size};
use crate::interrupt::status_of_signal;

/// The exit status of a program whose time was up, as of timeout(1).
const EXIT_TIMED_OUT: u8 = 124;
/// The exit status of a program that is there but cannot be run, as of env(1).
const EXIT_NOT_EXECUTABLE: u8 = 126;
/// The exit status of a program that is not there, as of env(1).
const EXIT_NOT_FOUND: u8 = 127;
/// The exit status of a program that used up its memory: 128 + SIGKILL.
const EXIT_OOM: u8 = 137;

/// Flags for a program.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Program")]
pub(super) struct ProgramFlags {
    /// Set a variable: NAME=VALUE, or NAME to pass it on (repeatable)
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]")]
    env: Vec<EnvFlag>,
    /// Working directory [default: /workspace]
    #[arg(long, short = 'w', value_name = "PATH")]
    workdir: Option<String>,
    /// User in the sandbox, by name or number, also user:group [default: root]
    #[arg(long, short = 'u', value_name = "USER")]
    user: Option<String>,
    /// End it and all that it started after this time, e.g. 10, 500ms, 2m; the exit status then is 124
    #[arg(long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true)]
    timeout: Option<f64>,
    /// With --json: keep so many bytes of each output, half from its start, half from its end [default: 1M]
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "json")]
    output_limit: Option<u64>,
    #[command(flatten)]
    mode: ModeFlags,
}

/// How to talk to the program.
#[derive(Debug, Clone, Copy, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line are independent of each other")]
struct ModeFlags {
    /// Give it a terminal: yours, raw
    #[arg(long, short = 't', conflicts_with = "json")]
    tty: bool,
    /// Forward standard input although it is a terminal (a pipe or file always is)
    #[arg(long, short = 'i')]
    interactive: bool,
    /// Print one JSON object with outcome, outputs and usage instead of the live output
    #[arg(long)]
    json: bool,
}

/// How to talk to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Live outputs; standard input is forwarded or is empty.
    Pipes {
        /// Whether standard input is forwarded.
        input: StandardInput,
    },
    /// A terminal.
    Terminal,
    /// One JSON object in the end.
    Json {
        /// Whether standard input is forwarded.
        input: StandardInput,
    },
}

/// What the program reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StandardInput {
    /// What we read.
    Forwarded,
    /// Nothing.
    Empty,
}

impl ProgramFlags {
    /// True when a program reads the output.
    pub(super) fn wants_json(&self) -> bool {
        self.mode.json
    }

    /// How to talk to the program, given what our own input is.
    pub(super) fn mode(&self) -> Result<Mode, Failure> {
        use std::io::IsTerminal as _;
        let forward = self.mode.interactive || !std::io::stdin().is_terminal();
        let input = if forward { StandardInput::Forwarded } else { StandardInput::Empty };
        match self.mode {
            ModeFlags { tty: true, .. } if !terminal::present() => {
                Err(Failure::usage("--tty", "needs a terminal on standard input and output")
                    .hint("leave --tty out when you pipe"))
            }
            ModeFlags { tty: true, .. } => Ok(Mode::Terminal),
            ModeFlags { json: true, .. } => Ok(Mode::Json { input }),
            ModeFlags { .. } => Ok(Mode::Pipes { input }),
        }
    }

    /// The directory in which the program starts, when one is named.
    pub(super) fn workdir(&self) -> Option<&str> {
        self.workdir.as_deref()
    }

    /// What to run; all but the way in which input and output flow.
    pub(super) fn spec(self, argv: Vec<String>) -> Result<ExecSpec, Failure> {
        let Self { env, workdir, user, timeout, output_limit, mode: _ } = self;
        let spec = ExecSpec {
            argv: Some(argv),
            env: EnvFlag::map(env),
            cwd: workdir,
            user,
            timeout_s: timeout,
            output_limit_bytes: output_limit,
            ..ExecSpec::default()
        };
        spec.validate().map_err(|invalid| Failure::usage(flag_of(&invalid.field), invalid.reason))?;
        Ok(spec)
    }
}

/// The flag that sets a field of a spec, so that a person finds it.
pub(super) fn flag_of(field: &str) -> String {
    let flag = match field {
        "cwd" | "workdir" => "--workdir",
        "timeout_s" => "--timeout",
        "output_limit_bytes" => "--output-limit",
        "user" => "--user",
        "argv" => "the command",
        "resources.cpus" => "--cpus",
        "resources.memory_bytes" => "--memory",
        "resources.pids" => "--pids",
        "resources.disk_bytes" => "--disk",
        "resources.disk_inodes" => "--inodes",
        other => match other.split_once('.') {
            Some(("env", name)) => return format!("--env {name}"),
            Some(("labels", name)) => return format!("--label {name}"),
            Some(_) | None => other,
        },
    };
    flag.to_owned()
}

/// What the program's end means: our exit status, and what to tell beside it.
pub(super) fn status(result: &ExecResult, timeout_s: Option<f64>) -> (u8, Option<String>) {
    match &result.outcome {
        Outcome::Exited { code } => (u8::try_from(*code & 0xff).unwrap_or(u8::MAX), None),
        Outcome::Signalled { signal } => (status_of_signal(*signal), None),
        Outcome::TimedOut => {
            let after = timeout_s.map_or_else(String::new, |s| format!(" after {s} s"));
            (
                EXIT_TIMED_OUT,
                Some(format!("error: timed out{after}; the program and all it started were ended")),
            )
        }
        Outcome::OomKilled => {
            let text = "error: out of memory: the kernel ended the program\nhint: allow more with --memory, e.g. --memory 2G";
            (EXIT_OOM, Some(text.to_owned()))
        }
        Outcome::FailedToStart { reason } => {
            // The shell's rule: 127 when there is no such program, 126 when it is there and cannot be run.
            let missing = reason.contains("no such program") || reason.contains("No such file");
            (if missing { EXIT_NOT_FOUND } else { EXIT_NOT_EXECUTABLE }, Some(format!("error: {reason}")))
        }
        Outcome::Lost { reason } => (EXIT_OWN, Some(format!("error: the sandbox was lost: {reason}"))),
    }
}

/// The failure of a program that did not come to an end because of us.
pub(super) fn vanished() -> Failure {
    Failure::new(ErrorCode::Internal, "the program's end was not told").own()
}
