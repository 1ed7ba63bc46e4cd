//! Where an environment plays: in memory, or in sandboxes of this process.

use std::sync::Arc;

use clap::ValueEnum;
use hothouse_domain::{ErrorCode, Resources, SandboxSpec};
use hothouse_env::builtin::{Resets, Sandboxed, SandboxedOptions, Transform};
use hothouse_env::package::{self, PackageOptions, Target};
use hothouse_env::{Catalogue, Environment, OpenError, Sandboxes, Stocked};

use crate::console;
use crate::failure::Failure;
use crate::flags::{EnvFlag, LimitFlags, NodeFlags};
use crate::place::EmbeddedFleet;

/// Sandboxes beyond those of sessions: some are ready, and some are ending when their places are taken again.
const MORE_SANDBOXES: usize = 64;
/// Ready ones when nothing is said.
const WARM: usize = 4;
/// The most that may be kept ready.
const MOST_WARM: usize = 1024;

/// Flags for environments that play in sandboxes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sandbox")]
pub(super) struct StageFlags {
    #[command(flatten)]
    limits: LimitFlags,
    /// A variable of what runs there: NAME=VALUE, or NAME to pass it on (repeatable)
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]", help_heading = "Sandbox")]
    env: Vec<EnvFlag>,
    /// Sandboxes kept ready, so that a session opens at once [default: 4]
    #[arg(long, value_name = "N", help_heading = "Sandbox")]
    warm: Option<usize>,
    /// How steps of `coding` are rewarded [default: safety-quality]
    #[arg(long, value_name = "HOW", help_heading = "Sandbox")]
    transform: Option<TransformFlag>,
    /// How episodes of `coding` begin [default: in-place]
    #[arg(long, value_name = "HOW", help_heading = "Sandbox")]
    resets: Option<ResetsFlag>,
    /// What a package needs beside what it says itself, as pip takes it, e.g. chess==1.11 (repeatable)
    #[arg(long, value_name = "REQUIREMENT", help_heading = "Sandbox")]
    with: Vec<String>,
    /// Processes that play the sessions of a package, at most [default: one for each core]
    #[arg(long, value_name = "N", help_heading = "Sandbox")]
    processes: Option<usize>,
    #[command(flatten)]
    node: NodeFlags,
}

/// How steps are rewarded.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TransformFlag {
    /// By what the code looks like: whether it seems safe, is short, and parses
    SafetyQuality,
    /// Always 0
    None,
}

/// How episodes begin.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ResetsFlag {
    /// With a fresh interpreter in the same sandbox, if no file and no process is left there; else in another one
    InPlace,
    /// In another sandbox
    Fresh,
}

/// What an environment plays on.
#[derive(Debug)]
pub(super) enum Stage {
    /// Nothing.
    Memory,
    /// Sandboxes of this process.
    Sandboxes {
        /// They end with this.
        fleet: EmbeddedFleet,
        /// Those of the environment.
        sandboxes: Sandboxes,
    },
    /// A sandbox of this process, in which a package runs.
    Package(EmbeddedFleet),
}

