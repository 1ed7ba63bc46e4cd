//! `hothouse create`.

use std::collections::BTreeMap;

use hothouse_domain::{Network, Resources, SandboxId, SandboxSpec};

use crate::console;
use crate::failure::Failure;
use crate::flags::{AmountFlag, EnvFlag, LabelFlag, LeaseFlags, LimitFlags, ServerFlags};

/// Make a sandbox at a server and print its id
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: id=$(hothouse create --memory 1G --label job=7)")]
pub(crate) struct CreateArgs {
    /// Its id; made by the server when absent
    #[arg(long, value_name = "ID")]
    id: Option<SandboxId>,
    /// Environment of every command in it: NAME=VALUE, or NAME to pass it on (repeatable)
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]")]
    env: Vec<EnvFlag>,
    /// Working directory of commands that name none [default: /workspace]
    #[arg(long, short = 'w', value_name = "PATH")]
    workdir: Option<String>,
    /// User of every command in it that names none, USER or USER:GROUP [default: the image's, or root]
    #[arg(long, short = 'u', value_name = "USER")]
    user: Option<String>,
    /// A label for finding it again (repeatable)
    #[arg(long, short = 'l', value_name = "NAME=VALUE")]
    label: Vec<LabelFlag>,
    /// Something else that it takes of the node, e.g. gpus=1 (repeatable)
    #[arg(long, value_name = "NAME=AMOUNT")]
    need: Vec<AmountFlag>,
    /// Print all about it as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    lease: LeaseFlags,
    #[command(flatten)]
    server: ServerFlags,
}

/// Makes it.
pub(crate) async fn run(args: CreateArgs) -> Result<u8, Failure> {
    let CreateArgs { id, env, workdir, user, label, need, json, limits, lease, server } = args;
    let labels: BTreeMap<String, String> = label.into_iter().map(|l| (l.name, l.value)).collect();
    let spec = SandboxSpec {
        id,
        image: limits.image.clone(),
        layers: limits.layer.clone(),
        pull: limits.pull,
        resources: limits.over(&Resources::default()),
        network: Network::None,
        env: EnvFlag::map(env),
        secrets: BTreeMap::new(),
        workdir,
        user,
        labels,
        lease: lease.lease(),
        needs: need.into_iter().map(|n| (n.name, n.amount)).collect(),
    };
    spec.validate()?;
    let info = server.client()?.create(&spec).await?;
    if json {
        console::json(&info)?
    } else {
        console::line(info.id.as_str())?
    }
    Ok(0)
}
