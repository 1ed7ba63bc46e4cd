//! Which environments there are.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::environment::Environment;

/// Environments by name; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Catalogue(Arc<RwLock<BTreeMap<String, Arc<Environment>>>>);

impl Catalogue {
    /// Those that come with Hothouse and play in memory.
    #[must_use]
    pub fn with_builtins() -> Self {
        let catalogue = Self::default();
        for environment in crate::builtin::all() {
            catalogue.add(Arc::clone(environment));
        }
        catalogue
    }

    /// Adds one; the one that had its name before, if any, which its sessions go on with.
    pub fn add(&self, environment: Arc<Environment>) -> Option<Arc<Environment>> {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(environment.name.clone(), environment)
    }

    /// The one of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Environment>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Environment>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
