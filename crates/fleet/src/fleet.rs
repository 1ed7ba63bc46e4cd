//! The templates and pools of a node.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hothouse_domain::{
    Claim, EndCause, PoolInfo, PoolName, PoolPhase, PoolSize, PoolSpec, TemplateInfo, TemplateName,
    TemplateSpec,
};
use hothouse_sandbox::{End, Node, Sandbox};
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, QueueInfo};
use crate::error::{FleetError, FleetStartError};
use crate::pool::Pool;
use crate::preparation::Preparations;
use crate::requests::Requests;
use crate::shelf::{PoolRecord, Shelf};

/// The templates and pools of a node; clones are the same one.
#[derive(Debug, Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    admission: Admission,
    requests: Requests,
    preparations: Preparations,
    /// What goes on when its caller has left.
    tasks: TaskTracker,
    templates_shelf: Shelf,
    pools_shelf: Shelf,
    /// One lock for both: a pool and its template change together. Files are written under it, so that they say what
    /// the memory says.
    catalogue: Mutex<Catalogue>,
}

#[derive(Debug, Default)]
struct Catalogue {
    templates: BTreeMap<TemplateName, TemplateInfo>,
    pools: BTreeMap<PoolName, Pool>,
}

impl Fleet {
    /// Finds the templates and pools of this home again, gives each pool what an earlier server left ready for it, and
    /// removes what belongs to none.
    ///
    /// # Errors
    /// [`FleetStartError`] names the file that cannot be read.
    pub async fn start(node: Node, home: &Path) -> Result<Self, FleetStartError> {
        let templates_shelf = Shelf::open(home, "templates")?;
        let pools_shelf = Shelf::open(home, "pools")?;
        let templates: BTreeMap<_, _> = templates_shelf
            .all::<TemplateInfo>()?
            .into_iter()
            .map(|template| (template.name.clone(), template))
            .collect();
        let mut left = left_ready(&node);
        let (admission, requests) = (Admission::new(node.clone()), Requests::of(&node));
        let preparations = Preparations::new(admission.clone());
        preparations.want(templates.values());
        let mut pools = BTreeMap::new();
        for record in pools_shelf.all::<PoolRecord>()? {
            let Some(template) = templates.get(&record.spec.template) else {
                let path = home.join("fleet/pools").join(format!("{}.json", record.spec.name));
                let reason = format!("there is no template {}", record.spec.template);
                return Err(FleetStartError { path, reason });
            };
            let name = record.spec.name.clone();
            let ready = left.remove(&name).unwrap_or_default();
            pools.insert(
                name,
                Pool::start(preparations.clone(), admission.clone(), record, template.clone(), ready),
            );
        }
        for sandbox in left.into_values().flatten() {
            let end = End::new(EndCause::Pool, "node", "its pool is gone");
            if let Err(error) = node.end(sandbox.id(), end).await {
                tracing::warn!(sandbox = %sandbox.id(), %error, "of a pool that is gone: not removed");
            }
        }
        let catalogue = Mutex::new(Catalogue { templates, pools });
        let tasks = TaskTracker::new();
        let fleet = Self {
            inner: Arc::new(Inner {
                admission,
                requests,
                preparations,
                tasks,
                templates_shelf,
                pools_shelf,
                catalogue,
            }),
        };
        fleet.sweep_half_made().await;
        fleet.sweep_sessions().await;
        Ok(fleet)
    }

    /// The node that it is over.
    #[must_use]
    pub fn node(&self) -> &Node {
        self.inner.admission.node()
    }

    /// Ends what an earlier server had not finished to make.
    async fn sweep_half_made(&self) {
        let mut preparing = self.node().all();
        preparing.retain(|sandbox| {
            sandbox.terms().pool.as_ref().is_some_and(|place| place.claim == Claim::Preparing)
        });
        let end = End::new(EndCause::Pool, "node", "its setup had not ended when the server did");
        for failed in self.end_many(preparing, &end).await.failures {
            tracing::error!(sandbox = ?failed.id, detail = failed.problem.detail, "half made, and not removed");
        }
        self.sweep_half_made_groups().await;
    }

