//! `hothouse run` for real: every test makes sandboxes.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use test_case::test_case;

use crate::process::{Running, answer, wait_until};
use crate::program::{self, hothouse, run, run_with_input};

#[test_case("exit 0", 0; "success")]
#[test_case("exit 3", 3; "its own")]
#[test_case("exit 255", 255; "the largest")]
#[test_case("kill -TERM $$", 143; "ended by a signal")]
#[test_case("kill -KILL $$", 137; "killed")]
fn the_exit_status_is_the_programs(script: &str, expected: i32) {
    let answer = run(&["run", "--", "sh", "-c", script]);
    assert_eq!((answer.status, answer.stderr.as_str()), (expected, ""));
}

#[test_case("no-such-program", 127, "no such program"; "not there")]
#[test_case("/no/such/program", 127, "/no/such/program"; "no such path")]
#[test_case("/etc/passwd", 126, "not executable"; "not executable")]
#[test_case("/tmp", 126, "/tmp"; "a directory")]
fn a_program_that_cannot_run_is_told(program: &str, expected: i32, reason: &str) {
    let answer = run(&["run", "--", program]);
    assert_eq!(answer.status, expected, "{answer:?}");
    assert!(answer.stderr.starts_with("error: ") && answer.stderr.contains(reason), "{answer:?}");
    assert_eq!(answer.stderr.lines().count(), 1, "{answer:?}");
}

