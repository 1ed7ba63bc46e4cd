//! Snapshots: the files of a sandbox at one moment, of which others are made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{SandboxId, SnapshotId, TemplateName, TenantName};
use crate::image::{ImageRef, LayerRef};
use crate::pool::ClaimSpec;
use crate::problem::Invalid;
use crate::sandbox::check_labels;

/// Begins the ids of snapshots that templates' setups leave. No other snapshot has one.
pub const SETUP_PREFIX: &str = "setup-";

/// What becomes of the sandbox of which a snapshot was taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Afterwards {
    /// It goes on: its processes stood still for as long as the files were copied.
    #[default]
    GoOn,
    /// It is deleted. However much it has changed, the answer waits for no copy: others can be made of the snapshot at once,
    /// and its files are written meanwhile.
    End,
}

/// What snapshot to take. Unknown fields are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotSpec {
    /// Its id; made by the server when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<SnapshotId>,
    /// Free names for finding it again.
    pub labels: BTreeMap<String, String>,
    /// What becomes of the sandbox.
    pub afterwards: Afterwards,
}

impl SnapshotSpec {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Invalid`] names the field and what is allowed.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.id.as_ref().is_some_and(|id| id.as_str().starts_with(SETUP_PREFIX)) {
            let reason = format!("begins with {SETUP_PREFIX}, as those of templates do; choose another id");
            return Err(Invalid::new("id", reason));
        }
        check_labels(&self.labels)
    }
}

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// All files outside of `/proc`, `/dev` and `/dev/shm`; no processes, and nothing of their memory.
    Files,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotInfo {
    /// Its id: `snapshot:ID` is the image that it is.
    pub id: SnapshotId,
    /// When it was taken, RFC 3339, UTC.
    pub created_at: String,
    /// The sandbox whose files they are.
    pub sandbox_id: SandboxId,
    /// The image that it changes.
    #[schema(value_type = String)]
    pub image: ImageRef,
    /// The directories of the node that lie between that image and its changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_layers: Vec<LayerRef>,
    /// What it holds.
    pub holds: Holds,
    /// Bytes of the files that differ from the image. Until its files are written, after its sandbox has ended with it:
    /// bytes of all that the sandbox held.
    pub bytes: u64,
    /// Files and directories that differ from the image, those removed included; until then, all that the sandbox held.
    pub entries: u64,
    /// Free names for finding it again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Whose it is, where keys tell tenants apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// The template whose setup has left it, and whose sandboxes are made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateName>,
    /// Sandboxes that are made of it now; it cannot be deleted while there are any.
    #[serde(default)]
    pub sandboxes: u32,
}

/// What a fork gets beside what its origin has. Unknown fields are refused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ForkSpec {
    /// Its id; made by the server when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<SandboxId>,
    /// Variables, secrets, labels, limits and lease over those of its origin. Files are written to it afterwards.
    pub claim: ClaimSpec,
}

impl ForkSpec {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Invalid`] names the field and what is allowed.
    pub fn validate(&self) -> Result<(), Invalid> {
        check_fork_claim(&self.claim)
    }
}

/// Checks what a fork gets.
///
/// # Errors
/// [`Invalid`] names the field below `claim` and what is allowed.
pub fn check_fork_claim(claim: &ClaimSpec) -> Result<(), Invalid> {
    if !claim.files.is_empty() {
        return Err(Invalid::new("claim.files", "cannot be given for a fork; write them to it afterwards"));
    }
    let within = |invalid: Invalid| Invalid::new(format!("claim.{}", invalid.field), invalid.reason);
    claim.validate().map_err(within)
}

/// What a sandbox is set back to. Unknown fields are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RestoreSpec {
    /// The snapshot; when absent, the image that it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
}

/// How a path differs from the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// The image does not have it.
    Added,
    /// Its content, kind, owner or permissions are others.
    Modified,
    /// The image has it.
    Deleted,
}

/// One path that differs from the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// Absolute path in the sandbox.
    pub path: String,
    /// How it differs.
    pub change: Difference,
    /// Bytes it has now; 0 where it is no regular file.
    pub size: u64,
}

/// What a sandbox has changed since its image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Diff {
    /// The paths, sorted; at most 10,000 of them.
    pub changes: Vec<Change>,
    /// How many there are in all.
    pub count: u64,
}
