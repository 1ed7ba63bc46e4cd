//! Those that need a sandbox.

use std::sync::Arc;

use hothouse_domain::SandboxSpec;
use hothouse_fleet::Fleet;

use super::{Resets, Transform, coding, shell};
use crate::environment::{About, Environment};
use crate::sandboxes::{Fitting, Sandboxes, SandboxesOptions, Stocked};

/// An environment that comes with Hothouse and plays in sandboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandboxed {
    /// Python.
    Coding,
    /// A shell.
    Shell,
}

/// How it plays.
#[derive(Debug, Clone)]
pub struct SandboxedOptions {
    /// What the sandboxes are made from.
    pub spec: SandboxSpec,
    /// So many are kept ready.
    pub warm: usize,
    /// When.
    pub stocked: Stocked,
    /// How steps of `coding` are rewarded.
    pub transform: Transform,
    /// How episodes of `coding` begin.
    pub resets: Resets,
}

impl Sandboxed {
    /// All of them, by name.
    pub const ALL: [Self; 2] = [Self::Coding, Self::Shell];

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|environment| environment.about().name == name)
    }

    /// What people are told of it.
    #[must_use]
    pub fn about(self) -> About {
        match self {
            Self::Coding => coding::ABOUT,
            Self::Shell => shell::ABOUT,
        }
    }

    /// The environment over a fleet, and its sandboxes, which are to be closed in the end.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    #[must_use]
    pub fn over(self, fleet: Fleet, options: SandboxedOptions) -> (Environment, Sandboxes) {
        let SandboxedOptions { mut spec, warm, stocked, transform, resets } = options;
        let fitting: Arc<dyn Fitting> = match self {
            Self::Coding => {
                // Otherwise a module's first import is a file that is left in the sandbox.
                spec.env.entry("PYTHONDONTWRITEBYTECODE".to_owned()).or_insert_with(|| "1".to_owned());
                Arc::new(coding::Context)
            }
            Self::Shell => Arc::new(shell::LiveShell),
        };
        let environment = self.about().name.to_owned();
        let options = SandboxesOptions { environment, spec, fitting, warm, stocked };
        let sandboxes = Sandboxes::new(fleet, options);
        let environment = match self {
            Self::Coding => coding::environment(sandboxes.clone(), transform, resets),
            Self::Shell => shell::environment(sandboxes.clone()),
        };
        (environment, sandboxes)
    }
}
