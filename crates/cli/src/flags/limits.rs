//! What a sandbox is made from and what it may use.

use hothouse_domain::{ImageRef, LayerRef, PullPolicy, Resources};

use super::values::size;

/// Flags for the image and the limits of a sandbox.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Sandbox")]
pub(crate) struct LimitFlags {
    /// Root file system: `host` (a view of this machine's own programs), `NAME[:TAG]` of the store, `docker://NAME[:TAG]`,
    /// `docker-archive:/path`, `oci:/path`, `dir:/path` …
    #[arg(long, value_name = "IMAGE", default_value = "host")]
    pub(crate) image: ImageRef,
    /// A directory that lies above the image and the layers before it, where it is: dir:/path (repeatable)
    #[arg(long, value_name = "LAYER")]
    pub(crate) layer: Vec<LayerRef>,
    /// Whether the image is fetched: missing, always or never
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(crate) pull: PullPolicy,
    /// Memory, files that it writes included, e.g. 512M, 2G [default: 512M]
    #[arg(long, short = 'm', value_name = "SIZE", value_parser = memory, allow_hyphen_values = true)]
    memory: Option<u64>,
    /// CPU time per wall time, in cores, e.g. 0.5 [default: 1]
    #[arg(long, value_name = "CORES", value_parser = cores, allow_negative_numbers = true)]
    cpus: Option<f64>,
    /// Processes and threads at once [default: 256]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids: Option<u32>,
    /// Bytes that it may write to its file system, e.g. 1G [default: 256M]
    #[arg(long, value_name = "SIZE", value_parser = disk, allow_hyphen_values = true)]
    disk: Option<u64>,
    /// Files that it may make [default: 65536]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    inodes: Option<u64>,
}

/// The smallest and the largest memory limit, in bytes; [`Resources::validate`] has the last word.
const MEMORY: (u64, u64) = (16 << 20, 16 << 40);
/// The smallest and the largest disk limit, likewise.
const DISK: (u64, u64) = (1 << 20, 16 << 40);

fn memory(text: &str) -> Result<u64, String> {
    within(text, MEMORY, "16M to 16T")
}

fn disk(text: &str) -> Result<u64, String> {
    within(text, DISK, "1M to 16T")
}

/// Said in the units in which people ask, not in bytes.
fn within(text: &str, (low, high): (u64, u64), range: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    if (low..=high).contains(&bytes) { Ok(bytes) } else { Err(format!("use {range}")) }
}

fn cores(text: &str) -> Result<f64, &'static str> {
    text.parse().map_err(|_| "use a number of cores, e.g. 0.5 or 2")
}

impl LimitFlags {
    /// True when one of them was given.
    pub(crate) fn is_given(&self) -> bool {
        let Self { image, layer, pull, memory, cpus, pids, disk, inodes } = self;
        *image != ImageRef::default()
            || !layer.is_empty()
            || *pull != PullPolicy::default()
            || memory.is_some()
            || cpus.is_some()
            || pids.is_some()
            || disk.is_some()
            || inodes.is_some()
    }

    /// The limits: these flags over the given ones.
    pub(crate) fn over(&self, base: &Resources) -> Resources {
        Resources {
            cpus: self.cpus.unwrap_or(base.cpus),
            memory_bytes: self.memory.unwrap_or(base.memory_bytes),
            pids: self.pids.unwrap_or(base.pids),
            disk_bytes: self.disk.unwrap_or(base.disk_bytes),
            disk_inodes: self.inodes.unwrap_or(base.disk_inodes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_are_those_of_the_domain() {
        let valid = |memory_bytes, disk_bytes| {
            Resources { memory_bytes, disk_bytes, ..Resources::default() }.validate().is_ok()
        };
        let (disk, memory) = (DISK, MEMORY);
        assert!(valid(memory.0, disk.0) && valid(memory.1, disk.1));
        for (memory, disk) in
            [(memory.0 - 1, disk.0), (memory.1 + 1, disk.0), (memory.0, disk.0 - 1), (memory.0, disk.1 + 1)]
        {
            assert!(!valid(memory, disk), "{memory} {disk}");
        }
    }
}
