//! `hothouse rm`.

use futures::{StreamExt as _, stream};
use hothouse_domain::{ErrorCode, SandboxId};
use serde::Serialize;

use super::needs_server;
use crate::console;
use crate::failure::Failure;
use crate::flags::{LabelFlag, ServerFlags};

/// So many are removed at once.
const AT_ONCE: usize = 8;

/// Destroy sandboxes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hothouse rm sb-1 sb-2\n  hothouse rm --all --label job=7")]
pub(crate) struct RmArgs {
    /// Which
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<SandboxId>,
    /// All of the server, or all with the labels
    #[arg(long, short = 'a')]
    all: bool,
    /// With --all: only those with this label (repeatable)
    #[arg(long, short = 'l', value_name = "NAME=VALUE")]
    label: Vec<LabelFlag>,
    /// Print what was removed as JSON: {"removed": […]}
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Debug, Serialize)]
struct Removed {
    removed: Vec<SandboxId>,
}

/// Destroys them.
pub(crate) async fn run(args: RmArgs) -> Result<u8, Failure> {
    let RmArgs { ids, all, label, json, server } = args;
    if !all && !label.is_empty() {
        return Err(Failure::usage("--label", "goes with --all only"));
    }
    let client = server.client()?;
    let ids = if all {
        let labels: Vec<_> = label.into_iter().map(|l| (l.name, l.value)).collect();
        client.list(&labels).await?.into_iter().map(|info| info.id).collect()
    } else {
        ids
    };
    let mut removed = Vec::new();
    let mut failures = Vec::new();
    let mut ends = stream::iter(ids)
        .map(|id| {
            let sandbox = client.sandbox(id.clone());
            async move { (sandbox.delete().await, id) }
        })
        .buffered(AT_ONCE);
    while let Some((end, id)) = ends.next().await {
        match end {
            Ok(()) => {
                if !json {
                    console::line(id.as_str())?;
                }
                removed.push(id);
            }
            // Somebody else was faster; what was asked for is so.
            Err(failure)
                if all
                    && matches!(
                        failure.code(),
                        Some(ErrorCode::SandboxNotFound | ErrorCode::SandboxEnded)
                    ) => {}
            Err(failure) => failures.push(failure),
        }
    }
    if json {
        console::json(&Removed { removed })?;
    }
    let Some(last) = failures.pop() else { return Ok(0) };
    for failure in failures {
        console::note(&failure.to_string());
    }
    Err(needs_server(last))
}
