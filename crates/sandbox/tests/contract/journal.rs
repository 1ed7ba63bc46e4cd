//! Exactly once: an id names one exec, whose result can be had again.

use hothouse_domain::{ErrorCode, ExecId, ExecSpec, ExecState, Outcome};
use hothouse_sandbox::{ExecEvent, OutputName, Sandbox};

use super::{Case, code, exited, ok, sh, until};
use crate::cases;

pub(crate) fn group() -> Vec<Case> {
    cases![
        a_repeat_gets_the_recorded_result,
        a_repeat_of_a_running_one_waits_for_it,
        the_same_id_for_something_else_is_a_conflict,
        a_detached_exec_can_be_looked_up,
        output_can_be_read_from_any_offset,
        what_was_dropped_is_skipped_aloud,
        following_begins_where_it_is_told_to,
        the_last_1024_results_are_kept,
        execs_are_listed_oldest_first_without_output,
    ]
}

fn named(id: &str, line: &str) -> ExecSpec {
    ExecSpec { exec_id: Some(id.parse().unwrap()), ..sh(line) }
}

async fn a_repeat_gets_the_recorded_result(s: Sandbox) {
    let first = s.exec(named("once", "echo x >> /tmp/count; cat /tmp/count; exit 5")).await.unwrap();
    let again = s.exec(named("once", "echo x >> /tmp/count; cat /tmp/count; exit 5")).await.unwrap();
    exited(&again, 5);
    assert!(!first.replayed && again.replayed);
    assert_eq!((first.stdout.as_str(), again.stdout.as_str()), ("x\n", "x\n"));
    assert_eq!(first.duration_s, again.duration_s);
    let detached =
        s.exec_detached(named("once", "echo x >> /tmp/count; cat /tmp/count; exit 5")).await.unwrap();
    assert!(matches!(detached.state, ExecState::Finished { .. }));
    assert_eq!(ok(&s, "cat /tmp/count").await, "x\n");
}

async fn a_repeat_of_a_running_one_waits_for_it(s: Sandbox) {
    let line = "echo x >> /tmp/count; while [ ! -e /tmp/go ]; do sleep 0.02; done; cat /tmp/count";
    let runs = (0..5).map(|_| {
        let s = s.clone();
        async move { s.exec(named("shared", line)).await.unwrap() }
    });
    let go = async {
        until(&s, "test -e /tmp/count").await;
        ok(&s, "touch /tmp/go").await;
    };
    let (results, ()) = tokio::join!(futures::future::join_all(runs), go);
    assert!(results.iter().all(|result| result.stdout == "x\n"), "{results:?}");
    assert_eq!(results.iter().filter(|result| !result.replayed).count(), 1);
}

async fn the_same_id_for_something_else_is_a_conflict(s: Sandbox) {
    s.exec(named("taken", "true")).await.unwrap();
    assert_eq!(code(s.exec(named("taken", "false")).await), ErrorCode::ExecConflict);
    let other_cwd = ExecSpec { cwd: Some("/tmp".to_owned()), ..named("taken", "true") };
    assert_eq!(code(s.exec_detached(other_cwd).await), ErrorCode::ExecConflict);
    assert_eq!(code(s.exec_stream(named("taken", "false")).await), ErrorCode::ExecConflict);
}

async fn a_detached_exec_can_be_looked_up(s: Sandbox) {
    let line = "echo before; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo after; exit 4";
    let status = s.exec_detached(named("apart", line)).await.unwrap();
    assert_eq!(status.state, ExecState::Running);
    let id: ExecId = "apart".parse().unwrap();
    let status = s.exec_status(&id).await.unwrap();
    assert_eq!(status.state, ExecState::Running);
    ok(&s, "touch /tmp/go").await;
    let result = s.wait_exec(&id).await.unwrap();
    exited(&result, 4);
    let ExecState::Finished { result } = s.exec_status(&id).await.unwrap().state else { panic!("it runs") };
    exited(&result, 4);
    assert_eq!(result.stdout, "before\nafter\n");
    let unknown: ExecId = "unknown".parse().unwrap();
    assert_eq!(code(s.exec_status(&unknown).await), ErrorCode::ExecNotFound);
    assert_eq!(code(s.wait_exec(&unknown).await), ErrorCode::ExecNotFound);
    assert_eq!(code(s.attach(&unknown, 0, 0).await), ErrorCode::ExecNotFound);
}

