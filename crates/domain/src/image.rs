//! Images: what root file systems are called, and what a store of them says.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::id::SnapshotId;
use crate::image_name::{ImageId, ImageName};
use crate::problem::{Invalid, Problem};
use crate::sandbox::MAX_PATH;
use crate::secret::Secret;

/// Where the root file system comes from. The forms are those of `skopeo` and `podman`, and two of our own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ImageRef {
    /// `host`: a view of this machine's own `/usr`, `/bin`, `/lib*` and a curated `/etc`; nothing to download.
    #[default]
    Host,
    /// `dir:/path`: a plain root file system in a directory of the node. It is only ever read.
    Directory(String),
    /// `snapshot:ID`: the files of another sandbox, as they were when the snapshot was taken.
    Snapshot(SnapshotId),
    /// `NAME[:TAG][@DIGEST]`: an image of the node's store.
    Stored(ImageName),
    /// `sha256:HEX`: an image of the node's store by its id, or by the first digits of it.
    Id(ImageId),
    /// `docker://[HOST/]NAME[:TAG][@DIGEST]`: an image of a registry.
    Registry(ImageName),
    /// `docker-daemon:NAME[:TAG]`: an image of the Docker daemon of the node.
    Daemon(ImageName),
    /// An image in a file or a directory of the node.
    File(ImageFile),
}

/// How an image lies in a file or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileFormat {
    /// `oci:/path[:NAME]`: a directory in OCI's image layout.
    Oci,
    /// `oci-archive:/path[:NAME]`: the same as a tar archive.
    OciArchive,
    /// `docker-archive:/path[:NAME]`: what `docker save` writes.
    DockerArchive,
    /// `tarball:/path`: a root file system as a tar archive.
    Tarball,
}

impl FileFormat {
    const ALL: [Self; 4] = [Self::OciArchive, Self::Oci, Self::DockerArchive, Self::Tarball];

    fn as_str(self) -> &'static str {
        match self {
            Self::Oci => "oci",
            Self::OciArchive => "oci-archive",
            Self::DockerArchive => "docker-archive",
            Self::Tarball => "tarball",
        }
    }
}

/// An image in a file or a directory of the node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageFile {
    /// How it lies there.
    pub format: FileFormat,
    /// Where; absolute.
    pub path: String,
    /// Which, where there are several.
    pub name: Option<String>,
}

impl PartialSchema for ImageRef {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
        text.description(Some(
            "Where the root file system comes from: `host`, `dir:/path`, `snapshot:ID`, `NAME[:TAG]` or `sha256:HEX` of the store, \
             `docker://[HOST/]NAME[:TAG][@DIGEST]`, `docker-daemon:NAME`, `oci:/path[:NAME]`, `oci-archive:/path[:NAME]`, \
             `docker-archive:/path[:NAME]` or `tarball:/path`.",
        ))
        .build()
        .into()
    }
}

impl ToSchema for ImageRef {}

/// At most so many layers above an image.
pub const MAX_LAYERS: usize = 16;

/// `dir:/path`: a directory of the node that lies above an image, used where it is and only ever read. What is changed in
/// it while sandboxes are made of it is its owner's affair: they may see the old, the new, or an error.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerRef(String);

impl LayerRef {
    /// The directory.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LayerRef {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        match text.strip_prefix("dir:") {
            Some(path) if check_file("dir", path).is_ok() => Ok(Self(path.to_owned())),
            Some(_) | None => {
                let short: String = text.chars().take(64).collect();
                let reason = format!(
                    "has {short:?}, which is no layer; use dir: and an absolute path, e.g. dir:/srv/env"
                );
                Err(Invalid::new("layers", reason))
            }
        }
    }
}

impl FromStr for LayerRef {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::try_from(text.to_owned())
    }
}

impl From<LayerRef> for String {
    fn from(layer: LayerRef) -> Self {
        layer.to_string()
    }
}

impl fmt::Display for LayerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dir:{}", self.0)
    }
}

impl PartialSchema for LayerRef {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^dir:/"));
        text.description(Some("A directory of the node that lies above an image: `dir:/path`."))
            .build()
            .into()
    }
}