    /// Ends what was for sessions of environments: they ended with the earlier server.
    async fn sweep_sessions(&self) {
        let mut left = self.node().all();
        left.retain(|sandbox| sandbox.terms().claimant.environment.is_some());
        let end = End::new(EndCause::Session, "node", "its session ended with the server");
        for failed in self.end_many(left, &end).await.failures {
            tracing::error!(sandbox = ?failed.id, detail = failed.problem.detail, "of a session that is over, and not removed");
        }
    }

    fn catalogue(&self) -> MutexGuard<'_, Catalogue> {
        self.inner.catalogue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a template or a new version of one. The same spec again changes nothing.
    ///
    /// # Errors
    /// [`FleetError`]: it breaks a rule, or cannot be written down; the old version stays then.
    pub fn put_template(&self, name: &TemplateName, spec: TemplateSpec) -> Result<TemplateInfo, FleetError> {
        spec.validate()?;
        let mut catalogue = self.catalogue();
        let version = match catalogue.templates.get(name) {
            Some(known) if known.spec == spec => return Ok(known.clone()),
            Some(known) => known.version + 1,
            None => 1,
        };
        let info = TemplateInfo { name: name.clone(), version, spec };
        self.inner.templates_shelf.put(name.as_str(), &info)?;
        catalogue.templates.insert(name.clone(), info.clone());
        self.inner.preparations.want(catalogue.templates.values());
        for pool in catalogue.pools.values().filter(|pool| pool.record().spec.template == *name) {
            pool.set_template(info.clone());
        }
        Ok(info)
    }

    /// A template.
    ///
    /// # Errors
    /// [`FleetError::NoTemplate`].
    pub fn template(&self, name: &TemplateName) -> Result<TemplateInfo, FleetError> {
        let missing = || FleetError::NoTemplate(name.to_string());
        self.catalogue().templates.get(name).cloned().ok_or_else(missing)
    }

    /// All templates, by name.
    #[must_use]
    pub fn templates(&self) -> Vec<TemplateInfo> {
        self.catalogue().templates.values().cloned().collect()
    }

    /// Removes a template that no pool uses.
    ///
    /// # Errors
    /// [`FleetError`]: there is none, or a pool uses it.
    pub fn remove_template(&self, name: &TemplateName) -> Result<(), FleetError> {
        let mut catalogue = self.catalogue();
        if !catalogue.templates.contains_key(name) {
            return Err(FleetError::NoTemplate(name.to_string()));
        }
        if let Some((pool, _)) = catalogue.pools.iter().find(|(_, pool)| pool.record().spec.template == *name)
        {
            return Err(FleetError::TemplateInUse { template: name.clone(), pool: pool.clone() });
        }
        self.inner.templates_shelf.remove(name.as_str())?;
        catalogue.templates.remove(name);
        self.inner.preparations.want(catalogue.templates.values());
        Ok(())
    }

    /// Makes a pool; it fills in the background.
    ///
    /// # Errors
    /// [`FleetError`]: it breaks a rule, its name is taken, there is no such template, or it cannot be written down.
    pub fn create_pool(&self, spec: PoolSpec) -> Result<PoolInfo, FleetError> {
        self.check_size(spec.size())?;
        let mut catalogue = self.catalogue();
        if catalogue.pools.contains_key(&spec.name) {
            return Err(FleetError::PoolExists(spec.name));
        }
        let Some(template) = catalogue.templates.get(&spec.template).cloned() else {
            return Err(FleetError::NoTemplate(spec.template.to_string()));
        };
        let name = spec.name.clone();
        let record = PoolRecord { spec, phase: PoolPhase::Active };
        self.inner.pools_shelf.put(name.as_str(), &record)?;
        let (preparations, admission) = (self.inner.preparations.clone(), self.inner.admission.clone());
        let pool = Pool::start(preparations, admission, record, template, Vec::new());
        catalogue.pools.insert(name, pool.clone());
        drop(catalogue);
        Ok(pool.info())
    }

