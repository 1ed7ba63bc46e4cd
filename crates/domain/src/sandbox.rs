//! A sandbox: what it is made from, and the states it passes through.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::capability::Capabilities;
use crate::capacity::{Amounts, check_needs};
use crate::exec::check_user;
use crate::id::{GroupId, SandboxId, TenantName, check_name};
use crate::image::{ImageRef, LayerRef, PullPolicy, check_layers};
use crate::lease::Lease;
use crate::pool::PoolPlace;
use crate::problem::Invalid;
use crate::resources::Resources;
use crate::secret::{Secret, check_secrets};

/// At most so many labels on one sandbox.
pub const MAX_LABELS: usize = 64;
/// At most so many environment variables in one request.
pub const MAX_ENV: usize = 1024;
/// The longest environment value, in bytes (the kernel's own limit for one string is 128 KiB).
pub const MAX_ENV_VALUE: usize = 96 << 10;
/// The longest path, in bytes.
pub const MAX_PATH: usize = 4095;

/// What the sandbox reaches over the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Its own loopback and nothing else.
    #[default]
    None,
}

/// What a sandbox is made from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxSpec {
    /// The id; made by the server when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<SandboxId>,
    /// The root file system.
    pub image: ImageRef,
    /// Directories of the node that lie above the image and below what a snapshot of it has changed, each above the ones
    /// before it. With a snapshot, those that it was made with come first. At most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerRef>,
    /// Whether the image is fetched when the node does not have it.
    #[serde(skip_serializing_if = "PullPolicy::is_missing")]
    pub pull: PullPolicy,
    /// The limits.
    pub resources: Resources,
    /// What it reaches over the network.
    pub network: Network,
    /// Environment of every exec, above the image's; an exec's own `env` wins.
    pub env: BTreeMap<String, String>,
    /// Values for execs that ask for them by name; no other process gets them, and nothing shows them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
    /// Working directory of every exec that names none; absolute. Default is the image's, or else `/workspace`; made when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// User of every exec that names none, `user` or `user:group`. Default is the image's, or else root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Free names for finding it again.
    pub labels: BTreeMap<String, String>,
    /// When it ends without being deleted.
    #[serde(skip_serializing_if = "Lease::is_endless")]
    pub lease: Lease,
    /// What it takes of the node beside its resources, by name, e.g. `{"gpus": 1}`: names that the node was started with.
    #[serde(skip_serializing_if = "Amounts::is_empty")]
    #[schema(value_type = BTreeMap<String, f64>)]
    pub needs: Amounts,
}

impl SandboxSpec {
    /// The working directory of execs that name none.
    pub const DEFAULT_WORKDIR: &'static str = "/workspace";

    /// Checks every field.
    ///
    /// # Errors
    /// [`Invalid`] names the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), Invalid> {
        check_layers(&self.layers)?;
        self.resources.validate()?;
        check_env(&self.env)?;
        check_secrets(&self.secrets)?;
        self.lease.validate()?;
        check_needs(&self.needs)?;
        if let Some(workdir) = &self.workdir {
            check_path("workdir", workdir)?;
        }
        check_user(self.user.as_deref())?;
        check_labels(&self.labels)
    }
}

/// Checks names and values of labels.
///
/// # Errors
/// [`Invalid`] names the label.
pub fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Invalid> {
    if labels.len() > MAX_LABELS {
        return Err(Invalid::new("labels", format!("has {} entries; at most {MAX_LABELS}", labels.len())));
    }
    for (name, value) in labels {
        check_name(name).map_err(|e| Invalid::new(format!("labels.{}", brief(name)), e.to_string()))?;
        if value.len() > 256 {
            let reason = format!("has {} bytes; at most 256", value.len());
            return Err(Invalid::new(format!("labels.{name}"), reason));
        }
    }
    Ok(())
}

