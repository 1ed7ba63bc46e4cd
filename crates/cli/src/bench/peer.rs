//! Other programs that make a place to run a command in, as far as they are installed and work here.

use super::contest::Contender;
use super::process::{CommandLine, find};
use super::report::Role;

/// Peers that are timed when they are installed: name, program, arguments, operations in a round.
const ONE_SHOT: [(&str, &str, &[&str], usize); 2] = [
    (
        "unshare: namespaces only, no root, no limits",
        "unshare",
        &["--user", "--map-root-user", "--pid", "--fork", "--mount", "--uts", "--ipc", "--net", "true"],
        100,
    ),
    (
        "bwrap --unshare-all: no limits, no seccomp",
        "bwrap",
        &[
            "--unshare-all",
            "--die-with-parent",
            "--ro-bind",
            "/usr",
            "/usr",
            "--symlink",
            "usr/bin",
            "/bin",
            "--symlink",
            "usr/lib",
            "/lib",
            "--symlink",
            "usr/lib64",
            "/lib64",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--tmpfs",
            "/tmp",
            "true",
        ],
        60,
    ),
];

/// Peers that need a daemon with images.
const ENGINES: [&str; 2] = ["docker", "podman"];

/// Peers that need a bundle or a cluster; only their absence or presence is reported.
const OTHERS: [&str; 6] = ["crun", "runc", "runsc", "firejail", "apptainer", "srun"];

/// The peers of one bench.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// Those that work here.
    pub(super) contenders: Vec<Contender<'static>>,
    /// Those that do not, each with the reason.
    pub(super) not_measured: Vec<String>,
}

impl Peers {
    /// Peers of create + exec + destroy: programs that run one command in a fresh place.
    pub(super) fn one_shot(in_flight: &[usize]) -> Self {
        let mut peers = Self::default();
        for (name, program, args, per_round) in ONE_SHOT {
            let Some(line) = peers.installed(program, args) else { continue };
            if let Err(error) = line.try_once() {
                peers.not_measured.push(format!("{program}: does not work here: {error}"));
                continue;
            }
            for &at_once in in_flight {
                let ops = if at_once == 1 { per_round } else { per_round * 3 };
                peers.contenders.push(line.clone().contender(name, Role::Peer, at_once, ops));
            }
        }
        for engine in ENGINES {
            peers.engine(engine, |image| {
                ["run", "--rm", "--network", "none", "--entrypoint", "true", image]
                    .map(str::to_owned)
                    .to_vec()
            });
        }
        for program in OTHERS {
            let reason = if find(program).is_some() {
                "installed, but not driven by this bench"
            } else {
                "not installed"
            };
            peers.not_measured.push(format!("{program}: {reason}"));
        }
        peers
    }

    /// Peers of an exec in something that lives. The containers that they start end by themselves.
    pub(super) fn live() -> Self {
        let mut peers = Self::default();
        for engine in ENGINES {
            let started = peers.image_of(engine).and_then(|image| {
                CommandLine::installed(
                    engine,
                    &["run", "-d", "--rm", "--network", "none", "--entrypoint", "sleep", &image, "600"],
                )
            });
            let Some(start) = started else { continue };
            match start.try_once() {
                Ok(container) => {
                    let exec = CommandLine::installed(engine, &["exec", &container, "true"]);
                    peers
                        .contenders
                        .extend(exec.map(|line| line.contender(&format!("{engine} exec"), Role::Peer, 1, 5)));
                }
                Err(error) => peers.not_measured.push(format!("{engine}: {error}")),
            }
        }
        for (name, why) in [("srun --overlap", "srun"), ("swe-rex", "swerex-remote")] {
            let reason =
                if find(why).is_some() { "installed, but not driven by this bench" } else { "not installed" };
            peers.not_measured.push(format!("{name}: {reason}"));
        }
        peers
    }

    fn engine(&mut self, engine: &str, args: impl Fn(&str) -> Vec<String>) {
        let Some(image) = self.image_of(engine) else { return };
        let args = args(&image);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let Some(line) = self.installed(engine, &args) else { return };
        match line.try_once() {
            Ok(_) => {
                self.contenders.push(line.contender(&format!("{engine} run"), Role::Peer, 1, 3));
            }
            Err(error) => self.not_measured.push(format!("{engine}: {error}")),
        }
    }

    /// The first local image of an engine that runs.
    fn image_of(&mut self, engine: &str) -> Option<String> {
        let list = self.installed(engine, &["image", "ls", "--quiet"])?;
        match list.try_once() {
            Ok(ids) => {
                let first = ids.lines().next().map(str::to_owned);
                if first.is_none() {
                    self.not_measured.push(format!("{engine}: installed, but has no local image"));
                }
                first
            }
            Err(error) => {
                self.not_measured.push(format!("{engine}: installed, but does not answer: {error}"));
                None
            }
        }
    }

    fn installed(&mut self, program: &str, args: &[&str]) -> Option<CommandLine> {
        let line = CommandLine::installed(program, args);
        if line.is_none() {
            self.not_measured.push(format!("{program}: not installed"));
        }
        line
    }
}
