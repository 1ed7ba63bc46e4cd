//! The native backend: what lives, and the spawner that makes it.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hothouse_domain::image::ImageConfig;
use hothouse_domain::{Capabilities, SandboxId, SandboxSpec};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use super::cgroup::Layout;
use super::driver::Spawner;
use super::running::Origin;
use super::state::{State, StateDirectory, boot};
use super::wire::{
    Abilities, Body, CreateOrder, Limits, MAX_PACKET, Order, Overlay, OverlayLayer, Report, Ticket,
};
use super::{
    CreateError, NativeOptions, NativeStartError, Running, SpawnerArguments, WhenOrphaned, capabilities,
    process,
};
use crate::image::{Image, ImageStore, Images};
use crate::link::locked;
use crate::makings::{CreateStage, Making, Makings};
use crate::snapshot::SnapshotStore;
use crate::terms::Terms;

/// How long a process that ends may take to leave its home.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// How long a request waits for a spawner while one is being started.
const SPAWNER_PATIENCE: Duration = Duration::from_secs(15);
/// The pause before a spawner is started again that ended at once or did not start, doubled with each in a row up to the
/// second. It is tried for ever: what it lacks may come back.
const RESTART_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// The native backend of this machine.
#[derive(Debug)]
pub struct NativeBackend {
    pub(super) inner: Arc<Inner>,
    capabilities: Capabilities,
    pub(super) images: ImageStore,
    pub(super) snapshots: Arc<SnapshotStore>,
    pub(super) makings: Makings,
    /// Whether sandboxes have more than one user.
    has_users: bool,
    /// Held as long as the backend lives: a home has one.
    _lock: std::fs::File,
    /// Ends with the backend.
    _listener: tokio::task::JoinSet<()>,
}

#[derive(Debug)]
pub(super) struct Inner {
    options: NativeOptions,
    instance: String,
    pub(super) boot: String,
    pub(super) directory: StateDirectory,
    pub(super) groups: Layout,
    spawner: watch::Sender<Option<Arc<Spawner>>>,
    /// Sandboxes that live: who is told of their end.
    alive: Mutex<HashMap<Ticket, Alive>>,
}

#[derive(Debug)]
struct Alive {
    body: Body,
    death: watch::Sender<Option<String>>,
}

