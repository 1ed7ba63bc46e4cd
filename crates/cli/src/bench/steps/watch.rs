//! What a server uses, looked at from outside.

use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::thread::Pid;

use crate::bench::footprint::{children, pss};

/// Whose use is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// A process and all that it has started.
    Process(u32),
    /// A thread of this process.
    Thread(Pid),
    /// A server that was already there: nothing is known of it.
    Nobody,
}

impl Watch {
    /// Processor time until now, in user mode and in the kernel.
    pub(super) fn cpu(self) -> Option<Duration> {
        match self {
            Self::Process(root) => {
                Some(tree(root).iter().map(|pid| used(&format!("/proc/{pid}/stat"))).sum())
            }
            Self::Thread(thread) => Some(used(&format!("/proc/self/task/{}/stat", thread.as_raw_nonzero()))),
            Self::Nobody => None,
        }
    }

    /// Processor time since it was this.
    pub(super) fn cpu_since(self, before: Option<Duration>) -> Option<Duration> {
        self.cpu().zip(before).map(|(after, before)| after.saturating_sub(before))
    }

    /// Proportional share of memory now, in bytes.
    pub(super) fn memory(self) -> Option<u64> {
        match self {
            Self::Process(root) => Some(tree(root).into_iter().map(pss).sum()),
            Self::Thread(_) | Self::Nobody => None,
        }
    }
}

fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        found.extend(children(*pid));
        at += 1;
    }
    found
}

/// `utime` and `stime` of a `stat` file; nothing when it has gone.
fn used(stat: &str) -> Duration {
    let text = fs::read_to_string(stat).unwrap_or_default();
    let ticks = ticks_in(&text).unwrap_or(0);
    Duration::from_secs(1) * u32::try_from(ticks).unwrap_or(u32::MAX)
        / u32::try_from(clock_ticks_per_second()).unwrap_or(100)
}

fn ticks_in(stat: &str) -> Option<u64> {
    // The name, which may hold anything, stands in brackets before the third field.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split_whitespace().skip(11);
    Some(times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn ticks_are_found_whatever_the_name() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 100 200 0 0 30 12 5 6 20 0 1 0 100 1 1";
        assert_eq!(ticks_in(stat), Some(42));
        assert_eq!(ticks_in(""), None);
    }

    #[test]
    fn a_busy_process_is_seen_and_so_is_its_memory() {
        let own = Watch::Process(std::process::id());
        let before = own.cpu().unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(60) {
            std::hint::spin_loop();
        }
        assert!(own.cpu().unwrap() > before);
        assert!(own.memory().unwrap() > 1 << 20);
        assert_eq!(Watch::Nobody.cpu(), None);
    }
}
