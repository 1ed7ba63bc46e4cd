//! The documents of an image: index, manifest, configuration. Both OCI's and Docker's, which differ in names only.

use std::collections::BTreeMap;

use hothouse_domain::ImageId;
use hothouse_domain::image::ImageConfig;
use serde::{Deserialize, Serialize};

use super::digest;
use super::error::Fault;

/// The largest document that is read, in bytes.
pub(super) const MAX_DOCUMENT: u64 = 8 << 20;
/// The most layers of an image; what docker makes stays below 128.
pub(super) const MAX_LAYERS: usize = 512;

/// What a registry is told that we can read.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

const LAYERS: [&str; 9] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

/// A part of an image, by digest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: String,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: Option<String>,
}

impl Descriptor {
    pub(super) fn id(&self) -> Result<ImageId, Fault> {
        digest::parse(&self.digest)
    }

    fn is_named(&self, name: &str) -> bool {
        let keys = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];
        keys.iter().any(|key| self.annotations.get(*key).is_some_and(|value| value == name))
    }
}

/// A manifest or an index; which of them, its fields tell.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Manifest {
    schema_version: u64,
    media_type: String,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

/// What a document turned out to be.
#[derive(Debug)]
pub(super) enum Document {
    /// Others to choose from.
    Index(Vec<Descriptor>),
    /// An image.
    Image { config: Descriptor, layers: Vec<Descriptor> },
}

fn short(text: &str) -> String {
    text.chars().take(120).collect()
}

impl Document {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let manifest: Manifest = json("the manifest", bytes)?;
        if let Some(manifests) = manifest.manifests {
            return Ok(Self::Index(manifests));
        }
        if manifest.schema_version == 1 {
            return Err(Fault::invalid(
                "has a manifest of Docker's schema 1; push it again with a newer tool",
            ));
        }
        let (Some(config), Some(layers)) = (manifest.config, manifest.layers) else {
            let kind = short(&manifest.media_type);
            return Err(Fault::invalid(format!("{kind:?} is neither the manifest of an image nor an index")));
        };
        if layers.len() > MAX_LAYERS {
            return Err(Fault::too_large(format!("has {} layers; at most {MAX_LAYERS}", layers.len())));
        }
        for layer in &layers {
            if !LAYERS.contains(&layer.media_type.as_str()) {
                let (kind, digest) = (short(&layer.media_type), short(&layer.digest));
                let reason = format!("layer {digest} is of media type {kind:?}, which is not supported");
                return Err(Fault::invalid(format!("{reason}; use tar, tar+gzip or tar+zstd")));
            }
        }
        Ok(Self::Image { config, layers })
    }
}

/// This machine's architecture in Go's words.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The manifest that an index has under a name; the only one when none is given.
pub(super) fn choose_named(manifests: &[Descriptor], name: Option<&str>) -> Result<Descriptor, Fault> {
    if let Some(name) = name {
        let found = manifests.iter().find(|descriptor| descriptor.is_named(name));
        let known: Vec<&str> = manifests
            .iter()
            .filter_map(|descriptor| descriptor.annotations.get("org.opencontainers.image.ref.name"))
            .map(String::as_str)
            .take(16)
            .collect();
        return found
            .cloned()
            .ok_or_else(|| Fault::missing(format!("has no image named {name:?}; it has {known:?}")));
    }
    match manifests {
        [] => Err(Fault::invalid("is a layout without an image")),
        [one] => Ok(one.clone()),
        // Several may be platforms of one image.
        many if many.iter().all(|descriptor| descriptor.platform.is_some()) => choose_platform(many),
        many => Err(Fault::invalid(format!("holds {} images; name one with :NAME", many.len()))),
    }
}

/// The manifest of an index that fits this machine.
pub(super) fn choose_platform(manifests: &[Descriptor]) -> Result<Descriptor, Fault> {
    let fits = |descriptor: &&Descriptor| match &descriptor.platform {
        Some(platform) => platform.os == "linux" && platform.architecture == architecture(),
        None => false,
    };
    // The plainest variant is what every machine of the architecture can run.
    let plain = |descriptor: &&Descriptor| {
        let variant = descriptor.platform.as_ref().and_then(|platform| platform.variant.as_deref());
        matches!(variant, None | Some("" | "v1" | "v8"))
    };
    let mut fitting = manifests.iter().filter(fits);
    let all: Vec<&Descriptor> = fitting.by_ref().collect();
    let chosen = all.iter().copied().find(plain).or(all.first().copied());
    if let Some(chosen) = chosen {
        return Ok(chosen.clone());
    }
    if let [one] = manifests
        && one.platform.is_none()
    {
        return Ok(one.clone());
    }
    let there: Vec<String> = manifests
        .iter()
        .filter_map(|descriptor| descriptor.platform.as_ref())
        .map(|platform| format!("{}/{}", short(&platform.os), short(&platform.architecture)))
        .take(16)
        .collect();
    Err(Fault::invalid(format!("has nothing for linux/{}; it has {}", architecture(), there.join(", "))))
}

