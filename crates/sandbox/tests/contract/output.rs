//! Output: whole and live, or kept in part and counted.

use std::time::Duration;

use hothouse_domain::{Encoding, ExecSpec, Outcome};
use hothouse_sandbox::{ExecEvent, ExecStream, OutputName, Sandbox};

use super::{Case, exited, ok, sh};
use crate::cases;

pub(crate) fn group() -> Vec<Case> {
    cases![
        bytes_that_are_no_text_come_as_base64,
        head_and_tail_are_kept_and_the_rest_counted,
        characters_cut_by_the_limit_leave_text,
        no_output_may_be_kept,
        a_line_without_end_is_bounded,
        output_comes_live_and_in_order,
        a_slow_reader_gets_everything,
        a_follower_that_leaves_ends_nothing,
        the_two_outputs_are_apart,
        a_large_limit_is_kept_whole,
    ]
}

/// Every event of a stream, put together.
async fn drain(mut stream: ExecStream) -> (Vec<u8>, Vec<u8>, hothouse_domain::ExecResult) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    assert!(matches!(stream.next().await.unwrap(), Some(ExecEvent::Started { replayed: false, .. })));
    loop {
        match stream.next().await.unwrap().expect("a stream ends with Finished") {
            ExecEvent::Output(OutputName::Stdout, bytes) => out.extend_from_slice(&bytes),
            ExecEvent::Output(OutputName::Stderr, bytes) => err.extend_from_slice(&bytes),
            ExecEvent::Finished(result) => {
                assert!(stream.next().await.unwrap().is_none());
                return (out, err, result);
            }
            event @ (ExecEvent::Started { .. } | ExecEvent::Skipped(..)) => panic!("{event:?}"),
        }
    }
}

async fn bytes_that_are_no_text_come_as_base64(s: Sandbox) {
    let result = s.exec(sh(r"printf '\377\000\n'; echo err >&2")).await.unwrap();
    assert_eq!(result.encoding, Encoding::Base64);
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("/wAK", "ZXJyCg=="));
}

async fn head_and_tail_are_kept_and_the_rest_counted(s: Sandbox) {
    let whole: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    let spec = ExecSpec { output_limit_bytes: Some(1000), ..sh("seq 1 100000; echo err >&2") };
    let result = s.exec(spec).await.unwrap();
    exited(&result, 0);
    assert_eq!(result.stdout, format!("{}{}", &whole[..500], &whole[whole.len() - 500..]));
    assert_eq!(result.truncated.stdout_dropped_bytes, whole.len() as u64 - 1000);
    assert_eq!((result.stderr.as_str(), result.truncated.stderr_dropped_bytes), ("err\n", 0));
}

async fn characters_cut_by_the_limit_leave_text(s: Sandbox) {
    for limit in [1001, 1002, 1003] {
        let line = "i=0; while [ $i -lt 300 ]; do printf 'aé€𝄞é€𝄞'; i=$((i+1)); done";
        let result = s.exec(ExecSpec { output_limit_bytes: Some(limit), ..sh(line) }).await.unwrap();
        assert_eq!(result.encoding, Encoding::Utf8);
        assert_eq!(result.stdout.len() as u64 + result.truncated.stdout_dropped_bytes, 300 * 19);
        assert!(result.stdout.len() as u64 > limit - 7 && result.stdout.starts_with("aé€𝄞é€𝄞a"));
    }
}

async fn no_output_may_be_kept(s: Sandbox) {
    let result = s.exec(ExecSpec { output_limit_bytes: Some(0), ..sh("echo hello") }).await.unwrap();
    assert_eq!((result.stdout.as_str(), result.truncated.stdout_dropped_bytes), ("", 6));
}

async fn a_line_without_end_is_bounded(s: Sandbox) {
    let spec = ExecSpec { output_limit_bytes: Some(4096), ..sh("head -c 200000000 /dev/zero") };
    let result = s.exec(spec).await.unwrap();
    exited(&result, 0);
    assert_eq!(result.stdout.len(), 4096);
    assert_eq!(result.truncated.stdout_dropped_bytes, 200_000_000 - 4096);
}

async fn output_comes_live_and_in_order(s: Sandbox) {
    let line = "echo one; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo two";
    let mut stream = s.exec_stream(sh(line)).await.unwrap();
    assert!(matches!(stream.next().await.unwrap(), Some(ExecEvent::Started { .. })));
    let Some(ExecEvent::Output(OutputName::Stdout, first)) = stream.next().await.unwrap() else {
        panic!("no output")
    };
    assert_eq!(first, "one\n");
    ok(&s, "touch /tmp/go").await;
    let Some(ExecEvent::Output(OutputName::Stdout, second)) = stream.next().await.unwrap() else {
        panic!("no output")
    };
    assert_eq!(second, "two\n");
    let Some(ExecEvent::Finished(result)) = stream.next().await.unwrap() else { panic!("no end") };
    exited(&result, 0);
    assert_eq!(result.stdout, "");
}

async fn a_slow_reader_gets_everything(s: Sandbox) {
    let spec = ExecSpec { output_limit_bytes: Some(1000), ..sh("seq 1 1000000") };
    let stream = s.exec_stream(spec).await.unwrap();
    // Nothing is read until the guest has had to stop the exec, and others get on meanwhile.
    for _ in 0..5 {
        ok(&s, "true").await;
    }
    assert!(
        ok(&s, "grep -lsx seq /proc/[0-9]*/comm || true").await.contains("comm"),
        "it waits for its reader"
    );
    let (out, _, result) = drain(stream).await;
    exited(&result, 0);
    let whole: String = (1..=1_000_000).map(|n| format!("{n}\n")).collect();
    assert!(out == whole.as_bytes(), "{} of {} bytes", out.len(), whole.len());
}

async fn a_follower_that_leaves_ends_nothing(s: Sandbox) {
    let stream = s.exec_stream(sh("seq 1 1000000; echo end > /tmp/end")).await.unwrap();
    let id = stream.exec_id().clone();
    drop(stream);
    let result = tokio::time::timeout(Duration::from_secs(60), s.wait_exec(&id)).await.unwrap().unwrap();
    exited(&result, 0);
    assert_eq!(ok(&s, "cat /tmp/end").await, "end\n");
}

async fn the_two_outputs_are_apart(s: Sandbox) {
    let line = "i=0; while [ $i -lt 500 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done";
    let (out, err, result) = drain(s.exec_stream(sh(line)).await.unwrap()).await;
    assert_eq!(result.outcome, Outcome::Exited { code: 0 });
    let of = |letter: char| (0..500).map(|n| format!("{letter}{n}\n")).collect::<String>();
    assert!(out == of('o').as_bytes() && err == of('e').as_bytes());
}

async fn a_large_limit_is_kept_whole(s: Sandbox) {
    let spec = ExecSpec { output_limit_bytes: Some(16 << 20), ..sh("seq 1 1500000") };
    let result = s.exec(spec).await.unwrap();
    let whole: String = (1..=1_500_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(result.truncated.stdout_dropped_bytes, 0);
    assert!(result.stdout == whole, "{} of {} bytes", result.stdout.len(), whole.len());
}
