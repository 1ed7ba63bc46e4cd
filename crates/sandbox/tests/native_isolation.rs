//! What a sandbox of the native backend can see and do, asked from inside, as root and as an ordinary user.
#![allow(
    clippy::unwrap_used,
    clippy::tests_outside_test_module,
    reason = "a test program: all of it is tests, and one that cannot go on panics"
)]

mod deadline;
mod native_home;

use hothouse_domain::{Enforcement, ExecSpec, Outcome, Resources, SandboxSpec};
use hothouse_sandbox::{Node, Sandbox};

use native_home::{Home, USER, output, refusal, shell, tests_as_ordinary_user};

async fn sandbox(node: &Node, name: &str, resources: Resources) -> Sandbox {
    let id = Some(name.parse().unwrap());
    node.create(SandboxSpec { id, resources, ..SandboxSpec::default() }).await.unwrap()
}

/// Everything below, in one sandbox after another on one node.
async fn everything_holds() {
    let home = Home::new();
    std::fs::write(home.beside("secret"), "of the machine").unwrap();
    let secret = home.beside("secret");
    home.with_node(async |node| {
        let idmapped = node.capabilities().get("idmapped_layers") == Some(&Enforcement::Enforced);
        let limited = node.capabilities().get("memory_limit") == Some(&Enforcement::Enforced);
        let one = sandbox(&node, "isolation-1", Resources::default()).await;
        is_nobody_outside(&one).await;
        sees_only_its_own(&one, secret.to_str().unwrap()).await;
        cannot_reach_the_kernel(&one).await;
        has_plain_devices(&one).await;
        has_its_own_network(&one).await;
        writes_everywhere(&one, idmapped).await;
        keeps_its_guest(&one).await;
        let two = sandbox(
            &node,
            "isolation-2",
            Resources { disk_bytes: 8 << 20, disk_inodes: 256, ..Resources::default() },
        )
        .await;
        fills_only_its_own_disk(&two).await;
        cannot_see_its_neighbour(&one, &two).await;
        if limited {
            let resources = Resources { memory_bytes: 64 << 20, pids: 20, ..Resources::default() };
            stays_in_its_limits(&sandbox(&node, "isolation-3", resources).await).await;
        }
    })
    .await;
    assert_eq!(home.state_directories(), Vec::<String>::new());
}

async fn is_nobody_outside(sandbox: &Sandbox) {
    assert_eq!(output(sandbox, "id -u").await, "0");
    assert_eq!(output(sandbox, "hostname").await, "isolation-1");
    let map = output(sandbox, "cat /proc/self/uid_map").await;
    let fields: Vec<u64> = map.split_whitespace().map(|field| field.parse().unwrap()).collect();
    assert_eq!(fields[0], 0);
    // A single id is shown as the spawner's namespace numbers it, where it is 0 too.
    assert!(fields[1] != 0 || fields[2] == 1, "root inside must not be root outside: {map}");
    let status = output(sandbox, "cat /proc/self/status").await;
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}")).trim()
    };
    for name in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(field(name), "00000000000000fb", "{name}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
}

async fn sees_only_its_own(sandbox: &Sandbox, secret: &str) {
    refusal(sandbox, &format!("cat {secret}")).await;
    refusal(sandbox, "cat /etc/shadow").await;
    for empty in ["/sys", "/root", "/home/user", "/tmp"] {
        assert_eq!(output(sandbox, &format!("ls -A {empty}")).await, "", "{empty}");
    }
    // The guest, the shell, and what the shell runs.
    let processes = output(sandbox, "ls /proc | grep -c '^[0-9]'").await;
    assert!(processes.parse::<u32>().unwrap() <= 5, "{processes} processes");
    assert_eq!(output(sandbox, "ls /proc/self/fd | tr '\\n' ' '").await, "0 1 2 3");
    let mounts = output(sandbox, "cut -d' ' -f2 /proc/self/mounts").await;
    for mount in mounts.lines() {
        let own = ["/", "/usr", "/bin", "/sbin", "/lib", "/proc", "/dev"];
        assert!(
            own.iter().any(|own| mount == *own
                || mount.starts_with(&format!("{own}/"))
                || mount.starts_with("/lib")),
            "{mount}"
        );
    }
    assert_eq!(output(sandbox, "cat /proc/self/cgroup | cut -d: -f3 | sort -u").await, "/");
}

async fn cannot_reach_the_kernel(sandbox: &Sandbox) {
    for command in [
        "mount -t tmpfs none /mnt",
        "umount /proc",
        "unshare -U true",
        "unshare -m true",
        "mknod /tmp/null c 1 3",
        "echo x > /proc/sys/kernel/hostname",
        "echo x > /proc/sys/kernel/core_pattern",
        "chroot / true",
        "hostname other",
        "python3 -c 'import os; os.nice(-5)'",
        "dmesg",
        "date -s 2020-01-01",
        "python3 -c 'import os; os.setns(os.open(\"/proc/self/ns/net\", 0), 0)'",
    ] {
        refusal(sandbox, command).await;
    }
    for masked in ["kallsyms", "keys", "timer_list"] {
        assert_eq!(
            output(sandbox, &format!("cat /proc/{masked} 2>/dev/null | head -c 10")).await,
            "",
            "{masked}"
        );
    }
    // As a user of its own it has even less.
    let spec = ExecSpec {
        argv: Some(vec!["sh".to_owned(), "-c".to_owned(), "id -u; touch /etc/x || echo no".to_owned()]),
        user: Some("nobody".to_owned()),
        ..ExecSpec::default()
    };
    let result = sandbox.exec(spec).await.unwrap();
    match result.outcome {
        Outcome::FailedToStart { .. } => assert_eq!(rustix::process::geteuid().as_raw(), USER, "{result:?}"),
        // With a single id there is no other user to become.
        _ => assert_eq!(result.stdout, "65534\nno\n", "{}", result.stderr),
    }
}

