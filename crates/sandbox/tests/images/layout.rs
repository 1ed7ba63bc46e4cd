//! Images as tools write them, made by hand so that they can be wrong.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// How a layer is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// A part of a layout.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Config,
    Layer,
}

/// A layer that is being written.
pub(crate) struct Layer(Builder<Vec<u8>>);

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Layer {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn add(&mut self, name: &str, kind: EntryType, mode: u32, owner: (u64, u64), content: &[u8]) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        header.set_size(content.len() as u64);
        self.0.append_data(&mut header, name, content).unwrap();
    }

    pub(crate) fn file(mut self, name: &str, content: &str) -> Self {
        self.add(name, EntryType::Regular, 0o644, (0, 0), content.as_bytes());
        self
    }

    pub(crate) fn owned(mut self, name: &str, content: &str, owner: (u64, u64), mode: u32) -> Self {
        self.add(name, EntryType::Regular, mode, owner, content.as_bytes());
        self
    }

    pub(crate) fn copy(mut self, from: &str, name: &str) -> Self {
        let content = std::fs::read(from).expect("busybox-static is installed");
        self.add(name, EntryType::Regular, 0o755, (0, 0), &content);
        self
    }

    pub(crate) fn link(mut self, name: &str, target: &str) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        self.0.append_link(&mut header, name, target).unwrap();
        self
    }

    /// Unpacks it as a plain root file system.
    pub(crate) fn unpack(self, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        tar::Archive::new(&*self.0.into_inner().unwrap()).unpack(to).unwrap();
    }
}

/// An image in OCI's layout.
pub(crate) struct Layout {
    path: PathBuf,
    execution: Value,
    architecture: String,
    media_type: Option<String>,
    diffs: Vec<String>,
    /// Media type and stored bytes, and the bytes before they were compressed.
    layers: Vec<(String, Vec<u8>, Vec<u8>)>,
}

impl Layout {
    pub(crate) fn new(path: &Path) -> Self {
        let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        Self {
            path: path.to_owned(),
            execution: json!({}),
            architecture: architecture.to_owned(),
            media_type: None,
            diffs: Vec::new(),
            layers: Vec::new(),
        }
    }

    pub(crate) fn config(self, execution: Value) -> Self {
        Self { execution, ..self }
    }

    pub(crate) fn architecture(self, architecture: &str) -> Self {
        Self { architecture: architecture.to_owned(), ..self }
    }

    pub(crate) fn media_type(self, media_type: &str) -> Self {
        Self { media_type: Some(media_type.to_owned()), ..self }
    }

    pub(crate) fn wrong_diff_id(mut self) -> Self {
        self.diffs[0] = format!("sha256:{}", hex(b"another layer"));
        self
    }

    pub(crate) fn layer(mut self, layer: Layer, compression: Compression) -> Self {
        let plain = layer.0.into_inner().unwrap();
        self.diffs.push(format!("sha256:{}", hex(&plain)));
        let (suffix, stored) = match compression {
            Compression::None => ("", plain.clone()),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&plain).unwrap();
                ("+gzip", encoder.finish().unwrap())
            }
            Compression::Zstd => ("+zstd", zstd::encode_all(&*plain, 1).unwrap()),
        };
        self.layers.push((format!("application/vnd.oci.image.layer.v1.tar{suffix}"), stored, plain));
        self
    }

    fn configuration(&self) -> Vec<u8> {
        let config = json!({
            "architecture": self.architecture, "os": "linux", "config": self.execution,
            "rootfs": { "type": "layers", "diff_ids": self.diffs },
        });
        serde_json::to_vec(&config).unwrap()
    }

    /// The image's id.
    pub(crate) fn id(&self) -> String {
        format!("sha256:{}", hex(&self.configuration()))
    }

    /// Writes it under a name.
    pub(crate) fn write(&self, name: &str) {
        let blobs = self.path.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let put = |kind: &str, bytes: &[u8]| -> Value {
            let digest = hex(bytes);
            std::fs::write(blobs.join(&digest), bytes).unwrap();
            json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len() })
        };
        let config = put("application/vnd.oci.image.config.v1+json", &self.configuration());
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|(kind, stored, _)| put(self.media_type.as_ref().unwrap_or(kind), stored))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers,
        });
        let mut main = put("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
        main["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        let index = json!({ "schemaVersion": 2, "manifests": [main] });
        std::fs::write(self.path.join("index.json"), index.to_string()).unwrap();
        std::fs::write(self.path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }

    /// Writes it as `docker save` did for long, with a layer's second copy as a link.
    pub(crate) fn write_docker_archive(&self, to: &Path, name: &str) {
        let mut archive = Builder::new(std::fs::File::create(to).unwrap());
        let mut put = |name: &str, bytes: &[u8]| {
            let mut header = Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, bytes).unwrap();
        };
        let config = self.configuration();
        let config_name = format!("{}.json", hex(&config));
        put(&config_name, &config);
        let mut layers = Vec::new();
        for (number, (_, _, plain)) in self.layers.iter().enumerate() {
            let name = format!("l{number}/layer.tar");
            if number == 0 {
                put("elsewhere/layer.tar", plain);
                layers.push(name);
                continue;
            }
            put(&name, plain);
            layers.push(name);
        }
        let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": layers }]);
        put("manifest.json", manifest.to_string().as_bytes());
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, "l0/layer.tar", "../elsewhere/layer.tar").unwrap();
        archive.into_inner().unwrap();
    }
}

fn find(layout: &Path, part: Part) -> PathBuf {
    let blobs = layout.join("blobs/sha256");
    let is_json = |path: &Path, key: &str| {
        let value: Option<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).ok();
        value.is_some_and(|value| value.get(key).is_some())
    };
    let mut all = std::fs::read_dir(blobs).unwrap().map(|entry| entry.unwrap().path());
    match part {
        Part::Config => all.find(|path| is_json(path, "rootfs")),
        Part::Layer => all.find(|path| !is_json(path, "rootfs") && !is_json(path, "layers")),
    }
    .unwrap()
}

/// Changes a byte of a blob.
pub(crate) fn damage(layout: &Path, part: Part) {
    let path = find(layout, part);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Takes a blob away.
pub(crate) fn remove(layout: &Path, part: Part) {
    std::fs::remove_file(find(layout, part)).unwrap();
}
