//! All sessions of one measurement, divided among the threads that make load.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::lane::{Lane, Tally, Wanted};
use super::place::Placement;
use super::script::{Action, Transport};
use super::target::Target;

/// What load is made of.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Where it goes.
    pub(crate) target: Target,
    /// How sessions talk.
    pub(crate) transport: Transport,
    /// What they do.
    pub(crate) action: Action,
    /// How many threads make it.
    pub(crate) threads: usize,
    /// On which cores.
    pub(crate) placement: Placement,
}

/// Open sessions.
#[derive(Debug)]
pub(super) struct Swarm<'a> {
    load: &'a Load,
    lanes: Vec<Lane>,
}

impl<'a> Swarm<'a> {
    /// Opens so many sessions, `at_once` at one time. The latencies are those of each, from connecting to reset.
    ///
    /// # Errors
    /// When one of them cannot be opened.
    pub(super) fn open(load: &'a Load, sessions: usize, at_once: usize) -> anyhow::Result<(Self, Tally)> {
        let start = Instant::now();
        let wanted = divided(load, sessions, at_once);
        let opened = on_threads(&load.placement, wanted, |wanted| Lane::open(&wanted, start))
            .with_context(|| format!("opening {sessions} sessions of {}", load.target.url()))?;
        let mut tally = Tally::default();
        let mut lanes = Vec::with_capacity(opened.len());
        for (lane, part) in opened {
            lanes.push(lane);
            tally.join(part);
        }
        Ok((Self { load, lanes }, tally))
    }

    /// Steps all of them for so long.
    ///
    /// # Errors
    /// When a connection breaks, or an answer is not what it should be.
    pub(super) fn step(&mut self, time: Duration) -> anyhow::Result<Tally> {
        let start = Instant::now();
        let lanes = self.lanes.iter_mut().collect();
        let parts = on_threads(&self.load.placement, lanes, |lane: &mut Lane| lane.step(start, start + time))
            .with_context(|| format!("stepping sessions of {}", self.load.target.url()))?;
        joined(parts)
    }

    /// Closes them.
    ///
    /// # Errors
    /// When a connection breaks, or the server does not end one.
    pub(super) fn close(self) -> anyhow::Result<()> {
        let Self { load, lanes } = self;
        on_threads(&load.placement, lanes, |lane| lane.close(load.transport))
            .with_context(|| format!("closing sessions of {}", load.target.url()))?;
        Ok(())
    }
}

/// Sessions that come, step once and go, so many at one time, for so long.
///
/// # Errors
/// When a connection breaks, or an answer is not what it should be.
pub(super) fn churn(load: &Load, at_once: usize, time: Duration) -> anyhow::Result<Tally> {
    let start = Instant::now();
    let wanted = divided(load, at_once, at_once);
    let parts = on_threads(&load.placement, wanted, |wanted| Lane::churn(&wanted, start, start + time))
        .with_context(|| format!("opening and closing sessions of {}", load.target.url()))?;
    joined(parts)
}

fn joined(parts: Vec<Tally>) -> anyhow::Result<Tally> {
    let mut all = Tally::default();
    for part in parts {
        all.join(part);
    }
    if all.wrong > 0 {
        let first = all.first_wrong.unwrap_or_default();
        bail!("{} of {} answers were wrong; the first: {first}", all.wrong, all.latencies.len());
    }
    Ok(all)
}

fn divided(load: &Load, sessions: usize, at_once: usize) -> Vec<Wanted<'_>> {
    let threads = load.threads.clamp(1, sessions.max(1));
    (0..threads)
        .map(|thread| Wanted {
            target: &load.target,
            transport: load.transport,
            action: &load.action,
            numbers: sessions * thread / threads..sessions * (thread + 1) / threads,
            at_once: at_once.div_ceil(threads),
        })
        .collect()
}

