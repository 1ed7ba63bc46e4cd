//! Whether the machine has memory left. One that swaps, or whose OOM killer chooses, serves nobody: below a mark memory is
//! taken back from idle sandboxes, below a floor no sandbox is made.

pub(crate) mod keeper;
pub(crate) mod relief;

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hothouse_domain::MemoryStats;

use crate::error::SandboxError;
use crate::link::locked;

/// How long a look holds: creates come by the hundred.
const HOLDS: Duration = Duration::from_millis(50);

/// Watches the memory of the machine.
#[derive(Debug)]
pub(crate) struct Pressure {
    marks: Marks,
    last: Mutex<Option<(Instant, Memory)>>,
    counts: Counts,
}

/// Bytes of available memory below which something is done; 0 for never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// No sandbox is made.
    pub(crate) floor: u64,
    /// Memory is taken back from idle sandboxes.
    pub(crate) reclaim_below: u64,
}

/// What the kernel says of the machine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    /// `None` where it does not tell.
    available: Option<u64>,
    free_swap: u64,
}

/// What was done since the node was started.
#[derive(Debug, Default)]
struct Counts {
    reclaims: AtomicU64,
    ended: AtomicU64,
    thawed: AtomicU64,
    bytes: AtomicU64,
}

/// How much memory is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Short {
    pub(crate) available: u64,
    pub(crate) by: u64,
    pub(crate) free_swap: u64,
}

impl Pressure {
    pub(crate) fn new(marks: Marks) -> Self {
        Self { marks, last: Mutex::new(None), counts: Counts::default() }
    }

    /// Fails where memory is short.
    pub(crate) fn check(&self) -> Result<(), SandboxError> {
        let floor = self.marks.floor;
        match self.memory().available {
            Some(available) if available < floor => Err(SandboxError::MemoryShort { available, floor }),
            // Where nothing tells, nothing is refused.
            Some(_) | None => Ok(()),
        }
    }

    /// How much is missing to the mark below which memory is taken back.
    pub(crate) fn short(&self) -> Option<Short> {
        if !self.takes_back() {
            return None;
        }
        let Memory { available, free_swap } = self.memory();
        let available = available?;
        let by = self.marks.reclaim_below.checked_sub(available).filter(|by| *by > 0)?;
        Some(Short { available, by, free_swap })
    }

    /// Whether memory is ever taken back.
    pub(crate) fn takes_back(&self) -> bool {
        self.marks.reclaim_below > 0
    }

    pub(crate) fn reclaim_below(&self) -> u64 {
        self.marks.reclaim_below
    }

    pub(crate) fn count_reclaimed(&self, bytes: u64) {
        self.counts.reclaims.fetch_add(1, Ordering::Relaxed);
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_ended(&self, bytes: u64) {
        self.counts.ended.fetch_add(1, Ordering::Relaxed);
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_thawed(&self) {
        self.counts.thawed.fetch_add(1, Ordering::Relaxed);
    }

    /// How it stands, where so many sandboxes are frozen for it.
    pub(crate) fn stats(&self, frozen: u64) -> MemoryStats {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        MemoryStats {
            available_bytes: self.memory().available,
            min_free_bytes: self.marks.floor,
            reclaim_below_bytes: self.marks.reclaim_below,
            frozen,
            reclaims: count(&self.counts.reclaims),
            ended: count(&self.counts.ended),
            thawed: count(&self.counts.thawed),
            reclaimed_bytes: count(&self.counts.bytes),
        }
    }

    fn memory(&self) -> Memory {
        let mut last = locked(&self.last);
        if let Some((at, memory)) = *last
            && at.elapsed() < HOLDS
        {
            return memory;
        }
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let free_swap = bytes_in(&text, "SwapFree:").unwrap_or_default();
        let memory = Memory { available: bytes_in(&text, "MemAvailable:"), free_swap };
        *last = Some((Instant::now(), memory));
        memory
    }
}

/// The amount in a line of `/proc/meminfo`.
fn bytes_in(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_read_from_the_kernels_text() {
        let text = "MemTotal:       24680000 kB\nMemFree:          100000 kB\nMemAvailable:   22000000 kB\n";
        assert_eq!(bytes_in(text, "MemAvailable:"), Some(22_000_000 * 1024));
        assert_eq!(bytes_in("MemTotal: 1 kB\n", "MemAvailable:"), None);
        assert_eq!(bytes_in("MemAvailable: much\n", "MemAvailable:"), None);
    }

    #[test]
    fn a_floor_above_what_there_is_refuses_and_none_refuses_nothing() {
        let floor = |floor| Pressure::new(Marks { floor, ..Marks::default() });
        assert!(floor(0).check().is_ok());
        assert!(floor(1).check().is_ok());
        let refused = floor(1 << 60).check().unwrap_err().to_string();
        assert!(refused.contains("--min-free-memory"), "{refused}");
    }

    #[test]
    fn it_is_short_of_what_is_missing_to_the_mark() {
        let mark = |reclaim_below| Pressure::new(Marks { reclaim_below, ..Marks::default() });
        assert_eq!(mark(0).short(), None);
        assert_eq!(mark(1).short(), None);
        let short = mark(1 << 60).short().unwrap();
        assert_eq!(short.available + short.by, 1 << 60);
    }
}