async fn has_plain_devices(sandbox: &Sandbox) {
    let devices = output(sandbox, "ls /dev | tr '\\n' ' '").await;
    let expected = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    assert_eq!(devices.trim(), expected);
    assert_eq!(output(sandbox, "echo gone > /dev/null; head -c 3 /dev/zero | wc -c").await, "3");
    refusal(sandbox, "touch /dev/file").await;
    assert_eq!(output(sandbox, "echo kept > /dev/shm/x; cat /dev/shm/x").await, "kept");
    assert_eq!(
        output(sandbox, "python3 -c 'import os; os.openpty(); print(os.ttyname(os.openpty()[1]))'").await,
        "/dev/pts/1"
    );
}

async fn has_its_own_network(sandbox: &Sandbox) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = format!("python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 2)'");
    assert!(refusal(sandbox, &connect).await.contains("refused"), "the machine's loopback");
    let out = "python3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 80), 2)'";
    assert!(refusal(sandbox, out).await.contains("unreachable"));
    let own = "python3 -c 'import socket; s = socket.create_server((\"127.0.0.1\", 80)); socket.create_connection((\"127.0.0.1\", 80)); print(\"own\")'";
    assert_eq!(output(sandbox, own).await, "own");
    assert_eq!(output(sandbox, "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '").await, "lo");
}

async fn writes_everywhere(sandbox: &Sandbox, idmapped: bool) {
    for path in [
        "/x",
        "/etc/x",
        "/usr/x",
        "/usr/bin/x",
        "/usr/local/lib/x",
        "/var/lib/x",
        "/opt/x",
        "/srv/x",
        "/root/x",
    ] {
        output(sandbox, &format!("echo hello > {path} && cat {path} && rm {path}")).await;
    }
    // A file of the image is replaced and removed; with idmapped layers also edited.
    output(sandbox, "cp /usr/bin/env /usr/bin/env2 && mv /usr/bin/env2 /usr/bin/env && env true").await;
    output(sandbox, "rm /usr/bin/yes && test ! -e /usr/bin/yes").await;
    if idmapped {
        output(
            sandbox,
            "echo >> /usr/bin/ldd && chown 7:8 /usr/bin/ldd && test $(stat -c %u:%g /usr/bin/ldd) = 7:8",
        )
        .await;
    }
    // Between directories: a rename and a link.
    output(sandbox, "mkdir -p /a/b /c && touch /a/b/f && mv /a/b/f /c/f && ln /c/f /a/f && mv /a /c/a").await;
    assert!(std::path::Path::new("/usr/bin/yes").exists(), "the machine's own files stay");
}

async fn keeps_its_guest(sandbox: &Sandbox) {
    for command in ["kill -9 1; kill -0 1", "kill -9 -1; true"] {
        // Whatever it says, the guest answers the next exec.
        shell(sandbox, command).await;
    }
    for file in ["environ", "mem", "exe", "fd/3", "root/etc"] {
        refusal(sandbox, &format!("cat /proc/1/{file} > /dev/null")).await;
    }
    assert_eq!(output(sandbox, "echo alive").await, "alive");
}

async fn fills_only_its_own_disk(sandbox: &Sandbox) {
    let full = refusal(sandbox, "dd if=/dev/zero of=/big bs=1M count=64").await;
    assert!(full.contains("No space left"), "{full}");
    output(sandbox, "rm /big").await;
    let full = refusal(sandbox, "cd /tmp && for i in $(seq 1000); do : > f$i || exit 1; done").await;
    assert!(full.contains("No space left") || full.contains("annot create"), "{full}");
    refusal(sandbox, "dd if=/dev/zero of=/dev/shm/big bs=1M count=64").await;
}

async fn cannot_see_its_neighbour(one: &Sandbox, two: &Sandbox) {
    output(one, "echo mine > /tmp/mine; echo mine > /dev/shm/mine; echo mine > /usr/mine").await;
    assert_eq!(output(two, "ls -d /tmp/mine /dev/shm/mine /usr/mine 2>/dev/null; true").await, "");
    let maps = [output(one, "cat /proc/self/uid_map").await, output(two, "cat /proc/self/uid_map").await];
    if !maps[0].trim_end().ends_with(" 1") {
        assert_ne!(maps[0], maps[1], "each has ids of its own");
    }
}

async fn stays_in_its_limits(sandbox: &Sandbox) {
    let result = shell(sandbox, "exec python3 -c 'x = bytearray(500 << 20)'").await;
    assert_eq!(result.outcome, Outcome::OomKilled, "{}", result.stderr);
    let bomb = "python3 -c 'import os, sys, time\nfor i in range(100):\n  try:\n    if os.fork() == 0: time.sleep(30); os._exit(0)\n  except OSError as e: print(i, e.errno); sys.exit(0)'; kill -9 -1";
    let result = shell(sandbox, bomb).await;
    let (count, errno) = result.stdout.trim().split_once(' ').unwrap_or_else(|| panic!("{result:?}"));
    assert_eq!(errno, "11", "EAGAIN");
    assert!((10..=20).contains(&count.parse::<u32>().unwrap()), "{count} of 20");
    assert_eq!(output(sandbox, "echo alive").await, "alive");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_holds_for_whoever_runs_this() {
    everything_holds().await;
}

#[test]
fn everything_holds_for_an_ordinary_user() {
    tests_as_ordinary_user(&["--exact", "everything_holds_for_whoever_runs_this"]);
}
