//! The server under test: the real program, started as root, as a user with delegated cgroups, or as a user without.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hothouse_domain::{Capabilities, Enforcement, SandboxSpec};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::account::{Account, Memory};
use crate::api::Api;
use crate::host::HostState;
use crate::outside::is_root;

/// The ordinary user; it needs no entry in /etc/passwd.
const USER: u32 = 1500;

/// Files that no attack may change, beside the program itself.
const UNTOUCHABLE: &[&str] = &["/usr/bin/python3", "/bin/sleep", "/bin/sh", "/etc/passwd"];

/// As whom the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    /// As root.
    Root,
    /// As an ordinary user who owns a cgroup in each hierarchy.
    Delegated,
    /// As an ordinary user with nothing.
    User,
}

impl Whom {
    /// All, in the order of the matrix.
    pub(crate) const ALL: [Self; 3] = [Self::Root, Self::Delegated, Self::User];

    /// The one with this name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|whom| whom.to_string() == name)
    }

    /// Why this program cannot start a server as that one.
    pub(crate) fn cannot_be(self) -> Option<String> {
        match self {
            Self::Root | Self::Delegated if !is_root() => Some("needs root".to_owned()),
            Self::Root | Self::Delegated | Self::User => None,
        }
    }

    pub(crate) fn uid(self) -> Option<u32> {
        match self {
            Self::Delegated | Self::User if is_root() => Some(USER),
            Self::Root | Self::Delegated | Self::User => None,
        }
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Root => "root",
            Self::Delegated => "delegated",
            Self::User => "user",
        })
    }
}

/// A running server, its neighbour sandbox, and what belongs to them.
#[derive(Debug)]
pub(crate) struct World {
    /// As whom it runs.
    pub(crate) whom: Whom,
    /// A client of it.
    pub(crate) api: Api,
    /// What it says that it enforces.
    pub(crate) capabilities: Capabilities,
    /// The sandbox that must not notice.
    pub(crate) neighbour: String,
    server: Child,
    pid: u32,
    cgroup: Option<String>,
    account: Option<Account>,
    untouchable: Vec<(PathBuf, Vec<u8>)>,
    /// What was in use before the first attack.
    memory: Memory,
    dir: TempDir,
}

impl World {
    /// Starts a server and its neighbour.
    pub(crate) async fn start(whom: Whom) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("hothouse-abuse-").tempdir_in("/tmp")?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        // The user cannot look into the directory that cargo builds in, and an attack must not hit what cargo built.
        let program = dir.path().join("hothouse");
        let built =
            std::env::var_os("HOTHOUSE_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_hothouse").into());
        fs::copy(&built, &program).with_context(|| format!("copying {}", built.display()))?;
        let home = dir.path().join("home");
        fs::create_dir(&home)?;
        let name = format!("hothouse-abuse-{}-{whom}", std::process::id());
        let cgroup = (whom != Whom::User).then(|| name.clone());
        if let Some(uid) = whom.uid() {
            std::os::unix::fs::chown(&home, Some(uid), Some(uid))?;
        }
        if let (Whom::Delegated, Some(name)) = (whom, &cgroup) {
            delegate(name)?;
        }
        let account = Account::open(&format!("{name}-server"), cgroup.as_deref())?;
        let log = fs::File::create(dir.path().join("log"))?;
        let mut command = serve(whom, account.as_ref(), &program, &home, cgroup.as_deref());
        let mut server = command.stderr(log).spawn().context("starting the server")?;
        let pid = server.id().context("the server has no pid")?;
        let Some(base) = ready(&mut server).await? else {
            bail!("it did not get ready: {}", fs::read_to_string(dir.path().join("log")).unwrap_or_default());
        };
        let api = Api::new(&base)?;
        let capabilities = api.capabilities().await?;
        let neighbour = api.create(&SandboxSpec::default()).await.context("the neighbour")?.id.to_string();
        let mut untouchable = Vec::new();
        for path in UNTOUCHABLE.iter().map(PathBuf::from).chain([program]) {
            let content = fs::read(&path).with_context(|| path.display().to_string())?;
            untouchable.push((path, content));
        }
        let memory = Memory::Charged(0);
        let mut world = Self {
            whom,
            api,
            capabilities,
            neighbour,
            server,
            pid,
            cgroup,
            account,
            untouchable,
            memory,
            dir,
        };
        world.warm_up().await?;
        world.memory = world.host().memory;
        Ok(world)
    }

    /// Fills the pools, so that what is counted later is not their first growth.
    async fn warm_up(&self) -> anyhow::Result<()> {
        // As many at once as any case makes again and again.
        let turns = (0..16).map(|_| async {
            let made = self.api.create(&SandboxSpec::default()).await?;
            self.api.delete(made.id.as_str()).await?;
            anyhow::Ok(())
        });
        futures::future::try_join_all(turns).await?;
        Ok(())
    }

    /// The program under test, where the user may run it.
    pub(crate) fn program(&self) -> PathBuf {
        self.dir.path().join("hothouse")
    }

    /// A place for the control groups of another server, where there is any.
    pub(crate) fn another_cgroup(&self, name: &str) -> anyhow::Result<Option<String>> {
        let Some(ours) = &self.cgroup else { return Ok(None) };
        let another = format!("{ours}-{name}");
        if self.whom == Whom::Delegated {
            delegate(&another)?;
        }
        Ok(Some(another))
    }

    /// Starts another server, on a home that is its user's; it and its address.
    pub(crate) async fn launch(&self, home: &Path, cgroup: Option<&str>) -> anyhow::Result<(Child, String)> {
        let log = fs::File::options().append(true).create(true).open(home.join("log"))?;
        let mut server =
            serve(self.whom, self.account.as_ref(), &self.program(), home, cgroup).stderr(log).spawn()?;
        let Some(base) = ready(&mut server).await? else {
            bail!("it did not get ready: {}", fs::read_to_string(home.join("log")).unwrap_or_default());
        };
        Ok((server, base))
    }

    /// The server's pid.
    pub(crate) fn server(&self) -> u32 {
        self.pid
    }

    /// A directory on the host that belongs to this world and that sandboxes must not reach.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Takes stock before an attack. Memory that is charged to this world alone is compared with what was in use before the
    /// first one: the kernel gives some back late, and what the case before left must not hide what this one takes.
    pub(crate) fn stock(&self) -> HostState {
        let now = self.host();
        match self.memory {
            Memory::Charged(_) => HostState { memory: self.memory, ..now },
            Memory::Machine(_) => now,
        }
    }

    /// Takes stock of the host.
    pub(crate) fn host(&self) -> HostState {
        HostState::take(self.pid, self.cgroup.as_deref(), self.account.as_ref())
    }

    /// Where the server keeps what it knows of its sandboxes: a link leads from its home to a place in memory.
    pub(crate) fn state_directory(&self) -> PathBuf {
        let link = self.dir().join("home/sandboxes");
        fs::canonicalize(&link).unwrap_or(link)
    }

    /// Files of the host that are not as they were.
    pub(crate) fn touched(&self) -> Vec<String> {
        let changed = |(path, content): &&(PathBuf, Vec<u8>)| fs::read(path).ok().as_ref() != Some(content);
        self.untouchable.iter().filter(changed).map(|(path, _)| path.display().to_string()).collect()
    }

    /// Why a limit does not hold here, if the server says so.
    pub(crate) fn missing(&self, capability: &str) -> Option<String> {
        match self.capabilities.get(capability) {
            Some(Enforcement::Missing { reason, .. } | Enforcement::Partial { reason, .. }) => {
                Some(format!("{capability}: {reason}"))
            }
            Some(Enforcement::Enforced) => None,
            None => None,
        }
    }

    /// Ends the server as a service manager would, and checks that it took everything with it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw).context("a pid")?;
        let state = self.state_directory();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = tokio::time::timeout(Duration::from_secs(30), self.server.wait())
            .await
            .context("it did not end within 30 s of SIGTERM")??;
        if let Some(name) = &self.cgroup {
            remove_cgroups(name).await?;
        }
        if let Some(account) = &self.account {
            account.close().await?;
        }
        if state.exists() {
            bail!("{} is left", state.display());
        }
        if !status.success() {
            bail!("{status}: {}", fs::read_to_string(self.dir.path().join("log")).unwrap_or_default());
        }
        Ok(())
    }
}

