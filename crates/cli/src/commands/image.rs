//! `hothouse image`: pull, import, ls, inspect, rm, prune, export.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use futures::StreamExt as _;
use hothouse_domain::image::{ImageProgress, ImageStage, PruneSpec, Pruned, RegistryCredentials};
use hothouse_domain::{ImageInfo, ImageName, ImageRef, PullPolicy, PullSpec, Secret};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use super::table::{Table, age, bytes};
use crate::console;
use crate::failure::Failure;
use crate::flags::{PlaceFlags, duration};
use crate::interrupt;
use crate::place::ImagePlace;

/// What sandboxes are made from: images of registries, of Docker, of files
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hothouse image pull debian:12\n  hothouse image import saved.tar --name app:1\n  \
                  hothouse run --image app:1 -- cat /etc/os-release"
)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Pull(PullArgs),
    Import(ImportArgs),
    Ls(LsArgs),
    Inspect(InspectArgs),
    Rm(RmArgs),
    Prune(PruneArgs),
    Export(ExportArgs),
}

/// Fetch an image into the store; one that is there and unchanged costs a look
#[derive(Debug, clap::Args)]
struct PullArgs {
    /// NAME, NAME:TAG or NAME@DIGEST of a registry, docker-daemon:NAME, docker-archive:/path, oci:/path, dir:/path …
    image: ImageRef,
    /// A name for it in the store, beside its own
    #[arg(long, value_name = "NAME[:TAG]")]
    name: Option<ImageName>,
    /// USER:PASSWORD for the registry [default: as `docker login` has left it]; better from HOTHOUSE_REGISTRY_CREDS
    #[arg(long, value_name = "USER:PASSWORD", env = "HOTHOUSE_REGISTRY_CREDS", hide_env_values = true)]
    creds: Option<String>,
    /// Speak plain HTTP to the registry; one on loopback may do so unasked
    #[arg(long)]
    plain_http: bool,
    /// Print all about it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceFlags,
}

/// Make an image of a file or directory: `docker save`, an OCI layout, or the archive or directory of a root file system
#[derive(Debug, clap::Args)]
struct ImportArgs {
    /// The file or directory
    path: PathBuf,
    /// What it is called in the store, beside its own names (repeatable)
    #[arg(long, short = 'n', value_name = "NAME[:TAG]")]
    name: Vec<ImageName>,
    /// Its name in the archive, where there are several
    #[arg(long, value_name = "NAME")]
    which: Option<String>,
    /// Print all about it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceFlags,
}

/// List the images of the store
#[derive(Debug, clap::Args)]
struct LsArgs {
    /// Print all about them as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceFlags,
}

/// Show all about an image, as JSON
#[derive(Debug, clap::Args)]
struct InspectArgs {
    /// NAME, NAME:TAG or sha256:DIGITS
    image: ImageRef,
    #[command(flatten)]
    place: PlaceFlags,
}

/// Remove images; by one of several names, only the name
#[derive(Debug, clap::Args)]
struct RmArgs {
    /// NAME, NAME:TAG or sha256:DIGITS
    #[arg(required = true)]
    images: Vec<ImageRef>,
    #[command(flatten)]
    place: PlaceFlags,
}

/// Remove images that nothing uses: those without a name, and layers of none
#[derive(Debug, clap::Args)]
struct PruneArgs {
    /// Those with names too
    #[arg(long, short = 'a')]
    all: bool,
    /// Only those from which no sandbox was made for so long, e.g. 24h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    unused_for: Option<f64>,
    /// Print what was removed as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceFlags,
}

/// Write an image to a file that Docker, Podman and skopeo read
#[derive(Debug, clap::Args)]
struct ExportArgs {
    /// NAME, NAME:TAG or sha256:DIGITS
    image: ImageRef,
    /// The file [default: standard output]
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceFlags,
}

impl ImageArgs {
    /// True when a program reads the output.
    pub(super) fn wants_json(&self) -> bool {
        match &self.what {
            What::Pull(args) => args.json,
            What::Import(args) => args.json,
            What::Ls(args) => args.json,
            What::Prune(args) => args.json,
            What::Inspect(_) | What::Rm(_) | What::Export(_) => false,
        }
    }

    fn place(&self) -> &PlaceFlags {
        match &self.what {
            What::Pull(args) => &args.place,
            What::Import(args) => &args.place,
            What::Ls(args) => &args.place,
            What::Inspect(args) => &args.place,
            What::Rm(args) => &args.place,
            What::Prune(args) => &args.place,
            What::Export(args) => &args.place,
        }
    }
}

/// Does it.
pub(crate) async fn run(args: ImageArgs) -> Result<u8, Failure> {
    let place = ImagePlace::open(args.place())?;
    let done = Box::pin(interrupt::or_interrupted(work(args.what, &place))).await;
    place.close().await;
    done.map(|()| 0)
}

