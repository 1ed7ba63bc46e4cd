//! `hothouse run`.

use std::collections::BTreeMap;

use hothouse_domain::{ExecSpec, ImageRef, Lease, Network, Resources, SandboxSpec};

use super::follow::{End, follow};
use super::program::{self, Mode, ProgramFlags, flag_of};
use super::transfer;
use crate::console;
use crate::failure::{Failure, reason};
use crate::flags::{FileFlag, LimitFlags, PlaceFlags};
use crate::interrupt::{Interrupts, status_of_signal};
use crate::place::{Place, SandboxHandle};

/// Run a program in a fresh sandbox, which goes when the program ends
///
/// Output is live, standard input is forwarded when it is a pipe or a file, and the exit status is the program's own:
/// 128 + N when signal N ended it, 124 when its time was up, 137 when it ran out of memory, 126 when it cannot be
/// run, 127 when there is no such program, 125 when Hothouse itself failed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hothouse run -- python3 -c 'print(1)'
  hothouse run --memory 1G --timeout 10s --file solution.py -- python3 solution.py
  cat data.csv | hothouse run -- sort -u
  hothouse run -t -- bash")]
pub(crate) struct RunArgs {
    /// The program and its arguments [default: what the image says]
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    argv: Vec<String>,
    /// Put a file or directory into the sandbox first, by default into the working directory (repeatable)
    #[arg(long, short = 'f', value_name = "LOCAL[:PATH]", help_heading = "Sandbox")]
    file: Vec<FileFlag>,
    #[command(flatten)]
    program: ProgramFlags,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    place: PlaceFlags,
}

impl RunArgs {
    /// True when a program reads the output.
    pub(super) fn wants_json(&self) -> bool {
        self.program.wants_json()
    }
}

/// Runs the program; its exit status.
pub(crate) async fn run(args: RunArgs) -> Result<u8, Failure> {
    let RunArgs { file, program, limits, place, argv } = args;
    if argv.is_empty() && matches!(limits.image, ImageRef::Host | ImageRef::Directory(_)) {
        return Err(Failure::usage("COMMAND", "is missing; give a program, e.g. hothouse run -- python3 -V"));
    }
    let task = OneShot {
        sandbox: sandbox_spec(&limits, program.workdir())?,
        mode: program.mode()?,
        files: file,
        what: if argv.is_empty() { What::OfImage } else { What::Given },
        // The image's own is put in its place once it is known.
        exec: program.spec(if argv.is_empty() { vec!["true".to_owned()] } else { argv })?,
    };
    task.run_at(&place).await
}

/// What a sandbox for these flags is made from, checked.
pub(super) fn sandbox_spec(limits: &LimitFlags, workdir: Option<&str>) -> Result<SandboxSpec, Failure> {
    let spec = SandboxSpec {
        id: None,
        image: limits.image.clone(),
        layers: limits.layer.clone(),
        pull: limits.pull,
        resources: limits.over(&Resources::default()),
        network: Network::None,
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        workdir: workdir.map(str::to_owned),
        user: None,
        labels: BTreeMap::new(),
        lease: Lease::default(),
        needs: BTreeMap::new(),
    };
    spec.validate().map_err(|invalid| Failure::usage(flag_of(&invalid.field), invalid.reason))?;
    Ok(spec)
}

/// Which program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The one that is given.
    Given,
    /// What the image says.
    OfImage,
}

/// One program in one sandbox of its own.
#[derive(Debug)]
pub(super) struct OneShot {
    /// What the sandbox is made from.
    pub(super) sandbox: SandboxSpec,
    /// What is put into it first.
    pub(super) files: Vec<FileFlag>,
    /// Which program runs in it.
    pub(super) what: What,
    /// How it runs.
    pub(super) exec: ExecSpec,
    /// How to talk to it.
    pub(super) mode: Mode,
}

