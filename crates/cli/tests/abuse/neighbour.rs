//! The neighbour: a sandbox on the same server that only wants to be served.

use std::time::{Duration, Instant};

use hothouse_domain::{ExecSpec, Outcome};
use tokio_util::sync::CancellationToken;

use crate::api::Api;

/// Between two execs of the neighbour, so that it measures and does not load.
const PAUSE: Duration = Duration::from_millis(2);

/// How a stretch of execs went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Service {
    /// Execs that answered.
    pub(crate) count: usize,
    /// Execs that did not do what they should.
    pub(crate) failures: usize,
    /// 99 of 100 were at most so slow.
    pub(crate) p99: Duration,
}

impl Service {
    fn of(mut times: Vec<Duration>, failures: usize) -> Self {
        times.sort_unstable();
        let at = (times.len() * 99).div_ceil(100).saturating_sub(1);
        Self { count: times.len(), failures, p99: times.get(at).copied().unwrap_or_default() }
    }
}

async fn one(api: &Api, id: &str) -> Result<Duration, ()> {
    let began = Instant::now();
    let spec = ExecSpec { argv: Some(vec!["/bin/true".to_owned()]), ..ExecSpec::default() };
    match api.exec(id, &spec).await {
        Ok(result) if result.outcome == (Outcome::Exited { code: 0 }) => Ok(began.elapsed()),
        Ok(_) | Err(_) => Err(()),
    }
}

/// Runs so many execs, one after the other.
pub(crate) async fn measure(api: &Api, id: &str, count: usize) -> Service {
    let mut times = Vec::new();
    let mut failures = 0;
    for _ in 0..count {
        match one(api, id).await {
            Ok(time) => times.push(time),
            Err(()) => failures += 1,
        }
        tokio::time::sleep(PAUSE).await;
    }
    Service::of(times, failures)
}

/// Runs execs, one after the other, until told to end; at least one.
pub(crate) async fn measure_until(api: Api, id: String, end: CancellationToken) -> Service {
    let mut times = Vec::new();
    let mut failures = 0;
    loop {
        match one(&api, &id).await {
            Ok(time) => times.push(time),
            Err(()) => failures += 1,
        }
        if end.is_cancelled() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Service::of(times, failures)
}