async fn work(what: What, place: &ImagePlace) -> Result<(), Failure> {
    match what {
        What::Pull(args) => pull(args, place).await,
        What::Import(ImportArgs { path, name, which, json, place: _ }) => {
            show(&place.import(&path, which, name).await?, json)
        }
        What::Ls(args) => ls(&place.list().await?, args.json),
        What::Inspect(args) => console::json(&place.inspect(&args.image).await?),
        What::Rm(args) => {
            for image in &args.images {
                place.remove(image).await?;
                console::line(&image.to_string())?;
            }
            Ok(())
        }
        What::Prune(PruneArgs { all, unused_for, json, place: _ }) => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a cast of a float saturates"
            )]
            let unused_for_s = unused_for.unwrap_or_default().ceil() as u64;
            let pruned = place.prune(PruneSpec { all, unused_for_s }).await?;
            if json { console::json(&pruned) } else { tell(&pruned) }
        }
        What::Export(args) => export(args, place).await,
    }
}

fn show(info: &ImageInfo, json: bool) -> Result<(), Failure> {
    if json { console::json(info) } else { console::line(info.id.as_str()) }
}

fn tell(pruned: &Pruned) -> Result<(), Failure> {
    for id in &pruned.images {
        console::line(id.as_str())?;
    }
    console::note(&format!("{} layers, {} freed", pruned.layers, bytes(pruned.bytes)));
    Ok(())
}

fn credentials(text: &str) -> Result<RegistryCredentials, Failure> {
    match text.split_once(':') {
        Some((username, password)) if !username.is_empty() => {
            let password = Secret::new(password.to_owned());
            Ok(RegistryCredentials { username: username.to_owned(), password })
        }
        Some(_) | None => Err(Failure::usage("--creds", "is not USER:PASSWORD")),
    }
}

async fn pull(args: PullArgs, place: &ImagePlace) -> Result<(), Failure> {
    let PullArgs { image, name, creds, plain_http, json, place: _ } = args;
    // As everybody is used to: what has no transport is a registry's.
    let image = match image {
        ImageRef::Stored(name) => ImageRef::Registry(name),
        other => other,
    };
    let creds = creds.filter(|text| !text.is_empty());
    let credentials = creds.as_deref().map(credentials).transpose()?;
    let bar = Bar::start(&image);
    let spec = PullSpec { image, pull: PullPolicy::Always, name, credentials, plain_http };
    let info = place.pull(spec, |progress| bar.tell(&progress)).await?;
    drop(bar);
    show(&info, json)
}

/// How far it is, on a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn start(image: &ImageRef) -> Self {
        if !console::err_is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {bytes}/{total_bytes} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(image.to_string());
        Self(bar)
    }

    fn tell(&self, progress: &ImageProgress) {
        if progress.stage == ImageStage::Unpacking {
            self.0.set_length(progress.bytes);
            self.0.set_position(progress.bytes_done);
            self.0.set_message(format!("layer {} of {}", progress.layers_done, progress.layers));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn ls(all: &[ImageInfo], json: bool) -> Result<(), Failure> {
    if json {
        return console::json(&all);
    }
    let mut table = Table::new(&["NAME", "ID", "SIZE", "LAYERS", "AGE", "USED", "STATE"]);
    let now = Timestamp::now();
    let since = |text: &str| text.parse().map_or_else(|_| "?".to_owned(), |then| age(now, then));
    for info in all {
        let names = if info.names.is_empty() { vec!["<none>".to_owned()] } else { info.names.clone() };
        for name in names {
            table.row(vec![
                name,
                info.id.short().to_owned(),
                bytes(info.bytes),
                info.layers.len().to_string(),
                since(&info.imported_at),
                info.used_at.as_deref().map_or_else(|| "never".to_owned(), since),
                if info.in_use { "in use" } else { "" }.to_owned(),
            ]);
        }
    }
    table.print()
}

async fn export(args: ExportArgs, place: &ImagePlace) -> Result<(), Failure> {
    let mut archive = place.export(&args.image).await?;
    let Some(path) = &args.output else {
        if std::io::stdout().is_terminal() {
            return Err(Failure::usage("--output", "is missing, and a terminal is no place for an archive"));
        }
        while let Some(piece) = archive.next().await {
            console::bytes(&piece?)?;
        }
        return Ok(());
    };
    let failed = |e: &std::io::Error| Failure::io(path.display(), e);
    let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Beside the target, so that it appears there whole or not at all.
    let mut file = tempfile::Builder::new()
        .prefix(".hothouse-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(|e| failed(&e))?;
    while let Some(piece) = archive.next().await {
        std::io::Write::write_all(&mut file, &piece?).map_err(|e| failed(&e))?;
    }
    file.persist(path).map_err(|e| failed(&e.error))?;
    Ok(())
}
