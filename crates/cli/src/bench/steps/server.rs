//! The servers that are compared, each started for one run and ended with it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hyper::Method;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

use super::place::Placement;
use super::watch::Watch;
use crate::bench::http::Driver;
use crate::bench::process::find;
use crate::bench::service::{address_in, tail};

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
    // Kept open: a server whose standard output is gone may complain.
    _stdout: Option<BufReader<ChildStdout>>,
}

/// How long a server may take until it answers: Python with all that it imports takes seconds.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long one that was told to end may take, before it is killed.
const ENDS_WITHIN_S: i64 = 10;
/// More sessions than any case opens; the reference has as many.
const CAPACITY: &str = "100000";
/// The module of the reference that authors import from, and ours in its place.
const IMPORTED: (&str, &str) = ("openenv.core.env_server", "hothouse.env");
const APP: &str = include_str!("reference_app.py");
const MANIFEST: &str = "spec_version: 1\nname: echo\nversion: 1.0.0\nruntime: hothouse\napp: app:app\n";

impl Server {
    /// Starts this same program, serving an environment.
    ///
    /// # Errors
    /// When it does not come up; with the end of what it logged.
    pub(super) fn hothouse(environment: &str, placement: &Placement) -> anyhow::Result<Self> {
        Self::serving(environment.as_ref(), directory()?, placement)
    }

    /// Starts this same program, serving the reference's class as a package: in Python, in a sandbox. Only what it imports
    /// from is another.
    ///
    /// # Errors
    /// When it does not come up; with the end of what it logged.
    pub(super) fn package(placement: &Placement) -> anyhow::Result<Self> {
        let directory = directory()?;
        let package = directory.path().join("echo");
        let files = [("app.py", APP.replace(IMPORTED.0, IMPORTED.1)), ("openenv.yaml", MANIFEST.to_owned())];
        fs::create_dir(&package).context("making a package")?;
        for (name, content) in files {
            fs::write(package.join(name), content)
                .with_context(|| format!("writing the package's {name}"))?;
        }
        Self::serving(package.as_os_str(), directory, placement)
    }

    /// Starts this same program, serving an environment with these flags, where the user has it do so: what was installed
    /// for it before need not be installed again.
    ///
    /// # Errors
    /// When it does not come up; with the end of what it logged.
    pub(super) fn at_home(
        environment: &OsStr,
        flags: &[OsString],
        placement: &Placement,
    ) -> anyhow::Result<Self> {
        let mut command = serve(environment)?;
        command.args(flags);
        Self::start(command, environment, directory()?, placement)
    }

    fn serving(environment: &OsStr, directory: TempDir, placement: &Placement) -> anyhow::Result<Self> {
        let mut command = serve(environment)?;
        command.env("HOTHOUSE_HOME", directory.path().join("home"));
        Self::start(command, environment, directory, placement)
    }

    fn start(
        mut command: Command,
        environment: &OsStr,
        directory: TempDir,
        placement: &Placement,
    ) -> anyhow::Result<Self> {
        command.stderr(log_in(&directory)?);
        let mut child = placement.start_server(&mut command).context("hothouse env serve")?;
        let mut stdout = BufReader::new(child.stdout.take().context("the server has no standard output")?);
        let mut line = String::new();
        stdout.read_line(&mut line).context("reading the server's first line")?;
        let Some(address) = address_in(&line) else {
            let status = child.wait().context("waiting for the server")?;
            let environment = environment.display();
            bail!("hothouse env serve {environment} did not start ({status}): {}", logged(&directory));
        };
        Ok(Self { child, address, directory, _stdout: Some(stdout) })
    }