impl ToSchema for LayerRef {}

/// Checks the layers above an image.
///
/// # Errors
/// [`Invalid`]: too many, or one of them twice.
pub fn check_layers(layers: &[LayerRef]) -> Result<(), Invalid> {
    if layers.len() > MAX_LAYERS {
        return Err(Invalid::new("layers", format!("has {} entries; at most {MAX_LAYERS}", layers.len())));
    }
    match layers.iter().enumerate().find(|(at, layer)| layers[..*at].contains(layer)) {
        Some((_, twice)) => Err(Invalid::new("layers", format!("has {twice} more than once"))),
        None => Ok(()),
    }
}

fn invalid(reason: impl Into<String>) -> Invalid {
    Invalid::new("image", reason)
}

fn check_file(kind: &str, path: &str) -> Result<(), Invalid> {
    if path.starts_with('/') && path.len() <= MAX_PATH && !path.contains('\0') {
        return Ok(());
    }
    Err(invalid(format!("{kind}: needs an absolute path, e.g. {kind}:/srv/image")))
}

impl TryFrom<String> for ImageRef {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        if text == "host" {
            return Ok(Self::Host);
        }
        if let Some(path) = text.strip_prefix("dir:") {
            check_file("dir", path)?;
            return Ok(Self::Directory(path.to_owned()));
        }
        if let Some(id) = text.strip_prefix("snapshot:") {
            let id = id.parse().map_err(|e| invalid(format!("snapshot: needs an id, which {e}")))?;
            return Ok(Self::Snapshot(id));
        }
        if let Some(name) = text.strip_prefix("docker://") {
            return Ok(Self::Registry(ImageName::parse(name).map_err(invalid)?));
        }
        if let Some(name) = text.strip_prefix("docker-daemon:") {
            return Ok(Self::Daemon(ImageName::parse(name).map_err(invalid)?));
        }
        for format in FileFormat::ALL {
            let Some(rest) = text.strip_prefix(format.as_str()).and_then(|rest| rest.strip_prefix(':'))
            else {
                continue;
            };
            let (path, name) = match rest.split_once(':') {
                Some((path, name)) => (path, Some(name.to_owned())),
                None => (rest, None),
            };
            check_file(format.as_str(), path)?;
            if format == FileFormat::Tarball && name.is_some() {
                return Err(invalid("tarball: has one image; leave the name out"));
            }
            return Ok(Self::File(ImageFile { format, path: path.to_owned(), name }));
        }
        if let Some(digits) = text.strip_prefix("sha256:") {
            return Ok(Self::Id(ImageId::from_digits(digits).map_err(invalid)?));
        }
        if text.contains("://") {
            let short: String = text.chars().take(64).collect();
            return Err(invalid(format!(
                "{short:?} is not known; use host, dir:/path, snapshot:ID, NAME[:TAG], sha256:HEX, docker://NAME[:TAG], \
                 docker-daemon:NAME, oci:/path, oci-archive:/path, docker-archive:/path or tarball:/path"
            )));
        }
        Ok(Self::Stored(ImageName::parse(&text).map_err(invalid)?))
    }
}

impl FromStr for ImageRef {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::try_from(text.to_owned())
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> String {
        image.to_string()
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Directory(path) => write!(f, "dir:{path}"),
            Self::Snapshot(id) => write!(f, "snapshot:{id}"),
            Self::Stored(name) => write!(f, "{}", name.familiar()),
            Self::Id(id) => write!(f, "{id}"),
            Self::Registry(name) => write!(f, "docker://{name}"),
            Self::Daemon(name) => write!(f, "docker-daemon:{}", name.familiar()),
            Self::File(file) => {
                write!(f, "{}:{}", file.format.as_str(), file.path)?;
                file.name.as_ref().map_or(Ok(()), |name| write!(f, ":{name}"))
            }
        }
    }
}

/// Whether an image is fetched that the store does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// Fetched when the store does not have it.
    #[default]
    Missing,
    /// Looked for at its source each time, and fetched when it is another one.
    Always,
    /// Never fetched.
    Never,
}

