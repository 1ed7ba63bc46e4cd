//! Whether the machine has memory left for another sandbox. One that swaps, or whose OOM killer chooses, serves nobody.

use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::error::SandboxError;
use crate::link::locked;

/// How long a look holds: creates come by the hundred.
const HOLDS: Duration = Duration::from_millis(50);

/// Watches the memory of the machine.
#[derive(Debug)]
pub(crate) struct Pressure {
    /// Bytes that have to stay available; 0 for none.
    floor: u64,
    last: Mutex<Option<(Instant, u64)>>,
}

impl Pressure {
    /// Refuses sandboxes when less than this is available.
    pub(crate) fn new(floor: u64) -> Self {
        Self { floor, last: Mutex::new(None) }
    }

    /// Fails where memory is short.
    pub(crate) fn check(&self) -> Result<(), SandboxError> {
        if self.floor == 0 {
            return Ok(());
        }
        let available = self.available();
        if available >= self.floor {
            return Ok(());
        }
        Err(SandboxError::MemoryShort { available, floor: self.floor })
    }

    fn available(&self) -> u64 {
        let mut last = locked(&self.last);
        if let Some((at, available)) = *last
            && at.elapsed() < HOLDS
        {
            return available;
        }
        // Where nothing tells, nothing is refused.
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let available = available_in(&text).unwrap_or(u64::MAX);
        *last = Some((Instant::now(), available));
        available
    }
}

/// Bytes that can be used without swapping, as the kernel estimates them.
fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_read_from_the_kernels_text() {
        let text = "MemTotal:       24680000 kB\nMemFree:          100000 kB\nMemAvailable:   22000000 kB\n";
        assert_eq!(available_in(text), Some(22_000_000 * 1024));
        assert_eq!(available_in("MemTotal: 1 kB\n"), None);
        assert_eq!(available_in("MemAvailable: much\n"), None);
    }

    #[test]
    fn a_floor_above_what_there_is_refuses_and_none_refuses_nothing() {
        assert!(Pressure::new(0).check().is_ok());
        assert!(Pressure::new(1).check().is_ok());
        let refused = Pressure::new(1 << 60).check().unwrap_err().to_string();
        assert!(refused.contains("--min-free-memory"), "{refused}");
    }
}
