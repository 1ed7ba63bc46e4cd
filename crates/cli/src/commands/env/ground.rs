//! What environments stand on that need sandboxes: a node in this process, with a fleet.

use std::path::PathBuf;
use std::sync::Arc;

use hothouse_domain::{ErrorCode, SandboxSpec};
use hothouse_env::package::Target;
use hothouse_env::sandboxed::{self, PackageOptions};
use hothouse_env::{Catalogue, Environment, OpenError};
use hothouse_fleet::Fleet;

use crate::console;
use crate::failure::Failure;
use crate::flags::{LimitFlags, NodeFlags};
use crate::place::Embedded;

/// Sandboxes at once.
const MAX_SANDBOXES: usize = 4096;

/// Flags of what runs in sandboxes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct GroundFlags {
    /// What the environment needs beside what it says itself, as pip takes it, e.g. chess==1.11 (repeatable)
    #[arg(long, value_name = "REQUIREMENT", help_heading = "Sandbox")]
    with: Vec<String>,
    /// Processes that play the sessions of a package, at most [default: one for each core]
    #[arg(long, value_name = "N", help_heading = "Sandbox")]
    processes: Option<usize>,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    node: NodeFlags,
}

impl GroundFlags {
    fn spec(&self) -> SandboxSpec {
        let SandboxSpec { resources, .. } = SandboxSpec::default();
        SandboxSpec {
            image: self.limits.image.clone(),
            pull: self.limits.pull,
            resources: self.limits.over(&resources),
            ..SandboxSpec::default()
        }
    }
}

/// A node in this process, with a fleet.
#[derive(Debug)]
struct Ground {
    embedded: Embedded,
    fleet: Fleet,
    home: PathBuf,
}

impl Ground {
    /// Starts them.
    async fn start(flags: &GroundFlags) -> Result<Self, Failure> {
        let embedded = Box::pin(Embedded::start(&flags.node, MAX_SANDBOXES)).await?;
        let home = flags.node.home()?;
        match Fleet::start(embedded.node().clone(), embedded.home()).await {
            Ok(fleet) => Ok(Self { embedded, fleet, home }),
            Err(error) => {
                embedded.close().await;
                Err(Failure::new(ErrorCode::Internal, error.to_string()))
            }
        }
    }

    /// Starts a package.
    async fn package(&self, target: &Target, flags: &GroundFlags) -> Result<Arc<Environment>, Failure> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let options = PackageOptions {
            sandbox: flags.spec(),
            with: flags.with.clone(),
            processes: flags.processes.unwrap_or(cores),
            home: self.home.clone(),
        };
        let started = Box::pin(sandboxed::environment(&self.fleet, target, options)).await;
        started.map(Arc::new).map_err(|error| told(&error))
    }

    /// Ends all that stands on them.
    async fn close(self) {
        self.fleet.close().await;
        self.embedded.close().await;
    }
}

/// The environment that a name means, and what it stands on.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) environment: Arc<Environment>,
    ground: Option<Ground>,
}

impl Chosen {
    /// Finds it, and starts what it needs. A directory wins over one that comes with Hothouse only when it is written as a
    /// path.
    pub(super) async fn start(name: &str, flags: &GroundFlags) -> Result<Self, Failure> {
        let builtins = Catalogue::with_builtins();
        if let Some(environment) = builtins.find(name) {
            return Ok(Self { environment, ground: None });
        }
        let target = Target::parse(name);
        let target = target.map_err(|error| Failure::new(ErrorCode::InvalidRequest, error.to_string()))?;
        let Some(target) = target else {
            let known: Vec<String> =
                builtins.all().iter().map(|environment| environment.name.clone()).collect();
            let detail = format!("there is no environment {name:?}, and no such directory");
            let known = known.join(", ");
            let hint = format!(
                "there are {known}, gym:ID, pettingzoo:FAMILY/NAME, and directories with an openenv.yaml"
            );
            return Err(Failure::new(ErrorCode::NotFound, detail).hint(hint));
        };
        let ground = Ground::start(flags).await?;
        match ground.package(&target, flags).await {
            Ok(environment) => Ok(Self { environment, ground: Some(ground) }),
            Err(failure) => {
                ground.close().await;
                Err(failure)
            }
        }
    }

    /// Ends what it stands on.
    pub(super) async fn close(self) {
        if let Some(ground) = self.ground {
            ground.close().await;
        }
    }
}

/// An author reads the traceback; the reason alone is what a program gets.
pub(super) fn told(error: &OpenError) -> Failure {
    if let Some(traceback) = &error.traceback {
        console::note(traceback.trim_end());
    }
    Failure::new(ErrorCode::CreateFailed, error.message.clone())
}
