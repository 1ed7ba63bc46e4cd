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
    /// Bytes that the sandbox may write to its file system. 1 MiB to 16 TiB. An eighth of the memory, at least 8 MiB, is
    /// kept from files whatever is asked for here.
    pub disk_bytes: u64,
    /// Files, directories and links that the sandbox may make. 64 to 2^32.
    pub disk_inodes: u64,
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpus: 1.0, memory_bytes: 512 << 20, pids: 256, disk_bytes: 256 << 20, disk_inodes: 65_536 }
    }
}

/// Limits that are changed while a sandbox lives. Unknown fields are refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceChange {
    /// CPU time per wall time, in cores. 0.01 to 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// RAM in bytes; not so little that the sandbox's files could take all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads at once. 4 to 1,048,576.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}

impl ResourceChange {
    /// These limits with the change; what is not named stays.
    ///
    /// # Errors
    /// [`Invalid`] names the field and what is allowed.
    pub fn over(&self, old: &Resources) -> Result<Resources, Invalid> {
        let new = Resources {
            cpus: self.cpus.unwrap_or(old.cpus),
            memory_bytes: self.memory_bytes.unwrap_or(old.memory_bytes),
            pids: self.pids.unwrap_or(old.pids),
            ..old.clone()
        };
        new.validate()?;
        // How much files may take was settled when the file system was made.
        let files = old.file_bytes();
        if new.file_bytes() < files {
            let reason = format!(
                "is {}; the sandbox's files may take {files} of it, so it takes more",
                new.memory_bytes
            );
            return Err(Invalid::new("resources.memory_bytes", reason));
        }
        // More memory makes no more room for files, and the limit that is shown is the one that holds.
        Ok(Resources {
            disk_bytes: if new.memory_bytes == old.memory_bytes { old.disk_bytes } else { files },
            ..new
        })
    }
}

/// Memory that files never take: programs have to run to remove them.
const KEPT_FROM_FILES: u64 = 8 << 20;

impl Resources {
    /// Bytes of files that there is room for: those asked for, or what the memory limit leaves. Files outlive the programs
    /// that write them, so where they take all of the memory no program can run any more, `rm` neither.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        let kept = KEPT_FROM_FILES.max(self.memory_bytes / 8);
        self.disk_bytes.min(self.memory_bytes.saturating_sub(kept))
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_leave_memory_for_programs() {
        let files = |memory_bytes, disk_bytes| {
            Resources { memory_bytes, disk_bytes, ..Resources::default() }.file_bytes() >> 20
        };
        assert_eq!(files(512 << 20, 256 << 20), 256, "what is asked for, where there is room");
        assert_eq!(files(512 << 20, 1 << 40), 448);
        assert_eq!(files(48 << 20, 64 << 20), 40);
        assert_eq!(files(16 << 20, 64 << 20), 8, "the smallest sandbox");
    }
}
