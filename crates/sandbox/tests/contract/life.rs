//! Freezing and thawing.

use std::time::Duration;

use hothouse_domain::shell::ShellSpec;
use hothouse_domain::{ErrorCode, ExecId, ExecSpec, FrozenBy, SandboxPhase};
use hothouse_sandbox::Sandbox;
use hothouse_sandbox::sandbox::WriteOptions;

use super::{Case, code, content, exited, ok, sh, until};
use crate::cases;

pub(crate) fn group() -> Vec<Case> {
    cases![
        a_frozen_sandbox_refuses_and_a_thawed_one_goes_on needs "freeze",
        what_runs_when_it_is_frozen_goes_on_when_it_is_thawed needs "freeze",
        no_request_hangs_whenever_the_freeze_comes needs "freeze",
        freezing_twice_is_freezing_once needs "freeze",
    ]
}

async fn a_frozen_sandbox_refuses_and_a_thawed_one_goes_on(s: Sandbox) {
    ok(&s, "echo kept > file").await;
    s.freeze().await.unwrap();
    assert_eq!(s.info().phase, SandboxPhase::Frozen { by: FrozenBy::Client });
    assert_eq!(code(s.exec(sh("true")).await), ErrorCode::SandboxFrozen);
    assert_eq!(code(s.exec_stream(sh("true")).await), ErrorCode::SandboxFrozen);
    assert_eq!(code(s.stat("/").await), ErrorCode::SandboxFrozen);
    assert_eq!(
        code(s.write_file("/x", WriteOptions::default(), content(b"x", 1)).await),
        ErrorCode::SandboxFrozen
    );
    assert_eq!(code(s.shell_open(ShellSpec::default()).await), ErrorCode::SandboxFrozen);
    s.thaw().await.unwrap();
    assert_eq!(s.info().phase, SandboxPhase::Running);
    assert_eq!(ok(&s, "cat file").await, "kept\n");
}

async fn what_runs_when_it_is_frozen_goes_on_when_it_is_thawed(s: Sandbox) {
    let spec = ExecSpec {
        exec_id: Some("counter".parse().unwrap()),
        ..sh(
            "i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo $i > /tmp/count.new; mv /tmp/count.new /tmp/count; done; echo end",
        )
    };
    let waiting = tokio::spawn({
        let s = s.clone();
        async move { s.exec(spec).await }
    });
    until(&s, "test -e /tmp/count").await;
    s.freeze().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "it is under way, not refused");
    s.thaw().await.unwrap();
    ok(&s, "touch /tmp/stop").await;
    let result = waiting.await.unwrap().unwrap();
    exited(&result, 0);
    assert_eq!(result.stdout, "end\n");
}

async fn no_request_hangs_whenever_the_freeze_comes(s: Sandbox) {
    for round in 0..20 {
        let requests: Vec<_> = (0..8)
            .map(|n| {
                let (s, id) = (s.clone(), format!("r{round}n{n}"));
                tokio::spawn(async move {
                    let exec_id: ExecId = id.parse().unwrap();
                    s.exec_detached(ExecSpec { exec_id: Some(exec_id), ..sh("true") }).await
                })
            })
            .collect();
        s.freeze().await.unwrap();
        for request in requests {
            let answer =
                tokio::time::timeout(Duration::from_secs(10), request).await.expect("no hang").unwrap();
            if answer.is_err() {
                assert_eq!(code(answer), ErrorCode::SandboxFrozen);
            }
        }
        s.thaw().await.unwrap();
    }
    assert_eq!(ok(&s, "echo alive").await, "alive\n");
}

async fn freezing_twice_is_freezing_once(s: Sandbox) {
    s.thaw().await.unwrap();
    s.freeze().await.unwrap();
    s.freeze().await.unwrap();
    s.thaw().await.unwrap();
    assert_eq!(ok(&s, "echo alive").await, "alive\n");
}
