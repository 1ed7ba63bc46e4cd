//! What one sandbox may use.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::Invalid;

/// Limits of one sandbox. Every limit is enforced by the kernel where the machine can; what it cannot is named by
/// the sandbox's `isolation`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// CPU time per wall time, in cores. 0.01 to 1024.
    pub cpus: f64,
    /// RAM in bytes, swap included; the files that the sandbox writes count too, since they live in memory.
    /// 16 MiB to 16 TiB.
    pub memory_bytes: u64,
    /// Processes and threads at once. 4 to 1,048,576.
    pub pids: u32,
    /// Bytes that the sandbox may write to its file system. 1 MiB to 16 TiB.
    pub disk_bytes: u64,
    /// Files, directories and links that the sandbox may make. 64 to 2^32.
    pub disk_inodes: u64,
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpus: 1.0, memory_bytes: 512 << 20, pids: 256, disk_bytes: 256 << 20, disk_inodes: 65_536 }
    }
}

impl Resources {
    /// Checks each limit against its range.
    ///
    /// # Errors
    /// [`Invalid`] names the field and the range.
    pub fn validate(&self) -> Result<(), Invalid> {
        if !(self.cpus.is_finite() && (0.01..=1024.0).contains(&self.cpus)) {
            return Err(Invalid::new("resources.cpus", format!("is {}; use 0.01 to 1024 cores", self.cpus)));
        }
        let range = |field: &'static str, value: u64, low: u64, high: u64, unit: &str| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Invalid::new(field, format!("is {value}; use {low} to {high} {unit}")))
        };
        range("resources.memory_bytes", self.memory_bytes, 16 << 20, 16 << 40, "bytes")?;
        range("resources.pids", self.pids.into(), 4, 1 << 20, "processes")?;
        range("resources.disk_bytes", self.disk_bytes, 1 << 20, 16 << 40, "bytes")?;
        range("resources.disk_inodes", self.disk_inodes, 64, 1 << 32, "files")
    }
}
