//! The guest as PID 1 of a PID namespace with limits on processes and memory. Needs root and cgroups of version 1; the
//! backend's own tests do the like with everything around it.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is a test")]

mod driver;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use driver::{Driver, Guest, argv, sh};
use hothouse_guest::message::{Ending, ExecRequest, Reply, Request};

/// Groups with limits, removed when dropped.
struct Groups {
    dirs: Vec<PathBuf>,
}

impl Groups {
    fn new(name: &str) -> Option<Self> {
        let name = format!("hothouse-guest-test-{name}-{}", std::process::id());
        let dirs: Vec<PathBuf> =
            ["pids", "memory"].iter().map(|c| PathBuf::from("/sys/fs/cgroup").join(c).join(&name)).collect();
        let usable = dirs.iter().all(|dir| std::fs::create_dir(dir).is_ok());
        let groups = Self { dirs };
        let limits = [("pids.max", "200"), ("memory.limit_in_bytes", "200000000")];
        let set = usable
            && groups
                .dirs
                .iter()
                .zip(limits)
                .all(|(dir, (file, value))| std::fs::write(dir.join(file), value).is_ok());
        set.then_some(groups)
    }

    fn start(&self) -> Guest {
        let enter: Vec<String> =
            self.dirs.iter().map(|dir| format!("echo $$ > {}/cgroup.procs", dir.display())).collect();
        Guest::start_by(&format!(
            "{}; exec unshare --pid --fork --mount-proc --kill-child \"$0\" \
             3<&0 4<{}/memory.oom_control 0</dev/null 1>/dev/null 2>/dev/null",
            enter.join("; "),
            self.dirs[1].display(),
        ))
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for dir in &self.dirs {
            driver::wait_for("the group can be removed", || {
                std::fs::remove_dir(dir).is_ok() || !dir.exists()
            });
        }
    }
}

fn processes(driver: &mut Driver) -> u32 {
    match driver.request(&Request::Info).last() {
        Reply::Info(info) => info.processes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_is_pid_1_and_signals_from_inside_do_not_reach_it() {
    let Some(groups) = Groups::new("first") else { return };
    let guest = groups.start();
    let mut driver = guest.connect();
    let answer = driver.sh("kill -TERM 1; kill -KILL 1; kill -STOP 1; tr '\\0' ' ' < /proc/1/cmdline");
    assert!(answer.out().contains("hothouse-guest"), "{}", answer.out());
    let answer = driver.sh("exec sh -c 'kill -9 -1; echo not reached'");
    assert!(matches!(answer.ending(), Ending::Signalled(9) | Ending::Exited(0)));
    driver.sh("for i in $(seq 1 150); do (sleep 0.01 &); done");
    driver::wait_for("orphans are reaped", || processes(&mut driver) == 1);
}

#[test]
fn bombs_are_ended_at_their_timeout_and_the_guest_goes_on() {
    let Some(groups) = Groups::new("bombs") else { return };
    let guest = groups.start();
    let mut driver = guest.connect();
    let fork_bomb = "b() { b | b & }; b; while :; do :; done";
    let hopper = "import os\nwhile True:\n  if os.fork(): os._exit(0)\n  os.setsid()\n";
    let hidden = format!("python3 -c '{hopper}'; sleep 1000");
    for line in [fork_bomb, &hidden] {
        let started = Instant::now();
        let answer = driver.exec(ExecRequest { timeout_ms: Some(300), grace_ms: 100, ..sh(line) });
        assert_eq!(answer.ending(), &Ending::TimedOut, "{line}");
        assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
        driver::wait_for("nothing is left", || processes(&mut driver) == 1);
        assert_eq!(driver.sh("echo fine").out(), "fine\n");
    }
}

#[test]
fn an_exec_over_the_memory_limit_is_told_from_one_that_was_killed() {
    let Some(groups) = Groups::new("memory") else { return };
    let guest = groups.start();
    let mut driver = guest.connect();
    let hog = "x = bytearray(500_000_000); print(len(x))";
    assert_eq!(driver.exec(argv(&["python3", "-c", hog])).ending(), &Ending::OomKilled);
    let answer = driver.sh(&format!("python3 -c '{hog}'; exit $?"));
    assert_eq!(answer.ending(), &Ending::OomKilled);
    let answer = driver.sh(&format!("python3 -c '{hog}'; echo went on; exit 1"));
    assert_eq!((answer.out().as_str(), answer.ending()), ("went on\n", &Ending::Exited(1)));
    assert_eq!(driver.sh("kill -9 $$").ending(), &Ending::Signalled(9));
    assert_eq!(driver.sh("echo fine").out(), "fine\n");
}

#[test]
fn what_is_left_of_an_exec_that_ran_out_of_memory_goes_with_it() {
    let Some(groups) = Groups::new("leftovers") else { return };
    let guest = groups.start();
    let mut driver = guest.connect();
    // A daemon of an earlier exec is somebody else's.
    driver.sh("setsid sleep 1000 >/dev/null 2>&1 & sleep 1000 >/dev/null 2>&1 &");
    driver::wait_for("only daemons are left", || processes(&mut driver) == 3);
    let answer = driver.sh("for i in 1 2 3 4; do (trap '' TERM HUP; while :; do sleep 1000; done) & done; \
         exec python3 -c 'x = bytearray(500_000_000)'");
    assert_eq!(answer.ending(), &Ending::OomKilled);
    assert_eq!(processes(&mut driver), 3);
    assert_eq!(driver.sh("echo fine").out(), "fine\n");
}
