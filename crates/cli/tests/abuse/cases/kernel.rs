//! T17–T20, T23, T24: system calls that must not work, and privileges that must not come back.

use anyhow::Context as _;
use hothouse_domain::{ExecSpec, Outcome, PtySize};
use serde_json::Value;

use crate::outside;
use crate::scene::{Scene, python};

const PUSH: &str = include_str!("../payloads/push.py");
const KEYRING: &str = include_str!("../payloads/keyring.py");
const MOUNTS: &str = include_str!("../payloads/mounts.py");
const CGROUPS: &str = include_str!("../payloads/cgroups.py");
const CALLS: &str = include_str!("../payloads/calls.py");

/// Why an ordinary user does not play a control.
const ONLY_ROOT: &str = "control not played: without the defence only root may try";

fn is_refused(value: &Value) -> bool {
    matches!(value.as_str(), Some("EPERM" | "EACCES" | "ENOSYS" | "ENOENT" | "EROFS" | "SIGSYS"))
}

pub(super) async fn signals_and_terminals(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    let killer = "os.fork() or signal.pause()\nos.kill(-1, signal.SIGKILL)\nreport(alive=True)";
    let killer = scene.exec(&id, python(killer, &[])).await?;
    // kill(-1) spares the caller and PID 1; everybody else in the sandbox is gone.
    let harmless = matches!(killer.outcome, Outcome::Exited { code: 0 } | Outcome::Signalled { signal: 9 });
    scene.found.holds("kill(-1) ends inside", harmless, format!("{killer:?}"));
    let after = scene.shell(&id, "echo alive").await?;
    scene.found.holds("its own sandbox lives", after.stdout == "alive\n", format!("{after:?}"));
    let spec = ExecSpec { pty: Some(PtySize { rows: 24, cols: 80 }), ..python(PUSH, &[]) };
    let result = scene.exec(&id, spec).await?;
    let report = outside::last_json(&result.stdout).with_context(|| format!("{result:?}"))?;
    scene.found.holds("it has a terminal", report["tty"] == true, &report);
    for what in ["tiocsti", "tioclinux"] {
        scene.found.holds(format!("{what} is refused"), is_refused(&report[what]), &report);
    }
    Ok(())
}

pub(super) async fn signals_and_terminals_outside(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let payload = "neighbour = os.fork()\nif neighbour == 0:\n    signal.pause()\nkiller = os.fork()\n\
                   if killer == 0:\n    os.kill(-1, signal.SIGKILL)\n    os._exit(0)\n\
                   _, status = os.waitpid(neighbour, 0)\nreport(killed=os.WTERMSIG(status))";
    let report = outside::python(outside::OWN_PIDS, payload, &[]).await?;
    scene.found.holds("in a shared PID namespace the neighbour dies", report["killed"] == 9, &report);
    let payload = format!(
        "import pty\npid, master = pty.fork()\nif pid == 0:\n    import fcntl\n    fcntl.ioctl(0, 0x5412, b'x')\n    os._exit(0)\n\
         _, status = os.waitpid(pid, 0)\nreport(pushed=os.waitstatus_to_exitcode(status) == 0)\n#{}",
        PUSH.len()
    );
    if outside::is_root() {
        let report = outside::python(&[], &payload, &[]).await?;
        scene.found.holds("outside, TIOCSTI pushes a byte", report["pushed"] == true, &report);
    }
    Ok(())
}

pub(super) async fn keyring(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    let report = scene.python(&id, KEYRING, &[]).await?;
    for what in ["add", "get", "request"] {
        scene.found.holds(format!("{what} is refused"), is_refused(&report[what]), &report);
    }
    scene.found.holds("no key was added", report["flood"] == 0, &report);
    scene.found.holds("no key is listed", report["keys_bytes"] == 0, &report);
    Ok(())
}

pub(super) async fn keyring_outside(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let report = outside::python(&[], KEYRING, &[]).await?;
    let flood = report["flood"].as_u64().unwrap_or(0);
    scene.found.holds("outside, keys are added", report["add"].is_i64() && flood > 10, &report);
    Ok(())
}

