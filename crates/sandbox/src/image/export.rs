//! An image of the store as an archive that Docker, Podman and skopeo read: what `docker save` writes, which is an OCI
//! layout too.
//!
//! Layers are packed anew from what is on disk, so their digests, and with them the image's, are others than they were.

use std::io::{self, Write};

use hothouse_domain::{ImageId, ImageName};
use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::digest::{self, Hasher};
use super::error::Fault;
use super::library::{ImageRecord, Library, key};
use super::pack::{Whiteouts, pack};

/// Counts and hashes what is written to nowhere.
#[derive(Default)]
struct Measure {
    hasher: Hasher,
    bytes: u64,
}

impl Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn header(name: &str, size: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    let rest = usize::try_from((512 - size % 512) % 512).unwrap_or(0);
    out.write_all(&[0; 512][..rest])
}

fn document(out: &mut impl Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    out.write_all(header(name, bytes.len() as u64)?.as_bytes())?;
    out.write_all(bytes)?;
    pad(out, bytes.len() as u64)
}

fn blob(id: &ImageId) -> String {
    format!("blobs/sha256/{}", id.digits())
}

/// The configuration with other layers; what tells of the old ones is left out.
fn configuration(library: &Library, record: &ImageRecord, diffs: &[ImageId]) -> Result<Vec<u8>, Fault> {
    let mut value: Value = super::manifest::json("the configuration", &library.configuration(record)?)?;
    value["rootfs"] = json!({ "type": "layers", "diff_ids": diffs });
    if let Some(object) = value.as_object_mut() {
        object.remove("history");
    }
    serde_json::to_vec(&value).map_err(|e| Fault::invalid(format!("writing the configuration: {e}")))
}

/// Writes an image.
pub(super) fn export(
    library: &Library,
    record: &ImageRecord,
    names: &[ImageName],
    mut out: impl Write,
) -> Result<(), Fault> {
    // Nobody removes it meanwhile.
    let _pin = library.pin(&record.id)?.ok_or_else(|| Fault::missing("is not in the store"))?;
    let failed = |e: io::Error| Fault::store("writing the archive", &e);
    let mut layers = Vec::with_capacity(record.layers.len());
    for layer in &record.layers {
        let path = library.path("layers", key(&layer.digest));
        let mut measure = Measure::default();
        pack(&path, &mut measure, Whiteouts::Translate).map_err(failed)?;
        layers.push((path, measure.hasher.finish(), measure.bytes));
    }
    let diffs: Vec<ImageId> = layers.iter().map(|(_, diff, _)| diff.clone()).collect();
    let config = configuration(library, record, &diffs)?;
    let config_id = digest::of(&config);
    let described =
        |kind: &str, id: &ImageId, size: u64| json!({ "mediaType": kind, "digest": id, "size": size });
    let tar = "application/vnd.oci.image.layer.v1.tar";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("application/vnd.oci.image.config.v1+json", &config_id, config.len() as u64),
        "layers": layers.iter().map(|(_, diff, size)| described(tar, diff, *size)).collect::<Vec<_>>(),
    })
    .to_string();
    let manifest_id = digest::of(manifest.as_bytes());
    let mut main =
        described("application/vnd.oci.image.manifest.v1+json", &manifest_id, manifest.len() as u64);
    if let Some(name) = names.first() {
        main["annotations"] = json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name.tag(),
        });
    }
    let saved = json!([{
        "Config": blob(&config_id),
        "RepoTags": names.iter().map(ImageName::familiar).collect::<Vec<_>>(),
        "Layers": diffs.iter().map(blob).collect::<Vec<_>>(),
    }]);
    let out = &mut out;
    document(out, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(failed)?;
    let index = json!({ "schemaVersion": 2, "manifests": [main] }).to_string();
    document(out, "index.json", index.as_bytes()).map_err(failed)?;
    document(out, "manifest.json", saved.to_string().as_bytes()).map_err(failed)?;
    document(out, &blob(&config_id), &config).map_err(failed)?;
    document(out, &blob(&manifest_id), manifest.as_bytes()).map_err(failed)?;
    let mut written: Vec<&ImageId> = Vec::new();
    for (path, diff, size) in &layers {
        if written.contains(&diff) {
            continue;
        }
        written.push(diff);
        out.write_all(header(&blob(diff), *size).map_err(failed)?.as_bytes()).map_err(failed)?;
        pack(path, &mut *out, Whiteouts::Translate).map_err(failed)?;
        pad(out, *size).map_err(failed)?;
    }
    out.write_all(&[0; 1024]).and_then(|()| out.flush()).map_err(failed)
}
