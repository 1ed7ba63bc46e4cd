//! Templates: what sandboxes are made from, by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::capacity::Amounts;
use crate::exec::check_text;
use crate::id::TemplateName;
use crate::image::{ImageRef, LayerRef, PullPolicy};
use crate::lease::Lease;
use crate::problem::Invalid;
use crate::resources::Resources;
use crate::sandbox::{Network, SandboxSpec};

/// The most commands of a setup.
pub const MAX_SETUP: usize = 64;

/// What a template's sandboxes are made from. Unknown fields are refused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TemplateSpec {
    /// The root file system.
    pub image: ImageRef,
    /// Directories of the node that lie above the image, each above the ones before it. At most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerRef>,
    /// Whether the image is fetched when the node does not have it.
    #[serde(skip_serializing_if = "PullPolicy::is_missing")]
    pub pull: PullPolicy,
    /// Limits.
    pub resources: Resources,
    /// The network.
    pub network: Network,
    /// Variables of every exec that does not set them itself.
    pub env: BTreeMap<String, String>,
    /// Working directory of execs that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// User of execs that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Command lines for `/bin/sh -c` that run one after the other, once for each version of the template: every sandbox of
    /// it begins with the files that they leave, and none of their processes. All of them have to exit with 0, each within
    /// 600 s. At most 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub setup: Vec<String>,
    /// Labels of every sandbox.
    pub labels: BTreeMap<String, String>,
    /// When a claimed sandbox ends without being deleted; one that waits for a claim does not.
    #[serde(skip_serializing_if = "Lease::is_endless")]
    pub lease: Lease,
    /// What each takes of the node beside its resources, by name; those that wait for a claim take it too.
    #[serde(skip_serializing_if = "Amounts::is_empty")]
    #[schema(value_type = BTreeMap<String, f64>)]
    pub needs: Amounts,
}

impl TemplateSpec {
    /// Checks every rule that needs no machine.
    ///
    /// # Errors
    /// [`Invalid`] names the field and what is allowed.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.setup.len() > MAX_SETUP {
            return Err(Invalid::new(
                "setup",
                format!("has {} entries; at most {MAX_SETUP}", self.setup.len()),
            ));
        }
        for (at, command) in self.setup.iter().enumerate() {
            check_text(&format!("setup[{at}]"), command)?;
        }
        self.sandbox().validate()
    }

    /// A sandbox of this template, as it is before anybody claims it.
    #[must_use]
    pub fn sandbox(&self) -> SandboxSpec {
        let Self {
            image,
            layers,
            pull,
            resources,
            network,
            env,
            workdir,
            user,
            labels,
            lease,
            needs,
            setup: _,
        } = self.clone();
        let (id, secrets) = (None, BTreeMap::new());
        SandboxSpec {
            id,
            image,
            layers,
            pull,
            resources,
            network,
            env,
            secrets,
            workdir,
            user,
            labels,
            lease,
            needs,
        }
    }
}

/// A template as listings show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateInfo {
    /// Its name.
    pub name: TemplateName,
    /// Counts from 1; one more whenever `spec` changes. Pools replace what they keep ready of an earlier one.
    pub version: u64,
    /// What its sandboxes are made from.
    pub spec: TemplateSpec,
}
