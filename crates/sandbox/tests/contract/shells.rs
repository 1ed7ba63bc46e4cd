//! Shell sessions.

use std::time::Duration;

use hothouse_domain::shell::{ShellCommand, ShellInfo, ShellSpec};
use hothouse_domain::{ErrorCode, ExecResult, Outcome, ShellId};
use hothouse_sandbox::{ExecEvent, OutputName, Sandbox};

use super::{Case, code, exited, until};
use crate::cases;

pub(crate) fn group() -> Vec<Case> {
    cases![
        directory_variables_and_functions_stay,
        each_command_has_its_own_status_and_outputs,
        a_syntax_error_harms_only_itself,
        many_lines_and_here_documents,
        output_cannot_pass_for_a_status,
        a_command_reads_no_input_of_the_session,
        an_interrupt_ends_the_command_and_not_the_session,
        a_timeout_interrupts,
        a_command_that_does_not_give_way_costs_the_session,
        exit_ends_the_session,
        one_command_at_a_time,
        sessions_are_apart_listed_and_closed,
        a_command_can_be_followed_live,
        a_repeat_gets_the_recorded_result,
    ]
}

async fn open(s: &Sandbox) -> ShellId {
    s.shell_open(ShellSpec::default()).await.unwrap().shell_id
}

async fn run(s: &Sandbox, shell: &ShellId, line: &str) -> ExecResult {
    s.shell_run(shell, command(line)).await.unwrap()
}

fn command(line: &str) -> ShellCommand {
    ShellCommand { command: line.to_owned(), ..ShellCommand::default() }
}

async fn directory_variables_and_functions_stay(s: Sandbox) {
    let shell = open(&s).await;
    for line in ["cd /tmp", "x='a  b'", "export Y=exported", "f() { echo f:$1; }"] {
        exited(&run(&s, &shell, line).await, 0);
    }
    assert_eq!(
        run(&s, &shell, "pwd; echo \"$x\"; f 1; sh -c 'echo $Y'").await.stdout,
        "/tmp\na  b\nf:1\nexported\n"
    );
}

async fn each_command_has_its_own_status_and_outputs(s: Sandbox) {
    let shell = open(&s).await;
    let result = run(&s, &shell, "echo out; echo err >&2; (exit 7)").await;
    exited(&result, 7);
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("out\n", "err\n"));
    exited(&run(&s, &shell, "echo $?").await, 0);
    exited(&run(&s, &shell, "nosuchcommand").await, 127);
    exited(&run(&s, &shell, "").await, 0);
    let result = run(&s, &shell, "printf 'no newline'").await;
    assert_eq!(result.stdout, "no newline");
}

async fn a_syntax_error_harms_only_itself(s: Sandbox) {
    let shell = open(&s).await;
    for line in ["if true; then", "echo )", "echo 'open", "case x in"] {
        let result = run(&s, &shell, line).await;
        assert!(matches!(result.outcome, Outcome::Exited { code } if code != 0), "{line}: {result:?}");
        assert!(!result.stderr.is_empty(), "{line}: {result:?}");
    }
    assert_eq!(run(&s, &shell, "echo alive").await.stdout, "alive\n");
}

async fn many_lines_and_here_documents(s: Sandbox) {
    let shell = open(&s).await;
    let result =
        run(&s, &shell, "for i in 1 2; do\n  echo $i\ndone\ncat <<'END'\n$x 'quoted' \"too\"\nEND\necho é")
            .await;
    assert_eq!(result.stdout, "1\n2\n$x 'quoted' \"too\"\né\n");
    let long = format!("echo {}", "x".repeat(200_000));
    assert_eq!(run(&s, &shell, &long).await.stdout.len(), 200_001);
}

async fn output_cannot_pass_for_a_status(s: Sandbox) {
    let shell = open(&s).await;
    let result = run(
        &s,
        &shell,
        "for fd in 1 2 3 4 5 6 7 8 9; do printf '0\\n\\0000\\n' >&$fd; done 2>/dev/null; (exit 9)",
    )
    .await;
    exited(&result, 9);
    assert_eq!(run(&s, &shell, "echo next").await.stdout, "next\n");
}

async fn a_command_reads_no_input_of_the_session(s: Sandbox) {
    let shell = open(&s).await;
    let result = run(&s, &shell, "cat; read x; echo end").await;
    assert_eq!(result.stdout, "end\n");
    assert_eq!(run(&s, &shell, "echo next").await.stdout, "next\n");
}

async fn an_interrupt_ends_the_command_and_not_the_session(s: Sandbox) {
    let shell = open(&s).await;
    run(&s, &shell, "x=kept").await;
    let interrupt = async {
        until(&s, "test -e /tmp/up").await;
        s.shell_interrupt(&shell).await.unwrap();
    };
    let (result, ()) = tokio::join!(run(&s, &shell, "touch /tmp/up; sleep 600; echo never"), interrupt);
    assert!(!result.stdout.contains("never"), "{result:?}");
    assert_ne!(result.outcome, Outcome::Exited { code: 0 });
    assert_eq!(run(&s, &shell, "echo $x").await.stdout, "kept\n");
}