    /// Starts the reference: a typed echo environment of the package `openenv`, under uvicorn.
    ///
    /// # Errors
    /// When it does not come up; with the end of what it logged.
    pub(super) fn reference(python: &Path, placement: &Placement) -> anyhow::Result<Self> {
        let directory = directory()?;
        fs::write(directory.path().join("app.py"), APP).context("writing the reference's environment")?;
        // Free a moment ago; that another program takes it first shows at once.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port")?;
        let address = free.local_addr().context("finding a free port")?;
        drop(free);
        let mut command = Command::new(python);
        command
            // A line of log for each connection would be counted against it.
            .args(["-m", "uvicorn", "app:app", "--log-level", "warning", "--no-access-log", "--port"])
            .arg(address.port().to_string())
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log_in(&directory)?)
            .stderr(log_in(&directory)?);
        let child = placement.start_server(&mut command).with_context(|| python.display().to_string())?;
        let mut server = Self { child, address, directory, _stdout: None };
        server.wait_until_healthy()?;
        Ok(server)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its use of the machine.
    pub(super) fn watch(&self) -> Watch {
        Watch::Process(self.child.id())
    }

    fn wait_until_healthy(&mut self) -> anyhow::Result<()> {
        let driver = Driver::new(self.address)?;
        let began = Instant::now();
        loop {
            let asked = driver.once(async |connection| connection.call(Method::GET, "/health", "").await);
            let Err(error) = asked else { return Ok(()) };
            if let Some(status) = self.child.try_wait().context("waiting for the reference")? {
                bail!("the reference ended with {status}: {}", logged(&self.directory));
            }
            if began.elapsed() > READY_WITHIN {
                return Err(error.context(format!("the reference is not up: {}", logged(&self.directory))));
            }
            driver.pause(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end. It has no state that anybody wants.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            if !ends(&self.child) {
                let _ = self.child.kill();
            }
            let _ = self.child.wait();
        }
    }
}

fn serve(environment: &OsStr) -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut command = Command::new(program);
    command
        .args(["env", "serve"])
        .arg(environment)
        .args(["--host", "127.0.0.1", "--port", "0", "--capacity", CAPACITY])
        .env_remove("HOTHOUSE_SERVER")
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    Ok(command)
}

/// Whether it ends in time. A server that still has connections may wait for them.
fn ends(child: &Child) -> bool {
    let Ok(pidfd) = pidfd_open(Pid::from_child(child), PidfdFlags::empty()) else { return false };
    let patience = Timespec { tv_sec: ENDS_WITHIN_S, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&patience)), Ok(1..))
}

fn directory() -> anyhow::Result<TempDir> {
    tempfile::Builder::new()
        .prefix("hothouse-bench-")
        .tempdir()
        .context("making a directory for a server of the bench")
}

fn log_in(directory: &TempDir) -> anyhow::Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(directory.path().join("log"))
        .context("making the server's log")
}

fn logged(directory: &TempDir) -> String {
    tail(&directory.path().join("log"))
}

/// The Python of a virtual environment, as it was named: what its link points to would know nothing of the environment.
///
/// # Errors
/// When it is not there.
pub(super) fn interpreter(named: &str) -> anyhow::Result<PathBuf> {
    let python = if named.contains('/') {
        std::path::absolute(named).ok().filter(|path| path.is_file())
    } else {
        find(named)
    };
    python.context("there is no such program")
}

/// What the reference is made of, for the reader.
///
/// # Errors
/// When this Python has no package `openenv`.
pub(super) fn versions(python: &Path) -> anyhow::Result<String> {
    const ASK: &str = "\
from importlib.metadata import PackageNotFoundError, version\n\
import platform\n\
def of(name):\n    \
    try: return f'{name} {version(name)}'\n    \
    except PackageNotFoundError: return f'no {name}'\n\
version('openenv')\n\
print('Python', platform.python_version(), *map(of, ['openenv', 'uvicorn', 'websockets', 'uvloop', 'httptools']), sep=', ')";
    let output = Command::new(python)
        .args(["-c", ASK])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {}", python.display()))?;
    if !output.status.success() {
        let python = python.display();
        bail!("{python} has no package openenv; install it: {python} -m pip install openenv==0.10.0");
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().replacen("Python, ", "Python ", 1))
}
