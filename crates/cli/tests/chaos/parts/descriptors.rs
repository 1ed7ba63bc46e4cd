//! The server has no descriptor left: hundreds of connections hold them all.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::future::join_all;
use hothouse_domain::{SandboxInfo, SandboxPhase};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Form, Played, Wanted};
use crate::api::Answer;
use crate::dice::Dice;
use crate::host::descriptors;
use crate::ledger::Ledger;
use crate::place::Circumstances;
use crate::stage::Stage;
use crate::table::Row;
use crate::wait::{until, within};
use crate::work::{Job, Repeat, run_all};

const EXECS: usize = 100;
const SANDBOXES: usize = 6;
/// Sandboxes that are asked for an exec meanwhile; a server takes seconds to be sure that a guest is not dead.
const STARVED: usize = 1;
const PAUSE: Duration = Duration::from_millis(100);
/// Descriptors beyond those that an idle server has.
const ROOM: usize = 16;
const CONNECTIONS: usize = 300;
/// The kernel holds so many for a server; to more it does not answer.
const ESTABLISHED: usize = 64;
const ESTABLISHED_WITHIN: Duration = Duration::from_millis(500);
/// Descriptors of a server that has few from its start.
const FEW: u32 = 192;
/// How often the next spawner fails to start while there are no descriptors for it.
const FAILED_STARTS: usize = 6;

pub(super) async fn play(wanted: &Wanted) -> Result<Played> {
    let mut dice = wanted.dice("descriptors");
    let mut stage = Stage::set("descriptors").await?;
    stage.fill_pool().await?;
    stage.people(SANDBOXES).await?;
    let mut ledger = Ledger::default();
    let rounds = wanted.by_form(1, 4);
    for round in 0..rounds {
        // The next server has no connection to any guest yet, and no client one to it.
        stage.kill().await?;
        stage.restart(Circumstances::Usual).await?;
        let (jobs, line) = (jobs_of(&stage, &format!("f{round}"), &mut dice), stage.line.clone());
        let starved = starve(&stage).await;
        let starved = starved.with_context(|| format!("round {round}, starved; {}", stage.place.log()))?;
        let relieved = relieve(&stage, starved, wanted.form);
        let (done, relieved) = tokio::join!(run_all(jobs, &line, Repeat::SameId), relieved);
        relieved.with_context(|| format!("round {round}, relieved; {}", stage.place.log()))?;
        ledger.check(&stage.line, &done).await?;
        works(&stage).await?;

        stage.kill().await?;
        stage.restart(Circumstances::Descriptors(FEW)).await?;
        let kept = Kept::open(stage.api()?.base.trim_start_matches("http://")).await?;
        let (jobs, line) = (jobs_of(&stage, &format!("h{round}"), &mut dice), stage.line.clone());
        let (done, crowded) = tokio::join!(run_all(jobs, &line, Repeat::SameId), crowd(&stage, kept));
        crowded.with_context(|| format!("round {round}, crowded; {}", stage.place.log()))?;
        ledger.check(&stage.line, &done).await?;
        works(&stage).await?;
    }
    stage.pool_rests().await?;
    let rest = stage.strike().await?;
    Ok(Row { faults: rounds * 3, ledger, rest, ..Row::default() }.into())
}

fn jobs_of(stage: &Stage, name: &str, dice: &mut Dice) -> Vec<Job> {
    let sandbox = |at: usize| &stage.sandboxes[at % SANDBOXES];
    (0..EXECS).map(|at| Job::random(sandbox(at), format!("{name}-{at}"), dice, PAUSE)).collect()
}

/// All sandboxes run, and another can be made.
async fn works(stage: &Stage) -> Result<()> {
    stage.all_run().await?;
    let made = stage.line.insist(Method::POST, "/v1/sandboxes", Some(&json!({})), &[201]).await;
    let (made, _) = made.with_context(|| stage.place.log())?;
    stage.api()?.remove(made.json::<SandboxInfo>()?.id.as_str()).await
}

/// Connections that say nothing; the kernel takes no more than it has room for.
async fn idle(address: &str) -> Result<Vec<TcpStream>> {
    let connecting = (0..CONNECTIONS).map(|_| timeout(ESTABLISHED_WITHIN, TcpStream::connect(address)));
    let idle: Vec<_> = join_all(connecting).await.into_iter().flatten().flatten().collect();
    ensure!(idle.len() >= ESTABLISHED, "only {} connections", idle.len());
    Ok(idle)
}

/// What a server is starved by.
struct Starved {
    idle: Vec<TcpStream>,
    /// Its limit before.
    before: Rlimit,
}

