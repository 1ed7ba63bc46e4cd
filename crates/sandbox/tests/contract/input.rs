//! Standard input: inline, streamed, by its own request.

use bytes::Bytes;
use hothouse_domain::{Encoding, ErrorCode, ExecId, ExecSpec};
use hothouse_sandbox::sandbox::AfterStdin;
use hothouse_sandbox::{ExecEvent, OutputName, Sandbox};

use super::{Case, code, exited, sh, until};
use crate::cases;

pub(crate) fn group() -> Vec<Case> {
    cases![
        inline_text_and_then_the_end,
        without_input_there_is_an_end_at_once,
        inline_bytes,
        streamed_input_with_more_than_a_pipe_holds,
        input_by_its_own_request,
        input_for_what_takes_none_is_refused,
    ]
}

async fn inline_text_and_then_the_end(s: Sandbox) {
    let text = "line\n".repeat(50_000);
    let spec = ExecSpec { stdin: Some(text.clone()), ..sh("wc -c") };
    let result = s.exec(spec).await.unwrap();
    exited(&result, 0);
    assert_eq!(result.stdout.trim(), text.len().to_string());
}

async fn without_input_there_is_an_end_at_once(s: Sandbox) {
    let result = s.exec(sh("cat; echo end")).await.unwrap();
    assert_eq!(result.stdout, "end\n");
}

async fn inline_bytes(s: Sandbox) {
    let spec =
        ExecSpec { stdin: Some("AP8K".to_owned()), stdin_encoding: Encoding::Base64, ..sh("od -An -tx1") };
    assert_eq!(s.exec(spec).await.unwrap().stdout.trim(), "00 ff 0a");
}

async fn streamed_input_with_more_than_a_pipe_holds(s: Sandbox) {
    let spec = ExecSpec { stdin: Some("first ".to_owned()), stdin_open: true, ..sh("sleep 0.2; wc -c") };
    let mut stream = s.exec_stream(spec).await.unwrap();
    let piece = Bytes::from(vec![b'x'; 300_000]);
    for _ in 0..10 {
        stream.write_stdin(piece.clone()).await.unwrap();
    }
    stream.close_stdin().await.unwrap();
    assert!(stream.close_stdin().await.is_err(), "it is closed");
    let mut out = Vec::new();
    let result = loop {
        match stream.next().await.unwrap().unwrap() {
            ExecEvent::Output(OutputName::Stdout, bytes) => out.extend_from_slice(&bytes),
            ExecEvent::Finished(result) => break result,
            ExecEvent::Started { .. } | ExecEvent::Output(..) | ExecEvent::Skipped(..) => {}
        }
    };
    exited(&result, 0);
    assert_eq!(String::from_utf8(out).unwrap().trim(), "3000006");
}

async fn input_by_its_own_request(s: Sandbox) {
    let id: ExecId = "reader".parse().unwrap();
    let spec = ExecSpec { exec_id: Some(id.clone()), stdin_open: true, ..sh("read a; echo got $a; cat") };
    s.exec_detached(spec).await.unwrap();
    s.write_stdin(&id, Bytes::from_static(b"one\n"), AfterStdin::KeepOpen).await.unwrap();
    s.write_stdin(&id, Bytes::from_static(b"two\n"), AfterStdin::KeepOpen).await.unwrap();
    s.write_stdin(&id, Bytes::new(), AfterStdin::Close).await.unwrap();
    let result = s.wait_exec(&id).await.unwrap();
    exited(&result, 0);
    assert_eq!(result.stdout, "got one\ntwo\n");
    let late = s.write_stdin(&id, Bytes::from_static(b"x"), AfterStdin::KeepOpen).await;
    assert_eq!(code(late), ErrorCode::ExecFinished);
}

async fn input_for_what_takes_none_is_refused(s: Sandbox) {
    let id: ExecId = "closed".parse().unwrap();
    let spec = ExecSpec { exec_id: Some(id.clone()), ..sh("touch /tmp/up; sleep 30") };
    s.exec_detached(spec).await.unwrap();
    until(&s, "test -e /tmp/up").await;
    let refused = s.write_stdin(&id, Bytes::from_static(b"x"), AfterStdin::KeepOpen).await;
    assert_eq!(code(refused), ErrorCode::ExecFinished);
    let unknown: ExecId = "unknown".parse().unwrap();
    let refused = s.write_stdin(&unknown, Bytes::from_static(b"x"), AfterStdin::KeepOpen).await;
    assert_eq!(code(refused), ErrorCode::ExecNotFound);
    let mut stream = s.exec_stream(sh("sleep 0.1")).await.unwrap();
    assert_eq!(code(stream.write_stdin(Bytes::from_static(b"x")).await), ErrorCode::ExecFinished);
}
