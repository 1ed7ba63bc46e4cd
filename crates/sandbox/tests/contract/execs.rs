//! Running a command: what it is given, how it ends, what is left of it.

use std::collections::BTreeMap;
use std::time::Instant;

use hothouse_domain::{ErrorCode, ExecId, ExecSpec, Outcome, SandboxSpec};
use hothouse_sandbox::Sandbox;
use hothouse_sandbox::sandbox::SignalTarget;

use super::{Case, argv, code, exited, limited, ok, plain, sh, until};
use crate::cases;

pub(crate) fn group() -> Vec<Case> {
    cases![
        arguments_are_passed_as_they_are,
        a_shell_line_has_both_outputs_and_a_status,
        variables_of_the_sandbox_and_of_the_exec(with_variables),
        the_working_directory(in_srv),
        a_user_by_number_and_by_name needs "uid_range",
        what_cannot_start_says_why,
        a_signal_of_its_own,
        signals_to_the_leader_and_to_the_tree,
        a_timeout_ends_the_whole_tree_and_keeps_the_output,
        a_timeout_ends_what_ignores_term,
        a_daemon_that_holds_the_output_holds_nobody_up,
        a_memory_bomb_is_told_as_such(small) needs "memory_limit",
        orphans_are_reaped,
        many_at_once,
        usage_is_counted,
        bad_requests_are_named,
    ]
}

async fn arguments_are_passed_as_they_are(s: Sandbox) {
    let result = s.exec(argv(&["printf", "%s|", "a b", "*", "$HOME", "", "\n", "é"])).await.unwrap();
    exited(&result, 0);
    assert_eq!(result.stdout, "a b|*|$HOME||\n|é|");
    assert!(!result.replayed);
}

async fn a_shell_line_has_both_outputs_and_a_status(s: Sandbox) {
    let result = s.exec(sh("echo out; echo err >&2; exit 3")).await.unwrap();
    exited(&result, 3);
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("out\n", "err\n"));
    assert!(!result.output_held_open);
}