/// Does something with each of these, each on a thread of its own.
fn on_threads<T: Send, R: Send>(
    placement: &Placement,
    parts: Vec<T>,
    work: impl Fn(T) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    let work = &work;
    std::thread::scope(|scope| {
        let workers: Vec<_> = parts
            .into_iter()
            .enumerate()
            .map(|(thread, part)| {
                scope.spawn(move || {
                    placement.keep_load(thread)?;
                    work(part)
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| match worker.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;
    use crate::bench::steps::floor::{Echo, Floor, echo};
    use crate::bench::steps::watch::Watch;
    use crate::bench::steps::{Figures, measure};

    fn load(floor: &Floor, transport: Transport, threads: usize) -> Load {
        Load {
            target: Target::at(floor.address()),
            transport,
            action: Action::Echo,
            threads,
            placement: Placement::Anywhere,
        }
    }

    fn floor(echo: Echo) -> Floor {
        Floor::start(&Placement::Anywhere, echo).unwrap()
    }

    #[test_case(Transport::WebSocket, 1, 1)]
    #[test_case(Transport::WebSocket, 40, 3)]
    #[test_case(Transport::Http, 1, 1)]
    #[test_case(Transport::Http, 16, 2)]
    fn every_step_is_answered_and_counted(transport: Transport, sessions: usize, threads: usize) {
        let floor = floor(echo);
        let load = load(&floor, transport, threads);
        let time = Duration::from_millis(200);
        let Figures { opening, steps, server_cpu, load_cpu } =
            measure(&load, sessions, time, Watch::Thread(floor.thread())).unwrap();
        assert_eq!(opening.latencies.len(), sessions);
        assert!(steps.latencies.len() > sessions, "{}", steps.latencies.len());
        assert!(steps.elapsed >= time && load_cpu > Duration::ZERO && server_cpu.is_some());
        assert!(steps.latencies.iter().all(|took| *took > Duration::ZERO && *took <= steps.elapsed));
    }

    #[test]
    fn sessions_come_and_go() {
        let floor = floor(echo);
        let tally = churn(&load(&floor, Transport::WebSocket, 2), 8, Duration::from_millis(200)).unwrap();
        assert!(tally.latencies.len() > 8, "{tally:?}");
    }

    #[test]
    fn sessions_are_opened_a_few_at_a_time() {
        let floor = floor(echo);
        let load = load(&floor, Transport::WebSocket, 2);
        let (swarm, tally) = Swarm::open(&load, 100, 7).unwrap();
        assert_eq!(tally.latencies.len(), 100);
        swarm.close().unwrap();
    }

    /// Says something else to the last text of a round.
    fn wrong_at_times(text: &[u8], answer: &mut Vec<u8>) {
        echo(if text.ends_with(b"3") { b"session 0 says 2" } else { text }, answer);
    }

    #[test]
    fn wrong_answers_are_counted_and_fail_the_run() {
        let floor = floor(wrong_at_times);
        for transport in [Transport::WebSocket, Transport::Http] {
            let load = load(&floor, transport, 1);
            let failed = measure(&load, 2, Duration::from_millis(100), Watch::Nobody).unwrap_err();
            let text = format!("{failed:#}");
            assert!(text.contains("answers were wrong") && text.contains("says 3"), "{text}");
        }
        assert!(churn(&load(&floor, Transport::WebSocket, 1), 2, Duration::from_millis(50)).is_ok());
    }

    #[test]
    fn an_episode_that_is_done_is_begun_anew_and_only_steps_are_counted() {
        let floor = floor(|text, answer| {
            answer.extend_from_slice(br#"{"observation":{},"reward":1,"done":"#);
            answer.extend_from_slice(if text.is_empty() { b"false}" } else { b"true}" });
        });
        let mut load = load(&floor, Transport::WebSocket, 1);
        load.action = Action::parse(r#"{"message":"end"}"#).unwrap();
        let (mut swarm, _) = Swarm::open(&load, 3, 3).unwrap();
        let steps = swarm.step(Duration::from_millis(100)).unwrap().latencies.len();
        swarm.close().unwrap();
        let (mut swarm, _) = Swarm::open(&load, 3, 3).unwrap();
        assert!(steps > 3, "{steps}");
        // Once more on sessions of which some stand between two episodes.
        swarm.step(Duration::from_millis(10)).unwrap();
        swarm.step(Duration::from_millis(10)).unwrap();
        swarm.close().unwrap();
    }

    #[test]
    fn a_server_that_is_not_there_is_said() {
        let gone = floor(echo);
        let load = load(&gone, Transport::WebSocket, 1);
        drop(gone);
        let failed = measure(&load, 1, Duration::from_millis(50), Watch::Nobody).unwrap_err();
        assert!(format!("{failed:#}").contains("connecting"), "{failed:#}");
    }

    #[test]
    fn a_server_that_speaks_no_websocket_is_said() {
        let floor = floor(|_, answer| answer.extend_from_slice(b"{}"));
        let load = load(&floor, Transport::WebSocket, 1);
        let failed = measure(&load, 1, Duration::from_millis(50), Watch::Nobody).unwrap_err();
        assert!(format!("{failed:#}").contains("a reset"), "{failed:#}");
    }
}