#[test]
fn outputs_go_where_they_belong() {
    let answer = run(&["run", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn bytes_pass_as_they_are() {
    let input: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let output = run_with_input(&["run", "--", "cat"], &input);
    assert!(output.status.success());
    assert!(output.stdout == input, "{} bytes came back", output.stdout.len());
}

#[test]
fn output_is_live_and_in_order() {
    let mut command = hothouse(&["run", "--", "sh", "-c", "echo one; read line; echo two $line; read end"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(&mut command);
    // The program waits for our line, so its first output must come while it runs.
    assert_eq!(running.read_until("\n"), "one\n");
    let mut stdin = running.stdin();
    std::io::Write::write_all(&mut stdin, b"more\n").unwrap();
    assert_eq!(running.read_until("\n"), "two more\n");
    drop(stdin);
    assert_eq!(running.answer().status, 1, "`read` fails at the end of its input");
}

#[test]
fn big_output_through_a_pipe_is_complete() {
    let script = "import sys\nfor i in range(1_250_000): sys.stdout.write('%07d\\n' % i)";
    let answer = run(&["run", "--", "python3", "-c", script]);
    assert_eq!((answer.status, answer.stdout.len()), (0, 10_000_000));
    assert!(answer.stdout.ends_with("1249999\n"));
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let mut running = Running::start(&mut hothouse(&["run", "--", "yes"]));
    assert_eq!(running.read_until("\n"), "y\n");
    running.close_stdout();
    let answer = running.answer();
    assert_eq!((answer.status, answer.stderr.as_str()), (141, ""));
}

#[test]
fn a_reader_of_help_that_goes_away_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let answer = Running::start_with(&mut hothouse(&["completions", "bash"]), writer).answer();
    assert_eq!(answer.stderr, "");
}

#[test]
fn the_timeout_ends_it_with_124() {
    let answer = run(&["run", "--timeout", "300ms", "--", "sh", "-c", "echo begun; sleep 60"]);
    assert_eq!((answer.status, answer.stdout.as_str()), (124, "begun\n"));
    assert!(answer.stderr.starts_with("error: timed out after 0.3 s"), "{answer:?}");
}

#[test]
fn using_up_the_memory_ends_it_with_137() {
    let answer = run(&["run", "--memory", "48M", "--", "python3", "-c", "x = b'a' * 10**9"]);
    assert_eq!(answer.status, 137, "{answer:?}");
    assert!(answer.stderr.contains("out of memory") && answer.stderr.contains("--memory"), "{answer:?}");
}

#[test]
fn files_and_directories_are_put_into_the_sandbox() {
    let local = tempfile::tempdir().unwrap();
    let at = |name: &str| local.path().join(name);
    fs::write(at("a.py"), "print('a')").unwrap();
    fs::create_dir_all(at("tree/deep")).unwrap();
    fs::write(at("tree/deep/b"), "b").unwrap();
    std::os::unix::fs::symlink("deep/b", at("tree/link")).unwrap();
    fs::write(at("big"), vec![7; 5_000_000]).unwrap();
    let flag = |name: &str, to: &str| format!("{}{to}", at(name).display());
    let script = "python3 a.py; cat tree/link; stat -c '%s %U' /opt/x/big; ls /data; pwd";
    let answer = run(&[
        "run",
        "--workdir",
        "/work",
        "--file",
        &flag("a.py", ""),
        "--file",
        &flag("tree", ""),
        "--file",
        &flag("big", ":/opt/x/"),
        "--file",
        &flag("tree", ":/data"),
        "--",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(answer.stdout, "a\nb5000000 root\ndeep\nlink\n/work\n", "{answer:?}");
}

#[test]
fn variables_user_and_limits_arrive() {
    let mut command = hothouse(&[
        "run",
        "--env",
        "A=1",
        "--env",
        "FROM_HERE",
        "--env",
        "NOT_SET_HERE",
        "--user",
        "65534",
        "--pids",
        "32",
        "--",
        "sh",
        "-c",
        "echo $A $FROM_HERE ${NOT_SET_HERE-none} $(id -u); ulimit -c",
    ]);
    let answer = answer(command.env("FROM_HERE", "b c").env_remove("NOT_SET_HERE"));
    assert_eq!(answer.stdout, "1 b c none 65534\n0\n", "{answer:?}");
}

#[test]
fn json_tells_all_and_keeps_the_status() {
    let answer = run(&["run", "--json", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    let result: Value = serde_json::from_str(&answer.stdout).expect("one JSON document");
    assert_eq!(answer.status, 3);
    assert_eq!(result["outcome"], serde_json::json!({"kind": "exited", "code": 3}));
    assert_eq!((&result["stdout"], &result["stderr"]), (&"out\n".into(), &"err\n".into()));
    assert_eq!(answer.stderr, "");
}

#[test]
fn json_with_input_has_the_output_too() {
    let output = run_with_input(&["run", "--json", "--", "tr", "a-z", "A-Z"], b"hello");
    let result: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(result["stdout"], "HELLO", "{result}");
}

#[test]
fn without_input_a_program_reads_nothing_and_goes_on() {
    let answer = run(&["run", "--", "sh", "-c", "cat; echo done"]);
    assert_eq!((answer.status, answer.stdout.as_str()), (0, "done\n"));
}

/// What one process's own node keeps on disk.
fn homes_of(pid: u32) -> usize {
    let base = Path::new(program::home()).join("embedded");
    let prefix = format!("{pid}-");
    let entries = fs::read_dir(base).expect("the program made it");
    entries
        .filter(|entry| {
            entry
                .as_ref()
                .expect("a directory entry can be read")
                .file_name()
                .to_string_lossy()
                .starts_with(&prefix)
        })
        .count()
}

#[test_case("INT", 130; "interrupt")]
#[test_case("TERM", 143; "terminate")]
#[test_case("HUP", 129; "hang up")]
fn a_signal_ends_the_program_and_leaves_nothing(signal: &str, expected: i32) {
    let mut running =
        Running::start(&mut hothouse(&["run", "--", "sh", "-c", "echo begun; exec sleep 1000"]));
    running.read_until("begun");
    let pid = running.id();
    assert!(homes_of(pid) > 0);
    running.signal(signal);
    assert_eq!(running.answer().status, expected);
    assert_eq!(homes_of(pid), 0);
}

#[test]
fn the_program_may_answer_the_signal_itself() {
    let script = "trap 'echo bye; exit 9' INT; echo begun; while :; do sleep 0.05; done";
    let mut running = Running::start(&mut hothouse(&["run", "--", "sh", "-c", script]));
    running.read_until("begun");
    running.signal("INT");
    let answer = running.answer();
    assert_eq!((answer.status, answer.stdout.trim()), (9, "bye"));
}

#[test]
fn a_second_signal_does_not_wait() {
    let script = "trap '' INT TERM; echo begun; while :; do sleep 0.05; done";
    let mut running = Running::start(&mut hothouse(&["run", "--", "sh", "-c", script]));
    running.read_until("begun");
    running.signal("INT");
    running.signal("TERM");
    assert!(matches!(running.answer().status, 130 | 143));
}

#[test]
fn what_a_killed_run_leaves_goes_with_the_next() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().to_str().unwrap();
    let run_here = |args: &[&str]| {
        let mut command = hothouse(args);
        command.env("HOTHOUSE_HOME", path);
        command
    };
    let mut running =
        Running::start(&mut run_here(&["run", "--", "sh", "-c", "echo begun; exec sleep 1000"]));
    running.read_until("begun");
    running.signal("KILL");
    assert_eq!(running.answer().status, -9);
    let homes = || fs::read_dir(home.path().join("embedded")).unwrap().count();
    assert!(homes() > 1, "a killed program cannot clean up");
    let answer = answer(&mut run_here(&["run", "--", "true"]));
    assert_eq!((answer.status, answer.stderr.as_str()), (0, ""));
    wait_until("only the lock is left", || homes() == 1);
}

#[test]
fn many_at_once_do_not_meet() {
    let all: Vec<_> = (0..8)
        .map(|n| {
            Running::start(&mut hothouse(&[
                "run",
                "--",
                "sh",
                "-c",
                &format!("echo {n} > /workspace/n; cat /workspace/*"),
            ]))
        })
        .collect();
    for (n, running) in all.into_iter().enumerate() {
        let answer = running.answer();
        assert_eq!((answer.status, answer.stdout), (0, format!("{n}\n")), "{}", answer.stderr);
    }
}

#[test]
fn a_shell_takes_commands_from_a_pipe() {
    let output = run_with_input(&["shell"], b"cd /tmp\nx=5\necho $x $PWD\nexit 4\n");
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "5 /tmp\n");
}

#[test]
fn the_doctor_proves_that_sandboxes_work() {
    let answer = run(&["doctor", "--json"]);
    assert_eq!(answer.status, 0, "{answer:?}");
    let report: Value = serde_json::from_str(&answer.stdout).expect("one JSON document");
    assert_eq!(report["proof"]["outcome"]["kind"], "exited");
    let levels = ["enforced", "partial", "missing"];
    let items = report["items"].as_array().unwrap();
    assert!(items.iter().any(|item| item["name"] == "memory_limit"));
    for item in items {
        assert!(levels.contains(&item["level"].as_str().unwrap()), "{item}");
        assert!(item["level"] == "enforced" || item["reason"].is_string(), "{item}");
    }
    let table = run(&["doctor"]).stdout;
    assert!(table.contains("memory_limit") && table.contains("Sandboxes work here"), "{table}");
    assert!(!table.contains('\u{1b}'), "no colours in a pipe");
}

#[test]
fn a_home_that_cannot_be_made_is_told() {
    let answer = run(&["run", "--home", "/proc/nothing", "--", "true"]);
    assert_eq!(answer.status, 125, "{answer:?}");
    assert!(answer.stderr.contains("/proc/nothing") && answer.stderr.contains("hint: "), "{answer:?}");
}

#[test]
fn a_wrong_image_is_told() {
    let answer = run(&["run", "--image", "dir:/no/such/rootfs", "--", "true"]);
    assert_eq!(answer.status, 125, "{answer:?}");
    assert!(answer.stderr.contains("/no/such/rootfs"), "{answer:?}");
}