/// The server's address, from the line that it prints when it is ready.
async fn ready(server: &mut Child) -> anyhow::Result<Option<String>> {
    let stdout = server.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    let wait = async {
        while let Some(line) = lines.next_line().await? {
            if let Some(at) = line.find("http://") {
                let end = |c: char| c.is_whitespace() || c == '"' || c == ',';
                return anyhow::Ok(line[at..].split(end).next().map(ToOwned::to_owned));
            }
        }
        Ok(None)
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.context("not ready within 20 s")?
}

/// A server with this home and these control groups.
fn serve(
    whom: Whom,
    account: Option<&Account>,
    program: &Path,
    home: &Path,
    cgroup: Option<&str>,
) -> Command {
    let mut command = server_command(whom, account, program);
    command.args(["serve", "--listen", "127.0.0.1:0", "--on-exit", "destroy", "--home"]).arg(home);
    if let Some(name) = cgroup {
        command.args(["--cgroup", name]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).current_dir("/").kill_on_drop(true);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home).env("ABUSE_SECRET", "of-the-server");
    command
}

/// The server's command: charged to its own account from its first instruction on, and then whoever it is to be.
fn server_command(whom: Whom, account: Option<&Account>, program: &Path) -> Command {
    let Some(account) = account else { return Command::new(program) };
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(account.door());
    if let Some(uid) = whom.uid() {
        let uid = uid.to_string();
        command.args(["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups", "--"]);
    }
    command.arg(program);
    command
}

/// Every hierarchy's mount point.
pub(crate) fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_path_buf()];
    }
    let entries = fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).filter(|path| path.join("cgroup.procs").exists()).collect()
}

/// Gives the user a cgroup of its own in each hierarchy, as an administrator would.
fn delegate(name: &str) -> anyhow::Result<()> {
    for hierarchy in hierarchies() {
        let ours = hierarchy.join(name);
        fs::create_dir(&ours).with_context(|| ours.display().to_string())?;
        std::os::unix::fs::chown(&ours, Some(USER), Some(USER))?;
        for entry in fs::read_dir(&ours)? {
            let path = entry?.path();
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if matches!(file.as_str(), "cgroup.procs" | "tasks" | "cgroup.subtree_control" | "cgroup.threads")
            {
                std::os::unix::fs::chown(&path, Some(USER), Some(USER))?;
            }
        }
    }
    Ok(())
}

/// Removes what was delegated; the server must have emptied it.
pub(crate) async fn remove_cgroups(name: &str) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(10);
    for hierarchy in hierarchies() {
        let ours = hierarchy.join(name);
        while ours.exists() {
            match remove_tree(&ours) {
                Ok(()) => break,
                Err(error) if Instant::now() > until => {
                    return Err(error).context("a cgroup was left behind");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
    Ok(())
}

fn remove_tree(path: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path).with_context(|| path.display().to_string())
}
