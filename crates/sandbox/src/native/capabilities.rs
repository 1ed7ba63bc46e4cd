//! What the native backend enforces, from what the spawner found.

use hothouse_domain::{Capabilities, Capability, Enforcement};

use super::cgroup::Reclaimable;
use super::wire::Abilities;

/// How to get control groups as an ordinary user.
const DELEGATE: &str = "as root: for c in memory pids cpu unified; do mkdir -p /sys/fs/cgroup/$c/hh && chown -R USER \
                        /sys/fs/cgroup/$c/hh; done, then --cgroup hh; on cgroup v2 with systemd: systemd-run --user --scope \
                        -p Delegate=yes";

fn item(name: &str, what: &str, enforcement: Enforcement) -> Capability {
    Capability { name: name.to_owned(), what: what.to_owned(), enforcement }
}

fn missing(reason: &str, fix: &str) -> Enforcement {
    Enforcement::Missing { reason: reason.to_owned(), fix: fix.to_owned() }
}

fn partial(reason: String, fix: &str) -> Enforcement {
    Enforcement::Partial { reason, fix: fix.to_owned() }
}

fn or_missing(found: &Result<(), String>, fix: &str) -> Enforcement {
    match found {
        Ok(()) => Enforcement::Enforced,
        Err(reason) => missing(reason, fix),
    }
}

fn or_partial(found: &Result<(), String>, instead: &str, fix: &str) -> Enforcement {
    match found {
        Ok(()) => Enforcement::Enforced,
        Err(reason) => partial(format!("{instead}: {reason}"), fix),
    }
}

/// All protections, in a fixed order.
pub(super) fn describe(found: &Abilities, reclaims: &Result<Reclaimable, String>) -> Capabilities {
    use Enforcement::Enforced;
    let landlock = match &found.landlock {
        Ok(6..) => Enforced,
        Ok(version) => partial(
            format!(
                "landlock {version} has no scopes for signals and abstract sockets; namespaces hold them off"
            ),
            "a kernel of 6.12 or newer",
        ),
        Err(reason) => missing(reason, "boot with lsm=landlock,… (namespaces and seccomp hold without it)"),
    };
    let idmap = or_partial(
        &found.idmap,
        "in the directories that programs are installed into, files of the image can be replaced but not edited in place",
        "run as root on a kernel of 5.19 or newer",
    );
    let memory = or_partial(
        &found.memory,
        "for each process and each file by itself (RLIMIT_DATA, RLIMIT_FSIZE), not for all together",
        DELEGATE,
    );
    let reclaim = match reclaims {
        Ok(Reclaimable::All) => Enforced,
        Ok(Reclaimable::Read { reason }) => partial(
            format!(
                "what was read from files of its image; what its programs hold and the files that it wrote stay in memory: \
                 {reason}"
            ),
            "switch swap on, on cgroup v1; a lease with reclaim=end has an idle sandbox ended where this is not enough",
        ),
        Err(reason) => missing(reason, DELEGATE),
    };
    let pids = or_partial(&found.pids, "by a limit on the user namespace (RLIMIT_NPROC)", DELEGATE);
    Capabilities {
        backend: "native".to_owned(),
        items: vec![
            item("user_namespace", "root inside is nobody outside", Enforced),
            item(
                "uid_range",
                "each sandbox has 65,536 user ids of its own",
                or_partial(&found.uid_range, "one id, which is yours", "run the server as root"),
            ),
            item("pid_namespace", "it sees and signals its own processes only", Enforced),
            item("mount_namespace", "it sees its own files only", Enforced),
            item("ipc_namespace", "shared memory and queues of its own", Enforced),
            item("uts_namespace", "a host name of its own", Enforced),
            item("cgroup_namespace", "it does not see the machine's control groups", Enforced),
            item("network_none", "its own loopback and nothing else", or_missing(&found.network, "")),
            item(
                "capabilities_dropped",
                "root inside has power over the sandbox's own files and users only",
                Enforced,
            ),
            item("no_new_privs", "setuid programs give nothing", Enforced),
            item("seccomp", "system calls that reach past the sandbox are refused", Enforced),
            item("landlock", "no device nodes, signals or abstract sockets across the border", landlock),
            item("masked_proc", "/proc shows nothing of the machine that is secret; no /sys", Enforced),
            item(
                "guest_sealed",
                "the guest runs from a sealed copy, never from a file that a sandbox can reach",
                Enforced,
            ),
            item("memory_limit", "RAM, files included", memory),
            item(
                "swap_limit",
                "swap counts as memory",
                or_missing(&found.swap, "boot with swapaccount=1, or switch swap off"),
            ),
            item("pids_limit", "processes and threads", pids),
            item("cpu_limit", "CPU time", or_missing(&found.cpu, DELEGATE)),
            item("disk_limit", "bytes that it may write", Enforced),
            item("inode_limit", "files that it may make", Enforced),
            item("idmapped_layers", "the image's files belong to root inside and can be edited", idmap),
            item("freeze", "all its processes can be stopped", or_missing(&found.freeze, DELEGATE)),
            item("reclaim", "the memory of an idle one can be taken back", reclaim),
        ],
    }
}