/// The configuration of an image as tools write it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Configuration {
    pub(super) architecture: String,
    pub(super) os: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<String>,
    config: Option<Execution>,
    pub(super) rootfs: RootFs,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Execution {
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
}

/// Which layers there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    pub(super) diff_ids: Vec<String>,
}

impl Configuration {
    /// Reads one, and checks that it is for this machine.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let configuration: Self = json("the configuration", bytes)?;
        let Self { architecture: theirs, os, .. } = &configuration;
        let fits = (theirs.is_empty() || theirs == architecture()) && (os.is_empty() || os == "linux");
        if !fits {
            let (os, theirs) = (short(os), short(theirs));
            let ours = architecture();
            return Err(Fault::invalid(format!("is for {os}/{theirs}; this machine is linux/{ours}")));
        }
        Ok(configuration)
    }

    /// That of a plain root file system.
    pub(super) fn plain(diff_ids: Vec<String>) -> Self {
        Self {
            architecture: architecture().to_owned(),
            os: "linux".to_owned(),
            created: None,
            config: None,
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids },
        }
    }

    /// The digests of its layers.
    pub(super) fn diff_ids(&self) -> Result<Vec<ImageId>, Fault> {
        self.rootfs.diff_ids.iter().map(|text| digest::parse(text)).collect()
    }

    /// How it is used, as the words of the house have it.
    pub(super) fn usage(&self) -> ImageConfig {
        let Execution { env, working_dir, user, entrypoint, cmd, labels } =
            self.config.clone().unwrap_or_default();
        let variable = |text: &String| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
        };
        ImageConfig {
            env: env.unwrap_or_default().iter().filter_map(variable).collect(),
            workdir: working_dir.filter(|dir| !dir.is_empty()),
            user: user.filter(|user| !user.is_empty()),
            entrypoint: entrypoint.unwrap_or_default(),
            cmd: cmd.unwrap_or_default(),
            labels: labels.unwrap_or_default(),
        }
    }
}

/// One image of a `docker save`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Saved {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Vec<String>,
}

/// Reads a document.
pub(super) fn json<T: for<'de> Deserialize<'de>>(what: &str, bytes: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|e| Fault::invalid(format!("{what} is not what it should be: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(os: &str, architecture: &str, variant: Option<&str>) -> Descriptor {
        serde_json::from_value(serde_json::json!({
            "digest": format!("sha256:{architecture}{}", variant.unwrap_or("")),
            "platform": {"os": os, "architecture": architecture, "variant": variant},
        }))
        .unwrap()
    }

    #[test]
    fn the_plainest_fitting_platform_is_chosen() {
        let ours = architecture();
        let all = [
            descriptor("windows", ours, None),
            descriptor("linux", "s390x", None),
            descriptor("linux", ours, Some("v3")),
            descriptor("linux", ours, None),
            descriptor("unknown", "unknown", None),
        ];
        assert_eq!(choose_platform(&all).unwrap().digest, format!("sha256:{ours}"));
        assert_eq!(choose_platform(&all[..3]).unwrap().digest, format!("sha256:{ours}v3"));
        let refused = choose_platform(&all[..2]).unwrap_err().reason;
        assert!(refused.contains("linux/s390x"), "{refused}");
    }

    #[test]
    fn documents_are_told_apart_and_others_refused() {
        let image = br#"{"schemaVersion":2,"config":{"digest":"sha256:00"},"layers":[]}"#;
        assert!(matches!(Document::parse(image), Ok(Document::Image { .. })));
        assert!(matches!(Document::parse(br#"{"manifests":[]}"#), Ok(Document::Index(_))));
        for (text, part) in [
            (r#"{"schemaVersion":1}"#, "schema 1"),
            (r#"{"schemaVersion":2,"mediaType":"x"}"#, "neither"),
            ("[]x", "not what it should be"),
            (
                r#"{"config":{"digest":"d"},"layers":[{"mediaType":"application/x-helm","digest":"d"}]}"#,
                "application/x-helm",
            ),
        ] {
            let refused = Document::parse(text.as_bytes()).unwrap_err().reason;
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn nulls_are_nothing_and_another_architecture_is_refused() {
        let text =
            br#"{"config":{"Env":["A=b=c","B","=x"],"Cmd":null,"WorkingDir":"","User":"1:2"},"rootfs":{}}"#;
        let usage = Configuration::parse(text).unwrap().usage();
        assert_eq!(usage.env, [("A".into(), "b=c".into()), ("B".into(), String::new())].into());
        assert_eq!((usage.workdir, usage.user.as_deref()), (None, Some("1:2")));
        let refused = Configuration::parse(br#"{"architecture":"s390x","os":"linux"}"#).unwrap_err();
        assert!(refused.reason.contains("linux/s390x"), "{}", refused.reason);
    }
}
