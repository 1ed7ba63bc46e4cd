//! T11, T12, T16, T25: what can be seen, or changed, of processes and of the host.

use anyhow::Context as _;
use hothouse_domain::{ExecSpec, Outcome};
use serde_json::Value;

use crate::host;
use crate::outside;
use crate::scene::{Scene, python};

const OVERWRITE: &str = include_str!("../payloads/overwrite.py");
const INHERITED: &str = include_str!("../payloads/inherited.py");
const PEEK: &str = include_str!("../payloads/peek.py");
const LEAKS: &str = include_str!("../payloads/leaks.py");

fn is_refused(value: &Value) -> bool {
    matches!(value.as_str(), Some("EPERM" | "EACCES" | "ESRCH" | "ENOENT" | "ENOSYS" | "EROFS"))
}

pub(super) async fn overwrite(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    let report = scene.python(&id, OVERWRITE, &["1"]).await?;
    for what in ["readlink", "handle", "write", "fds", "root", "memory"] {
        scene.found.holds(format!("/proc/1: {what}"), is_refused(&report[what]), &report);
    }
    let own = &report["self_write"];
    scene.found.holds("/proc/self/exe cannot be written", own == "ETXTBSY" || is_refused(own), &report);
    // It may replace a program for itself, never for the host (checked by the host invariant). To write into the file of
    // the image takes the image's ids, which only the machine's root can map.
    let edit = scene.shell(&id, "p=$(readlink -f /usr/bin/python3); echo '#!/bin/sh' > $p && cat $p").await?;
    let refused = edit.stdout.is_empty() && edit.stderr.contains("Permission denied");
    let inside =
        edit.stdout == "#!/bin/sh\n" || (refused && scene.world.missing("idmapped_layers").is_some());
    scene.found.holds("editing a program stays inside, or is refused", inside, format!("{edit:?}"));
    let replace = "p=$(readlink -f /bin/sleep); rm $p && echo '#!/bin/sh' > $p && cat $p";
    let replaced = scene.shell(&id, replace).await?;
    scene.found.holds(
        "replacing a program stays inside",
        replaced.stdout == "#!/bin/sh\n",
        format!("{replaced:?}"),
    );
    Ok(())
}

pub(super) async fn overwrite_outside(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let victim = dir.path().join("victim");
    std::fs::copy("/bin/sleep", &victim)?;
    let before = std::fs::metadata(&victim)?.len();
    let mut process = tokio::process::Command::new(&victim).arg("60").kill_on_drop(true).spawn()?;
    let pid = process.id().context("a pid")?.to_string();
    let report = outside::python(&[], OVERWRITE, &[&pid]).await;
    process.start_kill()?;
    process.wait().await?;
    let report = report?;
    let grown = std::fs::metadata(&victim)?.len() > before;
    scene.found.holds(
        "outside, the program of a process is overwritten",
        report["write"] == "ok" && grown,
        &report,
    );
    Ok(())
}

pub(super) async fn inherited(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    let report = scene.python(&id, INHERITED, &[]).await?;
    let alone = report["extra"].as_array().is_some_and(|extra| {
        // The one that lists the directory is the payload's own.
        extra
            .iter()
            .all(|fd| report["fds"][fd.to_string()].as_str().is_some_and(|to| to.starts_with("/proc/")))
    });
    scene.found.holds("only 0, 1, 2", alone, &report);
    scene.found.holds("no descriptor leads out", report["escapes"] == serde_json::json!([]), &report);
    scene.found.holds("the working directory is inside", report["cwd"] == "/workspace", &report);
    // The runc trick (CVE-2024-21626): a working directory behind a descriptor that the guest may hold.
    let (home, state) = (scene.world.dir().join("home"), scene.world.state_directory());
    let (home, state) = (home.display(), state.display());
    for number in 3..16 {
        let spec = ExecSpec {
            shell: Some(format!(
                "d=.; for i in $(seq 12); do test -e $d{home} -o -e $d{state} && echo ESCAPED; d=$d/..; done"
            )),
            cwd: Some(format!("/proc/self/fd/{number}")),
            ..ExecSpec::default()
        };
        let answer = scene.world.api.try_exec(&id, &spec).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let held = !text.contains("ESCAPED") && answer.status < 500;
        scene.found.holds(format!("cwd /proc/self/fd/{number}"), held, text);
    }
    Ok(())
}

pub(super) async fn inherited_outside(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let payload = format!("os.dup2(os.open('/', os.O_RDONLY), 7)\nos.chdir('/proc/self/fd/7')\n{INHERITED}");
    let report = outside::python(&[], &payload, &[]).await?;
    let found = report["escapes"].as_array().is_some_and(|escapes| escapes.contains(&7.into()));
    scene.found.holds("outside, a leaked descriptor is found", found, &report);
    Ok(())
}

const STEERING: &[&str] =
    &["attach", "seize", "vm_read", "vm_write", "mem", "environ", "maps", "fd", "pidfd_getfd"];

