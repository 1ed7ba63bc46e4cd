//! A second server beside the one with the neighbour, as the same kind of user: it may be killed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};

use crate::api::Api;
use crate::host::HostState;
use crate::world::{World, remove_cgroups};

/// Tenants that it has keys for.
const TENANTS: [(&str, &str); 3] = [("mallory", "user"), ("bob", "user"), ("operator", "admin")];

/// See the module.
pub(crate) struct Companion<'a> {
    world: &'a World,
    server: Child,
    pid: u32,
    base: String,
    home: PathBuf,
    cgroup: Option<String>,
    keys: Vec<String>,
}

/// Whether it asks who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    Asked,
    Off,
}

impl<'a> Companion<'a> {
    /// Starts it.
    pub(crate) async fn start(world: &'a World, name: &str, keys: Keys) -> anyhow::Result<Self> {
        let home = world.dir().join(name);
        fs::create_dir(&home)?;
        let mut secrets = Vec::new();
        if keys == Keys::Asked {
            let file = home.join("keys.json");
            for (tenant, role) in TENANTS {
                let mut command = Command::new(world.program());
                command.args(["keys", "create", "--tenant", tenant, "--role", role, "--keys"]).arg(&file);
                let made = command.env("HOME", &home).output().await?;
                anyhow::ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
                secrets.push(String::from_utf8(made.stdout)?.trim().to_owned());
            }
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        }
        if let Some(uid) = world.whom.uid() {
            for entry in fs::read_dir(&home)? {
                chown(entry?.path(), Some(uid), Some(uid))?;
            }
            chown(&home, Some(uid), Some(uid))?;
        }
        let cgroup = world.another_cgroup(name)?;
        let (server, base) = world.launch(&home, cgroup.as_deref()).await?;
        let pid = server.id().context("the server has no pid")?;
        Ok(Self { world, server, pid, base, home, cgroup, keys: secrets })
    }

    /// A client without a key.
    pub(crate) fn nobody(&self) -> anyhow::Result<Api> {
        Api::new(&self.base)
    }

    /// A client of the tenant that attacks; without a key where none is asked for.
    pub(crate) fn mallory(&self) -> anyhow::Result<Api> {
        Api::with_key(&self.base, self.keys.first().map(String::as_str))
    }

    /// A client of the other tenant.
    pub(crate) fn bob(&self) -> anyhow::Result<Api> {
        Api::with_key(&self.base, self.keys.get(1).map(String::as_str))
    }

    /// A client that may see what all tenants share.
    pub(crate) fn operator(&self) -> anyhow::Result<Api> {
        Api::with_key(&self.base, self.keys.get(2).map(String::as_str))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// What it holds of the host.
    pub(crate) fn host(&self) -> HostState {
        HostState::take(self.pid, self.cgroup.as_deref(), None)
    }

    /// Kills it and starts another one on the same home.
    pub(crate) async fn killed_and_started_again(mut self) -> anyhow::Result<Self> {
        self.server.start_kill()?;
        self.server.wait().await?;
        let (server, base) = self.world.launch(&self.home, self.cgroup.as_deref()).await?;
        let pid = server.id().context("the server has no pid")?;
        Ok(Self { server, pid, base, ..self })
    }

    /// Ends it, which must leave nothing.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let link = self.home.join("sandboxes");
        let states = fs::canonicalize(&link).unwrap_or(link);
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw).context("a pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let ended = tokio::time::timeout(Duration::from_secs(30), self.server.wait()).await;
        let status = ended.context("it did not end within 30 s of SIGTERM")??;
        if let Some(name) = &self.cgroup {
            remove_cgroups(name).await?;
        }
        if states.exists() {
            bail!("{} is left", states.display());
        }
        fs::remove_dir_all(&self.home)?;
        anyhow::ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}
