//! A home and control groups of one part's own, and the server that runs on them.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::api::Api;
use crate::host::{self, Guest};
use crate::wait::within;

/// Lines of a server's log that a failure tells.
const LOG_LINES: usize = 20;

/// What a server finds on the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Circumstances {
    /// What there is.
    Usual,
    /// Clocks since boot that are so many seconds ahead.
    ClocksAhead(u32),
    /// So many descriptors at most, for it and its spawner.
    Descriptors(u32),
}

/// Where servers run, one after the other.
#[derive(Debug)]
pub(crate) struct Place {
    /// Goes before the directory that it is in.
    disk: Option<Disk>,
    directory: TempDir,
    /// `None` for an ordinary user, who may have none.
    pub(crate) cgroup: Option<String>,
    /// Every guest that was ever seen.
    seen: Mutex<BTreeSet<Guest>>,
}

/// A running `hothouse serve`.
#[derive(Debug)]
pub(crate) struct Server {
    /// The server itself, or what shifts its clocks and waits for it.
    child: Child,
    pid: Pid,
    pub(crate) api: Api,
    // Kept open: a server whose standard output is gone may complain.
    _stdout: BufReader<ChildStdout>,
}

pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

impl Place {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("hothouse-chaos-").tempdir()?;
        let cgroup = is_root().then(|| format!("hothouse-chaos-{}-{name}", std::process::id()));
        Ok(Self { disk: None, directory, cgroup, seen: Mutex::default() })
    }

    /// A place whose home, with the directories of sandboxes, is on a disk of its own, of so many bytes. Needs root.
    pub(crate) fn on_disk(name: &str, bytes: u64) -> Result<Self> {
        let mut place = Self::new(name)?;
        place.disk = Some(Disk::mount(&place.home(), bytes)?);
        // Where a link leads to a private directory of ours, a server keeps sandboxes there.
        let state = place.home().join("state");
        for directory in [&state, &state.join("sandboxes")] {
            fs::DirBuilder::new().mode(0o700).create(directory)?;
        }
        symlink(state.join("sandboxes"), place.home().join("sandboxes"))?;
        Ok(place)
    }

    /// A directory that is this part's alone.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    /// Where the server writes down what it knows of its sandboxes.
    pub(crate) fn states(&self) -> PathBuf {
        let link = self.home().join("sandboxes");
        fs::canonicalize(&link).unwrap_or(link)
    }

    /// The guest of a sandbox, as it is written down.
    pub(crate) fn guest(&self, sandbox: &str) -> Result<Guest> {
        Guest::of(&self.states().join(sandbox))
    }

    /// Takes note of the guests that there are now, so that none can be missed at the end.
    pub(crate) fn note_guests(&self) {
        let found = host::guests(&self.states());
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
    }

    /// Every guest that was ever noted.
    pub(crate) fn seen(&self) -> BTreeSet<Guest> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the servers warned of; the last lines of it.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains(" INFO ")).collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// How often the servers logged a text.
    pub(crate) fn logged(&self, text: &str) -> usize {
        fs::read_to_string(self.path().join("log")).unwrap_or_default().matches(text).count()
    }

    /// Starts a server and waits until it listens.
    pub(crate) async fn start(&self, under: Circumstances) -> Result<Server> {
        let log = fs::File::options().append(true).create(true).open(self.path().join("log"))?;
        let program = env!("CARGO_BIN_EXE_hothouse");
        let mut command = match under {
            Circumstances::Usual => Command::new(program),
            Circumstances::ClocksAhead(seconds) => {
                let mut command = Command::new("unshare");
                command.arg("--time").arg(format!("--boottime={seconds}"));
                command.arg(format!("--monotonic={seconds}")).args(["--fork", "--kill-child", "--", program]);
                command
            }
            Circumstances::Descriptors(most) => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={most}:{most}")).arg(program);
                command
            }
        };
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--json", "--home"])
            .arg(self.home())
            .env_remove("HOTHOUSE_SERVER")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        if let Some(cgroup) = &self.cgroup {
            command.args(["--cgroup", cgroup]);
        }
        let mut child = command.spawn().context("starting hothouse serve")?;
        let mut stdout = BufReader::new(child.stdout.take().context("standard output")?);
        let mut line = String::new();
        within("the server to be ready", stdout.read_line(&mut line)).await??;
        let Ok(ready) = serde_json::from_str::<Value>(&line) else {
            let ended = within("the end of a server that does not serve", child.wait()).await??;
            bail!("the server said {line:?} and ended with {ended}: {}", self.log());
        };
        let pid = ready["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let api = Api::new(ready["url"].as_str().context("url")?)?;
        Ok(Server { child, pid: pid.context("pid")?, api, _stdout: stdout })
    }
}

impl Drop for Place {
    /// What a part left that could not be played to its end would outlive this program.
    fn drop(&mut self) {
        self.note_guests();
        for guest in self.seen().iter().filter(|guest| guest.is_alive()) {
            // One that has just ended is what we want.
            let _gone = guest.kill();
        }
        if let Some(name) = &self.cgroup {
            host::remove_groups(name);
        }
    }
}

/// A mounted disk in memory.
#[derive(Debug)]
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, bytes: u64) -> Result<Self> {
        fs::create_dir(at)?;
        let options = CString::new(format!("size={bytes},mode=755"))?;
        rustix::mount::mount("chaos", at, "tmpfs", MountFlags::NODEV, Some(options.as_c_str()))
            .with_context(|| format!("mounting {}", at.display()))?;
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = rustix::mount::unmount(&self.0, UnmountFlags::DETACH) {
            println!("unmounting {}: {error}", self.0.display());
        }
    }
}

impl Server {
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Kills it as the kernel or an administrator would.
    pub(crate) async fn kill(mut self) -> Result<()> {
        kill_process(self.pid, Signal::KILL).context("killing the server")?;
        within("the end of a killed server", self.child.wait()).await??;
        Ok(())
    }

    /// Ends it in order; its sandboxes, if there are any, live on and are counted.
    pub(crate) async fn stop(mut self) -> Result<()> {
        kill_process(self.pid, Signal::TERM).context("ending the server")?;
        let status = within("the server to end", self.child.wait()).await??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    /// The spawner that it runs now.
    pub(crate) fn spawner(&self) -> Option<Pid> {
        host::children(self.pid)
            .into_iter()
            .find(|pid| host::arguments(*pid).iter().any(|arg| arg == "spawner"))
    }
}