impl PullPolicy {
    /// True for the default.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        *self == Self::Missing
    }
}

impl FromStr for PullPolicy {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "missing" => Ok(Self::Missing),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err("use missing, always or never"),
        }
    }
}

/// What an image says of how it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ImageConfig {
    /// Environment of every exec, below the sandbox's own.
    pub env: BTreeMap<String, String>,
    /// Working directory of execs, where the sandbox names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// User of execs, where the sandbox names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The program that `hothouse run` starts; the command is its arguments.
    pub entrypoint: Vec<String>,
    /// The command, or the entrypoint's arguments.
    pub cmd: Vec<String>,
    /// Free names.
    pub labels: BTreeMap<String, String>,
}

impl ImageConfig {
    /// What runs when nothing else is said: the entrypoint with the command.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageLayer {
    /// Digest of its uncompressed archive; that of the whole chain where layers were merged.
    pub digest: String,
    /// Bytes that it takes on disk.
    pub bytes: u64,
    /// Files, directories and links in it.
    pub entries: u64,
}

/// An image of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageInfo {
    /// Its id: the digest of its configuration.
    pub id: ImageId,
    /// What it is called.
    pub names: Vec<String>,
    /// What registries call it: name and digest of its manifest.
    pub digests: Vec<String>,
    /// For which operating system.
    pub os: String,
    /// For which architecture, in Go's words: `amd64`, `arm64`.
    pub architecture: String,
    /// When it was built, as it says itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// When it came into the store, RFC 3339, UTC.
    pub imported_at: String,
    /// When a sandbox was last made from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_at: Option<String>,
    /// True while sandboxes are made from it.
    pub in_use: bool,
    /// Bytes on disk of all its layers; other images may share them.
    pub bytes: u64,
    /// How it is used.
    pub config: ImageConfig,
    /// Its layers, the lowest first.
    pub layers: Vec<ImageLayer>,
    /// Entries that were left out: device nodes, and attributes that only the machine's root may set.
    pub left_out: u64,
}

/// What is being done to get an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageStage {
    /// Its manifest is looked for.
    #[default]
    Resolving,
    /// Layers are fetched and unpacked.
    Unpacking,
    /// All of it is there.
    Done,
}

/// How far getting an image is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageProgress {
    /// What is being done.
    pub stage: ImageStage,
    /// Layers of the image.
    pub layers: u64,
    /// Layers that are there.
    pub layers_done: u64,
    /// Bytes to fetch or read, as they are stored at the source; 0 where that is not known.
    pub bytes: u64,
    /// Bytes of those that are done.
    pub bytes_done: u64,
}

/// An image that is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PullSpec {
    /// Which.
    pub image: ImageRef,
    /// Whether it is fetched anew.
    #[serde(default = "always")]
    pub pull: PullPolicy,
    /// A name for it in the store, beside its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<ImageName>,
    /// Who asks the registry; by default as `docker login` has left it on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<RegistryCredentials>,
    /// Speak plain HTTP to the registry. One on loopback may do so unasked.
    #[serde(default)]
    pub plain_http: bool,
}

fn always() -> PullPolicy {
    PullPolicy::Always
}

impl PullSpec {
    /// A pull of this image when it is missing.
    #[must_use]
    pub fn of(image: ImageRef, pull: PullPolicy) -> Self {
        Self { image, pull, name: None, credentials: None, plain_http: false }
    }
}

/// A user of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryCredentials {
    /// The name.
    pub username: String,
    /// The password or token.
    pub password: Secret,
}

/// Which images are removed that nothing uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PruneSpec {
    /// Those with names too.
    pub all: bool,
    /// Only those from which no sandbox was made for so many seconds.
    pub unused_for_s: u64,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pruned {
    /// Images that are gone.
    pub images: Vec<ImageId>,
    /// Layers that are gone.
    pub layers: u64,
    /// Bytes that were freed.
    pub bytes: u64,
}

/// What a pull says while it goes on, one a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PullEvent {
    /// How far it is.
    Progress(ImageProgress),
    /// It is there.
    Done(Box<ImageInfo>),
    /// It cannot be had.
    Failed(Box<Problem>),
}