impl StageFlags {
    /// The first of them that was given.
    fn given(&self) -> Option<&'static str> {
        let Self { limits, env, warm, transform, resets, with, processes, node: _ } = self;
        let others = [
            ("--env", !env.is_empty()),
            ("--with", !with.is_empty()),
            ("--processes", processes.is_some()),
            ("--warm", warm.is_some()),
            ("--transform", transform.is_some()),
            ("--resets", resets.is_some()),
            ("--image or a limit", limits.is_given()),
        ];
        others.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }

    fn package(&self) -> Result<PackageOptions, Failure> {
        if let Some(flag) = [
            ("--warm", self.warm.is_some()),
            ("--transform", self.transform.is_some()),
            ("--resets", self.resets.is_some()),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
        {
            return Err(Failure::usage(flag, "is for coding and shell only"));
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(PackageOptions {
            sandbox: self.sandbox()?,
            with: self.with.clone(),
            processes: self.processes.unwrap_or(cores),
            home: self.node.home()?,
        })
    }

    fn sandbox(&self) -> Result<SandboxSpec, Failure> {
        let resources = self.limits.over(&Resources::default());
        let (image, pull) = (self.limits.image.clone(), self.limits.pull);
        let layers = self.limits.layer.clone();
        let env = EnvFlag::map(self.env.clone());
        let spec = SandboxSpec { image, layers, pull, resources, env, ..SandboxSpec::default() };
        spec.validate().map_err(|invalid| Failure::new(ErrorCode::InvalidRequest, invalid.to_string()))?;
        Ok(spec)
    }

    fn options(&self, which: Sandboxed) -> Result<SandboxedOptions, Failure> {
        let Self { warm, transform, resets, .. } = self;
        let warm = warm.unwrap_or(WARM);
        if warm > MOST_WARM {
            return Err(Failure::usage("--warm", format!("is {warm}; at most {MOST_WARM}")));
        }
        if which != Sandboxed::Coding && (transform.is_some() || resets.is_some()) {
            let flag = if transform.is_some() { "--transform" } else { "--resets" };
            return Err(Failure::usage(flag, "is for coding only"));
        }
        let spec = self.sandbox()?;
        Ok(SandboxedOptions {
            spec,
            warm,
            stocked: Stocked::Always,
            transform: match transform {
                None | Some(TransformFlag::SafetyQuality) => Transform::SafetyQuality,
                Some(TransformFlag::None) => Transform::None,
            },
            resets: match resets {
                None | Some(ResetsFlag::InPlace) => Resets::InPlace,
                Some(ResetsFlag::Fresh) => Resets::Fresh,
            },
        })
    }
}

impl Stage {
    /// The environment of this name, on what it needs, for so many sessions. Nothing is started for one that needs
    /// nothing. Close it in the end.
    pub(super) async fn open(
        name: &str,
        flags: &StageFlags,
        capacity: usize,
    ) -> Result<(Arc<Environment>, Self), Failure> {
        if let Some(which) = Sandboxed::named(name) {
            let options = flags.options(which)?;
            let most = capacity.saturating_add(options.warm).saturating_add(MORE_SANDBOXES);
            let fleet = Box::pin(EmbeddedFleet::start(&flags.node, most)).await?;
            let (environment, sandboxes) = which.over(fleet.fleet().clone(), options);
            return Ok((Arc::new(environment), Self::Sandboxes { fleet, sandboxes }));
        }
        let Some(environment) = Catalogue::with_builtins().find(name) else {
            return Self::open_package(name, flags).await;
        };
        match flags.given() {
            Some(flag) => Err(Failure::usage(flag, format!("is of no use: {name} plays in memory"))),
            None => Ok((environment, Self::Memory)),
        }
    }

    /// A directory, or a name of Gymnasium's or PettingZoo's. One that is called as an environment that comes with Hothouse
    /// is written as a path, `./echo`.
    async fn open_package(name: &str, flags: &StageFlags) -> Result<(Arc<Environment>, Self), Failure> {
        let target = Target::parse(name);
        let target = target.map_err(|error| Failure::new(ErrorCode::InvalidRequest, error.to_string()))?;
        let target = target.ok_or_else(|| unknown(name))?;
        let options = flags.package()?;
        let fleet = Box::pin(EmbeddedFleet::start(&flags.node, MORE_SANDBOXES)).await?;
        match Box::pin(package::environment(fleet.fleet(), &target, options)).await {
            Ok(environment) => Ok((Arc::new(environment), Self::Package(fleet))),
            Err(error) => {
                fleet.close().await;
                Err(not_opened(&error))
            }
        }
    }

    /// Ends what it was started with.
    pub(super) async fn close(self) {
        match self {
            Self::Memory => {}
            Self::Package(fleet) => fleet.close().await,
            Self::Sandboxes { fleet, sandboxes } => {
                sandboxes.close().await;
                fleet.close().await;
            }
        }
    }
}

/// An author reads the traceback; the reason alone is what a program gets.
pub(super) fn not_opened(error: &OpenError) -> Failure {
    if let Some(traceback) = &error.traceback {
        console::note(traceback.trim_end());
    }
    Failure::new(ErrorCode::CreateFailed, error.message.clone())
}

fn unknown(name: &str) -> Failure {
    let in_memory = Catalogue::with_builtins().all().into_iter().map(|environment| environment.name.clone());
    let mut known: Vec<String> = in_memory.collect();
    known.extend(Sandboxed::ALL.map(|environment| environment.about().name.to_owned()));
    known.sort_unstable();
    let known = known.join(", ");
    Failure::new(ErrorCode::NotFound, format!("there is no environment {name:?}, and no such directory"))
        .hint(format!(
            "there are {known}, gym:ID, pettingzoo:FAMILY/NAME, and directories with an openenv.yaml"
        ))
}