/// What MOUNTS tries; all of it must be refused.
const MOUNT_WAYS: &[&str] = &[
    "mount",
    "bind",
    "remount",
    "umount",
    "fsopen",
    "open_tree",
    "move_mount",
    "mount_setattr",
    "pivot_root",
    "chroot_escape",
    "setns",
    "unshare_user_then_mount",
    "clone_user",
    "clone3_user",
    "unshare_user",
    "unshare_mount",
    "unshare_pid",
    "unshare_net",
    "unshare_ipc",
    "unshare_uts",
    "unshare_cgroup",
];

pub(super) async fn mounts(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for user in ["0:0", "65534:65534"] {
        let id = scene.plain().await?;
        let result = scene.exec(&id, ExecSpec { user: Some(user.to_owned()), ..python(MOUNTS, &[]) }).await?;
        if matches!(result.outcome, Outcome::FailedToStart { .. }) {
            let reason = scene.world.missing("uid_range").unwrap_or_else(|| format!("{:?}", result.outcome));
            scene.found.hole(format!("no second user inside: {reason}"));
            continue;
        }
        let report = outside::last_json(&result.stdout).with_context(|| format!("{result:?}"))?;
        for way in MOUNT_WAYS {
            scene.found.holds(format!("{way} as {user}"), is_refused(&report[*way]), &report[*way]);
        }
    }
    Ok(())
}

pub(super) async fn mounts_outside(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let report = outside::python(outside::OWN_MOUNTS, MOUNTS, &[]).await?;
    for way in [
        "mount",
        "fsopen",
        "open_tree",
        "unshare_user",
        "unshare_mount",
        "unshare_user_then_mount",
        "clone_user",
        "clone3_user",
    ] {
        scene.found.holds(format!("outside, {way} works"), report[way].is_i64(), &report);
    }
    Ok(())
}

pub(super) async fn cgroups(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    let report = scene.python(&id, CGROUPS, &["/sys", "/proc", "/run", "/dev", "/tmp"]).await?;
    scene.found.holds("no control file can be written", report["written"] == serde_json::json!([]), &report);
    for what in ["mount_v1", "mount_v2"] {
        scene.found.holds(format!("{what} is refused"), is_refused(&report[what]), &report);
    }
    let names_ours = report["own"].to_string().contains("hothouse-abuse");
    scene.found.holds("/proc/self/cgroup does not name the host's groups", !names_ours, &report["own"]);
    Ok(())
}

pub(super) async fn cgroups_outside(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    if !outside::is_root() {
        scene.found.hole(ONLY_ROOT);
        return Ok(());
    }
    let script = "for h in /sys/fs/cgroup/memory /sys/fs/cgroup; do [ -e $h/cgroup.procs ] && break; done; \
                  mkdir $h/abuse-control-$$; cd $h/abuse-control-$$; ls > /dev/null; \
                  for f in memory.limit_in_bytes memory.max; do [ -e $f ] && echo 64M > $f && cat $f; done; \
                  cd /; rmdir $h/abuse-control-$$";
    let output = outside::shell(&[], script).await?;
    scene.found.holds("outside, a limit is written", output.contains("67108864"), output);
    Ok(())
}

const SETUID: &str = "cp /usr/bin/id /tmp/id && chown 0:0 /tmp/id && chmod 6755 /tmp/id && ls -l /tmp/id";

