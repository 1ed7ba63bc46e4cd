//! `image`: unpack an image beside `tar -x` of the same layers; make sandboxes from one layer and from thirty.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use flate2::write::GzEncoder;
use hothouse_domain::{PullPolicy, PullSpec};
use hothouse_sandbox::{ImageLimits, Images};
use hyper::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::contest::{Contender, measure};
use super::http::Driver;
use super::report::{Bar, Figure, Report, Role};
use super::sample::Round;
use super::service::{Service, destroy};

/// Bytes of files in the image that is unpacked.
const BYTES: u64 = 200 << 20;
/// Its layers.
const LAYERS: usize = 4;
/// Layers of the deep image.
const DEEP: usize = 30;
/// Sandboxes of a round.
const CREATES: usize = 100;

/// Measures it.
pub(super) fn run(rounds: usize) -> anyhow::Result<Report> {
    let mut report = Report::new("image");
    let place = tempfile::Builder::new().prefix("hothouse-bench-").tempdir()?;
    let files = pick(Path::new("/usr"), BYTES)?;
    let big = layout(&place.path().join("big"), &spread(&files, LAYERS))?;
    let few: Vec<PathBuf> = files.iter().take(10 * DEEP).cloned().collect();
    let deep = layout(&place.path().join("deep"), &spread(&few, DEEP))?;
    let flat = layout(&place.path().join("flat"), &spread(&few, 1))?;
    report.notes.push(format!(
        "{} files of /usr, {BYTES} bytes, in {LAYERS} layers of gzip; `tar -xzf` takes one after the other into fresh \
         directories beside the store; removing is not counted",
        files.len()
    ));
    report.notes.push(format!(
        "create: the same files in 1 layer and in {DEEP}, unpacked before; over HTTP, no pool"
    ));

    let service = Service::start()?;
    let driver = service.driver()?;
    let mut contenders = vec![
        contender("tar -xzf", Role::Floor, 1, |ops| repeat(ops, || tar(place.path(), &big))),
        contender("hothouse, pull from the layout", Role::Hothouse, 1, |ops| {
            repeat(ops, || pull(place.path(), &big))
        }),
        contender("hothouse, create, 1 layer", Role::Hothouse, CREATES, |ops| creates(&driver, &flat, ops)),
        contender(&format!("hothouse, create, {DEEP} layers"), Role::Hothouse, CREATES, |ops| {
            creates(&driver, &deep, ops)
        }),
    ];
    let entries = measure(&mut contenders, rounds)?;
    drop(contenders);
    service.stop()?;
    let [floor, ours, one, many] = entries.as_slice() else { bail!("four contenders have four entries") };
    let mut rows: Vec<_> = entries.iter().map(|entry| entry.row.clone()).collect();
    rows[1].note = ours.rate_against("tar", floor);
    rows[3].note = many.against("1 layer", one);
    report.rows = rows;
    let speed = ours.series.rate_over(&floor.series).context("rounds of both")?;
    let cost = many.series.p50_over(&one.series).context("rounds of both")?;
    report.figures.push(Figure {
        name: "unpacked".to_owned(),
        before: None,
        value: ours.row.per_second * 200.0,
        unit: "MiB/s",
    });
    report.bars.push(Bar::at_least("unpacking over `tar -x`", speed.median, 0.8, " ×"));
    report.bars.push(Bar::at_most("create from 30 layers over that from 1, p50", cost.median, 1.3, " ×"));
    Ok(report)
}

fn contender<'a>(
    name: &str,
    role: Role,
    per_round: usize,
    measure: impl FnMut(usize) -> anyhow::Result<Round> + 'a,
) -> Contender<'a> {
    Contender { name: name.to_owned(), role, in_flight: 1, per_round, measure: Box::new(measure) }
}

/// Files of a directory until there are so many bytes; the same on every call.
fn pick(root: &Path, bytes: u64) -> anyhow::Result<Vec<PathBuf>> {
    let (mut found, mut sum, mut pending) = (Vec::new(), 0, vec![root.to_owned()]);
    while let Some(directory) = pending.pop() {
        // What may not be read is somebody else's.
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        let mut entries: Vec<_> = entries.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, meta) = (entry.path(), entry.metadata()?);
            if meta.is_dir() {
                pending.push(path);
            } else if meta.is_file() && meta.len() < bytes / 8 && File::open(&path).is_ok() {
                sum += meta.len();
                found.push(path);
                if sum >= bytes {
                    return Ok(found);
                }
            }
        }
    }
    bail!("{} has only {sum} bytes of files", root.display())
}