/// Takes the lock of a home. One that has just been closed is waited for.
async fn take_lock(home: &Path) -> Result<std::fs::File, String> {
    let path = home.join("native.lock");
    let file = std::fs::File::create(&path).map_err(|e| format!("making {}: {e}", path.display()))?;
    let deadline = tokio::time::Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::Error(e)) => return Err(format!("locking {}: {e}", path.display())),
            Err(std::fs::TryLockError::WouldBlock) if tokio::time::Instant::now() > deadline => {
                let home = home.display();
                return Err(format!("another process runs sandboxes in {home}; end it or use another home"));
            }
            Err(std::fs::TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Short and the same for the same home: names control groups.
fn instance_of(home: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let home = std::fs::canonicalize(home).unwrap_or_else(|_| home.to_owned());
    format!("hh{:012x}", super::stable_hash(home.as_os_str().as_bytes()) & 0xffff_ffff_ffff)
}

impl Inner {
    /// Starts a spawner and hears what it can do.
    async fn start_spawner(&self) -> Result<(Spawner, Abilities), String> {
        let arguments = SpawnerArguments {
            instance: self.instance.clone(),
            cgroup: self.options.cgroup.clone(),
            when_orphaned: self.options.when_orphaned,
            ahead: self.options.ahead,
        };
        Spawner::start(&self.options.spawner, &arguments).await
    }

    /// The spawner; waits while one is being restarted.
    pub(super) async fn spawner(&self) -> Result<Arc<Spawner>, String> {
        let mut current = self.spawner.subscribe();
        let found = tokio::time::timeout(SPAWNER_PATIENCE, current.wait_for(Option::is_some)).await;
        let found =
            found.map_err(|_| format!("the spawner is down and has not started for {SPAWNER_PATIENCE:?}"))?;
        let found = found.map_err(|_| "the backend has ended".to_owned())?;
        found.clone().ok_or_else(|| "the spawner is down".to_owned())
    }

    pub(super) async fn ask(
        &self,
        order: impl FnOnce(Ticket) -> Order,
        fd: Option<&OwnedFd>,
    ) -> Result<Report, String> {
        self.spawner().await?.ask(order, fd).await
    }

    /// Sends an order that has no answer.
    pub(super) async fn tell(&self, order: &Order) -> Result<(), String> {
        self.spawner().await?.send(order, None).await.map_err(|e| e.to_string())
    }

    /// No longer listens for this sandbox's end.
    pub(super) fn forget(&self, key: Ticket) {
        locked(&self.alive).remove(&key);
    }

    /// Listens for a sandbox's end from now on.
    pub(super) fn remember(&self, body: &Body) -> watch::Sender<Option<String>> {
        let new = || Alive { body: body.clone(), death: watch::Sender::new(None) };
        locked(&self.alive).entry(body.key).or_insert_with(new).death.clone()
    }

    fn died(&self, key: Ticket, reason: String) {
        if let Some(alive) = locked(&self.alive).get(&key) {
            alive.death.send_if_modified(|known| {
                let first = known.is_none();
                known.get_or_insert(reason);
                first
            });
        }
    }

    /// No sandbox will be made of this layer any more.
    pub(super) async fn forget_layer(&self, path: &str) -> Result<(), String> {
        let spawner = self.spawner().await?;
        spawner.forget_layer(path).await.map_err(|e| format!("telling the spawner: {e}"))
    }

    /// Hands reports to those who wait for them, until the spawner ends; then starts another.
    async fn listen(self: Arc<Self>, mut spawner: Arc<Spawner>) {
        let mut restarts: u32 = 0;
        let mut buffer = vec![0; MAX_PACKET];
        loop {
            match spawner.receive(&mut buffer).await {
                Ok(Some(report)) => {
                    restarts = 0;
                    self.hear(&spawner, report).await;
                    continue;
                }
                Ok(None) => tracing::warn!("the spawner ended; starting another"),
                Err(e) => tracing::warn!(error = %e, "the spawner cannot be heard; starting another"),
            }
            self.spawner.send_replace(None);
            // Those who wait learn that their order's fate is unknown.
            spawner.give_up();
            self.sweep_half_made().await;
            spawner = loop {
                if restarts > 0 {
                    let pause = RESTART_PAUSE.0.saturating_mul(1 << (restarts - 1).min(16));
                    tokio::time::sleep(pause.min(RESTART_PAUSE.1)).await;
                }
                restarts = restarts.saturating_add(1);
                match self.start_spawner().await {
                    Ok((spawner, _)) => break Arc::new(spawner),
                    Err(reason) => tracing::error!(%reason, "starting the spawner"),
                }
            };
            let bodies: Vec<Body> = locked(&self.alive).values().map(|alive| alive.body.clone()).collect();
            for body in bodies {
                if let Err(e) = spawner.send(&Order::Adopt { body }, None).await {
                    tracing::error!(error = %e, "telling the new spawner of a sandbox");
                }
            }
            self.spawner.send_replace(Some(Arc::clone(&spawner)));
        }
    }

    async fn hear(&self, spawner: &Spawner, report: Report) {
        let ticket = match &report {
            Report::Died { key, reason } => return self.died(*key, reason.clone()),
            Report::Ready { .. } | Report::Unable { .. } => return,
            Report::Registered { ticket, .. }
            | Report::Created { ticket, .. }
            | Report::NotCreated { ticket, .. }
            | Report::Failed { ticket, .. }
            | Report::Limited { ticket }
            | Report::Copied { ticket, .. }
            | Report::Lent { ticket, .. }
            | Report::Destroyed { ticket, .. } => *ticket,
        };
        if let Report::Created { body, .. } = &report {
            // Before whoever asked goes on: its end may be the next report.
            self.remember(body);
        }
        let unheard = spawner.answer(ticket, report);
        if let Some(Report::Created { body, .. }) = unheard {
            // Whoever asked has gone; a sandbox that nobody knows of must not live.
            tracing::warn!(pid = body.pid, "a sandbox was made that nobody waits for; ending it");
            self.forget(body.key);
            if let Err(e) = spawner.dispose(body).await {
                tracing::error!(error = %e, "ending a sandbox that nobody waits for");
            }
        }
    }

    /// Ends processes in control groups that no sandbox owns, and removes the groups.
    pub(super) async fn sweep_half_made(&self) {
        // Names carry their spawner's PID; those of the one that runs are in use or in stock.
        let running =
            self.spawner.borrow().as_ref().map(|spawner| format!("{}-{}-", self.instance, spawner.pid));
        let owned: Vec<String> =
            locked(&self.alive).values().filter_map(|alive| alive.body.group.clone()).collect();
        for group in self.groups.groups(&format!("{}-", self.instance)) {
            if !owned.contains(&group) && running.as_ref().is_none_or(|prefix| !group.starts_with(prefix)) {
                self.sweep_group(&group).await;
            }
        }
    }

    async fn sweep_group(&self, group: &str) {
        for _ in 0..200 {
            let left = self.groups.processes(group);
            for &pid in &left {
                if let Some(pid) = Pid::from_raw(pid) {
                    // One that has just ended is what we want.
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            if !left.is_empty() && self.groups.is_frozen(group) {
                drop(self.groups.set_frozen(group, super::cgroup::Frozen::No));
            }
            if left.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if let Err(e) = self.groups.remove(group) {
            tracing::warn!(error = %e, group, "removing a left-over control group");
        }
    }
}

impl Drop for NativeBackend {
    /// While the home's lock is still held: the next backend of this home may wait for it.
    fn drop(&mut self) {
        self.inner.directory.close(&self.inner.options.home);
    }
}

impl Inner {
    /// Whether there is anybody to come who reads what is written down of sandboxes.
    pub(super) fn remembers(&self) -> bool {
        self.options.when_orphaned == WhenOrphaned::LiveOn
    }
}

impl NativeBackend {
    /// Starts the spawner and finds out what this machine enforces.
    ///
    /// # Errors
    /// [`NativeStartError`] when the machine cannot host sandboxes at all; it says what to do.
    pub async fn start(options: NativeOptions) -> Result<Self, NativeStartError> {
        let home = options.home.clone();
        std::fs::create_dir_all(&home)
            .map_err(|e| NativeStartError(format!("making {}: {e}", home.display())))?;
        let lock = take_lock(&home).await.map_err(NativeStartError)?;
        let directory = StateDirectory::open(&home)
            .map_err(|e| NativeStartError(format!("opening {}/sandboxes: {e}", home.display())))?;
        let groups = Layout::detect(options.cgroup.as_deref());
        let instance = instance_of(&home);
        let spawner = watch::Sender::new(None);
        let inner = Arc::new(Inner {
            options,
            instance,
            boot: boot(),
            directory,
            groups,
            spawner,
            alive: Mutex::default(),
        });
        let (spawner, abilities) = inner.start_spawner().await.map_err(NativeStartError)?;
        let spawner = Arc::new(spawner);
        inner.spawner.send_replace(Some(Arc::clone(&spawner)));
        let capabilities = capabilities::describe(&abilities, &inner.groups.reclaims());
        let has_users = abilities.uid_range.is_ok();
        let (idmapped, limits) = (abilities.idmap.is_ok(), inner.options.images);
        let images = tokio::task::spawn_blocking(move || ImageStore::open(&home, idmapped, limits))
            .await
            .map_err(|e| NativeStartError(format!("preparing images: {e}")))?
            .map_err(|e| NativeStartError(format!("preparing images: {e}")))?;
        let (snapshots, discarded) = SnapshotStore::open(&inner.options.home, inner.directory.path())
            .map_err(|e| NativeStartError(format!("opening snapshots: {e}")))?;
        let mut listener = tokio::task::JoinSet::new();
        listener.spawn(Arc::clone(&inner).listen(spawner));
        listener.spawn(Arc::clone(&inner).remove_discarded(discarded));
        snapshots.pin_images(|id| images.images().pin(id));
        let makings = Makings::new();
        let _lock = lock;
        let _listener = listener;
        let backend = Self { inner, capabilities, images, snapshots, makings, has_users, _lock, _listener };
        // A job's own backend makes its first sandbox in a moment and hears the same then.
        if backend.inner.options.when_orphaned == WhenOrphaned::LiveOn {
            let tried = backend.try_out().await;
            match tried.map_err(|e| NativeStartError(e.to_string())) {
                Err(e) if !backend.has_sandboxes() => return Err(e),
                // A disk that is full now must not keep those from their clients that are alive.
                Err(e) => {
                    tracing::error!(error = %e, "no sandbox can be made; those that are alive are served")
                }
                Ok(()) => {}
            }
        }
        Ok(backend)
    }

    /// Whether an earlier server left any alive.
    fn has_sandboxes(&self) -> bool {
        let ids = self.inner.directory.ids().unwrap_or_default();
        ids.iter().filter_map(|id| self.inner.directory.load(id).ok()).any(|state| self.is_alive(&state))
    }

    /// Whether the guest of this state is of this boot and lives; what cannot be told now is found out later.
    pub(super) fn is_alive(&self, state: &State) -> bool {
        let alive = || process::is_alive(state.body.pid, state.body.start_time).unwrap_or(true);
        state.boot == self.inner.boot && alive()
    }

    /// Makes a sandbox and destroys it: what cannot work here is said now, step by name, and not to the first client.
    async fn try_out(&self) -> Result<(), CreateError> {
        let id: SandboxId = format!("trial-{}", std::process::id())
            .parse()
            .map_err(|e| CreateError::Unsupported(format!("naming the trial: {e}")))?;
        // Not counted: nobody has asked for it.
        let (makings, mut terms) = (Makings::new(), Terms::default());
        let image = self.image(&mut terms.spec).await?;
        let running = self.create_on(&id, &terms, &image, &mut makings.begin(&id, &terms)).await?;
        let undone = running.destroy().await;
        undone.map_err(|e| CreateError::Step {
            id,
            step: "ending the trial".to_owned(),
            reason: e.to_string(),
        })
    }

    /// How its sandboxes are made.
    pub(crate) fn makings(&self) -> &Makings {
        &self.makings
    }

    /// What this backend enforces on this machine.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Makes a sandbox; its guest accepts connections when this returns.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left behind then.
    pub async fn create(&self, id: &SandboxId, spec: &SandboxSpec) -> Result<Running, CreateError> {
        let mut terms = Terms { spec: spec.clone(), ..Terms::default() };
        let mut making = self.makings.begin(id, &terms);
        let made = async {
            let image = self.image(&mut terms.spec).await?;
            self.create_on(id, &terms, &image, &mut making).await
        };
        let made = made.await;
        making.ended(made.as_ref().map(drop).map_err(CreateError::code));
        made
    }

    /// The image that a sandbox is to be made from; what the spec leaves open is as the image has it.
    ///
    /// # Errors
    /// [`CreateError`]: it cannot be had or used.
    pub(crate) async fn image(&self, spec: &mut SandboxSpec) -> Result<Image, CreateError> {
        let image = self.images.resolve(spec, &self.snapshots).await?;
        spec.layers.clone_from(&image.layers);
        let ImageConfig { env, workdir, user, .. } = &*image.config;
        for (name, value) in env {
            spec.env.entry(name.clone()).or_insert_with(|| value.clone());
        }
        if spec.workdir.is_none() {
            spec.workdir = workdir.clone().filter(|path| path.starts_with('/'));
        }
        spec.workdir = Some(crate::exec_request::workdir(spec));
        // Where there is one user, all the image's users are that one.
        if spec.user.is_none() && self.has_users {
            spec.user.clone_from(user);
        }
        spec.validate().map_err(|invalid| CreateError::Image {
            image: spec.image.to_string(),
            reason: format!("its configuration cannot be used: {invalid}"),
        })?;
        Ok(image)
    }

    /// The images of this node.
    #[must_use]
    pub fn images(&self) -> &Images {
        self.images.images()
    }

    /// [`create`](Self::create) on these terms, which are remembered with it.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left behind then.
    pub(crate) async fn create_on(
        &self,
        id: &SandboxId,
        terms: &Terms,
        image: &Image,
        making: &mut Making<'_>,
    ) -> Result<Running, CreateError> {
        let (inner, spec) = (&self.inner, &terms.spec);
        let step =
            |step: &str, reason: String| CreateError::Step { id: id.clone(), step: step.to_owned(), reason };
        // One that is there already is another sandbox's.
        let mut is_ours = false;
        let directory = || inner.directory.make(id).inspect(|_| is_ours = true);
        let made = self.make_body(id, spec, image, making, directory).await;
        let body = made.map_err(|error| if is_ours { self.give_up(id, error) } else { error })?;
        let death = inner.remember(&body);
        let running = Running {
            backend: Arc::clone(inner),
            id: id.clone(),
            body: body.clone(),
            created_at: jiff::Timestamp::now(),
            origin: Origin::Made,
            death,
            pin: image.pin.clone(),
        };
        if inner.remembers()
            && let Err(e) = inner.directory.save(id, &running.state(terms.clone()))
        {
            let error = step("writing its state", e.to_string());
            if let Err(left) = running.destroy().await {
                tracing::error!(error = %left, "undoing a failed create");
            }
            return Err(error);
        }
        Ok(running)
    }

    /// Has the spawner make a sandbox whose guest listens on the socket that `listener` makes.
    pub(super) async fn make_body(
        &self,
        id: &SandboxId,
        spec: &SandboxSpec,
        image: &Image,
        making: &mut Making<'_>,
        listener: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> Result<Body, CreateError> {
        let step =
            |step: &str, reason: String| CreateError::Step { id: id.clone(), step: step.to_owned(), reason };
        let spawner = self.inner.spawner().await.map_err(|reason| step("reaching the spawner", reason))?;
        let order = self.order(id, spec, image, &spawner).await?;
        making.enter(CreateStage::Directory);
        let listener = listener().map_err(|e| step("making its directory", e.to_string()))?;
        making.enter(CreateStage::Handover);
        match spawner.ask(|ticket| Order::Create { ticket, order }, Some(&listener)).await {
            Ok(Report::Created { body, times, .. }) => {
                making.spawned(times);
                Ok(body)
            }
            Ok(Report::NotCreated { stage, step: failed, reason, .. }) => {
                making.failed_at(stage);
                Err(step("spawning", format!("{failed}: {reason}")))
            }
            Ok(other) => Err(step("asking the spawner", format!("{other:?}"))),
            Err(reason) => Err(step("spawning", reason)),
        }
    }

    async fn order(
        &self,
        id: &SandboxId,
        spec: &SandboxSpec,
        image: &Image,
        spawner: &Spawner,
    ) -> Result<CreateOrder, CreateError> {
        let mut overlays = Vec::with_capacity(image.overlays.len());
        for (target, all) in &image.overlays {
            let mut layers = Vec::with_capacity(all.len());
            for layer in all {
                let tree = match &layer.lent {
                    Some((borrowed, overlay)) => spawner.lent(borrowed.lent(), *overlay).await,
                    None => spawner.tree(&layer.tree).await,
                };
                let tree =
                    tree.map_err(|reason| CreateError::Image { image: spec.image.to_string(), reason })?;
                layers.push(OverlayLayer { tree, below: layer.below.clone() });
            }
            overlays.push(Overlay { target: target.clone(), layers });
        }
        let limits = Limits::of(&spec.resources);
        let (directories, workdir) = (image.directories.clone(), spec.workdir.clone());
        Ok(CreateOrder { id: id.to_string(), overlays, directories, workdir, limits })
    }

    /// Removes what a failed create has made of the directory, and passes its error on.
    fn give_up(&self, id: &SandboxId, error: CreateError) -> CreateError {
        if let Err(e) = self.inner.directory.remove(id) {
            tracing::error!(%id, error = %e, "removing the directory of a failed create");
        }
        error
    }
}