pub(super) async fn setuid(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    let made = scene.shell(&id, SETUID).await?;
    scene.found.holds(
        "the program is set up",
        made.outcome == (Outcome::Exited { code: 0 }),
        format!("{made:?}"),
    );
    let capability = "setfattr() { python3 -c 'import os,struct; os.setxattr(\"/tmp/id\",\"security.capability\",struct.pack(\"<IIIII\",0x2000001,0x200000,0,0,0))'; }; \
                      setfattr; grep -E 'Cap(Eff|Bnd)|NoNewPrivs|Seccomp:' /proc/self/status; awk '/CapEff/{print $2}' /proc/self/status";
    let caps = scene.shell(&id, capability).await?;
    let effective = caps.stdout.lines().last().and_then(|line| u64::from_str_radix(line, 16).ok());
    // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID, and nothing beyond, not even in the bounding set.
    let allowed = 0b1111_1011;
    scene.found.holds(
        "root inside has file capabilities only",
        effective.is_some_and(|set| set & !allowed == 0),
        &caps.stdout,
    );
    let nnp =
        caps.stdout.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == ["NoNewPrivs:", "1"]);
    scene.found.holds("no new privileges", nnp, &caps.stdout);
    let nobody = |shell: &str| ExecSpec {
        user: Some("65534:65534".to_owned()),
        shell: Some(shell.to_owned()),
        ..ExecSpec::default()
    };
    let result = scene.exec(&id, nobody("/tmp/id; /tmp/id -u; grep CapEff /proc/self/status")).await?;
    if matches!(result.outcome, Outcome::FailedToStart { .. }) {
        let reason = scene.world.missing("uid_range").unwrap_or_else(|| format!("{:?}", result.outcome));
        scene.found.hole(format!("no second user inside: {reason}"));
        return Ok(());
    }
    let no_gain = result.stdout.contains("\n65534\n")
        && !result.stdout.contains("euid=0")
        && result.stdout.contains("CapEff:\t0000000000000000");
    scene.found.holds("a setuid program gains nothing", no_gain, format!("{result:?}"));
    let su = scene.exec(&id, nobody("for p in su mount passwd newgrp chsh; do f=$(command -v $p) && cp $f /tmp/$p 2>/dev/null; done; su -c id root </dev/null; mount -t tmpfs none /mnt; id -u")).await?;
    scene.found.holds(
        "the host's own setuid programs gain nothing",
        su.stdout.trim() == "65534",
        format!("{su:?}"),
    );
    Ok(())
}

pub(super) async fn setuid_outside(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    if !outside::is_root() {
        scene.found.hole(ONLY_ROOT);
        return Ok(());
    }
    let script = "d=$(mktemp -d); chmod 755 $d; cp /usr/bin/id $d/id; chmod 6755 $d/id; \
                  setpriv --reuid 65534 --regid 65534 --clear-groups $d/id; rm -r $d";
    let output = outside::shell(&[], script).await?;
    scene.found.holds("outside, a setuid program gains root", output.contains("euid=0"), output);
    Ok(())
}

/// What CALLS tries; all of it must be refused or killed.
const BYPASSES: &[&str] = &[
    "int80",
    "x32",
    "clone3",
    "io_uring",
    "io_uring_enter",
    "bpf",
    "perf",
    "userfaultfd",
    "handle",
    "open_by_handle",
    "kexec",
    "module",
    "swapon",
    "reboot",
];

pub(super) async fn calls(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    let report = scene.python(&id, CALLS, &[]).await?;
    for what in BYPASSES {
        let killed = report[*what].as_str().is_some_and(|text| text.starts_with("SIG"));
        scene.found.holds(format!("{what} is blocked"), is_refused(&report[*what]) || killed, &report[*what]);
    }
    scene.found.holds(
        "int 0x80 is killed",
        report["int80"] == "SIGSYS" || report["int80"] == "SIGSEGV",
        &report["int80"],
    );
    scene.found.holds("x32 is killed", report["x32"] == "SIGSYS", &report["x32"]);
    scene.found.holds("clone3 says that it does not exist", report["clone3"] == "ENOSYS", &report["clone3"]);
    for what in ["personality_i386", "personality_no_aslr"] {
        scene.found.holds(format!("{what} is refused"), is_refused(&report[what]), &report[what]);
    }
    scene.found.holds(
        "asking for the personality works",
        report["personality_query"].is_i64(),
        &report["personality_query"],
    );
    Ok(())
}

pub(super) async fn calls_outside(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let report = outside::python(&[], CALLS, &[]).await?;
    let works = |what: &str| report[what].is_i64();
    for what in ["int80", "io_uring", "handle", "personality_i386", "personality_no_aslr"] {
        scene.found.holds(format!("outside, {what} works"), works(what), &report[what]);
    }
    scene.found.holds("outside, clone3 exists", report["clone3"] == "EINVAL", &report["clone3"]);
    scene.found.holds("outside, x32 is not killed", report["x32"] != "SIGSYS", &report["x32"]);
    Ok(())
}