fn with_variables() -> SandboxSpec {
    let env = [("A", "sandbox"), ("B", "sandbox")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    SandboxSpec { env: env.into(), ..plain() }
}

async fn variables_of_the_sandbox_and_of_the_exec(s: Sandbox) {
    let env = BTreeMap::from([("B".to_owned(), "exec".to_owned())]);
    let spec = ExecSpec { env, ..sh(r#"echo "$A $B ${PATH:+path} $HOME""#) };
    let result = s.exec(spec).await.unwrap();
    assert_eq!(result.stdout, "sandbox exec path /root\n", "{result:?}");
    assert_eq!(s.info().spec.env["A"], "***");
}

fn in_srv() -> SandboxSpec {
    SandboxSpec { workdir: Some("/srv/made for it".to_owned()), ..plain() }
}

async fn the_working_directory(s: Sandbox) {
    assert_eq!(ok(&s, "pwd").await, "/srv/made for it\n");
    let named = ExecSpec { cwd: Some("/tmp".to_owned()), ..sh("pwd") };
    assert_eq!(s.exec(named).await.unwrap().stdout, "/tmp\n");
    let missing = ExecSpec { cwd: Some("/no/such".to_owned()), ..sh("pwd") };
    let Outcome::FailedToStart { reason } = s.exec(missing).await.unwrap().outcome else {
        panic!("it started")
    };
    assert!(reason.contains("/no/such"), "{reason}");
}

async fn a_user_by_number_and_by_name(s: Sandbox) {
    let by = |user: &str| ExecSpec { user: Some(user.to_owned()), ..sh("id -u; id -g; id -G") };
    assert_eq!(s.exec(by("1234:2345")).await.unwrap().stdout, "1234\n2345\n2345\n");
    let nobody = s.exec(by("nobody")).await.unwrap();
    assert!(nobody.stdout.starts_with("65534\n"), "{nobody:?}");
    let Outcome::FailedToStart { reason } = s.exec(by("nosuchuser")).await.unwrap().outcome else {
        panic!("it started")
    };
    assert!(reason.contains("nosuchuser"), "{reason}");
}

async fn what_cannot_start_says_why(s: Sandbox) {
    ok(&s, "echo text > /tmp/plain; mkdir -p /tmp/dir; printf '#!/no/such/interpreter\n' > /tmp/script; chmod +x /tmp/script")
        .await;
    for (program, word) in [
        ("python9", "python9"),
        ("/no/such", "/no/such"),
        ("/tmp/plain", "/tmp/plain"),
        ("/tmp/dir", "/tmp/dir"),
        ("/tmp/script", "/tmp/script"),
    ] {
        let result = s.exec(argv(&[program])).await.unwrap();
        let Outcome::FailedToStart { reason } = result.outcome else { panic!("{program}: {result:?}") };
        assert!(reason.contains(word), "{program}: {reason}");
    }
}

async fn a_signal_of_its_own(s: Sandbox) {
    let result = s.exec(sh("echo before; kill -9 $$")).await.unwrap();
    assert_eq!(result.outcome, Outcome::Signalled { signal: 9 });
    assert_eq!(result.stdout, "before\n");
}

async fn signals_to_the_leader_and_to_the_tree(s: Sandbox) {
    let id: ExecId = "trapper".parse().unwrap();
    let line = "trap 'echo got; exit 7' USR1; touch /tmp/ready; while :; do sleep 0.02; done";
    let spec = ExecSpec { exec_id: Some(id.clone()), ..sh(line) };
    s.exec_detached(spec).await.unwrap();
    until(&s, "test -e /tmp/ready").await;
    s.signal(&id, 10, SignalTarget::Leader).await.unwrap();
    let result = s.wait_exec(&id).await.unwrap();
    exited(&result, 7);
    assert_eq!(result.stdout, "got\n");
    assert_eq!(code(s.signal(&id, 10, SignalTarget::Leader).await), ErrorCode::ExecFinished);

    let id: ExecId = "family".parse().unwrap();
    let line = "setsid sleep 1111 & touch /tmp/family; wait";
    s.exec_detached(ExecSpec { exec_id: Some(id.clone()), ..sh(line) }).await.unwrap();
    until(&s, "test -e /tmp/family && grep -qs 1111 /proc/[0-9]*/cmdline").await;
    s.signal(&id, 9, SignalTarget::Tree).await.unwrap();
    assert_eq!(s.wait_exec(&id).await.unwrap().outcome, Outcome::Signalled { signal: 9 });
    until(&s, "! grep -lsx sleep /proc/[0-9]*/comm").await;

    let unknown: ExecId = "unknown".parse().unwrap();
    assert_eq!(code(s.signal(&unknown, 9, SignalTarget::Tree).await), ErrorCode::ExecNotFound);
    for signal in [0, -1, 65] {
        assert_eq!(code(s.signal(&id, signal, SignalTarget::Tree).await), ErrorCode::InvalidRequest);
    }
}

async fn a_timeout_ends_the_whole_tree_and_keeps_the_output(s: Sandbox) {
    // A daemon the classic way: forked twice, own session, deaf to TERM, no terminal, and stopped on top.
    let daemon = "(setsid sh -c 'trap \"\" TERM; (trap \"\" TERM; sleep 2222) & kill -STOP $$' &)";
    let line = format!("echo partial; {daemon}; sleep 3333");
    let spec = ExecSpec { timeout_s: Some(0.5), grace_s: Some(0.2), ..sh(&line) };
    let begin = Instant::now();
    let result = s.exec(spec).await.unwrap();
    assert_eq!(result.outcome, Outcome::TimedOut, "{result:?}");
    assert_eq!(result.stdout, "partial\n");
    assert!(begin.elapsed().as_secs() < 15, "{:?}", begin.elapsed());
    assert!((0.5..15.0).contains(&result.duration_s), "{}", result.duration_s);
    assert_eq!(ok(&s, "grep -lsx sleep /proc/[0-9]*/comm || true").await, "", "nothing of the tree is left");
}

async fn a_timeout_ends_what_ignores_term(s: Sandbox) {
    let line = "trap '' TERM; echo deaf; while :; do sleep 0.1; done";
    let spec = ExecSpec { timeout_s: Some(0.2), grace_s: Some(0.2), ..sh(line) };
    let result = s.exec(spec).await.unwrap();
    assert_eq!(result.outcome, Outcome::TimedOut);
    assert_eq!(result.stdout, "deaf\n");

    // What gives way within the grace may still say so.
    let line = "trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done";
    let spec = ExecSpec { timeout_s: Some(0.3), grace_s: Some(10.0), ..sh(line) };
    let result = s.exec(spec).await.unwrap();
    assert_eq!(result.outcome, Outcome::TimedOut);
    assert_eq!(result.stdout, "bye\n");
}

async fn a_daemon_that_holds_the_output_holds_nobody_up(s: Sandbox) {
    let begin = Instant::now();
    let result = s.exec(sh("(sleep 4; echo late) & echo done")).await.unwrap();
    exited(&result, 0);
    assert_eq!(result.stdout, "done\n");
    assert!(result.output_held_open);
    assert!(begin.elapsed().as_secs_f64() < 3.5, "{:?}", begin.elapsed());
    // It goes on undisturbed.
    assert_eq!(ok(&s, "grep -lsx sleep /proc/[0-9]*/comm | wc -l").await, "1\n");
}

fn small() -> SandboxSpec {
    limited(|r| r.memory_bytes = 48 << 20)
}

async fn a_memory_bomb_is_told_as_such(s: Sandbox) {
    let result = s.exec(sh("exec tail /dev/zero")).await.unwrap();
    assert_eq!(result.outcome, Outcome::OomKilled, "{result:?}");
    // The guest outlives it.
    assert_eq!(ok(&s, "echo alive").await, "alive\n");
    let result = s.exec(sh("exit 137")).await.unwrap();
    exited(&result, 137);
}

async fn orphans_are_reaped(s: Sandbox) {
    ok(&s, "for i in $(seq 100); do (sh -c : &) ; done").await;
    until(&s, "! grep -qs 'State:.Z' /proc/[0-9]*/status").await;
}

async fn many_at_once(s: Sandbox) {
    let runs = (0..64).map(|n| {
        let s = s.clone();
        async move { ok(&s, &format!("sleep 0.05; echo {n}")).await }
    });
    let outputs = futures::future::join_all(runs).await;
    for (n, output) in outputs.iter().enumerate() {
        assert_eq!(*output, format!("{n}\n"));
    }
}

async fn usage_is_counted(s: Sandbox) {
    let result = s.exec(sh("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 0.1")).await.unwrap();
    assert!(result.usage.cpu_user_s > 0.005, "{result:?}");
    assert!(result.usage.max_rss_bytes > 100_000, "{result:?}");
    assert!((0.1..60.0).contains(&result.duration_s), "{result:?}");
}

async fn bad_requests_are_named(s: Sandbox) {
    let field = |result: Result<_, hothouse_sandbox::SandboxError>| match result {
        Err(hothouse_sandbox::SandboxError::Invalid(invalid)) => invalid.field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(s.exec(ExecSpec::default()).await), "argv");
    assert_eq!(field(s.exec(argv(&[])).await), "argv");
    assert_eq!(field(s.exec(argv(&["a\0b"])).await), "argv[0]");
    assert_eq!(field(s.exec(ExecSpec { cwd: Some("rel".to_owned()), ..sh("true") }).await), "cwd");
    assert_eq!(field(s.exec(ExecSpec { timeout_s: Some(-1.0), ..sh("true") }).await), "timeout_s");
    let env = BTreeMap::from([("A=B".to_owned(), String::new())]);
    assert_eq!(field(s.exec(ExecSpec { env, ..sh("true") }).await), "env.A=B");
}
