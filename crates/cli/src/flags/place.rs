//! Where sandboxes are: in this process, or at a server.

use std::path::PathBuf;

use hothouse_domain::capacity::Amounts;
use hothouse_sandbox::native::WhenOrphaned;
use hothouse_sandbox::{ImageLimits, NodeOptions};

use super::values::size;
use crate::failure::Failure;

/// The server of commands that need one.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Place")]
pub(crate) struct ServerFlags {
    /// The server [default: http://127.0.0.1:8700]
    #[arg(long, value_name = "URL", env = "HOTHOUSE_SERVER", hide_env_values = true)]
    server: Option<String>,
}

/// How a node of this process works.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Place")]
pub(crate) struct NodeFlags {
    /// Where images and state are kept [default: /var/lib/hothouse for root, else ~/.local/share/hothouse]
    #[arg(long, value_name = "DIR", env = "HOTHOUSE_HOME", hide_env_values = true)]
    home: Option<PathBuf>,
    /// cgroup to work under, relative to each hierarchy's mount [default: hothouse for root, else what is delegated]
    #[arg(long, value_name = "NAME", env = "HOTHOUSE_CGROUP", hide_env_values = true)]
    cgroup: Option<String>,
    /// Room for images; those that were used longest ago go first, e.g. 50G [default: 128G]
    #[arg(long, value_name = "SIZE", value_parser = size, env = "HOTHOUSE_IMAGE_SPACE", hide_env_values = true)]
    image_space: Option<u64>,
}

/// The place of commands that work with and without a server.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Place")]
pub(crate) struct PlaceFlags {
    /// Use this server instead of this process
    #[arg(long, value_name = "URL", env = "HOTHOUSE_SERVER", hide_env_values = true)]
    server: Option<String>,
    #[command(flatten)]
    pub(crate) node: NodeFlags,
}

impl ServerFlags {
    /// The server's address, when one is named.
    pub(crate) fn url(&self) -> Option<&str> {
        self.server.as_deref().filter(|url| !url.is_empty())
    }
}

impl PlaceFlags {
    /// The server's address, when one is named.
    pub(crate) fn url(&self) -> Option<&str> {
        // An empty variable is as good as none.
        self.server.as_deref().filter(|url| !url.is_empty())
    }
}

impl NodeFlags {
    /// What images may become.
    pub(crate) fn image_limits(&self) -> ImageLimits {
        let default = ImageLimits::default();
        ImageLimits { max_store_bytes: self.image_space.unwrap_or(default.max_store_bytes), ..default }
    }

    /// The directory that these flags name, or the default one.
    pub(crate) fn home(&self) -> Result<PathBuf, Failure> {
        if let Some(home) = self.home.as_ref().filter(|home| !home.as_os_str().is_empty()) {
            return std::path::absolute(home)
                .map_err(|e| Failure::io(format_args!("--home {}", home.display()), &e));
        }
        if rustix::process::geteuid().is_root() {
            return Ok(PathBuf::from("/var/lib/hothouse"));
        }
        let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
        let own = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
        match base.or_else(own) {
            Some(data) => Ok(data.join("hothouse")),
            None => Err(Failure::usage("--home", "is not given and HOME is not set")
                .hint("pass --home DIR or set HOTHOUSE_HOME")),
        }
    }

    /// Options for a node on this home that has at most so many sandboxes.
    pub(crate) fn options(
        &self,
        home: PathBuf,
        max_sandboxes: usize,
        capacity: Amounts,
        when_orphaned: WhenOrphaned,
    ) -> Result<NodeOptions, Failure> {
        let spawner =
            std::env::current_exe().map_err(|e| Failure::io("finding this program's own file", &e))?;
        let cgroup = self.cgroup.clone().filter(|name| !name.is_empty());
        let images = self.image_limits();
        Ok(NodeOptions {
            home,
            spawner,
            cgroup,
            max_sandboxes,
            capacity,
            // A job's own sandboxes are its own business.
            min_free_memory: 0,
            reclaim_below: 0,
            when_orphaned,
            images,
        })
    }
}
