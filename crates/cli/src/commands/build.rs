//! `hothouse build`: an installed builder builds, Hothouse keeps the result.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::ValueEnum;
use hothouse_domain::{ErrorCode, ImageInfo, ImageName};
use tempfile::TempDir;
use tokio::process::Command;

use crate::console;
use crate::failure::Failure;
use crate::flags::PlaceFlags;
use crate::interrupt;
use crate::place::ImagePlace;

/// Build an image of a Dockerfile with an installed buildah, podman or docker, and keep it in the store
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hothouse build -n app:1 .\n  hothouse run --image app:1 -- ls\n\n\
                  The builder keeps its own copy, so that what has not changed is not built again.")]
pub(crate) struct BuildArgs {
    /// The directory that the Dockerfile copies from
    #[arg(default_value = ".", value_name = "DIR")]
    context: PathBuf,
    /// What it is called in the store (repeatable)
    #[arg(long, short = 'n', value_name = "NAME[:TAG]", required = true)]
    name: Vec<ImageName>,
    /// The Dockerfile [default: Dockerfile, or what the builder takes, in DIR]
    #[arg(long, short = 'f', value_name = "FILE")]
    file: Option<PathBuf>,
    /// A value for an ARG of the Dockerfile (repeatable); without =VALUE, that of the variable
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// The stage to build, where there are several
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Build with this one [default: the first that is installed]
    #[arg(long)]
    with: Option<Builder>,
    /// Print all about the image as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceFlags,
}

/// A program that builds images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Builder {
    /// Needs neither a daemon nor root.
    Buildah,
    /// Likewise.
    Podman,
    /// Needs its daemon.
    Docker,
}

impl BuildArgs {
    /// True when a program reads the output.
    pub(super) fn wants_json(&self) -> bool {
        self.json
    }
}

impl Builder {
    fn program(self) -> &'static str {
        match self {
            Self::Buildah => "buildah",
            Self::Podman => "podman",
            Self::Docker => "docker",
        }
    }

    fn is_installed(self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(self.program()).is_file())
    }

    /// The one that was asked for, or the first that there is.
    fn choose(asked: Option<Self>) -> Result<Self, Failure> {
        let missing = |what: &str| Failure::new(ErrorCode::Unsupported, format!("building: {what}"));
        match asked {
            Some(builder) if builder.is_installed() => Ok(builder),
            Some(builder) => Err(missing(&format!("{} is not installed", builder.program()))
                .hint("install it, or leave out --with")),
            None => Self::value_variants().iter().copied().find(|builder| builder.is_installed()).ok_or_else(
                || {
                    missing("neither buildah nor podman nor docker is installed")
                        .hint("install one: apt-get install buildah; or `hothouse image pull` what was built elsewhere")
                },
            ),
        }
    }

    /// Writes an image of its own store into a file, as `docker save` does.
    fn save(self, image: &str, file: &Path) -> Command {
        let mut command = Command::new(self.program());
        match self {
            Self::Buildah => {
                command.args(["push", "--quiet", image]).arg(format!("docker-archive:{}", file.display()))
            }
            Self::Podman => {
                command.args(["save", "--quiet", "--format", "docker-archive", "-o"]).arg(file).arg(image)
            }
            Self::Docker => command.args(["save", "-o"]).arg(file).arg(image),
        };
        command
    }
}

/// Does it.
pub(crate) async fn run(args: BuildArgs) -> Result<u8, Failure> {
    let place = ImagePlace::open(&args.place)?;
    let done = Box::pin(interrupt::or_interrupted(build(&args, &place))).await;
    place.close().await;
    let info = done?;
    if args.json {
        console::json(&info)?
    } else {
        console::line(info.id.as_str())?
    }
    Ok(0)
}

async fn build(args: &BuildArgs, place: &ImagePlace) -> Result<ImageInfo, Failure> {
    let builder = Builder::choose(args.with)?;
    let work = TempDir::with_prefix("hothouse-build-").map_err(|e| Failure::io("making a directory", &e))?;
    let (id, archive) = (work.path().join("id"), work.path().join("image.tar"));
    let mut command = Command::new(builder.program());
    command.args(["build", "--iidfile"]).arg(&id);
    if let Some(file) = &args.file {
        command.arg("--file").arg(file);
    }
    for value in &args.build_arg {
        command.args(["--build-arg", value]);
    }
    if let Some(target) = &args.target {
        command.args(["--target", target]);
    }
    finish(builder, command.arg("--").arg(&args.context)).await?;
    let image = std::fs::read_to_string(&id).map_err(|e| Failure::io(id.display(), &e))?;
    finish(builder, &mut builder.save(image.trim(), &archive)).await?;
    place.import(&archive, None, args.name.clone()).await
}

/// Runs a builder to its end; what it says is for people.
async fn finish(builder: Builder, command: &mut Command) -> Result<(), Failure> {
    let failed = |e: &io::Error| Failure::io(format!("running {}", builder.program()), e);
    let says = io::stderr().as_fd().try_clone_to_owned().map_err(|e| failed(&e))?;
    let status = command
        .stdin(Stdio::null())
        .stdout(File::from(says))
        .kill_on_drop(true)
        .status()
        .await
        .map_err(|e| failed(&e))?;
    if status.success() {
        return Ok(());
    }
    let verb = command.as_std().get_args().next().unwrap_or_default().to_string_lossy().into_owned();
    Err(Failure::new(
        ErrorCode::Internal,
        format!("{} {verb} ended with {status}; it has said why", builder.program()),
    ))
}
