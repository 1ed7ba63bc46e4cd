//! `hothouse snapshot`: create, ls, rm; and `hothouse fork`, `restore`, `diff`.

use clap::Subcommand;
use hothouse_domain::{
    Afterwards, ClaimSpec, Diff, Difference, ForkSpec, GroupInfo, GroupSpec, RestoreSpec, SandboxId,
    SandboxInfo, SnapshotId, SnapshotInfo, SnapshotSpec,
};
use reqwest::Method;
use serde::Serialize;

use super::needs_server;
use super::table::{Table, bytes};
use crate::console;
use crate::failure::Failure;
use crate::flags::{EnvFlag, LabelFlag, ServerFlags};

/// The files of sandboxes at one moment, of which others are made
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  hothouse snapshot create sb-1 --id prepared\n  hothouse create --image snapshot:prepared"
)]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Create(CreateArgs),
    Ls(LsArgs),
    Rm(RmArgs),
}

/// Take a snapshot of a sandbox's files and print its id
#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Of which sandbox
    sandbox: SandboxId,
    /// Its id; made when absent
    #[arg(long)]
    id: Option<SnapshotId>,
    /// A label for finding it again (repeatable)
    #[arg(long, short = 'l', value_name = "NAME=VALUE")]
    label: Vec<LabelFlag>,
    /// Delete the sandbox, which makes the snapshot in no time however much it has changed
    #[arg(long)]
    end: bool,
    /// Print all about it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

/// List the snapshots of a server
#[derive(Debug, clap::Args)]
struct LsArgs {
    /// Print all about them as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

/// Delete snapshots of which no sandbox is made
#[derive(Debug, clap::Args)]
struct RmArgs {
    /// Which
    #[arg(required = true)]
    ids: Vec<SnapshotId>,
    #[command(flatten)]
    server: ServerFlags,
}

/// Make forks of a sandbox: others with the files that it has now; prints their ids
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hothouse fork sb-1\n  hothouse fork sb-1 --count 16 --env ATTEMPT=1")]
pub(crate) struct ForkArgs {
    /// Of which sandbox
    sandbox: SandboxId,
    /// How many; more than one are a group, all or none
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1)]
    count: u32,
    /// Environment over that of the sandbox: NAME=VALUE, or NAME to pass it on (repeatable)
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]")]
    env: Vec<EnvFlag>,
    /// A label for finding them again (repeatable)
    #[arg(long, short = 'l', value_name = "NAME=VALUE")]
    label: Vec<LabelFlag>,
    /// Print all about them as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

/// Set a sandbox back: no file and no process of before is left
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// Which sandbox
    sandbox: SandboxId,
    /// To this snapshot [default: the image that it is made of]
    #[arg(long, value_name = "ID")]
    snapshot: Option<SnapshotId>,
    /// Print all about it as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