async fn output_can_be_read_from_any_offset(s: Sandbox) {
    let id: ExecId = "read".parse().unwrap();
    s.exec_detached(named(
        "read",
        "printf 0123456789; printf err >&2; while [ ! -e /tmp/go ]; do sleep 0.02; done",
    ))
    .await
    .unwrap();
    let read = async |from, offset, max| s.read_output(&id, from, offset, max).await.unwrap();
    until(&s, "sleep 0.1").await;
    let chunk = read(OutputName::Stdout, 3, 4).await;
    assert_eq!(
        (chunk.offset, &chunk.bytes[..], chunk.total, chunk.ended),
        (3, b"3456".as_slice(), 10, false)
    );
    ok(&s, "touch /tmp/go").await;
    s.wait_exec(&id).await.unwrap();
    let chunk = read(OutputName::Stdout, 8, 100).await;
    assert_eq!((chunk.offset, &chunk.bytes[..], chunk.total, chunk.ended), (8, b"89".as_slice(), 10, true));
    let chunk = read(OutputName::Stdout, 10, 100).await;
    assert_eq!((&chunk.bytes[..], chunk.ended), (b"".as_slice(), true));
    assert_eq!(&read(OutputName::Stderr, 0, 100).await.bytes[..], b"err");
}

async fn what_was_dropped_is_skipped_aloud(s: Sandbox) {
    let spec = ExecSpec { output_limit_bytes: Some(100), ..named("cut", "seq 1 100000") };
    s.exec(spec).await.unwrap();
    let id: ExecId = "cut".parse().unwrap();
    let whole: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    let chunk = s.read_output(&id, OutputName::Stdout, 1000, 10).await.unwrap();
    assert_eq!(chunk.offset, whole.len() as u64 - 50);
    assert_eq!(chunk.bytes, whole.as_bytes()[whole.len() - 50..whole.len() - 40]);

    let mut stream = s.attach(&id, 0, 0).await.unwrap();
    let (mut position, mut out) = (0, Vec::new());
    while let Some(event) = stream.next().await.unwrap() {
        match event {
            ExecEvent::Started { replayed, .. } => assert!(replayed),
            ExecEvent::Output(OutputName::Stdout, bytes) => {
                assert!(bytes == whole.as_bytes()[position..position + bytes.len()]);
                position += bytes.len();
                out.extend_from_slice(&bytes);
            }
            ExecEvent::Skipped(OutputName::Stdout, bytes) => position += usize::try_from(bytes).unwrap(),
            ExecEvent::Output(..) | ExecEvent::Skipped(..) => panic!("{event:?}"),
            ExecEvent::Finished(result) => exited(&result, 0),
        }
    }
    assert_eq!((position, out.len()), (whole.len(), 100));
}

async fn following_begins_where_it_is_told_to(s: Sandbox) {
    s.exec(named("late", "printf 0123456789; printf abc >&2")).await.unwrap();
    let mut stream = s.attach(&"late".parse().unwrap(), 7, 1).await.unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(event) = stream.next().await.unwrap() {
        match event {
            ExecEvent::Output(OutputName::Stdout, bytes) => out.extend_from_slice(&bytes),
            ExecEvent::Output(OutputName::Stderr, bytes) => err.extend_from_slice(&bytes),
            ExecEvent::Started { .. } | ExecEvent::Finished(_) => {}
            ExecEvent::Skipped(..) => panic!("{event:?}"),
        }
    }
    assert_eq!((out.as_slice(), err.as_slice()), (b"789".as_slice(), b"bc".as_slice()));
}

async fn the_last_1024_results_are_kept(s: Sandbox) {
    for n in 0..1030 {
        let spec = ExecSpec { exec_id: Some(format!("n{n}").parse().unwrap()), ..super::argv(&["true"]) };
        s.exec(spec).await.unwrap();
    }
    let listed = s.execs().await.unwrap();
    assert_eq!(listed.len(), 1024);
    assert_eq!(listed[0].exec_id.as_str(), "n6");
    assert_eq!(code(s.exec_status(&"n5".parse().unwrap()).await), ErrorCode::ExecNotFound);
    assert!(s.exec_status(&"n6".parse().unwrap()).await.is_ok());
}

async fn execs_are_listed_oldest_first_without_output(s: Sandbox) {
    s.exec(named("a", "echo hello")).await.unwrap();
    s.exec(named("b", "exit 9")).await.unwrap();
    s.exec_detached(named("c", "sleep 30")).await.unwrap();
    let listed = s.execs().await.unwrap();
    let ids: Vec<&str> = listed.iter().map(|status| status.exec_id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    let ExecState::Finished { result } = &listed[0].state else { panic!("it runs") };
    assert_eq!((result.stdout.as_str(), listed[0].stdout_bytes), ("", 6));
    let ExecState::Finished { result } = &listed[1].state else { panic!("it runs") };
    assert_eq!(result.outcome, Outcome::Exited { code: 9 });
    assert_eq!(listed[2].state, ExecState::Running);
}
