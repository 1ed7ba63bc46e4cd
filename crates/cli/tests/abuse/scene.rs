//! Playing one case: stock, neighbour, attack, neighbour, stock, and then the attack with the defence off.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::future::join_all;
use hothouse_domain::{ExecResult, ExecSpec, Resources, SandboxSpec};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cases::{self, Case};
use crate::findings::Findings;
use crate::matrix::Row;
use crate::neighbour::{self, Service};
use crate::outside::PRELUDE;
use crate::world::World;

/// Execs of the neighbour before and after.
const ROUNDS: usize = 50;
/// The neighbour is answered within this, whatever goes on next door.
const NEIGHBOUR_DURING: Duration = Duration::from_millis(500);
/// And soon is as quick as it was.
const NEIGHBOUR_AFTER: Duration = Duration::from_millis(100);
/// The host is as it was so long after the attack's sandboxes are gone.
const SETTLED: Duration = Duration::from_secs(10);

/// What a case works with.
pub(crate) struct Scene<'a> {
    /// The server.
    pub(crate) world: &'a World,
    /// What was found out.
    pub(crate) found: Findings,
    made: Vec<String>,
}

impl<'a> Scene<'a> {
    fn new(world: &'a World) -> Self {
        Self { world, found: Findings::default(), made: Vec::new() }
    }

    /// A fresh sandbox with these limits, removed after the case.
    pub(crate) async fn sandbox(&mut self, resources: Resources) -> anyhow::Result<String> {
        let spec = SandboxSpec { resources, ..SandboxSpec::default() };
        let id = self.world.api.create(&spec).await?.id.to_string();
        self.made.push(id.clone());
        Ok(id)
    }

    /// Removes this one after the case too.
    pub(crate) fn owns(&mut self, id: String) {
        self.made.push(id);
    }

    /// How many sandboxes this case has now.
    pub(crate) fn owned(&self) -> usize {
        self.made.len()
    }

    /// A fresh sandbox with the limits that one gets without asking.
    pub(crate) async fn plain(&mut self) -> anyhow::Result<String> {
        self.sandbox(Resources::default()).await
    }

