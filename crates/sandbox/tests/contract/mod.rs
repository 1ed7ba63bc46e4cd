//! What every sandbox promises, whatever backend made it.
//!
//! A backend's test file gives a [`Place`] and runs each group with [`run`]. Every case gets a fresh sandbox of its own.
//! A case that the machine cannot grant (no memory limit, one user only) says so by [`Needs`] and is skipped aloud.

pub(crate) mod archives;
pub(crate) mod dials;
pub(crate) mod execs;
pub(crate) mod files;
pub(crate) mod input;
pub(crate) mod journal;
pub(crate) mod life;
pub(crate) mod output;
pub(crate) mod patches;
pub(crate) mod shells;
pub(crate) mod terminals;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hothouse_domain::{
    Encoding, Enforcement, ErrorCode, ExecResult, ExecSpec, Outcome, Resources, SandboxSpec,
};
use hothouse_sandbox::{Sandbox, SandboxError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Where sandboxes come from.
pub(crate) trait Place: Send + Sync + 'static {
    /// Makes one.
    fn make(&self, spec: SandboxSpec) -> impl Future<Output = Sandbox> + Send;
    /// Removes it.
    fn remove(&self, sandbox: Sandbox) -> impl Future<Output = ()> + Send;
}

/// What a case cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// The named protection, enforced.
    Enforced(&'static str),
}

/// One promise.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) needs: Needs,
    pub(crate) spec: fn() -> SandboxSpec,
    pub(crate) run: fn(Sandbox) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Lists functions as cases: `cases![plain, with_memory(small) needs "memory_limit"]`.
#[macro_export]
macro_rules! cases {
    ($($name:ident $(($spec:expr))? $(needs $need:literal)?),+ $(,)?) => {
        vec![$($crate::contract::Case {
            name: stringify!($name),
            needs: $crate::cases!(@needs $($need)?),
            spec: $crate::cases!(@spec $($spec)?),
            run: |sandbox| Box::pin($name(sandbox)),
        }),+]
    };
    (@needs) => { $crate::contract::Needs::Nothing };
    (@needs $need:literal) => { $crate::contract::Needs::Enforced($need) };
    (@spec) => { $crate::contract::plain };
    (@spec $spec:expr) => { $spec };
}

/// The spec of cases that name none.
pub(crate) fn plain() -> SandboxSpec {
    SandboxSpec::default()
}

/// A spec with these limits.
pub(crate) fn limited(change: impl FnOnce(&mut Resources)) -> SandboxSpec {
    let mut spec = plain();
    change(&mut spec.resources);
    spec
}

const AT_ONCE: usize = 4;
const CASE_WITHIN: Duration = Duration::from_secs(120);

/// Runs a group's cases; panics with the names of those that failed.
pub(crate) async fn run<P: Place>(place: Arc<P>, cases: Vec<Case>) {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for case in cases {
        let (place, slots) = (Arc::clone(&place), Arc::clone(&slots));
        running.spawn(async move {
            let _slot = slots.acquire_owned().await.unwrap();
            let sandbox = place.make((case.spec)()).await;
            if let Needs::Enforced(name) = case.needs
                && sandbox.isolation().get(name) != Some(&Enforcement::Enforced)
            {
                println!("{}: skipped, {name} is not enforced here", case.name);
                place.remove(sandbox).await;
                return None;
            }
            let work = tokio::spawn(tokio::time::timeout(CASE_WITHIN, (case.run)(sandbox.clone())));
            let failure = match work.await {
                Ok(Ok(())) => None,
                Ok(Err(_)) => Some(format!("{}: not done within {CASE_WITHIN:?}", case.name)),
                Err(panic) => Some(format!("{}: {}", case.name, panic_text(panic))),
            };
            place.remove(sandbox).await;
            failure
        });
    }
    let failures: Vec<String> = running.join_all().await.into_iter().flatten().collect();
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "panicked".to_owned()),
        Err(error) => error.to_string(),
    }
}

/// A command line for `/bin/sh`.
pub(crate) fn sh(line: &str) -> ExecSpec {
    ExecSpec { shell: Some(line.to_owned()), ..ExecSpec::default() }
}

/// A program and its arguments.
pub(crate) fn argv(args: &[&str]) -> ExecSpec {
    ExecSpec { argv: Some(args.iter().map(|arg| (*arg).to_owned()).collect()), ..ExecSpec::default() }
}

/// Runs a line that has to succeed; its standard output.
pub(crate) async fn ok(sandbox: &Sandbox, line: &str) -> String {
    let result = sandbox.exec(sh(line)).await.unwrap();
    assert_eq!(result.outcome, Outcome::Exited { code: 0 }, "{line}: {result:?}");
    assert_eq!(result.encoding, Encoding::Utf8, "{line}");
    result.stdout
}

/// The code of a refusal.
pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, SandboxError>) -> ErrorCode {
    result.expect_err("it is refused").code()
}

/// The result ended with this exit status.
#[track_caller]
pub(crate) fn exited(result: &ExecResult, code: i32) {
    assert_eq!(result.outcome, Outcome::Exited { code }, "{result:?}");
}

/// Waits until a line succeeds.
pub(crate) async fn until(sandbox: &Sandbox, line: &str) {
    let begin = Instant::now();
    loop {
        let result = sandbox.exec(sh(line)).await.unwrap();
        if result.outcome == (Outcome::Exited { code: 0 }) {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{line} never succeeded: {result:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A stream of content in pieces of this size.
pub(crate) fn content(bytes: &[u8], piece: usize) -> impl hothouse_sandbox::sandbox::Content + use<> {
    let pieces: Vec<std::io::Result<bytes::Bytes>> =
        bytes.chunks(piece).map(|chunk| Ok(bytes::Bytes::copy_from_slice(chunk))).collect();
    futures::stream::iter(pieces)
}

/// All that a reader gives.
pub(crate) async fn whole(mut reader: hothouse_sandbox::FileReader) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = reader.next().await.unwrap() {
        all.extend_from_slice(&bytes);
    }
    all
}