/// In so many parts, neighbours together.
fn spread(files: &[PathBuf], parts: usize) -> Vec<Vec<PathBuf>> {
    files.chunks(files.len().div_ceil(parts)).map(<[PathBuf]>::to_vec).collect()
}

/// Hashes what is written through it.
struct Hashing<W> {
    out: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashing<W> {
    fn new(out: W) -> Self {
        Self { out, hash: Sha256::new(), bytes: 0 }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An image on disk.
struct Layout {
    path: PathBuf,
    layers: Vec<PathBuf>,
}

impl Layout {
    fn reference(&self) -> String {
        format!("oci:{}", self.path.display())
    }
}

fn layout(path: &Path, parts: &[Vec<PathBuf>]) -> anyhow::Result<Layout> {
    let blobs = path.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let put = |kind: &str, bytes: &[u8]| -> anyhow::Result<Value> {
        let digest = hex(Sha256::new_with_prefix(bytes));
        fs::write(blobs.join(&digest), bytes)?;
        Ok(json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len() }))
    };
    let (mut diffs, mut descriptors, mut layers) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        let unnamed = blobs.join("unnamed");
        let stored = Hashing::new(io::BufWriter::new(File::create(&unnamed)?));
        let packed = GzEncoder::new(stored, flate2::Compression::new(6));
        let mut archive = tar::Builder::new(Hashing::new(packed));
        for file in part {
            archive.append_path_with_name(file, file.strip_prefix("/")?)?;
        }
        let plain = archive.into_inner()?;
        let mut stored = plain.out.finish()?;
        stored.flush()?;
        let digest = hex(stored.hash);
        let blob = blobs.join(&digest);
        fs::rename(&unnamed, &blob)?;
        diffs.push(format!("sha256:{}", hex(plain.hash)));
        descriptors.push(json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": format!("sha256:{digest}"), "size": stored.bytes,
        }));
        layers.push(blob);
    }
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let config = json!({
        "architecture": architecture, "os": "linux", "rootfs": { "type": "layers", "diff_ids": diffs },
    });
    let config = put("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes())?;
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": descriptors });
    let main = put(kind, manifest.to_string().as_bytes())?;
    fs::write(path.join("index.json"), json!({ "schemaVersion": 2, "manifests": [main] }).to_string())?;
    Ok(Layout { path: path.to_owned(), layers })
}

fn repeat(ops: usize, mut once: impl FnMut() -> anyhow::Result<Duration>) -> anyhow::Result<Round> {
    let latencies = (0..ops).map(|_| once()).collect::<anyhow::Result<Vec<_>>>()?;
    let elapsed = latencies.iter().sum();
    Ok(Round { latencies, elapsed })
}

/// Unpacks with tar.
fn tar(place: &Path, image: &Layout) -> anyhow::Result<Duration> {
    let target = place.join("tar");
    let began = Instant::now();
    for (number, layer) in image.layers.iter().enumerate() {
        let target = target.join(number.to_string());
        fs::create_dir_all(&target)?;
        let status = Command::new("tar").arg("-xzf").arg(layer).arg("-C").arg(&target).status()?;
        ensure!(status.success(), "tar ended with {status}");
    }
    let took = began.elapsed();
    fs::remove_dir_all(&target)?;
    Ok(took)
}

/// Unpacks into a store of its own.
fn pull(place: &Path, image: &Layout) -> anyhow::Result<Duration> {
    let store = place.join("images");
    let spec = PullSpec::of(image.reference().parse()?, PullPolicy::Missing);
    let images = Images::open(&store, ImageLimits::default())?;
    let began = Instant::now();
    tokio::runtime::Handle::current().block_on(images.pull(spec).done())?;
    let took = began.elapsed();
    fs::remove_dir_all(&store)?;
    Ok(took)
}

/// Makes sandboxes, one after the other; what ends them is not counted.
fn creates(driver: &Driver, image: &Layout, ops: usize) -> anyhow::Result<Round> {
    let body = serde_json::to_vec(&json!({ "image": image.reference() }))?;
    let latencies = std::cell::RefCell::new(Vec::with_capacity(ops));
    driver.round(1, ops, async |connection, _| {
        let began = Instant::now();
        let made: Value = connection.json(Method::POST, "/v1/sandboxes", body.clone()).await?;
        latencies.borrow_mut().push(began.elapsed());
        destroy(connection, made["id"].as_str().context("an id")?).await
    })?;
    let latencies = latencies.into_inner();
    let elapsed = latencies.iter().sum();
    Ok(Round { latencies, elapsed })
}
