//! `hothouse pool`: create, ls, scale, drain, rm, claim.

use clap::Subcommand;
use hothouse_domain::{
    ClaimSpec, PoolInfo, PoolName, PoolPhase, PoolSize, PoolSpec, SandboxInfo, TemplateName,
};
use reqwest::Method;
use serde::Serialize;

use super::table::Table;
use crate::console;
use crate::failure::Failure;
use crate::flags::{EnvFlag, LabelFlag, LeaseFlags, ServerFlags};

/// Sandboxes that are ready before anybody asks
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  hothouse template set py --memory 256M\n  hothouse pool create warm --template py --min 8 \
                  --max 64\n  id=$(hothouse pool claim warm --env JOB=7)"
)]
pub(crate) struct PoolArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Create(CreateArgs),
    Ls(LsArgs),
    Scale(ScaleArgs),
    /// Have a pool make and give nothing any more; sandboxes that were claimed live on
    Drain(OneArgs),
    /// Delete a pool and what it has ready; sandboxes that were claimed live on
    Rm(OneArgs),
    Claim(ClaimArgs),
}

/// Make a pool; it fills in the background
#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Its name
    name: PoolName,
    /// What its sandboxes are made from
    #[arg(long, value_name = "NAME")]
    template: TemplateName,
    /// Sandboxes that are ready when nobody claims any
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    min: u32,
    /// Sandboxes that are ready at most: it grows to what has been claimed lately [default: as --min, at least 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max: Option<u32>,
    /// Print all about it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

/// List the pools of a server
#[derive(Debug, clap::Args)]
struct LsArgs {
    /// Print all about them as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

/// Keep another number of sandboxes ready
#[derive(Debug, clap::Args)]
struct ScaleArgs {
    /// Which pool
    name: PoolName,
    /// Sandboxes that are ready when nobody claims any
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    min: u32,
    /// Sandboxes that are ready at most
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max: u32,
    /// Print all about it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

/// One pool of a server.
#[derive(Debug, clap::Args)]
struct OneArgs {
    /// Which pool
    name: PoolName,
    #[command(flatten)]
    server: ServerFlags,
}

/// Claim a sandbox and print its id: one that is ready, or else one that is made now
#[derive(Debug, clap::Args)]
struct ClaimArgs {
    /// From which pool
    name: PoolName,
    /// Environment of every command in it: NAME=VALUE, or NAME to pass it on (repeatable)
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]")]
    env: Vec<EnvFlag>,
    /// A label for finding it again (repeatable)
    #[arg(long, short = 'l', value_name = "NAME=VALUE")]
    label: Vec<LabelFlag>,
    #[command(flatten)]
    lease: LeaseFlags,
    /// Print all about it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

impl PoolArgs {
    /// True when a program reads the output.
    pub(super) fn wants_json(&self) -> bool {
        match &self.what {
            What::Create(args) => args.json,
            What::Ls(args) => args.json,
            What::Scale(args) => args.json,
            What::Claim(args) => args.json,
            What::Drain(_) | What::Rm(_) => false,
        }
    }
}

/// Does it.
pub(crate) async fn run(args: PoolArgs) -> Result<u8, Failure> {
    match args.what {
        What::Create(args) => create(args).await?,
        What::Ls(args) => ls(args).await?,
        What::Scale(ScaleArgs { name, min, max, json, server }) => {
            let size = PoolSize { min, max };
            size.validate()?;
            let client = server.client()?;
            let request = client.request(Method::PUT, &["v1", "pools", name.as_str(), "size"]).json(&size);
            show(&client.send_json::<PoolInfo>(request).await?, name.as_str(), json)?;
        }
        What::Drain(OneArgs { name, server }) => {
            let client = server.client()?;
            client.send(client.request(Method::POST, &["v1", "pools", name.as_str(), "drain"])).await?;
            console::line(name.as_str())?;
        }
        What::Rm(OneArgs { name, server }) => {
            let client = server.client()?;
            client.send(client.request(Method::DELETE, &["v1", "pools", name.as_str()])).await?;
            console::line(name.as_str())?;
        }
        What::Claim(ClaimArgs { name, env, label, lease, json, server }) => {
            let labels = label.into_iter().map(|l| (l.name, l.value)).collect();
            let claim =
                ClaimSpec { env: EnvFlag::map(env), labels, lease: lease.lease(), ..ClaimSpec::default() };
            let client = server.client()?;
            let request = client.request(Method::POST, &["v1", "pools", name.as_str(), "claim"]).json(&claim);
            let info: SandboxInfo = client.send_json(request).await?;
            show(&info, info.id.as_str(), json)?;
        }
    }
    Ok(0)
}

fn show(info: &impl Serialize, name: &str, json: bool) -> Result<(), Failure> {
    if json { console::json(info) } else { console::line(name) }
}

async fn create(args: CreateArgs) -> Result<(), Failure> {
    let CreateArgs { name, template, min, max, json, server } = args;
    let max = max.unwrap_or(min.max(1));
    let spec = PoolSpec { name, template, min, max };
    spec.size().validate()?;
    let client = server.client()?;
    let info: PoolInfo = client.send_json(client.request(Method::POST, &["v1", "pools"]).json(&spec)).await?;
    show(&info, spec.name.as_str(), json)
}

async fn ls(args: LsArgs) -> Result<(), Failure> {
    let client = args.server.client()?;
    let all: Vec<PoolInfo> = client.items(&["v1", "pools"]).await?;
    if args.json {
        return console::json(&all);
    }
    let headers = ["NAME", "TEMPLATE", "STATE", "MIN", "MAX", "READY", "MAKING", "CLAIMED", "HITS", "MISSES"];
    let mut table = Table::new(&headers);
    let mut troubles = Vec::new();
    for info in all {
        table.row(vec![
            info.spec.name.to_string(),
            format!("{}:{}", info.spec.template, info.template_version),
            match info.phase {
                PoolPhase::Active => "active".to_owned(),
                PoolPhase::Draining => "draining".to_owned(),
            },
            info.spec.min.to_string(),
            info.spec.max.to_string(),
            info.ready.to_string(),
            info.making.to_string(),
            info.claimed.to_string(),
            info.hits.to_string(),
            info.misses.to_string(),
        ]);
        troubles.extend(info.last_failure.map(|why| format!("warning: pool {}: {why}", info.spec.name)));
    }
    table.print()?;
    troubles.iter().for_each(|trouble| console::note(trouble));
    Ok(())
}