pub(super) async fn trace(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    // The server, and a guest of the neighbour, by the pids that the host knows.
    let mut pids = vec!["1".to_owned(), scene.world.server().to_string()];
    pids.extend(host::guests(scene.world.server()).first().map(ToString::to_string));
    let args: Vec<&str> = pids.iter().map(String::as_str).collect();
    let report = scene.python(&id, PEEK, &args).await?;
    for pid in &pids {
        for what in STEERING {
            scene.found.holds(format!("{what} of {pid}"), is_refused(&report[pid][*what]), &report[pid]);
        }
    }
    // An exec of another user of the same sandbox is not its sibling's to read either.
    let victim = ExecSpec { shell: Some("sleep 20".to_owned()), ..ExecSpec::default() };
    scene.world.api.exec_detached(&id, victim).await?;
    let find = "victims = []\n\
                while not victims:\n\
                \x20   victims = [p for p in os.listdir('/proc') if p.isdigit() and open(f'/proc/{p}/cmdline').read().startswith('sleep')]\n\
                sys.argv[1:] = victims[:1]\n";
    let spec = ExecSpec { user: Some("65534:65534".to_owned()), ..python(&format!("{find}{PEEK}"), &[]) };
    let result = scene.exec(&id, spec).await?;
    if matches!(result.outcome, Outcome::FailedToStart { .. }) {
        let reason = scene.world.missing("uid_range").unwrap_or_else(|| format!("{:?}", result.outcome));
        scene.found.hole(format!("no second user inside: {reason}"));
        return Ok(());
    }
    let report = outside::last_json(&result.stdout).with_context(|| result.stderr.clone())?;
    for (_, facts) in report.as_object().context("no object")? {
        for what in STEERING {
            scene.found.holds(format!("{what} of root's exec by nobody"), is_refused(&facts[*what]), facts);
        }
    }
    Ok(())
}

pub(super) async fn trace_outside(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let payload = format!(
        "reader, writer = os.pipe()\nvictim = os.fork()\nif victim == 0:\n    libc.prctl(0x59616d61, -1, 0, 0, 0)\n\
         \x20   os.write(writer, b'x')\n    signal.pause()\n    os._exit(0)\n\
         os.read(reader, 1)\nsys.argv[1:] = [str(victim)]\n{PEEK}\nos.kill(victim, signal.SIGKILL)"
    );
    let report = outside::python(&[], &payload, &[]).await?;
    let facts = report.as_object().and_then(|object| object.values().next()).context("no facts")?;
    for what in STEERING {
        let refused = is_refused(&facts[*what]);
        scene.found.holds(format!("outside, {what} works on an own process"), !refused, facts);
    }
    Ok(())
}

pub(super) async fn leaks(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    let home = scene.world.dir().display().to_string();
    let state = scene.world.state_directory().display().to_string();
    let words = [home.as_str(), state.as_str(), "/root", "vda", "hothouse-abuse"];
    let report = scene.python(&id, LEAKS, &words).await?;
    for (what, none) in [("kallsyms", 0), ("kcore", 0), ("timer_list", 0)] {
        scene.found.holds(format!("{what} tells nothing"), report[what] == none, &report[what]);
    }
    for what in ["sched_debug", "sysfs", "ssh"] {
        scene.found.holds(format!("{what} is absent"), report[what] == false, &report[what]);
    }
    let users: Vec<String> = std::fs::read_dir("/home")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    let told = users.iter().any(|user| report["homes"].to_string().contains(user.as_str()));
    scene.found.holds("no user's home is shown", !told, &report["homes"]);
    for what in ["disks", "words", "environ_of"] {
        scene.found.holds(format!("{what}: none"), report[what] == serde_json::json!([]), &report[what]);
    }
    for what in ["dmesg", "kmsg", "sysctl", "sysrq", "shadow"] {
        scene.found.holds(format!("{what} is refused"), is_refused(&report[what]), &report[what]);
    }
    let keys = report["keys"].as_str().unwrap_or_default();
    scene.found.holds("no key is listed", keys.is_empty() || is_refused(&report["keys"]), keys);
    let processes = report["processes"].as_array().map_or(0, Vec::len);
    scene.found.holds("only own processes are listed", processes <= 3, processes);
    let env = scene.shell(&id, "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'").await?;
    let told = env.stdout.contains("ABUSE_SECRET") || env.stdout.contains(&home);
    scene.found.holds("the server's environment is not inherited", !told, env.stdout);
    Ok(())
}

pub(super) async fn leaks_outside(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let report = outside::python(&[], LEAKS, &["/"]).await?;
    for what in ["disks", "words", "environ_of"] {
        let some = report[what].as_array().is_some_and(|list| !list.is_empty());
        scene.found.holds(format!("outside, {what} are found"), some, &report[what]);
    }
    scene.found.holds("outside, /sys is there", report["sysfs"] == true, &report["sysfs"]);
    let processes = report["processes"].as_array().map_or(0, Vec::len);
    scene.found.holds("outside, others are listed", processes > 3, processes);
    if outside::is_root() {
        let symbols = report["kallsyms"].as_u64().unwrap_or(0);
        scene.found.holds("outside, root reads kernel addresses", symbols > 1000, symbols);
        scene.found.holds(
            "outside, root reads the kernel's log",
            report["dmesg"] == 0 || report["dmesg"].is_u64(),
            &report["dmesg"],
        );
    }
    Ok(())
}