/// Takes all descriptors from a server that runs.
async fn starve(stage: &Stage) -> Result<Starved> {
    let pid = stage.server()?.pid();
    let address = stage.api()?.base.trim_start_matches("http://").to_owned();
    let mut kept = Kept::open(&address).await?;
    let before = prlimit(Some(pid), Resource::Nofile, getrlimit(Resource::Nofile)).context("prlimit")?;
    let few = u64::try_from(descriptors(pid) + ROOM)?;
    let limit = Rlimit { current: Some(few), maximum: before.maximum };
    prlimit(Some(pid), Resource::Nofile, limit).context("prlimit")?;
    let idle = idle(&address).await?;
    is_full(pid).await?;
    no_sandbox_is_given_up(stage, &mut kept).await?;
    Ok(Starved { idle, before })
}

/// Kills the spawner of a starved server, and gives it its descriptors back.
async fn relieve(stage: &Stage, starved: Starved, form: Form) -> Result<()> {
    let spawner = stage.server()?.spawner().context("no spawner")?;
    let failed_before = stage.place.logged("starting the spawner");
    kill_process(spawner, Signal::KILL)?;
    if form == Form::Long {
        until("the next spawner not to start", async || {
            let failed = stage.place.logged("starting the spawner") - failed_before;
            Ok(if failed >= FAILED_STARTS { Ok(()) } else { Err(format!("{failed} failures")) })
        })
        .await?;
    }
    drop(starved.idle);
    prlimit(Some(stage.server()?.pid()), Resource::Nofile, starved.before).context("prlimit")?;
    Ok(())
}

/// Hundreds of connections to a server that has few descriptors: it keeps enough to serve those that it took.
async fn crowd(stage: &Stage, mut kept: Kept) -> Result<()> {
    let idle = idle(&kept.address).await?;
    until("connections to be refused", async || {
        let counters = kept.call(Method::GET, "/metrics", None).await?;
        let text = String::from_utf8_lossy(&counters.body).into_owned();
        let refused = text.lines().find(|line| line.starts_with("hothouse_http_connections_refused_total "));
        Ok(if refused.is_some_and(|line| !line.ends_with(" 0")) {
            Ok(())
        } else {
            Err(format!("{refused:?}"))
        })
    })
    .await?;
    for id in &stage.sandboxes {
        let body = json!({"exec_id": "crowded", "argv": ["true"]});
        kept.call(Method::POST, &format!("/v1/sandboxes/{id}/exec"), Some(&body)).await?.expect(&[200])?;
    }
    drop(idle);
    Ok(())
}

/// Waits until the server has as many descriptors as it may: no connection is taken any more.
async fn is_full(pid: Pid) -> Result<()> {
    let mut last = 0;
    until("all descriptors to be in use", async || {
        let now = descriptors(pid);
        let full = now > ROOM && now == last;
        last = now;
        Ok(if full { Ok(()) } else { Err(format!("{now} in use")) })
    })
    .await
}

/// One connection that is kept, whatever happens to others.
struct Kept {
    sender: SendRequest<Full<Bytes>>,
    address: String,
    // Reads and writes the socket; ends with this set.
    _io: JoinSet<()>,
}

impl Kept {
    async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut io = JoinSet::new();
        io.spawn(async move {
            // A broken connection shows in the request that it breaks.
            let _shown = connection.await;
        });
        let mut kept = Self { sender, address: address.to_owned(), _io: io };
        // It is taken now, and not one that the server knows nothing of yet.
        kept.call(Method::GET, "/healthz", None).await?.expect(&[200])?;
        Ok(kept)
    }

    async fn call(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let asked = async {
            let body = body.map(ToString::to_string).unwrap_or_default();
            let request = Request::builder().method(method).uri(path).header("host", &self.address);
            let request = request.header("content-type", "application/json").body(Full::from(body))?;
            self.sender.ready().await?;
            let response = self.sender.send_request(request).await?;
            let status = response.status().as_u16();
            anyhow::Ok(Answer { status, body: response.into_body().collect().await?.to_bytes() })
        };
        within(path, asked).await?.with_context(|| format!("{path} on a connection that was open"))
    }
}

/// Asks for an exec in each sandbox on a connection that was there before. The server may have no descriptor to reach the
/// guest with, and must not take that for the guest's death.
async fn no_sandbox_is_given_up(stage: &Stage, kept: &mut Kept) -> Result<()> {
    let mut starved = 0;
    for id in stage.sandboxes.iter().take(STARVED) {
        let body = json!({"exec_id": "starved", "argv": ["true"]});
        let answer = kept.call(Method::POST, &format!("/v1/sandboxes/{id}/exec"), Some(&body)).await?;
        if answer.status != 200 {
            let problem = answer.problem()?;
            ensure!(problem.code.as_str() != "sandbox_dead", "{id} lives: {}", answer.text());
            starved += 1;
        }
        let info = kept.call(Method::GET, &format!("/v1/sandboxes/{id}"), None).await?;
        let phase = info.json::<SandboxInfo>()?.phase;
        ensure!(phase == SandboxPhase::Running, "{id} lives, and is told to be {phase:?}");
    }
    ensure!(starved > 0, "there was a descriptor for everything");
    Ok(())
}
