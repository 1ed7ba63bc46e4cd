//! A real `hothouse serve` and the commands that need one.

use std::fs;

use serde_json::Value;

use crate::process::{Answer, Running, answer, feed, wait_until};
use crate::program::{hothouse, run};

/// A server on a free port with a home of its own.
struct Service {
    server: Running,
    url: String,
    _home: tempfile::TempDir,
}

impl Service {
    fn start() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let mut command = hothouse(&["serve", "--listen", "127.0.0.1:0", "--on-exit", "destroy", "--json"]);
        command.env("HOTHOUSE_HOME", home.path()).env("HOTHOUSE_LOG", "error");
        let mut server = Running::start(&mut command);
        let line = server.read_until("\n");
        let ready: Value = serde_json::from_str(&line).expect("the first line is JSON");
        assert_eq!(ready["pid"], server.id());
        let url = ready["url"].as_str().expect("a url").to_owned();
        Self { server, url, _home: home }
    }

    /// Runs a command against it.
    fn ask(&self, args: &[&str]) -> Answer {
        answer(hothouse(args).env("HOTHOUSE_SERVER", &self.url))
    }

    /// Runs a command against it that must succeed; what it printed.
    fn ok(&self, args: &[&str]) -> String {
        let answer = self.ask(args);
        assert_eq!(answer.status, 0, "{args:?}: {answer:?}");
        answer.stdout
    }

    fn create(&self) -> String {
        self.ok(&["create"]).trim().to_owned()
    }
}

#[test]
fn a_sandbox_from_create_to_rm() {
    let service = Service::start();
    assert_eq!(service.ok(&["ps", "--quiet"]), "");
    let id =
        service.ok(&["create", "--label", "job=7", "--memory", "128M", "--env", "A=1"]).trim().to_owned();
    let other = service.create();

    let table = service.ok(&["ps"]);
    assert!(table.starts_with("ID ") && table.contains(&id) && table.contains("job=7"), "{table}");
    assert!(table.contains("128M") && table.contains("running"), "{table}");
    assert_eq!(service.ok(&["ps", "-q", "--label", "job=7"]).trim(), id);
    let all: Value = serde_json::from_str(&service.ok(&["ps", "--json"])).expect("JSON");
    assert_eq!(all.as_array().map(Vec::len), Some(2));

    let answer = service.ask(&["exec", &id, "--", "sh", "-c", "echo $A; echo err >&2; exit 5"]);
    assert_eq!((answer.status, answer.stdout.as_str(), answer.stderr.as_str()), (5, "1\n", "err\n"));

    assert_eq!(service.ok(&["rm", &id]).trim(), id);
    let gone = service.ask(&["exec", &id, "--", "true"]);
    assert_eq!(gone.status, 125);
    assert!(gone.stderr.contains(&id) && gone.stderr.contains("hothouse ps"), "{gone:?}");
    assert_eq!(service.ask(&["rm", &id]).status, 1);
    assert_eq!(service.ok(&["rm", "--all"]).trim(), other);
    assert_eq!(service.ok(&["ps", "-q"]), "");
}