/// Show what a sandbox has added (A), modified (M) and deleted (D) since its image
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hothouse diff sb-1 --path /workspace\n  hothouse diff sb-1 --path /workspace --patch > try.diff"
)]
pub(crate) struct DiffArgs {
    /// Which sandbox
    sandbox: SandboxId,
    /// Only at and below this absolute path
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
    /// Print a unified diff of the text files
    #[arg(long, conflicts_with = "json")]
    patch: bool,
    /// Print it as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

impl SnapshotArgs {
    /// True when a program reads the output.
    pub(super) fn wants_json(&self) -> bool {
        match &self.what {
            What::Create(args) => args.json,
            What::Ls(args) => args.json,
            What::Rm(_) => false,
        }
    }
}

#[derive(Debug, Serialize)]
struct Snapshots {
    items: Vec<SnapshotInfo>,
}

/// Does it.
pub(crate) async fn run(args: SnapshotArgs) -> Result<u8, Failure> {
    match args.what {
        What::Create(args) => create(args).await.map_err(needs_server)?,
        What::Ls(args) => ls(args).await?,
        What::Rm(RmArgs { ids, server }) => {
            let client = server.client()?;
            for id in ids {
                client.send(client.request(Method::DELETE, &["v1", "snapshots", id.as_str()])).await?;
                console::line(id.as_str())?;
            }
        }
    }
    Ok(0)
}

async fn create(args: CreateArgs) -> Result<(), Failure> {
    let CreateArgs { sandbox, id, label, end, json, server } = args;
    let client = server.client()?;
    let labels = label.into_iter().map(|label| (label.name, label.value)).collect();
    let afterwards = if end { Afterwards::End } else { Afterwards::GoOn };
    let spec = SnapshotSpec { id, labels, afterwards };
    let request =
        client.request(Method::POST, &["v1", "sandboxes", sandbox.as_str(), "snapshot"]).json(&spec);
    let info: SnapshotInfo = client.send_json(request).await?;
    if json { console::json(&info) } else { console::line(info.id.as_str()) }
}

async fn ls(args: LsArgs) -> Result<(), Failure> {
    let LsArgs { json, server } = args;
    let items: Vec<SnapshotInfo> = server.client()?.items(&["v1", "snapshots"]).await?;
    if json {
        return console::json(&Snapshots { items });
    }
    let mut table = Table::new(&["SNAPSHOT", "OF", "IMAGE", "SIZE", "ENTRIES", "SANDBOXES", "CREATED"]);
    for info in items {
        table.row(vec![
            info.id.to_string(),
            info.template.map_or_else(|| info.sandbox_id.to_string(), |name| format!("template {name}")),
            info.image.to_string(),
            bytes(info.bytes),
            info.entries.to_string(),
            info.sandboxes.to_string(),
            info.created_at,
        ]);
    }
    table.print()
}

/// Forks a sandbox.
pub(crate) async fn fork(args: ForkArgs) -> Result<u8, Failure> {
    let ForkArgs { sandbox, count, env, label, json, server } = args;
    let client = server.client()?;
    let labels = label.into_iter().map(|label| (label.name, label.value)).collect();
    let claim = ClaimSpec { env: EnvFlag::map(env), labels, ..ClaimSpec::default() };
    if count == 1 {
        let request = client.request(Method::POST, &["v1", "sandboxes", sandbox.as_str(), "fork"]);
        let spec = ForkSpec { id: None, claim };
        let info: SandboxInfo = client.send_json(request.json(&spec)).await.map_err(needs_server)?;
        if json {
            console::json(&info)?
        } else {
            console::line(info.id.as_str())?
        }
        return Ok(0);
    }
    let spec = GroupSpec { count, fork_of: Some(sandbox), claim: Some(claim), ..GroupSpec::default() };
    let request = client.request(Method::POST, &["v1", "groups"]).json(&spec);
    let group: GroupInfo = client.send_json(request).await.map_err(needs_server)?;
    if json {
        console::json(&group)?;
        return Ok(0);
    }
    for member in group.members {
        console::line(member.id.as_str())?;
    }
    Ok(0)
}

/// Sets a sandbox back.
pub(crate) async fn restore(args: RestoreArgs) -> Result<u8, Failure> {
    let RestoreArgs { sandbox, snapshot, json, server } = args;
    let client = server.client()?;
    let request = client.request(Method::POST, &["v1", "sandboxes", sandbox.as_str(), "restore"]);
    let info: SandboxInfo =
        client.send_json(request.json(&RestoreSpec { snapshot })).await.map_err(needs_server)?;
    if json {
        console::json(&info)?
    } else {
        console::line(info.id.as_str())?
    }
    Ok(0)
}

/// Shows what a sandbox has changed.
pub(crate) async fn diff(args: DiffArgs) -> Result<u8, Failure> {
    let DiffArgs { sandbox, path, patch, json, server } = args;
    let client = server.client()?;
    let mut segments = vec!["v1", "sandboxes", sandbox.as_str(), "diff"];
    if patch {
        segments.push("patch");
        let request = client.request(Method::GET, &segments).query(&[("path", &path)]);
        let response = client.send(request).await.map_err(needs_server)?;
        let text = response.text().await.map_err(|error| client.failure(&error))?;
        for line in text.lines() {
            console::line(line)?;
        }
        return Ok(0);
    }
    let request = client.request(Method::GET, &segments).query(&[("path", &path)]);
    let diff: Diff = client.send_json(request).await.map_err(needs_server)?;
    if json {
        console::json(&diff)?;
        return Ok(0);
    }
    for change in &diff.changes {
        let letter = match change.change {
            Difference::Added => 'A',
            Difference::Modified => 'M',
            Difference::Deleted => 'D',
        };
        console::line(&format!("{letter} {}", change.path))?;
    }
    let left = diff.count - diff.changes.len() as u64;
    if left > 0 {
        console::note(&format!("{left} more are not listed; narrow it with --path"));
    }
    Ok(0)
}
