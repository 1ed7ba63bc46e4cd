//! How long a sandbox stays when nobody deletes it.

use hothouse_domain::{Lease, OwnerName, Reclaim};

use super::values::duration;

/// Flags for the lease of a sandbox.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Lease")]
pub(crate) struct LeaseFlags {
    /// It ends so long after it was made or claimed, e.g. 30m
    #[arg(long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true)]
    lifetime: Option<f64>,
    /// It ends when nobody has used it for so long, e.g. 10m; a command that runs in it is use
    #[arg(long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true)]
    idle: Option<f64>,
    /// Whose it is: any use of one sandbox of an owner renews all of them
    #[arg(long, value_name = "NAME", requires = "owner_timeout")]
    owner: Option<OwnerName>,
    /// It ends when there was no word of its owner for so long, e.g. 5m
    #[arg(long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, requires = "owner")]
    owner_timeout: Option<f64>,
    /// What may be done to it while it is idle and the machine is short of memory: never, freeze or end [default: freeze]
    #[arg(long, value_name = "WHAT", value_parser = reclaim)]
    reclaim: Option<Reclaim>,
}

fn reclaim(text: &str) -> Result<Reclaim, &'static str> {
    match text {
        "never" => Ok(Reclaim::Never),
        "freeze" => Ok(Reclaim::Freeze),
        "end" => Ok(Reclaim::End),
        _ => Err("use never, freeze or end"),
    }
}

impl LeaseFlags {
    /// The lease that they ask for.
    pub(crate) fn lease(self) -> Lease {
        let Self { lifetime, idle, owner, owner_timeout, reclaim } = self;
        Lease { lifetime_s: lifetime, idle_s: idle, owner, owner_s: owner_timeout, reclaim }
    }
}
