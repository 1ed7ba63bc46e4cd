//! `hothouse score` against real sandboxes: the shipped examples, HumanEval, resuming, interrupting, a server.

#![expect(clippy::tests_outside_test_module, reason = "the whole file is a test")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "this is test code, outside of a test function")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use tempfile::TempDir;

use process::{Running, wait_until};

mod process;

/// The longest wait for hundreds of attempts, on a machine that has other things to do.
const WHOLE_RUN: Duration = Duration::from_secs(300);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn example(name: &str) -> String {
    root().join("examples/scoring").join(name).to_str().expect("a path of text").to_owned()
}

/// A directory with the program's home and the test's files.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().expect("a path of text").to_owned()
    }

    fn write(&self, name: &str, rows: &[Value]) -> String {
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        fs::write(self.path(name), text).expect("written");
        self.path(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hothouse"));
        command.args(args).env_remove("HOTHOUSE_SERVER").env("HOTHOUSE_HOME", self.path("home"));
        command.stdin(Stdio::null());
        command
    }

    fn score(&self, args: &[&str]) -> Output {
        Running::start(&mut self.command(&[&["score"], args].concat())).output_within(WHOLE_RUN)
    }

    /// Scores with `--json`; the exit status and the summary.
    fn summary(&self, args: &[&str]) -> (i32, Value) {
        let output = self.score(&[args, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        let summary = serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap_or(-1), summary)
    }

    fn results(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect()
    }

    /// Nothing of a run that is over is left.
    fn assert_clean(&self) {
        let left: Vec<_> = fs::read_dir(self.path("home/embedded"))
            .map(|entries| entries.flatten().map(|e| e.file_name()).filter(|name| name != ".lock").collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "left over: {left:?}");
    }
}

/// A function task whose right completion is `return 2 * x`.
fn double(id: &str) -> Value {
    json!({"task_id": id, "prompt": "def double(x):\n", "entry_point": "double",
           "test": "def check(candidate):\n    assert candidate(2) == 4\n"})
}

#[test]
fn every_right_example_passes() {
    let place = Place::new();
    let (tasks, solutions) = (example("tasks.jsonl"), example("solutions-right.jsonl"));
    let (status, summary) = place.summary(&[
        &tasks,
        "--solutions",
        &solutions,
        "--out",
        &place.path("r.jsonl"),
        "--timeout",
        "60",
    ]);
    let others: Vec<_> =
        place.results("r.jsonl").into_iter().filter(|row| row["verdict"] != "passed").collect();
    assert!(others.is_empty(), "{others:#?}");
    assert_eq!(status, 0, "{summary}");
    assert!(summary["attempts"].as_u64().unwrap() >= 40, "{summary}");
    assert_eq!(summary["tasks"], summary["tasks_solved"]);
    assert_eq!(summary["uncontained"], 0);
    place.assert_clean();
}

#[test]
fn every_hostile_example_is_contained_and_gets_its_verdict() {
    let place = Place::new();
    let (tasks, solutions) = (example("tasks.jsonl"), example("solutions-hostile.jsonl"));
    let out = place.path("h.jsonl");
    let output = place.score(&[&tasks, "--solutions", &solutions, "--out", &out, "--expect"]);
    let table = String::from_utf8_lossy(&output.stdout);
    let rows = place.results("h.jsonl");
    assert!(rows.len() >= 40, "{} rows", rows.len());
    for row in &rows {
        assert_ne!(row["verdict"], "passed", "{row:#}");
        assert_eq!(row["contained"], true, "{row:#}");
    }
    assert_eq!(output.status.code(), Some(0), "{table}\n{}", String::from_utf8_lossy(&output.stderr));
    place.assert_clean();
}

/// The data set is not ours to ship; it is looked for beside the repository or where `HOTHOUSE_SHARED` says.
fn human_eval(test: &str) -> Option<(String, Vec<Value>)> {
    let shared = std::env::var_os("HOTHOUSE_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let path = shared.join("data/HumanEval.jsonl.gz");
    let Ok(file) = fs::File::open(&path) else {
        let reason = format!("data: {test}: no {}; set HOTHOUSE_SHARED", path.display());
        if let Some(skips) = std::env::var_os("HOTHOUSE_SKIPS") {
            let mut skips = fs::File::options().append(true).create(true).open(skips).unwrap();
            writeln!(skips, "{reason}").unwrap();
        }
        println!("skipped: {reason}");
        return None;
    };
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Some((path.to_str().unwrap().to_owned(), rows))
}

#[test]
fn all_canonical_solutions_of_human_eval_pass() {
    let Some((path, rows)) = human_eval("all_canonical_solutions_of_human_eval_pass") else { return };
    let place = Place::new();
    let (status, summary) = place.summary(&[&path, "--out", &place.path("r.jsonl"), "--timeout", "60"]);
    let others: Vec<_> =
        place.results("r.jsonl").into_iter().filter(|row| row["verdict"] != "passed").collect();
    assert!(others.is_empty(), "{others:#?}");
    assert_eq!((status, summary["verdicts"]["passed"].as_u64()), (0, Some(164)), "{summary}");
    assert_eq!(rows.len(), 164);
}

#[test]
fn no_empty_solution_of_human_eval_passes() {
    let Some((path, rows)) = human_eval("no_empty_solution_of_human_eval_passes") else { return };
    let place = Place::new();
    let bodies = ["    return None\n", "    import os\n    print('PASSED')\n    os._exit(0)\n"];
    let solution = |row: &Value, body: &str| json!({"task_id": row["task_id"], "completion": body});
    let solutions: Vec<_> = rows.iter().flat_map(|row| bodies.map(|body| solution(row, body))).collect();
    let solutions = place.write("s.jsonl", &solutions);
    let out = place.path("r.jsonl");
    let (status, summary) =
        place.summary(&[&path, "--solutions", &solutions, "--out", &out, "--timeout", "60"]);
    assert_eq!(status, 1, "{summary}");
    assert_eq!(summary["verdicts"]["failed"], 328, "{summary}");
}

#[test]
fn finished_attempts_are_not_run_again() {
    let place = Place::new();
    let mut rows: Vec<_> = (0..6).map(|n| double(&format!("t{n}"))).collect();
    for (n, row) in rows.iter_mut().enumerate() {
        row["completion"] = json!(if n == 3 { "    return 3\n" } else { "    return 2 * x\n" });
    }
    let tasks = place.write("t.jsonl", &rows);
    let out = place.path("r.jsonl");
    let (status, first) = place.summary(&[&tasks, "--out", &out]);
    assert_eq!((status, &first["resumed"], &first["attempts"]), (1, &json!(0), &json!(6)), "{first}");

    let (status, second) = place.summary(&[&tasks, "--out", &out]);
    assert_eq!((status, &second["resumed"], &second["attempts"]), (1, &json!(6), &json!(6)), "{second}");
    assert_eq!(second["verdicts"], first["verdicts"]);
    assert_eq!(place.results("r.jsonl").len(), 6);

    // As a crash leaves it: the last line lacks its end.
    let text = fs::read(&out).unwrap();
    fs::write(&out, &text[..text.len() - 20]).unwrap();
    let (_, third) = place.summary(&[&tasks, "--out", &out]);
    assert_eq!((&third["resumed"], &third["attempts"]), (&json!(5), &json!(6)), "{third}");
    assert_eq!(place.results("r.jsonl").len(), 6);

    // Another solution, another limit: another attempt.
    rows[3]["completion"] = json!("    return x + x\n");
    rows[4]["limits"] = json!({"timeout_s": 9});
    let tasks = place.write("t.jsonl", &rows);
    let (status, fourth) = place.summary(&[&tasks, "--out", &out]);
    assert_eq!((status, &fourth["resumed"]), (0, &json!(4)), "{fourth}");
    assert_eq!(place.results("r.jsonl").len(), 8);
}

#[test]
fn an_interrupt_keeps_what_is_finished_and_leaves_nothing_running() {
    let place = Place::new();
    let mut rows: Vec<_> = (0..20).map(|n| double(&format!("t{n}"))).collect();
    for (n, row) in rows.iter_mut().enumerate() {
        let body = if n < 3 { "    return 2 * x\n" } else { "    import time\n    time.sleep(100)\n" };
        row["completion"] = json!(body);
    }
    let tasks = place.write("t.jsonl", &rows);
    let out = place.path("r.jsonl");
    let args = ["score", &tasks, "--out", &out, "--timeout", "200", "-j", "2", "--json"];
    let running = Running::start(&mut place.command(&args));
    wait_until("there are three results", || {
        assert!(!running.has_ended(), "it ended early: {}", running.story());
        fs::read_to_string(&out).unwrap_or_default().lines().count() == 3
    });
    // The programs that it ends would sleep longer than anybody waits for its answer.
    running.signal("INT");
    let output = running.output();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["attempts"], &summary["missing"]), (&json!(3), &json!(17)), "{summary}");
    assert_eq!(place.results("r.jsonl").len(), 3);
    place.assert_clean();
}

