//! What a figure was measured on.

use std::fs;

use serde::Serialize;

/// Facts of this machine that a figure is quoted with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Machine {
    /// Release of the kernel.
    pub(super) kernel: String,
    /// Cores that this process may use.
    pub(super) cores: usize,
    /// Physical memory.
    pub(super) memory_bytes: u64,
    /// Runnable processes, averaged over the last minute before the bench.
    pub(super) load1: f64,
}

impl Machine {
    /// Looks at this machine now; what cannot be read is empty or 0.
    pub(super) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: Meminfo::parse(&read("/proc/meminfo")).get("MemTotal"),
            load1: first_number(&read("/proc/loadavg")),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gib = self.memory_bytes >> 30;
        let Self { kernel, cores, load1, .. } = self;
        write!(f, "Linux {kernel}, {cores} cores, {gib} GiB, load {load1:.2} at the start")
    }
}

/// `/proc/meminfo`.
#[derive(Debug, Clone, Default)]
pub(super) struct Meminfo {
    fields: Vec<(String, u64)>,
}

impl Meminfo {
    /// Reads it now; empty when it cannot be read.
    pub(super) fn look() -> Self {
        Self::parse(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let fields = text
            .lines()
            .filter_map(|line| {
                let (name, rest) = line.split_once(':')?;
                let kib: u64 = rest.split_whitespace().next()?.parse().ok()?;
                Some((name.to_owned(), kib << 10))
            })
            .collect();
        Self { fields }
    }

    /// A field in bytes; 0 when the kernel has none of this name.
    pub(super) fn get(&self, name: &str) -> u64 {
        self.fields.iter().find(|(key, _)| key == name).map_or(0, |(_, bytes)| *bytes)
    }

    /// Memory that somebody holds: all but what is free or a copy of what is on disk. Counts tmpfs and every kind of
    /// kernel memory, also slabs that could be given back under pressure.
    pub(super) fn held(&self) -> u64 {
        let copies = self.get("Buffers") + self.get("Cached").saturating_sub(self.get("Shmem"));
        self.get("MemTotal").saturating_sub(self.get("MemFree")).saturating_sub(copies)
    }
}

fn first_number(text: &str) -> f64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       1000 kB\nMemFree:         300 kB\nBuffers:          50 kB\n\
                           Cached:          250 kB\nShmem:           100 kB\nHugePages_Total:       0\n";

    #[test]
    fn held_memory_counts_tmpfs_and_not_the_page_cache() {
        let meminfo = Meminfo::parse(MEMINFO);
        assert_eq!(meminfo.get("MemTotal"), 1000 << 10);
        assert_eq!(meminfo.get("Nothing"), 0);
        assert_eq!(meminfo.held(), (1000 - 300 - 50 - (250 - 100)) << 10);
    }

    #[test]
    fn this_machine_has_a_kernel_and_memory() {
        let machine = Machine::look();
        assert!(!machine.kernel.is_empty());
        assert!(machine.cores > 0);
        assert!(machine.memory_bytes > 1 << 20);
    }
}
