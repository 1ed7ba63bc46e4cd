//! A real Docker daemon with a directory of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::skip::installed;

/// A Docker daemon; ends with the value.
pub(crate) struct Docker {
    process: Child,
    socket: PathBuf,
}

impl Drop for Docker {
    fn drop(&mut self) {
        // It takes its own containerd along, which a signal that cannot be caught would not.
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.process.wait().unwrap();
    }
}

impl Docker {
    /// Starts one with all that it has in this directory; `None` where it is not installed, or we are not root.
    pub(crate) fn start(place: &Path) -> Option<Self> {
        let program = installed("dockerd").filter(|_| rustix::process::geteuid().is_root())?;
        installed("docker")?;
        std::fs::create_dir_all(place).unwrap();
        let socket = place.join("docker.sock");
        let log = std::fs::File::create(place.join("log")).unwrap();
        let process = Command::new(program)
            .arg("--host")
            .arg(format!("unix://{}", socket.display()))
            .arg("--data-root")
            .arg(place.join("data"))
            .arg("--exec-root")
            .arg(place.join("exec"))
            .arg("--pidfile")
            .arg(place.join("pid"))
            .args(["--bridge=none", "--iptables=false"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut docker = Self { process, socket };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !docker.command(&["version"]).output().unwrap().status.success() {
            let ended = docker.process.try_wait().unwrap();
            let log = || std::fs::read_to_string(place.join("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "dockerd does not come up: {}", log());
        }
        Some(docker)
    }

    /// What `DOCKER_HOST` is for it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.host()).env("DOCKER_BUILDKIT", "0").args(args);
        command
    }
}