async fn a_timeout_interrupts(s: Sandbox) {
    let shell = open(&s).await;
    run(&s, &shell, "x=kept").await;
    let slow = ShellCommand { timeout_s: Some(0.3), ..command("echo partial; sleep 600") };
    let result = s.shell_run(&shell, slow).await.unwrap();
    assert_eq!((result.outcome, result.stdout.as_str()), (Outcome::TimedOut, "partial\n"));
    assert_eq!(run(&s, &shell, "echo $x").await.stdout, "kept\n");
}

async fn a_command_that_does_not_give_way_costs_the_session(s: Sandbox) {
    let shell = open(&s).await;
    let deaf = ShellCommand { timeout_s: Some(0.3), ..command("trap '' INT; while :; do sleep 0.1; done") };
    let result = s.shell_run(&shell, deaf).await.unwrap();
    assert_eq!(result.outcome, Outcome::TimedOut);
    assert_eq!(code(s.shell_run(&shell, command("true")).await), ErrorCode::ShellNotFound);
}

async fn exit_ends_the_session(s: Sandbox) {
    let shell = open(&s).await;
    let result = run(&s, &shell, "echo bye; exit 3").await;
    exited(&result, 3);
    assert_eq!(result.stdout, "bye\n");
    assert_eq!(code(s.shell_run(&shell, command("true")).await), ErrorCode::ShellNotFound);
    assert_eq!(s.shells().await.unwrap(), []);
}

async fn one_command_at_a_time(s: Sandbox) {
    let shell = open(&s).await;
    let other = async {
        until(&s, "test -e /tmp/up").await;
        assert_eq!(code(s.shell_run(&shell, command("true")).await), ErrorCode::ShellBusy);
        assert!(s.shells().await.unwrap()[0].busy);
        s.shell_interrupt(&shell).await.unwrap();
    };
    tokio::join!(run(&s, &shell, "touch /tmp/up; sleep 600"), other);
    exited(&run(&s, &shell, "true").await, 0);
}

async fn sessions_are_apart_listed_and_closed(s: Sandbox) {
    let spec = ShellSpec {
        shell_id: Some("one".parse().unwrap()),
        cwd: Some("/tmp".to_owned()),
        ..ShellSpec::default()
    };
    let one = s.shell_open(spec.clone()).await.unwrap();
    assert_eq!(code(s.shell_open(spec).await), ErrorCode::ShellExists);
    let two = open(&s).await;
    run(&s, &two, "x=two").await;
    assert_eq!(run(&s, &one.shell_id, "echo $x; pwd").await.stdout, "\n/tmp\n");
    let listed = s.shells().await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.contains(&ShellInfo { busy: false, ..one.clone() }), "{listed:?}");
    s.shell_close(&one.shell_id).await.unwrap();
    assert_eq!(code(s.shell_close(&one.shell_id).await), ErrorCode::ShellNotFound);
    assert_eq!(code(s.shell_interrupt(&one.shell_id).await), ErrorCode::ShellNotFound);
    assert_eq!(s.shells().await.unwrap().len(), 1);
    assert_eq!(run(&s, &two, "echo $x").await.stdout, "two\n");
}

async fn a_command_can_be_followed_live(s: Sandbox) {
    let shell = open(&s).await;
    let line = "echo one; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo two; (exit 4)";
    let mut stream = s.shell_stream(&shell, command(line)).await.unwrap();
    let mut out = Vec::new();
    let result = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            match stream.next().await.unwrap().unwrap() {
                ExecEvent::Output(OutputName::Stdout, bytes) => {
                    out.extend_from_slice(&bytes);
                    if out == b"one\n" {
                        super::ok(&s, "touch /tmp/go").await;
                    }
                }
                ExecEvent::Finished(result) => break result,
                ExecEvent::Started { .. } | ExecEvent::Output(..) | ExecEvent::Skipped(..) => {}
            }
        }
    })
    .await
    .unwrap();
    exited(&result, 4);
    assert_eq!(out, b"one\ntwo\n");
}

async fn a_repeat_gets_the_recorded_result(s: Sandbox) {
    let shell = open(&s).await;
    let once = ShellCommand { exec_id: Some("once".parse().unwrap()), ..command("n=$((n+1)); echo $n") };
    assert_eq!(s.shell_run(&shell, once.clone()).await.unwrap().stdout, "1\n");
    let again = s.shell_run(&shell, once).await.unwrap();
    assert_eq!((again.stdout.as_str(), again.replayed), ("1\n", true));
    assert_eq!(run(&s, &shell, "echo $n").await.stdout, "1\n");
    let other = ShellCommand { exec_id: Some("once".parse().unwrap()), ..command("true") };
    assert_eq!(code(s.shell_run(&shell, other).await), ErrorCode::ExecConflict);
}