#[test]
fn files_and_directories_go_in_and_out() {
    let service = Service::start();
    let id = service.create();
    let local = tempfile::tempdir().unwrap();
    let at = |name: &str| local.path().join(name).to_str().unwrap().to_owned();
    let inside = |path: &str| format!("{id}:{path}");
    fs::create_dir_all(at("tree/deep")).unwrap();
    fs::write(at("tree/deep/b"), "b").unwrap();
    fs::write(at("one"), "one").unwrap();
    let big: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    fs::write(at("big"), &big).unwrap();

    service.ok(&["cp", &at("one"), &inside("/workspace")]);
    service.ok(&["cp", &at("one"), &inside("/workspace/two")]);
    service.ok(&["cp", &at("one"), &inside("/new/place/")]);
    service.ok(&["cp", &at("tree"), &inside("/workspace")]);
    service.ok(&["cp", &at("tree"), &inside("/workspace/copy")]);
    service.ok(&["cp", &at("big"), &inside("/workspace")]);
    let listing = service.ok(&["exec", &id, "--", "sh", "-c", "find /workspace /new | sort"]);
    insta::assert_snapshot!(listing, @r"
    /new
    /new/place
    /new/place/one
    /workspace
    /workspace/big
    /workspace/copy
    /workspace/copy/deep
    /workspace/copy/deep/b
    /workspace/one
    /workspace/tree
    /workspace/tree/deep
    /workspace/tree/deep/b
    /workspace/two
    ");

    service.ok(&["cp", &inside("/workspace/big"), &at("back")]);
    assert!(fs::read(at("back")).unwrap() == big);
    service.ok(&["cp", &inside("/workspace/tree"), &at("out")]);
    assert_eq!(fs::read_to_string(at("out/deep/b")).unwrap(), "b");
    fs::create_dir(at("into")).unwrap();
    service.ok(&["cp", &inside("/workspace/tree"), &at("into")]);
    assert_eq!(fs::read_to_string(at("into/tree/deep/b")).unwrap(), "b");

    let missing = service.ask(&["cp", &inside("/no/such"), &at("x")]);
    assert_eq!(missing.status, 1);
    assert!(missing.stderr.contains("/no/such"), "{missing:?}");
    assert_eq!(service.ask(&["cp", &at("no-such"), &inside("/tmp")]).status, 1);
}

#[test]
fn a_hostile_archive_stays_in_its_directory() {
    let service = Service::start();
    let id = service.create();
    let local = tempfile::tempdir().unwrap();
    let target = local.path().join("out");
    // A link that leads out, and a file behind it.
    let script = format!(
        "mkdir -p /evil && cd /evil && ln -s {} up && mkfifo fifo && echo x > file",
        local.path().display()
    );
    service.ok(&["exec", &id, "--", "sh", "-c", &script]);
    let answer = service.ask(&["cp", &format!("{id}:/evil"), target.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "x\n", "{answer:?}");
    let names: Vec<_> = fs::read_dir(local.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["out"]);
    assert!(!target.join("fifo").exists());
}

#[test]
fn a_detached_exec_is_followed_and_read_again() {
    let service = Service::start();
    let id = service.create();
    let script = "echo one; echo err >&2; read x < /tmp/go; echo two; exit 6";
    service.ok(&["exec", &id, "--", "mkfifo", "/tmp/go"]);
    let printed = service.ok(&["exec", "--detach", "--exec-id", "job", &id, "--", "sh", "-c", script]);
    assert_eq!(printed, "job\n");
    wait_until("its first output is kept", || service.ok(&["logs", &id, "job"]) == "one\n");
    assert!(service.ok(&["logs", &id]).contains("running"));

    let mut command = hothouse(&["logs", "--follow", &id, "job"]);
    command.env("HOTHOUSE_SERVER", &service.url);
    let mut following = Running::start(&mut command);
    following.read_until("one\n");
    service.ok(&["exec", &id, "--", "sh", "-c", "echo > /tmp/go"]);
    let answer = following.answer();
    assert_eq!((answer.status, answer.stdout.as_str(), answer.stderr.as_str()), (6, "two\n", "err\n"));

    assert_eq!(service.ok(&["logs", &id, "job"]), "one\ntwo\n");
    assert!(service.ok(&["logs", &id]).contains("exited 6"));
    let status: Value = serde_json::from_str(&service.ok(&["logs", "--json", &id, "job"])).expect("JSON");
    assert_eq!((&status["state"], &status["result"]["stdout"]), (&"finished".into(), &"one\ntwo\n".into()));
    let unknown = service.ask(&["logs", &id, "other"]);
    assert_eq!(unknown.status, 1);
    assert!(unknown.stderr.contains("other"), "{unknown:?}");
}

#[test]
fn the_same_exec_id_runs_once() {
    let service = Service::start();
    let id = service.create();
    let exec = ["exec", "--exec-id", "once", &id, "--", "sh", "-c", "echo x >> /tmp/runs; wc -l < /tmp/runs"];
    assert_eq!((service.ok(&exec), service.ok(&exec)), ("1\n".to_owned(), "1\n".to_owned()));
    let other = service.ask(&["exec", "--exec-id", "once", &id, "--", "true"]);
    assert_eq!(other.status, 125, "{other:?}");
    assert!(other.stderr.contains("once"), "{other:?}");
}

#[test]
fn run_at_a_server_is_run_all_the_same() {
    let service = Service::start();
    let local = tempfile::NamedTempFile::new().unwrap();
    fs::write(local.path(), "from a file").unwrap();
    let file = format!("{}:given", local.path().display());
    let answer = service.ask(&["run", "--file", &file, "--", "sh", "-c", "cat given; exit 7"]);
    assert_eq!((answer.status, answer.stdout.as_str()), (7, "from a file"), "{answer:?}");
    let timed_out = service.ask(&["run", "--timeout", "0.2", "--", "sleep", "60"]);
    assert_eq!(timed_out.status, 124, "{timed_out:?}");
    assert_eq!(service.ok(&["ps", "-q"]), "", "its sandbox goes with it");
}

#[test]
fn a_signal_to_run_at_a_server_leaves_nothing_there() {
    let service = Service::start();
    let mut command = hothouse(&["run", "--", "sh", "-c", "echo begun; exec sleep 1000"]);
    command.env("HOTHOUSE_SERVER", &service.url);
    let mut running = Running::start(&mut command);
    running.read_until("begun");
    assert_ne!(service.ok(&["ps", "-q"]), "");
    running.signal("INT");
    assert_eq!(running.answer().status, 130);
    assert_eq!(service.ok(&["ps", "-q"]), "");
}

#[test]
fn input_and_big_output_pass_through_a_server() {
    let service = Service::start();
    let id = service.create();
    let input: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    let mut command = hothouse(&["exec", &id, "--", "cat"]);
    command.env("HOTHOUSE_SERVER", &service.url);
    let output = feed(&mut command, &input);
    assert!(output.status.success());
    assert!(output.stdout == input, "{} bytes came back", output.stdout.len());
}

#[test]
fn a_second_server_on_the_same_home_is_refused() {
    let service = Service::start();
    let mut command = hothouse(&["serve", "--listen", "127.0.0.1:0"]);
    let answer = answer(command.env("HOTHOUSE_HOME", service._home.path()));
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(answer.stderr.contains("another server uses") && answer.stderr.contains("--home"), "{answer:?}");
}

#[test]
fn a_pool_from_template_to_claim() {
    let service = Service::start();
    let set = ["template", "set", "py", "--memory", "128M", "--env", "WHO=template", "--label", "kind=py"];
    assert_eq!(service.ok(&set), "py version 1\n");
    assert_eq!(service.ok(&["pool", "create", "warm", "--template", "py", "--min", "2"]), "warm\n");
    let pool = || -> Value {
        let all: Value = serde_json::from_str(&service.ok(&["pool", "ls", "--json"])).expect("JSON");
        all[0].clone()
    };
    wait_until("two are ready", || pool()["ready"] == 2);
    let id = service.ok(&["pool", "claim", "warm", "--env", "JOB=7"]).trim().to_owned();
    assert_eq!(service.ok(&["exec", &id, "--", "sh", "-c", "echo $WHO $JOB"]), "template 7\n");
    assert_eq!((&pool()["hits"], &pool()["claimed"]), (&1.into(), &1.into()));
    let sandboxes = service.ok(&["ps"]);
    assert!(sandboxes.contains("warm, ready") && sandboxes.contains(" POOL "), "{sandboxes}");
    let table = service.ok(&["pool", "ls"]);
    assert!(table.starts_with("NAME ") && table.contains("py:1") && table.contains("active"), "{table}");
    assert_eq!(service.ok(&["pool", "scale", "warm", "--min", "0", "--max", "1"]), "warm\n");

    let refused = service.ask(&["pool", "rm", "warm"]);
    assert!(refused.status == 1 && refused.stderr.contains("drain"), "{refused:?}");
    assert_eq!(service.ok(&["pool", "drain", "warm"]), "warm\n");
    assert_eq!(service.ok(&["pool", "rm", "warm"]), "warm\n");
    assert!(service.ok(&["template", "ls"]).contains("128M"));
    assert_eq!(service.ok(&["template", "rm", "py"]), "py\n");
    assert_eq!(service.ok(&["ps", "--quiet"]).trim(), id, "what was claimed lives on");
}

#[test]
fn an_address_that_is_taken_or_exposed_is_refused() {
    let service = Service::start();
    let home = tempfile::tempdir().unwrap();
    let serve = |listen: &str| -> Answer {
        let mut command = hothouse(&["serve", "--listen", listen]);
        answer(command.env("HOTHOUSE_HOME", home.path()))
    };
    let taken = serve(service.url.trim_start_matches("http://"));
    assert_eq!(taken.status, 1, "{taken:?}");
    assert!(taken.stderr.contains("listening on 127.0.0.1"), "{taken:?}");
    let exposed = serve("0.0.0.0:0");
    assert_eq!(exposed.status, 2, "{exposed:?}");
    assert!(exposed.stderr.contains("--insecure"), "{exposed:?}");
}

#[test]
fn a_signal_ends_the_server_in_order() {
    let service = Service::start();
    let id = service.create();
    service.server.signal("TERM");
    let Service { server, url, _home: home } = service;
    let answer = server.answer();
    assert_eq!(answer.status, 0, "{answer:?}");
    let left = home.path().join("sandboxes").join(&id);
    assert!(!left.exists(), "--on-exit destroy leaves nothing");
    let answer = run(&["ps", "--server", &url]);
    assert!(answer.stderr.starts_with("error: no server answers at"), "{answer:?}");
}

#[test]
fn sandboxes_outlive_a_server_that_leaves_them() {
    let home = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = hothouse(&["serve", "--listen", "127.0.0.1:0", "--json"]);
        command.env("HOTHOUSE_HOME", home.path()).env("HOTHOUSE_LOG", "error");
        let mut server = Running::start(&mut command);
        let ready: Value = serde_json::from_str(&server.read_until("\n")).expect("JSON");
        (server, ready["url"].as_str().expect("a url").to_owned())
    };
    let ask = |url: &str, args: &[&str]| -> Answer { answer(hothouse(args).env("HOTHOUSE_SERVER", url)) };
    let (server, url) = start();
    let id = ask(&url, &["create"]).stdout.trim().to_owned();
    assert_eq!(ask(&url, &["exec", &id, "--", "sh", "-c", "echo kept > /tmp/f"]).status, 0);
    server.signal("TERM");
    assert_eq!(server.answer().status, 0);

    let (server, url) = start();
    let answer = ask(&url, &["exec", &id, "--", "cat", "/tmp/f"]);
    assert_eq!(answer.stdout, "kept\n", "{answer:?}");
    assert_eq!(ask(&url, &["rm", "--all"]).stdout.trim(), id);
    server.signal("TERM");
    assert_eq!(server.answer().status, 0);
}
