//! A server with a pool and sandboxes, some made and some claimed, and the end of it all.

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::json;

use crate::api::Api;
use crate::host::{Leftovers, mounts};
use crate::line::Line;
use crate::place::{Circumstances, Place, Server};
use crate::wait::until;

/// The pool of each part, and how many it keeps ready.
pub(crate) const POOL: &str = "warm";
pub(crate) const READY: u32 = 2;

/// A place with a running server.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) place: Place,
    pub(crate) line: Line,
    pub(crate) sandboxes: Vec<String>,
    server: Option<Server>,
    mounts_before: usize,
}

/// What is left when all was deleted and the server has ended.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    pub(crate) leftovers: Leftovers,
    /// Ready, in the making or claimed, of any pool.
    pub(crate) pooled: u32,
    /// What the servers warned of last.
    pub(crate) log: String,
}

impl Stage {
    /// Starts a server in a new place.
    pub(crate) async fn set(name: &str) -> Result<Self> {
        let mounts_before = mounts();
        Self::set_in(Place::new(name)?, mounts_before).await
    }

    /// Starts a server in a place that was prepared.
    pub(crate) async fn set_in(place: Place, mounts_before: usize) -> Result<Self> {
        let server = place.start(Circumstances::Usual).await?;
        let line = Line::to(&server.api);
        Ok(Self { place, line, sandboxes: Vec::new(), server: Some(server), mounts_before })
    }

    pub(crate) fn server(&self) -> Result<&Server> {
        self.server.as_ref().context("the server is down")
    }

    pub(crate) fn api(&self) -> Result<&Api> {
        Ok(&self.server()?.api)
    }

    /// Makes the pool.
    pub(crate) async fn fill_pool(&self) -> Result<()> {
        let api = self.api()?;
        api.put("/v1/templates/plain", &json!({})).await?.expect(&[200])?;
        let pool = json!({"name": POOL, "template": "plain", "min": READY, "max": 4});
        api.post("/v1/pools", &pool).await?.expect(&[201])?;
        self.pool_rests().await
    }

    /// Waits until the pool has what it is to have.
    pub(crate) async fn pool_rests(&self) -> Result<()> {
        until("the pool to be full", async || {
            let pool = self.api()?.pool(POOL).await?;
            let rests = pool.ready >= READY && pool.making == 0;
            Ok(if rests { Ok(()) } else { Err(format!("{pool:?}; {}", self.place.log())) })
        })
        .await
    }

    /// Makes so many sandboxes, each second one by a claim.
    pub(crate) async fn people(&mut self, count: usize) -> Result<()> {
        for at in 0..count {
            let id = match at % 2 {
                0 => self.api()?.create().await?,
                _ => self.api()?.claim(POOL, &json!({})).await?,
            };
            self.sandboxes.push(id);
        }
        self.place.note_guests();
        Ok(())
    }

    /// Deletes all sandboxes but those that are ready in the pool.
    pub(crate) async fn clear(&mut self) -> Result<()> {
        for id in std::mem::take(&mut self.sandboxes) {
            self.api()?.remove(&id).await?;
        }
        Ok(())
    }

    /// Fails unless all of them are there and run.
    pub(crate) async fn all_run(&self) -> Result<()> {
        for id in &self.sandboxes {
            let info = self.api()?.sandbox(id).await?;
            let phase = format!("{:?}", info.phase);
            ensure!(phase == "Running", "{id} is {phase}; {}", self.place.log());
        }
        Ok(())
    }

    /// Kills the server.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        let server = self.server.take().context("the server is down already")?;
        self.line.cut();
        server.kill().await
    }

    /// Starts the next server.
    pub(crate) async fn restart(&mut self, under: Circumstances) -> Result<()> {
        let server = self.place.start(under).await?;
        self.line.connect(&server.api);
        self.server = Some(server);
        self.place.note_guests();
        Ok(())
    }

    /// Deletes everything, ends the server, and looks what is left.
    pub(crate) async fn strike(mut self) -> Result<Rest> {
        self.place.note_guests();
        let before = Leftovers::of(&self.place, self.mounts_before);
        let guests = self.place.seen().iter().filter(|guest| guest.is_alive()).count();
        ensure!(
            before.processes.len() >= guests && before.directories.len() >= guests,
            "what lives now is not counted, so what is left would not be either: {before:?}"
        );
        let api = self.api()?.clone();
        let insist = async |method: Method, path: &str, statuses: &[u16]| {
            self.line.insist(method, path, None, statuses).await
        };
        let has_pool = api.get(&format!("/v1/pools/{POOL}")).await?.status == 200;
        if has_pool {
            insist(Method::POST, &format!("/v1/pools/{POOL}/drain"), &[200]).await?;
        }
        for sandbox in api.sandboxes(None).await? {
            insist(Method::DELETE, &format!("/v1/sandboxes/{}", sandbox.id), &[204, 404, 410]).await?;
        }
        let mut pooled = 0;
        if has_pool {
            let empty = until("an empty pool", async || {
                let pool = api.pool(POOL).await?;
                pooled = pool.ready + pool.making + pool.claimed;
                Ok(if pooled == 0 { Ok(()) } else { Err(format!("{pool:?}")) })
            });
            // What did not go is counted, not an error of this program.
            let _counted = empty.await;
            insist(Method::DELETE, &format!("/v1/pools/{POOL}"), &[204]).await?;
            insist(Method::DELETE, "/v1/templates/plain", &[204]).await?;
        }
        let left = api.sandboxes(None).await?;
        ensure!(left.is_empty(), "there are sandboxes after all were deleted: {left:?}");
        self.line.cut();
        self.server.take().context("the server is down")?.stop().await?;
        let leftovers = Leftovers::at_rest(&self.place, self.mounts_before).await;
        Ok(Rest { leftovers, pooled, log: self.place.log() })
    }
}