    /// Plays a part of the case for each of these, all at once, each with findings and sandboxes of its own.
    pub(crate) async fn each<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        part: impl AsyncFn(&mut Self, T) -> anyhow::Result<()>,
    ) {
        let (world, part) = (self.world, &part);
        let parts = items.into_iter().map(|item| async move {
            let mut scene = Self::new(world);
            if let Err(error) = part(&mut scene, item).await {
                scene.found.broke(&error);
            }
            scene
        });
        for scene in join_all(parts).await {
            self.found.add(scene.found);
            self.made.extend(scene.made);
        }
    }

    /// Runs a command.
    pub(crate) async fn exec(&self, id: &str, spec: ExecSpec) -> anyhow::Result<ExecResult> {
        self.world.api.exec(id, &spec).await
    }

    /// Runs a shell script.
    pub(crate) async fn shell(&self, id: &str, script: &str) -> anyhow::Result<ExecResult> {
        self.exec(id, ExecSpec { shell: Some(script.to_owned()), ..ExecSpec::default() }).await
    }

    /// Runs a Python payload and returns its report.
    pub(crate) async fn python(&self, id: &str, payload: &str, args: &[&str]) -> anyhow::Result<Value> {
        let result = self.exec(id, python(payload, args)).await?;
        crate::outside::last_json(&result.stdout)
            .with_context(|| format!("{:?}, stderr {:?}", result.outcome, result.stderr))
    }

    /// The processes in a sandbox beside its guest, zombies apart.
    pub(crate) async fn census(&self, id: &str) -> anyhow::Result<(usize, u64)> {
        let report = self.python(id, cases::CENSUS, &[]).await?;
        let alive = report["alive"].as_array().context("no list")?.len();
        Ok((alive, report["zombies"].as_u64().context("no number")?))
    }

    /// How many processes are left in a sandbox once they had `limit` to vanish.
    pub(crate) async fn survivors(&self, id: &str, limit: Duration) -> anyhow::Result<(usize, u64)> {
        let until = Instant::now() + limit;
        loop {
            let census = self.census(id).await?;
            if census == (0, 0) || Instant::now() > until {
                return Ok(census);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Notes whether a limit held; where it did not and the server names it as missing, that is a named hole.
    pub(crate) fn limited(
        &mut self,
        capability: &str,
        what: &str,
        held: bool,
        evidence: impl std::fmt::Display,
    ) {
        match self.world.missing(capability) {
            Some(reason) if !held => self.found.hole(reason),
            Some(_) | None => self.found.holds(what, held, evidence),
        }
    }

    /// Removes the sandboxes of this case.
    async fn clear(&mut self) {
        for id in std::mem::take(&mut self.made) {
            match self.world.api.delete(&id).await {
                Ok(answer) => {
                    let gone = answer.status < 300
                        || matches!(answer.code().as_str(), "sandbox_not_found" | "sandbox_ended");
                    self.found.holds("the sandbox is removed", gone, answer.code());
                }
                Err(error) => self.found.broke(&error),
            }
        }
    }
}

/// A command that runs a Python payload.
pub(crate) fn python(payload: &str, args: &[&str]) -> ExecSpec {
    let mut argv = vec!["/usr/bin/python3".to_owned(), "-c".to_owned(), format!("{PRELUDE}\n{payload}")];
    argv.extend(args.iter().map(|arg| (*arg).to_owned()));
    ExecSpec { argv: Some(argv), timeout_s: Some(120.0), ..ExecSpec::default() }
}

/// What the neighbour saw.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Neighbourhood {
    /// Before the attack.
    pub(crate) before: Service,
    /// While it went on.
    pub(crate) during: Service,
    /// After it.
    pub(crate) after: Service,
}

impl Neighbourhood {
    fn judge(&self, world: &World) -> Findings {
        let mut found = Findings::default();
        for (when, service) in [("before", self.before), ("during", self.during), ("after", self.after)] {
            found.holds(
                format!("the neighbour is served {when}"),
                service.failures == 0,
                format!("{} of {} failed", service.failures, service.failures + service.count),
            );
        }
        let during = NEIGHBOUR_DURING.max(self.before.p99 * 10);
        if self.during.p99 > during
            && let Some(reason) = world.missing("cpu_limit")
        {
            found.hole(reason);
        } else {
            found.holds(
                "neighbour's p99 during",
                self.during.p99 <= during,
                format!("{:?}", self.during.p99),
            );
        }
        let quick = self.after.p99 <= quick_again(self.before);
        found.holds("neighbour's p99 after", quick, format!("{:?}", self.after.p99));
        found
    }
}

/// Plays one case.
pub(crate) async fn play(world: &mut World, case: &'static Case) -> Row {
    let began = Instant::now();
    let stock = world.stock();
    let before = neighbour::measure(&world.api, &world.neighbour, ROUNDS).await;

    let end = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(neighbour::measure_until(world.api.clone(), world.neighbour.clone(), end.clone()));
    let mut scene = Scene::new(world);
    if let Err(error) = Box::pin(cases::attack(case, &mut scene)).await {
        scene.found.broke(&error);
    }
    end.cancel();
    let during = tasks.join_next().await.and_then(Result::ok).unwrap_or_default();
    scene.clear().await;
    let attack = scene.found;

    let after = recovered(world, before).await;
    let neighbours = Neighbourhood { before, during, after };
    let host = settle(world, &stock).await;

    let mut control = Scene::new(world);
    if let Err(error) = Box::pin(cases::control(case, &mut control)).await {
        control.found.broke(&error);
    }
    control.clear().await;
    Row {
        case,
        whom: world.whom,
        attack,
        host,
        neighbour: neighbours.judge(world),
        neighbours,
        control: control.found,
        took: began.elapsed(),
    }
}

/// What the neighbour's p99 may be after the attack, given how it was served before.
fn quick_again(before: Service) -> Duration {
    NEIGHBOUR_AFTER.max(before.p99 * 5)
}

/// Waits until the neighbour is as quick as it was: the kernel cleans up for a while after a crowd.
async fn recovered(world: &World, before: Service) -> Service {
    let until = Instant::now() + SETTLED;
    loop {
        let service = neighbour::measure(&world.api, &world.neighbour, ROUNDS).await;
        if service.failures > 0 || service.p99 <= quick_again(before) || Instant::now() > until {
            return service;
        }
    }
}

/// Waits until the host is as it was; what is not is a finding.
async fn settle(world: &World, stock: &crate::host::HostState) -> Findings {
    let until = Instant::now() + SETTLED;
    let mut grown = world.host().grown_since(stock);
    while !grown.is_empty() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
        grown = world.host().grown_since(stock);
    }
    let mut found = Findings::default();
    found.holds("the host is as it was", grown.is_empty(), grown.join(", "));
    let touched = world.touched();
    found.holds("files of the host are as they were", touched.is_empty(), touched.join(", "));
    found
}
