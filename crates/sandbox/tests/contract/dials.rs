//! Connections to what listens in a sandbox.

use std::time::{Duration, Instant};

use hothouse_domain::{ErrorCode, ExecSpec};
use hothouse_sandbox::{DialStream, DialTarget, Sandbox, SandboxError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Case, code, ok};
use crate::cases;

pub(crate) fn group() -> Vec<Case> {
    cases![
        bytes_go_to_a_path_and_come_back,
        bytes_go_to_a_port_and_come_back,
        two_tasks_use_one_connection,
        what_cannot_be_reached_is_named,
        a_dial_waits_for_what_is_being_started,
        an_end_that_breaks_off_is_an_error_after_what_came_before,
        a_freeze_stops_a_connection_and_a_thaw_lets_it_go_on needs "freeze",
        connections_are_bounded,
    ]
}

const WAIT: Duration = Duration::from_secs(60);

/// Echoes each connection in a thread of its own until its end, then says goodbye.
const ECHO: &str = r#"
import os, socket, sys, threading
def serve(peer):
    while data := peer.recv(1 << 16):
        peer.sendall(data)
    peer.sendall(b"goodbye")
    peer.close()
where = sys.argv[1]
if where.startswith("/"):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(where)
else:
    listener = socket.create_server(("127.0.0.1", int(where)))
listener.listen(1024)
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
"#;

/// Starts a Python program that goes on by itself.
async fn start(s: &Sandbox, program: &str, arguments: &[&str]) {
    let mut argv = vec!["python3".to_owned(), "-c".to_owned(), program.to_owned()];
    argv.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    s.exec_detached(ExecSpec { argv: Some(argv), ..ExecSpec::default() }).await.unwrap();
}

fn path(path: &str) -> DialTarget {
    DialTarget::Path(path.to_owned())
}

