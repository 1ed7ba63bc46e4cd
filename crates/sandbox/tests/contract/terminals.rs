//! Pseudo-terminals.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hothouse_domain::{ErrorCode, ExecSpec, PtySize};
use hothouse_sandbox::{ExecEvent, ExecStream, OutputName, Sandbox};

use super::{Case, code, exited, sh};
use crate::cases;

pub(crate) fn group() -> Vec<Case> {
    cases![
        a_terminal_of_the_size_asked_for,
        a_resize_is_told_to_the_program,
        keys_reach_the_program_and_control_c_interrupts_it,
        no_terminal_no_resize,
    ]
}

fn on_terminal(line: &str) -> ExecSpec {
    ExecSpec { pty: Some(PtySize { rows: 20, cols: 70 }), ..sh(line) }
}

/// Reads until the output has the text.
async fn see(stream: &mut ExecStream, text: &str) -> String {
    let (mut seen, begin) = (String::new(), Instant::now());
    while !seen.contains(text) {
        assert!(begin.elapsed() < Duration::from_secs(20), "only {seen:?}");
        match stream.next().await.unwrap() {
            Some(ExecEvent::Output(name, bytes)) => {
                assert_eq!(name, OutputName::Stdout);
                seen.push_str(&String::from_utf8_lossy(&bytes));
            }
            Some(ExecEvent::Started { .. }) => {}
            other => panic!("{other:?} after {seen:?}"),
        }
    }
    seen
}

async fn a_terminal_of_the_size_asked_for(s: Sandbox) {
    let result = s
        .exec(on_terminal("stty size; test -t 0 && test -t 1 && test -t 2 && echo tty; echo $TERM"))
        .await
        .unwrap();
    exited(&result, 0);
    assert!(result.stdout.starts_with("20 70\r\ntty\r\n"), "{:?}", result.stdout);
    assert!(result.stdout.len() > "20 70\r\ntty\r\n\r\n".len(), "TERM is set: {:?}", result.stdout);
    assert_eq!(result.stderr, "");
}

async fn a_resize_is_told_to_the_program(s: Sandbox) {
    let line = "trap 'stty size; exit 6' WINCH; echo ready; while :; do sleep 0.02; done";
    let mut stream = s.exec_stream(on_terminal(line)).await.unwrap();
    see(&mut stream, "ready").await;
    s.resize(stream.exec_id(), PtySize { rows: 31, cols: 99 }).await.unwrap();
    see(&mut stream, "31 99").await;
    let id = stream.exec_id().clone();
    exited(&s.wait_exec(&id).await.unwrap(), 6);
}

async fn keys_reach_the_program_and_control_c_interrupts_it(s: Sandbox) {
    let mut stream = s.exec_stream(on_terminal("read line; echo \"<$line>\"; trap 'echo int; exit 3' INT; echo armed; while :; do sleep 0.02; done")).await.unwrap();
    stream.write_stdin(Bytes::from_static(b"hello\n")).await.unwrap();
    see(&mut stream, "armed").await;
    stream.write_stdin(Bytes::from_static(b"\x03")).await.unwrap();
    see(&mut stream, "int").await;
    let id = stream.exec_id().clone();
    let result = s.wait_exec(&id).await.unwrap();
    exited(&result, 3);
    assert!(result.stdout.contains("<hello>"), "{result:?}");
}

async fn no_terminal_no_resize(s: Sandbox) {
    let spec = ExecSpec { exec_id: Some("plain".parse().unwrap()), ..sh("sleep 30") };
    s.exec_detached(spec).await.unwrap();
    let refused = s.resize(&"plain".parse().unwrap(), PtySize { rows: 1, cols: 1 }).await;
    assert_eq!(code(refused), ErrorCode::InvalidRequest);
    let refused = s.resize(&"plain".parse().unwrap(), PtySize { rows: 0, cols: 1 }).await;
    assert_eq!(code(refused), ErrorCode::InvalidRequest);
}