/// Checks names and values of environment variables.
///
/// # Errors
/// [`Invalid`] names the variable.
pub fn check_env(env: &BTreeMap<String, String>) -> Result<(), Invalid> {
    if env.len() > MAX_ENV {
        return Err(Invalid::new("env", format!("has {} variables; at most {MAX_ENV}", env.len())));
    }
    for (name, value) in env {
        let field = || format!("env.{}", brief(name));
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Invalid::new(field(), "is not a variable name: no '=', no NUL, not empty"));
        }
        if value.contains('\0') {
            return Err(Invalid::new(field(), "has a NUL byte"));
        }
        if name.len() + value.len() > MAX_ENV_VALUE {
            return Err(Invalid::new(
                field(),
                format!("has {} bytes; at most {MAX_ENV_VALUE}", name.len() + value.len()),
            ));
        }
    }
    Ok(())
}

/// Checks an absolute path of the sandbox.
///
/// # Errors
/// [`Invalid`] names the field.
pub fn check_path(field: &str, path: &str) -> Result<(), Invalid> {
    if !path.starts_with('/') {
        return Err(Invalid::new(field, format!("{:?} is not absolute; start it with '/'", brief(path))));
    }
    if path.contains('\0') {
        return Err(Invalid::new(field, "has a NUL byte"));
    }
    if path.len() > MAX_PATH {
        return Err(Invalid::new(field, format!("has {} bytes; at most {MAX_PATH}", path.len())));
    }
    Ok(())
}

/// The first characters of a text from outside, for an error message.
fn brief(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Where a sandbox is in its life.
///
/// ```text
/// creating ──► running ◄──► frozen
///     │           │           │
///     └──► dead ◄─┴───────────┘          any ──► destroying (then it is gone)
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum SandboxPhase {
    /// The backend is making it.
    Creating,
    /// Its guest takes requests.
    Running,
    /// Every process in it is stopped by the kernel; it keeps its memory.
    Frozen {
        /// Who stopped them.
        #[serde(default, rename = "frozen_by")]
        by: FrozenBy,
    },
    /// Its guest is gone. It answers nothing but delete.
    Dead {
        /// Why the guest is gone.
        reason: String,
    },
    /// It is being removed.
    Destroying,
}

/// Who stopped the processes of a sandbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FrozenBy {
    /// A client: they stay stopped until a client thaws it.
    #[default]
    Client,
    /// The node, which was short of memory: the next request to it thaws it.
    Pressure,
}

impl FrozenBy {
    /// It as it stands on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Pressure => "pressure",
        }
    }
}

impl SandboxPhase {
    /// True when the step is legal.
    #[must_use]
    pub fn may_become(&self, next: &Self) -> bool {
        match (self, next) {
            (Self::Creating | Self::Frozen { .. }, Self::Running) | (Self::Running, Self::Frozen { .. }) => {
                true
            }
            // What the node froze a client may want to stay so.
            (Self::Frozen { by: FrozenBy::Pressure }, Self::Frozen { by: FrozenBy::Client }) => true,
            (Self::Creating | Self::Running | Self::Frozen { .. }, Self::Dead { .. }) => true,
            (
                Self::Creating | Self::Running | Self::Frozen { .. } | Self::Dead { .. } | Self::Destroying,
                Self::Destroying,
            ) => true,
            (
                Self::Creating | Self::Running | Self::Frozen { .. } | Self::Dead { .. } | Self::Destroying,
                Self::Creating | Self::Running | Self::Frozen { .. } | Self::Dead { .. },
            ) => false,
        }
    }
}

/// A sandbox as listings show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SandboxInfo {
    /// Its id.
    pub id: SandboxId,
    /// Where it is in its life.
    #[serde(flatten)]
    pub phase: SandboxPhase,
    /// What it was made from, defaults filled in. Values of `env` are replaced by `***`.
    pub spec: SandboxSpec,
    /// When it was made, RFC 3339, UTC.
    pub created_at: String,
    /// How long making it took, in seconds.
    pub create_s: f64,
    /// Its place in a pool, if one made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolPlace>,
    /// The group that it was made in, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupId>,
    /// Whose it is, where keys tell tenants apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// What its backend enforces for it.
    #[schema(inline = false)]
    pub isolation: Capabilities,
}