impl OneShot {
    /// Makes the sandbox at the place, runs the program, destroys the sandbox; the exit status.
    pub(super) async fn run_at(self, flags: &PlaceFlags) -> Result<u8, Failure> {
        for file in &self.files {
            // Before anything is made, so that a wrong name costs nothing.
            std::fs::metadata(&file.local)
                .map_err(|e| Failure::usage("--file", format!("{}: {}", file.local.display(), reason(&e))))?;
        }
        let mut interrupts = Interrupts::listen()?;
        let place = Box::pin(Place::open(flags, 1)).await.map_err(Failure::own)?;
        let status = Box::pin(self.run_in(&place, &mut interrupts)).await.map_err(Failure::own);
        place.close().await;
        status
    }

    async fn run_in(self, place: &Place, interrupts: &mut Interrupts) -> Result<u8, Failure> {
        let Self { sandbox, files, what, mut exec, mode } = self;
        let image = sandbox.image.clone();
        let sandbox = place.create(sandbox).await?;
        let status = Box::pin(async {
            if what == What::OfImage {
                let argv = place.image(&image).await?.config.argv();
                if argv.is_empty() {
                    let reason = "is missing, and the image names none; give a program after --";
                    return Err(Failure::usage("COMMAND", reason));
                }
                exec.argv = Some(argv);
            }
            tokio::select! {
                done = put_files(&sandbox, files) => done?,
                signal = interrupts.next() => return Ok(status_of_signal(signal)),
            }
            run_program(&sandbox, exec, mode, interrupts).await
        })
        .await;
        if matches!(place, Place::Remote(_)) {
            // An embedded node takes its sandboxes with it.
            let deleted = sandbox.delete().await;
            return status.and_then(|status| deleted.map(|()| status));
        }
        status
    }
}

pub(super) async fn put_files(sandbox: &SandboxHandle, files: Vec<FileFlag>) -> Result<(), Failure> {
    if files.is_empty() {
        return Ok(());
    }
    // The image may have had a word in it.
    let workdir = sandbox.info().await?.spec.workdir;
    let workdir = workdir.as_deref().unwrap_or(SandboxSpec::DEFAULT_WORKDIR);
    for file in files {
        let target = file
            .target(workdir)
            .map_err(|reason| Failure::usage("--file", format!("{}: {reason}", file.local.display())))?;
        transfer::upload(sandbox, &file.local, &target).await?;
    }
    Ok(())
}

async fn run_program(
    sandbox: &SandboxHandle,
    exec: ExecSpec,
    mode: Mode,
    interrupts: &mut Interrupts,
) -> Result<u8, Failure> {
    match Box::pin(follow(sandbox, exec.clone(), mode, interrupts)).await? {
        End::Interrupted(signal) => Ok(status_of_signal(signal)),
        End::Finished(result) => finish(sandbox, *result, mode, exec.timeout_s).await,
    }
}

/// Tells how a program ended; the exit status.
pub(super) async fn finish(
    sandbox: &SandboxHandle,
    result: hothouse_domain::ExecResult,
    mode: Mode,
    timeout_s: Option<f64>,
) -> Result<u8, Failure> {
    let (status, message) = program::status(&result, timeout_s);
    match mode {
        Mode::Json { .. } => console::json(&with_output(sandbox, result).await?)?,
        Mode::Pipes { .. } | Mode::Terminal => {
            if let Some(message) = message {
                console::note(&message);
            }
        }
    }
    Ok(status)
}

/// The result with the kept output, which a followed one comes without.
async fn with_output(
    sandbox: &SandboxHandle,
    result: hothouse_domain::ExecResult,
) -> Result<hothouse_domain::ExecResult, Failure> {
    use hothouse_domain::ExecState;
    if !(result.stdout.is_empty() && result.stderr.is_empty()) {
        return Ok(result);
    }
    match sandbox.exec_status(&result.exec_id).await?.state {
        ExecState::Finished { result: full } => {
            Ok(hothouse_domain::ExecResult { replayed: result.replayed, ..*full })
        }
        ExecState::Running => Ok(result),
    }
}
