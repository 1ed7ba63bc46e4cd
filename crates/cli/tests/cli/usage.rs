//! What wrong usage is answered with: one table, one snapshot.

use std::fmt::Write as _;

use crate::process::answer;
use crate::program::{hothouse, run};

/// Wrong command lines. None of them gets as far as a sandbox.
const WRONG: &[&[&str]] = &[
    // commands and flags
    &["fly"],
    &["run"],
    &["run", "--bogus", "--", "true"],
    &["ps", "--quiet", "--json"],
    &["rm"],
    &["rm", "--all", "sb-1"],
    &["rm", "--label", "a=b", "sb-1"],
    &["logs", "--follow", "sb-1"],
    &["exec", "sb-1"],
    &["exec", "--detach", "--tty", "sb-1", "--", "true"],
    &["completions", "csh"],
    // sizes, numbers, times
    &["run", "--memory", "12Q", "--", "true"],
    &["run", "--memory", "-5M", "--", "true"],
    &["run", "--memory", "1M", "--", "true"],
    &["run", "--memory", "99999T", "--", "true"],
    &["run", "--cpus", "0", "--", "true"],
    &["run", "--cpus", "many", "--", "true"],
    &["run", "--pids", "1", "--", "true"],
    &["run", "--pids", "-1", "--", "true"],
    &["run", "--disk", "1K", "--", "true"],
    &["run", "--inodes", "1", "--", "true"],
    &["run", "--timeout", "soon", "--", "true"],
    &["run", "--timeout", "0", "--", "true"],
    &["run", "--timeout", "9999d", "--", "true"],
    &["run", "--json", "--output-limit", "1G", "--", "true"],
    &["run", "--output-limit", "1K", "--", "true"],
    // names and paths
    &["run", "--image", "ubuntu", "--", "true"],
    &["run", "--image", "dir:relative", "--", "true"],
    &["run", "--workdir", "here", "--", "true"],
    &["run", "--env", "=x", "--", "true"],
    &["run", "--user", "", "--", "true"],
    &["run", "--file", "/no/such/file", "--", "true"],
    &["run", "--file", ":/a", "--", "true"],
    &["run", "--", ""],
    &["run", "--tty", "--", "true"],
    &["create", "--id", "../up"],
    &["create", "--label", "nolabel"],
    &["create", "--label", "a b=c"],
    &["exec", "--exec-id", "a/b", "sb-1", "--", "true"],
    &["rm", "-x"],
    &["cp", "a", "b"],
    &["cp", "sb-1:/a", "sb-2:/b"],
    &["cp", "a", "sb-1:relative"],
    &["exec", "no/id", "--", "true"],
    &["logs", "--bogus", "ex-1"],
    &["logs", "sb-1"],
    &["shell", "--workdir", "here"],
    &["shell", "a/b"],
    // templates and pools
    &["template"],
    &["template", "set", "a/b"],
    &["template", "set", "py", "--memory", "1K"],
    &["pool", "create", "warm"],
    &["pool", "create", "a b", "--template", "py"],
    &["pool", "create", "warm", "--template", "py", "--min", "3", "--max", "2"],
    &["pool", "create", "warm", "--template", "py", "--max", "99999"],
    &["pool", "scale", "warm", "--min", "1", "--max", "0"],
    &["pool", "claim", "warm", "--env", "=x"],
    &["pool", "claim", "warm", "--server", "http://127.0.0.1:1"],
    // scoring and measuring
    &["score"],
    &["score", "/no/such/tasks.jsonl"],
    &["score", "/dev/null"],
    &["score", "--concurrency", "0", "tasks.jsonl"],
    &["score", "--timeout", "never", "tasks.jsonl"],
    &["score", "--memory", "1", "tasks.jsonl"],
    &["score", "--solutions", "/no/such/solutions.jsonl", "/dev/null"],
    &["score", "--out", "/no/such/directory/results.jsonl", "/dev/null"],
    &["bench"],
    &["bench", "luck"],
    &["bench", "score"],
    &["bench", "create", "--rounds", "0"],
    &["bench", "growth", "--alive", "0"],
    &["bench", "steps", "--url", "https://127.0.0.1"],
    &["bench", "steps", "--environment", "chess"],
    &["bench", "steps", "--environment", "grid_world"],
    &["bench", "steps", "--url", "http://127.0.0.1:1", "--action", "1"],
    &["bench", "steps", "--url", "http://127.0.0.1:1", "--cases", "idle"],
    &["bench", "steps", "--url", "http://127.0.0.1:1", "--rounds", "1"],
    &["bench", "steps", "--cases", "client"],
    &["bench", "steps", "--python-client"],
    &["bench", "steps", "--reference-python", "/no/such/python"],
    &["bench", "steps", "--sessions", "0"],
    // servers
    &["ps", "--server", "ftp://example.org"],
    &["ps", "--server", "http://"],
    &["ps", "--server", "http://127.0.0.1:99999"],
    &["ps", "--server", "http://127.0.0.1:1"],
    &["exec", "--server", "http://127.0.0.1:1", "sb-1", "--", "true"],
    &["run", "--server", "http://127.0.0.1:1", "--", "true"],
    &["serve", "--listen", "somewhere"],
    &["serve", "--listen", "127.0.0.1"],
    &["serve", "--max-sandboxes", "-1"],
    &["serve", "--log-format", "xml"],
    &["serve", "--on-exit", "panic"],
    &["serve", "--reclaim-below", "some"],
    &["serve", "--reclaim-below", "100M"],
    &["create", "--reclaim", "sometimes"],
];

/// As above, for a program that reads the answer.
const WRONG_JSON: &[&[&str]] = &[
    &["ps", "--json", "--bogus"],
    &["ps", "--json", "--server", "http://127.0.0.1:1"],
    &["run", "--json", "--memory", "12Q", "--", "true"],
    &["run", "--json", "--pids", "1", "--", "true"],
    &["doctor", "--json", "--server", "http://127.0.0.1:1"],
];

fn answers(table: &[&[&str]]) -> String {
    let mut all = String::new();
    for args in table {
        let answer = run(args);
        assert_eq!(answer.stdout, "", "{args:?} must say nothing on standard output");
        assert_ne!(answer.status, 0, "{args:?}");
        writeln!(all, "$ hothouse {}\n{}[{}]\n", args.join(" "), answer.stderr, answer.status)
            .expect("a string takes all text");
    }
    all
}

#[test]
fn wrong_usage_names_the_flag_and_what_is_allowed() {
    let answers = answers(WRONG);
    assert!(!answers.contains("panicked") && !answers.contains("bug"), "{answers}");
    insta::assert_snapshot!(answers);
}

#[test]
fn wrong_usage_is_a_problem_document_for_programs() {
    for args in WRONG_JSON {
        let answer = run(args);
        let problem: serde_json::Value = serde_json::from_str(&answer.stderr).expect("one JSON document");
        assert!(problem["code"].is_string() && problem["detail"].is_string(), "{args:?}: {problem}");
    }
    insta::assert_snapshot!(answers(WRONG_JSON));
}

#[test]
fn an_unset_variable_is_as_good_as_none() {
    let args = ["run", "--pids", "1", "--", "true"];
    let unset = answer(hothouse(&args).env("HOTHOUSE_SERVER", ""));
    assert_eq!(unset.stderr, run(&args).stderr);
}