/// Sends content while it takes what comes back; gives all that did.
async fn exchange(stream: DialStream, content: Vec<u8>) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let send = tokio::spawn(async move {
        writer.write_all(&content).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    reader.read_to_end(&mut got).await.unwrap();
    send.await.unwrap();
    got
}

fn content(bytes: usize) -> Vec<u8> {
    (0..u32::MAX).flat_map(u32::to_le_bytes).take(bytes).collect()
}

async fn bytes_go_to_a_path_and_come_back(s: Sandbox) {
    start(&s, ECHO, &["/tmp/echo"]).await;
    let stream = s.dial(&path("/tmp/echo"), WAIT).await.unwrap();
    let sent = content(3_000_001);
    let expected = [sent.as_slice(), b"goodbye"].concat();
    assert!(exchange(stream, sent).await == expected);
    let stream = s.dial(&path("/tmp/echo"), Duration::ZERO).await.unwrap();
    assert_eq!(exchange(stream, Vec::new()).await, b"goodbye");
}

async fn bytes_go_to_a_port_and_come_back(s: Sandbox) {
    start(&s, ECHO, &["8000"]).await;
    let stream = s.dial(&DialTarget::Port(8000), WAIT).await.unwrap();
    let sent = content(3_000_001);
    let expected = [sent.as_slice(), b"goodbye"].concat();
    assert!(exchange(stream, sent).await == expected);
}

async fn two_tasks_use_one_connection(s: Sandbox) {
    start(&s, ECHO, &["/tmp/echo"]).await;
    let stream = s.dial(&path("/tmp/echo"), WAIT).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    // The one waits for credit, the other for bytes, and then the other way round.
    let writing = tokio::spawn(async move {
        writer.write_all(&content(2_000_000)).await.unwrap();
        writer
    });
    let mut got = vec![0; 2_000_000];
    reader.read_exact(&mut got).await.unwrap();
    assert!(got == content(2_000_000));
    let mut writer = writing.await.unwrap();
    for n in 0..100_u8 {
        writer.write_all(&[n]).await.unwrap();
        assert_eq!(reader.read_u8().await.unwrap(), n);
    }
}

async fn what_cannot_be_reached_is_named(s: Sandbox) {
    let refused = async |target: DialTarget, wait: Duration| {
        let error = s.dial(&target, wait).await.unwrap_err();
        (error.code(), error.to_string())
    };
    let (code, message) = refused(DialTarget::Port(81), Duration::ZERO).await;
    assert_eq!((code, message.as_str()), (ErrorCode::NotListening, "port 81: nothing listens there"));
    let (code, message) = refused(path("/tmp/none"), Duration::ZERO).await;
    assert_eq!((code, message.as_str()), (ErrorCode::FileNotFound, "/tmp/none: no such file or directory"));
    let begin = Instant::now();
    let (code, message) = refused(path("/tmp/none"), Duration::from_millis(300)).await;
    assert_eq!(code, ErrorCode::FileNotFound);
    assert!(message.ends_with("after 0.3 s") && begin.elapsed() >= Duration::from_millis(300), "{message}");
    assert_eq!(refused(path("tmp"), Duration::ZERO).await.0, ErrorCode::InvalidRequest);
    assert_eq!(refused(path("/tmp"), Duration::ZERO).await.0, ErrorCode::FileRefused);
    assert_eq!(refused(DialTarget::Port(0), Duration::ZERO).await.0, ErrorCode::InvalidRequest);
}

async fn a_dial_waits_for_what_is_being_started(s: Sandbox) {
    let waiting = tokio::spawn({
        let s = s.clone();
        async move { s.dial(&path("/tmp/later/echo"), WAIT).await }
    });
    start(&s, ECHO, &["8000"]).await;
    let mut stream = s.dial(&DialTarget::Port(8000), WAIT).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    assert!(!waiting.is_finished());
    ok(&s, "mkdir /tmp/later").await;
    start(&s, ECHO, &["/tmp/later/echo"]).await;
    assert_eq!(exchange(waiting.await.unwrap().unwrap(), b"y".to_vec()).await, b"ygoodbye");
}

async fn an_end_that_breaks_off_is_an_error_after_what_came_before(s: Sandbox) {
    let program = r#"
import socket, sys
listener = socket.create_server(("127.0.0.1", 8000))
while True:
    peer = listener.accept()[0]
    peer.recv(1, socket.MSG_PEEK)
    peer.sendall(b"some")
    peer.close()
"#;
    start(&s, program, &[]).await;
    let mut stream = s.dial(&DialTarget::Port(8000), WAIT).await.unwrap();
    stream.write_all(b"unread").await.unwrap();
    let mut got = Vec::new();
    let error = stream.read_to_end(&mut got).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(error.to_string().contains("port 8000"), "{error}");
    let inner = error.into_inner().unwrap();
    let inner = inner.downcast::<SandboxError>().unwrap();
    assert_eq!(inner.code(), ErrorCode::ConnectionBroken);
    let error = stream.write_all(b"more").await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

async fn a_freeze_stops_a_connection_and_a_thaw_lets_it_go_on(s: Sandbox) {
    start(&s, ECHO, &["/tmp/echo"]).await;
    let mut stream = s.dial(&path("/tmp/echo"), WAIT).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    s.freeze().await.unwrap();
    assert_eq!(code(s.dial(&path("/tmp/echo"), Duration::ZERO).await), ErrorCode::SandboxFrozen);
    stream.write_all(b"y").await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(300), stream.read_u8()).await;
    assert!(early.is_err(), "nothing answers");
    s.thaw().await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'y');
}

async fn connections_are_bounded(s: Sandbox) {
    let waiting: Vec<_> = (0..1024)
        .map(|_| {
            let s = s.clone();
            tokio::spawn(async move { s.dial(&path("/tmp/never"), WAIT * 2).await })
        })
        .collect();
    let until = async |wanted: ErrorCode| {
        let begin = Instant::now();
        while code(s.dial(&path("/tmp/none"), Duration::ZERO).await) != wanted {
            assert!(begin.elapsed() < WAIT, "it was never {wanted:?}");
        }
    };
    until(ErrorCode::LimitExceeded).await;
    ok(&s, "true").await;
    for waiting in waiting {
        waiting.abort();
    }
    until(ErrorCode::FileNotFound).await;
}
