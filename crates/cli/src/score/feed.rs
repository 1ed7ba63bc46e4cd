//! Runs commands with standard input of any size.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hothouse_domain::{Encoding, ExecResult, ExecSpec};
use hothouse_sandbox::sandbox::AfterStdin;
use hothouse_sandbox::{ExecEvent, OutputName};

use crate::failure::Failure;
use crate::place::{Live, SandboxHandle};

/// More than this goes in a stream.
const INLINE: usize = 1 << 20;
/// One write of the stream.
const PIECE: usize = 1 << 20;

/// What a command did, with its outputs as bytes.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) result: ExecResult,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// Runs a command to its end with these bytes on standard input.
pub(super) async fn exec(sandbox: &SandboxHandle, mut spec: ExecSpec, stdin: &[u8]) -> Result<Ran, Failure> {
    if stdin.len() > INLINE {
        return Box::pin(exec_streamed(sandbox, spec, stdin)).await;
    }
    match str::from_utf8(stdin) {
        Ok(text) => spec.stdin = Some(text.to_owned()),
        Err(_) => {
            spec.stdin = Some(STANDARD.encode(stdin));
            spec.stdin_encoding = Encoding::Base64;
        }
    }
    let mut result = sandbox.exec(spec).await?;
    let stdout = bytes_of(std::mem::take(&mut result.stdout), result.encoding);
    let stderr = bytes_of(std::mem::take(&mut result.stderr), result.encoding);
    Ok(Ran { result, stdout, stderr })
}

pub(super) fn bytes_of(text: String, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Utf8 => text.into_bytes(),
        // The other side is Hothouse too; text that is no base64 would be its bug, and stays visible as it is.
        Encoding::Base64 => STANDARD.decode(&text).unwrap_or_else(|_| text.into_bytes()),
    }
}

async fn exec_streamed(sandbox: &SandboxHandle, mut spec: ExecSpec, stdin: &[u8]) -> Result<Ran, Failure> {
    let limit = spec.output_limit_bytes.unwrap_or(hothouse_domain::exec::DEFAULT_OUTPUT_LIMIT);
    spec.stdin_open = true;
    let mut live = sandbox.exec_stream(spec).await?;
    let input = live.input();
    let feed = async {
        let mut pieces = stdin.chunks(PIECE).peekable();
        while let Some(piece) = pieces.next() {
            let after = if pieces.peek().is_some() { AfterStdin::KeepOpen } else { AfterStdin::Close };
            if input.write(Bytes::copy_from_slice(piece), after).await.is_err() {
                // The program ended or closed its input; how it ended says what matters.
                return;
            }
        }
    };
    let ((), ran) = futures::join!(feed, follow(&mut live, limit));
    ran
}

async fn follow(live: &mut Live, limit: u64) -> Result<Ran, Failure> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut dropped = [0_u64; 2];
    let keep = |kept: &mut Vec<u8>, bytes: &[u8]| {
        let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
        (bytes.len() - room) as u64
    };
    while let Some(event) = live.next().await? {
        match event {
            ExecEvent::Started { .. } => {}
            ExecEvent::Output(OutputName::Stdout, bytes) => dropped[0] += keep(&mut stdout, &bytes),
            ExecEvent::Output(OutputName::Stderr, bytes) => dropped[1] += keep(&mut stderr, &bytes),
            ExecEvent::Skipped(OutputName::Stdout, count) => dropped[0] += count,
            ExecEvent::Skipped(OutputName::Stderr, count) => dropped[1] += count,
            ExecEvent::Finished(mut result) => {
                [result.truncated.stdout_dropped_bytes, result.truncated.stderr_dropped_bytes] = dropped;
                return Ok(Ran { result, stdout, stderr });
            }
        }
    }
    Err(Failure::new(hothouse_domain::ErrorCode::SandboxDead, "the exec's events ended before it did"))
}