#[test]
fn a_server_scores_as_this_process_does() {
    let place = Place::new();
    let mut server = Running::start(&mut place.command(&["serve", "--listen", "127.0.0.1:0", "--json"]));
    let line = server.read_until("\n");
    let ready: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
    let url = ready["url"].as_str().unwrap().to_owned();
    let mut rows = vec![double("right"), double("wrong"), double("large")];
    rows[0]["completion"] = json!("    return 2 * x\n");
    rows[1]["completion"] = json!("    import os; os._exit(90)\n");
    // More than goes into one request to the guest.
    rows[2]["completion"] = json!("    return 2 * x\n");
    rows[2]["test"] = json!(format!(
        "DATA = '{}'\ndef check(candidate):\n    assert candidate(2) == 4\n",
        "x".repeat(5 << 20)
    ));
    let program = json!({"task_id": "program", "command": ["cat"], "solution_files": {},
                         "cases": [{"stdin": "a", "expected_stdout": "a"}]});
    rows.push(program);
    let tasks = place.write("t.jsonl", &rows);
    let out = place.path("r.jsonl");
    let (status, summary) = place.summary(&[&tasks, "--server", &url, "--out", &out, "--timeout", "60"]);
    server.signal("INT");
    assert_eq!(server.answer().status, 0);
    let verdicts: BTreeMap<_, _> = place
        .results("r.jsonl")
        .into_iter()
        .map(|row| (row["task_id"].as_str().unwrap().to_owned(), row["verdict"].clone()))
        .collect();
    let expected = [("large", "passed"), ("program", "passed"), ("right", "passed"), ("wrong", "failed")];
    assert_eq!(verdicts, expected.map(|(id, verdict)| (id.to_owned(), json!(verdict))).into(), "{summary}");
    assert_eq!(status, 1);
}

