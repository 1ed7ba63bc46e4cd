//! Packages of environments, run in sandboxes.
//!
//! A package has one sandbox, in which its worker or its own server runs; sessions are connections into it. When the
//! sandbox or what runs in it is gone, the sessions there are lost, and the next one starts another.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt as _;
use hothouse_domain::{LayerRef, SandboxSpec};
use hothouse_fleet::Fleet;
use hothouse_sandbox::DialTarget;

use super::home::{self, Home};
use super::{Layers, Runtime, Target, asgi};
use crate::environment::Environment;
use crate::instance::OpenError;
use crate::worker::{Dial, Stream, Worker};

/// How a package is run.
#[derive(Debug, Clone)]
pub struct PackageOptions {
    /// What its sandbox is made from, but for its layers.
    pub sandbox: SandboxSpec,
    /// What it requires beside what it says itself, as pip takes it.
    pub with: Vec<String>,
    /// Processes of a worker at once.
    pub processes: usize,
    /// Hothouse's home, where layers are kept.
    pub home: PathBuf,
}

#[expect(clippy::needless_pass_by_value, reason = "errors are mapped by it")]
pub(super) fn failed(message: impl ToString) -> OpenError {
    OpenError { message: message.to_string(), traceback: None }
}

/// Starts a package and asks it what it is.
///
/// # Errors
/// [`OpenError`]: what it requires cannot be installed, its sandbox cannot be made, or the author's module cannot be
/// imported; then with its traceback.
pub async fn environment(
    fleet: &Fleet,
    target: &Target,
    options: PackageOptions,
) -> Result<Environment, OpenError> {
    let mut requirements = target.requirements().map_err(failed)?;
    requirements.extend(options.with.iter().cloned());
    let python = home::python_of(fleet, &options.sandbox).await?;
    let layers = Layers::new(&options.home).of(target, &requirements, &python).await.map_err(failed)?;
    let mut spec = options.sandbox;
    // The topmost comes last there.
    let layers = layers.iter().rev().map(|layer| layer_ref(layer)).collect::<Result<Vec<_>, _>>()?;
    spec.layers.extend(layers);
    spec.env.insert("PYTHONPATH".to_owned(), target.python_path());
    // What is written beside the code would be this sandbox's alone.
    spec.env.insert("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned());
    match target.runtime() {
        Runtime::Hothouse => {
            let home = Arc::new(Home::worker(fleet.clone(), spec, target));
            let mut environment = Worker::environment(dial(&home), options.processes).await?;
            rename(&mut environment, target);
            Ok(environment)
        }
        Runtime::Asgi => {
            let home = Home::server(fleet.clone(), spec, target);
            let mut environment = Box::pin(asgi::environment(home)).await?;
            rename(&mut environment, target);
            Ok(environment)
        }
    }
}

fn layer_ref(layer: &Path) -> Result<LayerRef, OpenError> {
    format!("dir:{}", layer.display())
        .parse()
        .map_err(|error| failed(format!("{}: {error}", layer.display())))
}

/// What a package says of itself counts more than what its code says.
fn rename(environment: &mut Environment, target: &Target) {
    match target {
        Target::Directory { manifest, .. } => {
            environment.name.clone_from(&manifest.name);
            if let Some(version) = &manifest.version {
                environment.version.clone_from(version);
            }
            if let Some(description) = &manifest.description {
                environment.description.clone_from(description);
            }
        }
        Target::Gymnasium(id) | Target::PettingZoo(id) => environment.name.clone_from(id),
    }
}

fn dial(home: &Arc<Home>) -> Dial {
    let home = Arc::clone(home);
    Arc::new(move || {
        let home = Arc::clone(&home);
        async move { home.connect().await.map(|stream| Box::new(stream) as Box<dyn Stream>) }.boxed()
    })
}

/// Where a worker listens in its sandbox.
pub(super) fn worker_socket() -> DialTarget {
    DialTarget::Path("/run/hothouse-worker.sock".to_owned())
}

/// Where a server listens in its sandbox.
pub(super) fn server_socket() -> DialTarget {
    DialTarget::Path("/run/openenv.sock".to_owned())
}