    /// Keeps another number of sandboxes ready.
    ///
    /// # Errors
    /// [`FleetError`]: it breaks a rule, there is no such pool, or it cannot be written down.
    pub fn scale_pool(&self, name: &PoolName, size: PoolSize) -> Result<PoolInfo, FleetError> {
        self.check_size(size)?;
        self.change(
            name,
            |record| (record.spec.min, record.spec.max) = (size.min, size.max),
            |p| p.scale(size),
        )
    }

    /// Has a pool make and give nothing any more; those that were claimed live on.
    ///
    /// # Errors
    /// [`FleetError`]: there is no such pool, or it cannot be written down.
    pub fn drain_pool(&self, name: &PoolName) -> Result<PoolInfo, FleetError> {
        self.change(name, |record| record.phase = PoolPhase::Draining, Pool::drain)
    }

    /// Writes a change of a pool down, then makes it.
    fn change(
        &self,
        name: &PoolName,
        note: impl FnOnce(&mut PoolRecord),
        make: impl FnOnce(&Pool),
    ) -> Result<PoolInfo, FleetError> {
        let catalogue = self.catalogue();
        let pool = catalogue.pools.get(name).ok_or_else(|| FleetError::NoPool(name.to_string()))?;
        let mut record = pool.record();
        note(&mut record);
        self.inner.pools_shelf.put(name.as_str(), &record)?;
        make(pool);
        let pool = pool.clone();
        drop(catalogue);
        Ok(pool.info())
    }

    /// A pool larger than the node could never be full.
    fn check_size(&self, size: PoolSize) -> Result<(), FleetError> {
        size.validate()?;
        let limit = self.node().limit();
        if size.max as usize > limit {
            let reason =
                format!("is {}; this node has room for {limit}: lower it or raise --max-sandboxes", size.max);
            return Err(hothouse_domain::Invalid::new("max", reason).into());
        }
        Ok(())
    }

    pub(crate) fn find(&self, name: &PoolName) -> Result<Pool, FleetError> {
        self.catalogue().pools.get(name).cloned().ok_or_else(|| FleetError::NoPool(name.to_string()))
    }

    /// A pool.
    ///
    /// # Errors
    /// [`FleetError::NoPool`].
    pub fn pool(&self, name: &PoolName) -> Result<PoolInfo, FleetError> {
        Ok(self.find(name)?.info())
    }

    /// All pools, by name.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolInfo> {
        let pools: Vec<Pool> = self.catalogue().pools.values().cloned().collect();
        pools.iter().map(Pool::info).collect()
    }

    /// Removes a pool and what it has ready.
    ///
    /// # Errors
    /// [`FleetError`]: there is none, or sandboxes of it are claimed and it is not draining.
    pub async fn remove_pool(&self, name: &PoolName) -> Result<(), FleetError> {
        let info = self.pool(name)?;
        if info.claimed > 0 && info.phase == PoolPhase::Active {
            return Err(FleetError::PoolInUse { pool: name.clone(), claimed: info.claimed });
        }
        let pool = {
            let mut catalogue = self.catalogue();
            self.inner.pools_shelf.remove(name.as_str())?;
            catalogue.pools.remove(name)
        };
        // Two that remove it at once are both answered well.
        if let Some(pool) = pool {
            pool.empty().await;
            self.inner.preparations.settle().await;
        }
        Ok(())
    }

    /// How the queue for room stands.
    #[must_use]
    pub fn queue(&self) -> QueueInfo {
        self.inner.admission.info()
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.inner.admission
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.inner.requests
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    /// Ends the keepers; what is ready stays for whoever starts on this home next.
    pub async fn close(&self) {
        let pools: Vec<Pool> = self.catalogue().pools.values().cloned().collect();
        // First: pools wait for it.
        self.inner.preparations.close().await;
        for pool in pools {
            pool.close().await;
        }
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

/// Unclaimed sandboxes of an earlier server, by pool.
fn left_ready(node: &Node) -> BTreeMap<PoolName, Vec<Sandbox>> {
    let mut left: BTreeMap<PoolName, Vec<Sandbox>> = BTreeMap::new();
    for sandbox in node.all() {
        let terms = sandbox.terms();
        if let Some(place) = terms.pool.as_ref().filter(|place| place.claim == Claim::Ready) {
            left.entry(place.pool.clone()).or_default().push(sandbox.clone());
        }
    }
    left
}
