//! `hothouse score`: what is wrong with the input is told with file and line, and nothing is run.

#![expect(clippy::tests_outside_test_module, reason = "the whole file is a test")]
#![allow(clippy::unwrap_used, reason = "this is test code, outside of a test function")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;
use test_case::test_case;

mod process;

const GOOD: &str = r#"{"task_id": "a", "prompt": "def f(x):\n", "entry_point": "f", "test": "def check(c): assert c(1) == 1", "completion": "    return x"}"#;

fn score(directory: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hothouse"));
    command
        .arg("score")
        .args(args)
        .current_dir(directory)
        .env_remove("HOTHOUSE_SERVER")
        .env("HOTHOUSE_HOME", directory.join("home"))
        .stdin(Stdio::null());
    process::output(&mut command)
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn directory(tasks: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("t.jsonl"), tasks).expect("written");
    directory
}

#[test_case("{\n", "error: t.jsonl:1: bad JSON: EOF while parsing an object at column 1"; "torn")]
#[test_case("[]\n", "error: t.jsonl:1: is a list, not a JSON object"; "list")]
#[test_case("", "error: t.jsonl: has no rows"; "nothing")]
#[test_case("{\"task_id\": \"a\"}", "error: t.jsonl:1: is no task: it has neither prompt, entry_point and test nor command"; "no shape")]
#[test_case("{\"task_id\": \"a\", \"prompt\": \"\", \"entry_point\": \"f\"}", "error: t.jsonl:1: missing field `test`"; "missing field")]
#[test_case("{\"task_id\": \"a\", \"comand\": [\"x\"], \"cases\": []}", "error: t.jsonl:1: unknown field `comand`, expected one of"; "unknown field")]
fn bad_tasks(tasks: &str, expected: &str) {
    let directory = directory(tasks);
    let output = score(directory.path(), &["t.jsonl"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains(expected), "{}", told(&output));
    assert!(!directory.path().join("home").exists(), "nothing was run");
}

#[test]
fn every_bad_row_of_both_files_is_told_at_once() {
    let directory = directory(&format!("{GOOD}\n{GOOD}\nnonsense\n"));
    let output = score(directory.path(), &["t.jsonl"]);
    let told = told(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(told.contains("t.jsonl:2: task_id \"a\" is on line 1 already"), "{told}");
    assert!(told.contains("t.jsonl:3: bad JSON: "), "{told}");

    fs::write(directory.path().join("t.jsonl"), GOOD).unwrap();
    fs::write(
        directory.path().join("s.jsonl"),
        "{\"task_id\": \"b\", \"completion\": \"\"}\n{\"task_id\": \"a\"}\n",
    )
    .unwrap();
    let output = score(directory.path(), &["t.jsonl", "--solutions", "s.jsonl"]);
    let told = self::told(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(told.contains("s.jsonl:1: task_id \"b\" is not in t.jsonl"), "{told}");
    assert!(told.contains("s.jsonl:2: needs exactly one of completion, solution and files"), "{told}");
}

#[test_case(&["missing.jsonl"], "missing.jsonl: No such file or directory"; "no file")]
#[test_case(&["t.jsonl", "--timeout", "soon"], "--timeout"; "odd time")]
#[test_case(&["t.jsonl", "--timeout", "0"], "--timeout is 0; use 0.1 to 86400 seconds"; "no time")]
#[test_case(&["t.jsonl", "--memory", "12Q"], "--memory"; "odd size")]
#[test_case(&["t.jsonl", "--memory", "1M"], "--memory <SIZE>': use 16M to 16T"; "little memory")]
#[test_case(&["t.jsonl", "--concurrency", "0"], "--concurrency"; "none at once")]
#[test_case(&["t.jsonl", "--concurrency", "100000"], "--concurrency is 100000; use 1 to 4096"; "too many at once")]
#[test_case(&["-", "--solutions", "-"], "--solutions and TASKS both read standard input"; "standard input twice")]
#[test_case(&["t.jsonl", "--out", "t.jsonl"], "t.jsonl:1: is not a result: missing field `sample`"; "results over tasks")]
#[test_case(&["t.jsonl", "--out", "/nonexistent/r.jsonl"], "/nonexistent/r.jsonl: No such file or directory"; "no directory")]
#[test_case(&[], "TASKS"; "no tasks")]
fn bad_flags(args: &[&str], expected: &str) {
    let directory = directory(GOOD);
    let output = score(directory.path(), args);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains(expected), "{}", told(&output));
    assert_eq!(fs::read_to_string(directory.path().join("t.jsonl")).unwrap(), GOOD, "input is never changed");
}

/// `UPDATE=1 cargo test -p hothouse-cli --test score_input` writes it anew.
#[test]
fn the_schema_is_the_one_checked_in() {
    let directory = directory("");
    let output = score(directory.path(), &["--schema"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../api/score-task.schema.json");
    let found = String::from_utf8(output.stdout).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(checked_in, found, "run with UPDATE=1 and look at the difference");
    let schema: serde_json::Value = serde_json::from_str(&found).unwrap();
    let text = schema.to_string();
    for name in ["FunctionTask", "ProgramTask", "SolutionRow", "Record", "Limits", "Case", "Tests", "Verdict"]
    {
        assert!(schema["$defs"][name].is_object(), "{name}");
    }
    for reference in text.split("\"$ref\":\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default())
    {
        let name = reference.strip_prefix("#/$defs/").expect("references stay in the document");
        assert!(schema["$defs"][name].is_object(), "{reference}");
    }
}
