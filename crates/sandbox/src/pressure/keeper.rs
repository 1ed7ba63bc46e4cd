//! The task that takes memory back from idle sandboxes while the machine is short of it.

use std::time::Duration;

use futures::StreamExt as _;
use hothouse_domain::{EndCause, SandboxPhase};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Short;
use super::relief::{Act, IDLE_MS, relief};
use crate::endings::End;
use crate::registry::Registry;
use crate::sandbox::{Command, Relief, Sandbox, Surroundings};

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Sandboxes that give up memory at once: each has the kernel walk its pages.
const AT_ONCE: usize = 4;

/// Looks after the machine's memory until the node takes no more requests.
pub(crate) async fn keep(around: &Surroundings, registry: &Registry<Sandbox>, closing: &CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Some(short) = around.pressure.short() {
            tokio::select! {
                // What an owner has begun it ends by itself.
                () = closing.cancelled() => return,
                () = take_back(around, registry.all(), short) => {}
            }
        }
    }
}

async fn take_back(around: &Surroundings, sandboxes: Vec<Sandbox>, short: Short) {
    // Thousands of small files are read: not on a thread that answers others.
    let looked = tokio::task::spawn_blocking(move || {
        let stands = |sandbox: Sandbox| Some((sandbox.candidate(short.free_swap)?, sandbox));
        sandboxes.into_iter().filter_map(stands).unzip::<_, _, Vec<_>, Vec<_>>()
    });
    let (candidates, sandboxes) = match looked.await {
        Ok(looked) => looked,
        Err(error) => return tracing::error!(%error, "looking for idle sandboxes"),
    };
    let acts = relief(short.by, &candidates);
    if !acts.is_empty() {
        tracing::info!(
            available = short.available,
            sandboxes = acts.len(),
            "memory is short: taking some back"
        );
    }
    let acts = acts.into_iter().filter_map(|(place, act)| Some((sandboxes.get(place)?, act)));
    futures::stream::iter(acts)
        .for_each_concurrent(AT_ONCE, |(sandbox, act)| async move {
            match act {
                Act::Freeze => freeze(around, sandbox, short).await,
                Act::End => end(around, sandbox, short).await,
            }
        })
        .await;
}

async fn freeze(around: &Surroundings, sandbox: &Sandbox, short: Short) {
    if let Err(error) = sandbox.command(|done| Command::Relieve(Relief::Freeze, done)).await {
        return tracing::warn!(sandbox = %sandbox.id(), %error, "not frozen, though memory is short");
    }
    // It may have been used meanwhile, or is gone.
    let (Some(_), Some(memory)) = (sandbox.frozen_by(), sandbox.memory()) else { return };
    let took = tokio::task::spawn_blocking(move || memory.reclaim(short.free_swap)).await;
    match took.map_err(|error| error.to_string()).and_then(|took| took) {
        Ok(bytes) => around.pressure.count_reclaimed(bytes),
        Err(error) => tracing::warn!(sandbox = %sandbox.id(), error, "taking back its memory"),
    }
}

async fn end(around: &Surroundings, sandbox: &Sandbox, short: Short) {
    let used = sandbox.memory().and_then(|memory| memory.used()).unwrap_or_default();
    let why = format!(
        "the machine had {} MiB of memory left, less than the {} MiB of --reclaim-below, nobody had used the sandbox for {} s, \
         and its lease says reclaim=end",
        short.available >> 20,
        around.pressure.reclaim_below() >> 20,
        IDLE_MS / 1000,
    );
    let end = End::new(EndCause::MemoryPressure, "pressure", why);
    let ended = sandbox.command(|done| Command::Relieve(Relief::End(end), done)).await;
    if let Err(error) = ended {
        return tracing::warn!(sandbox = %sandbox.id(), %error, "not all of it was removed, though memory is short");
    }
    if *sandbox.watch_phase().borrow() == SandboxPhase::Destroying {
        around.pressure.count_ended(used);
    }
}
