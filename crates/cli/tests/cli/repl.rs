//! `hothouse repl` for real, with code from a pipe.

use std::process::Output;

use test_case::test_case;

use crate::program::run_with_input;

fn repl(arguments: &[&str], code: &str) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = run_with_input(&[&["repl"], arguments].concat(), code.as_bytes());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it is text");
    (status.code(), text(stdout), text(stderr))
}

#[test_case("print('hi')\nx = 6\nx * 7", 0, "hi\n42\n", ""; "output and value")]
#[test_case("", 0, "", ""; "nothing")]
#[test_case("None", 0, "", ""; "no value")]
#[test_case("import sys; print('no', file=sys.stderr); sys.exit(3)", 3, "", "no\n"; "exit status")]
#[test_case("input()", 1, "", "EOFError"; "no input")]
#[test_case("x = 1\nx / 0", 1, "", "line 2, in <module>"; "exception")]
#[test_case("1 +", 1, "", "SyntaxError"; "syntax")]
#[test_case("import os; os.kill(os.getpid(), 9)", 137, "", "signal 9 ended it"; "death")]
#[test_case("display(5)", 0, "5\n", ""; "display")]
fn code_from_a_pipe_runs_as_a_whole(code: &str, status: i32, stdout: &str, stderr: &str) {
    let (got, out, err) = repl(&[], code);
    assert_eq!((got, out.as_str()), (Some(status), stdout), "{err}");
    assert!(if stderr.is_empty() { err.is_empty() } else { err.contains(stderr) }, "{err}");
}

#[test]
fn what_it_needs_is_given_by_flags_and_what_is_wrong_is_named() {
    let (status, out, err) = repl(
        &["--import", "csv", "-e", "A=1", "-w", "/tmp"],
        "import sys, os\n'csv' in sys.modules, os.environ['A'], os.getcwd()",
    );
    assert_eq!((status, out.as_str()), (Some(0), "(True, '1', '/tmp')\n"), "{err}");
    let (status, _, err) = repl(&["--import", "no_such_module"], "1");
    assert!(status == Some(2) && err.contains("no_such_module"), "{err}");
    let (status, _, err) = repl(&["--import", "a b"], "1");
    assert!(status == Some(2) && err.contains("--import"), "{err}");
    let output = run_with_input(&["repl"], b"'\xff'");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && err.contains("not UTF-8"), "{err}");
}
