//! `hothouse template`: set, ls, rm.

use std::collections::BTreeMap;

use clap::Subcommand;
use hothouse_domain::{Network, Resources, TemplateInfo, TemplateName, TemplateSpec};
use reqwest::Method;

use super::table::{self, Table};
use crate::console;
use crate::failure::Failure;
use crate::flags::{AmountFlag, EnvFlag, LabelFlag, LeaseFlags, LimitFlags, ServerFlags};

/// What pools make sandboxes from
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: hothouse template set py --memory 256M --env PYTHONUNBUFFERED=1")]
pub(crate) struct TemplateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Set(Box<SetArgs>),
    Ls(LsArgs),
    Rm(RmArgs),
}

/// Make a template, or a new version of one: pools replace what they keep ready
#[derive(Debug, clap::Args)]
struct SetArgs {
    /// Its name
    name: TemplateName,
    /// Environment of every command in its sandboxes: NAME=VALUE, or NAME to pass it on (repeatable)
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]")]
    env: Vec<EnvFlag>,
    /// Working directory of commands that name none [default: /workspace]
    #[arg(long, short = 'w', value_name = "PATH")]
    workdir: Option<String>,
    /// User of every command in it that names none, USER or USER:GROUP [default: the image's, or root]
    #[arg(long, short = 'u', value_name = "USER")]
    user: Option<String>,
    /// A command line that is run once: every sandbox begins with the files that it leaves (repeatable)
    #[arg(long, value_name = "COMMAND")]
    setup: Vec<String>,
    /// A label of its sandboxes (repeatable)
    #[arg(long, short = 'l', value_name = "NAME=VALUE")]
    label: Vec<LabelFlag>,
    /// Something else that it takes of the node, e.g. gpus=1 (repeatable)
    #[arg(long, value_name = "NAME=AMOUNT")]
    need: Vec<AmountFlag>,
    /// Print all about it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    lease: LeaseFlags,
    #[command(flatten)]
    server: ServerFlags,
}

/// List the templates of a server
#[derive(Debug, clap::Args)]
struct LsArgs {
    /// Print all about them as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

/// Delete a template that no pool uses
#[derive(Debug, clap::Args)]
struct RmArgs {
    /// Which
    name: TemplateName,
    #[command(flatten)]
    server: ServerFlags,
}

impl TemplateArgs {
    /// True when a program reads the output.
    pub(super) fn wants_json(&self) -> bool {
        match &self.what {
            What::Set(args) => args.json,
            What::Ls(args) => args.json,
            What::Rm(_) => false,
        }
    }
}

/// Does it.
pub(crate) async fn run(args: TemplateArgs) -> Result<u8, Failure> {
    match args.what {
        What::Set(args) => set(*args).await?,
        What::Ls(args) => ls(args).await?,
        What::Rm(RmArgs { name, server }) => {
            let client = server.client()?;
            client.send(client.request(Method::DELETE, &["v1", "templates", name.as_str()])).await?;
            console::line(name.as_str())?;
        }
    }
    Ok(0)
}

async fn set(args: SetArgs) -> Result<(), Failure> {
    let SetArgs { name, env, workdir, user, label, need, setup, json, limits, lease, server } = args;
    let labels: BTreeMap<String, String> = label.into_iter().map(|l| (l.name, l.value)).collect();
    let spec = TemplateSpec {
        image: limits.image.clone(),
        layers: limits.layer.clone(),
        pull: limits.pull,
        resources: limits.over(&Resources::default()),
        network: Network::None,
        env: EnvFlag::map(env),
        workdir,
        user,
        setup,
        labels,
        lease: lease.lease(),
        needs: need.into_iter().map(|n| (n.name, n.amount)).collect(),
    };
    spec.validate()?;
    let client = server.client()?;
    let request = client.request(Method::PUT, &["v1", "templates", name.as_str()]).json(&spec);
    let info: TemplateInfo = client.send_json(request).await?;
    if json {
        console::json(&info)
    } else {
        console::line(&format!("{} version {}", info.name, info.version))
    }
}

async fn ls(args: LsArgs) -> Result<(), Failure> {
    let client = args.server.client()?;
    let all: Vec<TemplateInfo> = client.items(&["v1", "templates"]).await?;
    if args.json {
        return console::json(&all);
    }
    let mut table = Table::new(&["NAME", "VERSION", "IMAGE", "MEMORY", "CPUS", "PIDS"]);
    for TemplateInfo { name, version, spec } in all {
        table.row(vec![
            name.to_string(),
            version.to_string(),
            spec.image.to_string(),
            table::bytes(spec.resources.memory_bytes),
            spec.resources.cpus.to_string(),
            spec.resources.pids.to_string(),
        ]);
    }
    table.print()
}