#[test]
fn reasons_name_the_place_and_output_is_kept() {
    let place = Place::new();
    let (mut broken, mut vacuous) = (double("broken"), double("vacuous"));
    broken["test"] = json!("def check(candidate:\n");
    vacuous["test"] = json!("def check(candidate):\n    pass\n");
    let tasks = place.write("t.jsonl", &[double("d"), broken, vacuous]);
    let solutions = place.write("s.jsonl", &[
        json!({"task_id": "d", "completion": "    print('hello', x)\n    return 5\n"}),
        json!({"task_id": "d", "completion": "    import sys\n    sys.stderr.write('oh')\n    raise KeyError('k')\n"}),
        json!({"task_id": "d", "completion": "    return 2 * x\n"}),
        json!({"task_id": "broken", "completion": "    return 2 * x\n"}),
        json!({"task_id": "vacuous", "completion": "    return 2 * x\n"}),
    ]);
    let out = place.path("r.jsonl");
    let (status, summary) = place.summary(&[&tasks, "--solutions", &solutions, "--out", &out]);
    assert_eq!(status, 1, "{summary}");
    assert_eq!((&summary["tasks"], &summary["tasks_solved"]), (&json!(3), &json!(1)), "{summary}");
    let mut rows = place.results("r.jsonl");
    rows.sort_by_key(|row| (row["task_id"].to_string(), row["sample"].as_u64()));
    let field = |at: usize, name: &str| rows[at][name].as_str().unwrap().to_owned();
    assert_eq!(field(0, "verdict"), "error");
    assert!(field(0, "reason").starts_with("the tests do not run: SyntaxError"), "{}", field(0, "reason"));
    assert_eq!(field(1, "reason"), "AssertionError at tests.py line 2: assert candidate(2) == 4");
    assert_eq!((field(1, "during"), field(1, "stdout")), ("double(2)".into(), "hello 2\n".into()));
    assert_eq!(
        field(2, "reason"),
        "KeyError: 'k' (solution.py line 4) at tests.py line 2: assert candidate(2) == 4"
    );
    assert_eq!(field(2, "stderr"), "oh");
    assert_eq!((field(3, "verdict"), field(3, "reason")), ("passed".into(), String::new()));
    assert_eq!(
        (field(4, "verdict"), field(4, "reason")),
        ("error".into(), "the tests never call the solution".into())
    );
    assert!(rows[3]["usage"]["max_rss_bytes"].as_u64().unwrap() > 1 << 20, "{}", rows[3]);
    assert!(rows[3]["duration_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn expectations_decide_the_exit_status() {
    let place = Place::new();
    let tasks = place.write("t.jsonl", &[double("d")]);
    let wrong = |expect: Value| json!({"task_id": "d", "completion": "    return 1\n", "expect": expect, "attack": "is wrong"});
    for (expect, status) in
        [(json!("failed"), 0), (json!(["timed_out", "failed"]), 0), (json!("timed_out"), 1)]
    {
        let solutions = place.write("s.jsonl", &[wrong(expect.clone())]);
        let output = place.score(&[&tasks, "--solutions", &solutions, "--expect"]);
        assert_eq!(output.status.code(), Some(status), "{expect}");
        let table = String::from_utf8_lossy(&output.stdout);
        assert!(table.contains("is wrong"), "{table}");
    }
}

/// What an attempt could leave for the next one, each as the body of a right `double`.
const LEAVE: &[(&str, &str)] = &[
    (
        "files",
        "for place in ('/tmp', '/dev/shm', '/var/tmp', '/run/lock'):\n    if os.access(place, os.W_OK): open(place + '/mark', 'w').write('x')",
    ),
    (
        "objects of System V",
        "libc.shmget(0x4d41, 4096, 0o1666); libc.msgget(0x4d41, 0o1666); libc.semget(0x4d41, 1, 0o1666)",
    ),
    ("a message queue", "assert libc.mq_open(b'/mark', 0o102, 0o666, None) == -1"),
    (
        "a daemon",
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: os.execv('/bin/sleep', ['sleep', '600'])\n    os._exit(0)",
    ),
    (
        "a link in place of its directory",
        "os.rename('/tmp/solution', '/tmp/solution-')\nos.symlink('/etc', '/tmp/solution')",
    ),
    (
        "patched modules",
        "import math, sysconfig\nmath.sqrt = None\ntry: open(sysconfig.get_paths()['purelib'] + '/mark.py', 'w')\nexcept OSError: pass\nelse: raise SystemExit('wrote there')",
    ),
    (
        "a killed or changed interpreter",
        "for pid in [int(p) for p in os.listdir('/proc') if p.isdigit() and int(p) != os.getpid()]:\n    \
         for attempt in (lambda: os.kill(pid, 9), lambda: open('/proc/%d/mem' % pid, 'r+b'), lambda: os.listdir('/proc/%d/fd' % pid)):\n        \
         try: attempt()\n        except OSError: pass\n        else: raise SystemExit('reached %d' % pid)\n    \
         assert libc.ptrace(16, pid, 0, 0) == -1",
    ),
    ("nothing", "pass"),
];

/// Looks for all of it.
const LOOK: &str = "import math\nfound = [place for place in ('/tmp', '/dev/shm', '/var/tmp', '/run/lock') if os.path.lexists(place + '/mark')]\n\
    found += [name for name in os.listdir('/tmp') if name != 'solution']\n\
    found += [kind for kind in ('shm', 'msg', 'sem') if len(open('/proc/sysvipc/' + kind).readlines()) > 1]\n\
    found += ['queue'] if libc.mq_open(b'/mark', 0) != -1 else []\n\
    found += [pid for pid in os.listdir('/proc') if pid.isdigit() and b'sleep' in open('/proc/%s/cmdline' % pid, 'rb').read()]\n\
    found += ['math'] if math.sqrt is None else []\n\
    found += ['directory'] if os.path.islink('/tmp/solution') else []\n\
    assert not found, found";

/// A right `double` that does these things first, and says in which sandbox.
fn doing(id: &str, things: &[&str]) -> Value {
    let body: String = [&["import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)"], things]
        .concat()
        .iter()
        .flat_map(|thing| thing.lines())
        .map(|line| format!("    {line}\n"))
        .collect();
    json!({"task_id": id, "completion": format!("{body}    print(os.uname().nodename)\n    return 2 * x\n")})
}

/// One sandbox judges attempt after attempt as long as they leave nothing, and no attempt finds anything of another.
#[test]
fn no_attempt_finds_anything_of_the_one_before() {
    let place = Place::new();
    let (mut tasks, mut solutions) = (Vec::new(), Vec::new());
    let mut add = |id: &str, things: &[&str]| {
        tasks.push(double(id));
        solutions.push(doing(id, things));
    };
    for (at, (_, leave)) in LEAVE.iter().enumerate() {
        add(&format!("{at}/leave"), &[leave]);
        add(&format!("{at}/look"), &[LOOK]);
    }
    // The same within one attempt: the marks are there to be found.
    for (at, (_, leave)) in LEAVE.iter().enumerate().filter(|(at, _)| [0, 1, 3].contains(at)) {
        add(&format!("{at}/control"), &[leave, LOOK]);
    }
    let (tasks, solutions) = (place.write("tasks", &tasks), place.write("solutions", &solutions));
    let out = place.path("results");
    let (_, summary) =
        place.summary(&[&tasks, "--solutions", &solutions, "--out", &out, "--concurrency", "1"]);
    let results: BTreeMap<String, Value> = place
        .results("results")
        .into_iter()
        .map(|row| (row["task_id"].as_str().expect("an id").to_owned(), row))
        .collect();
    for (id, row) in &results {
        let daemon = id == "3/leave";
        let expected = if id.ends_with("control") || daemon { "failed" } else { "passed" };
        assert_eq!(row["verdict"], expected, "{id}: {row}");
        assert_eq!(row["contained"], true, "{id}: {row}");
        assert!(!daemon || row["reason"].as_str().unwrap().contains("left processes behind: sleep"), "{row}");
    }
    assert_eq!(results.len(), LEAVE.len() * 2 + 3, "{summary}");
    if rustix::process::geteuid().is_root() {
        let at = |id: &str| results[id]["stdout"].as_str().expect("its output").to_owned();
        assert_eq!(at("7/leave"), at("7/look"), "what leaves nothing leaves its sandbox to the next");
        for left in [0, 1, 3, 4] {
            assert_ne!(at(&format!("{left}/leave")), at(&format!("{left}/look")), "{}", LEAVE[left].0);
        }
    }
    let again = place.path("fresh");
    place.summary(&[&tasks, "--solutions", &solutions, "--out", &again, "--concurrency", "1", "--fresh"]);
    let names: std::collections::BTreeSet<String> =
        place.results("fresh").iter().map(|row| row["stdout"].to_string()).collect();
    assert!(names.len() > LEAVE.len() * 2 - 2, "each has its own: {names:?}");
    place.assert_clean();
}
