//! T13: images that have links or other things where a sandbox's own file systems are mounted.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use bytes::Bytes;
use hothouse_domain::SandboxSpec;
use reqwest::Method;
use serde_json::Value;

use crate::outside::{OWN_MOUNTS, shell};
use crate::scene::Scene;

/// What is mounted on, or made, in every sandbox.
const PLACES: [&str; 5] = ["dev", "proc", "sys", "tmp", "workspace"];
/// Sandboxes of an image that changes meanwhile.
const RACES: usize = 60;

/// An image in a directory beside a directory that none of its sandboxes may change.
struct Trap {
    root: PathBuf,
    victim: PathBuf,
}

impl Trap {
    fn set(scene: &Scene<'_>, name: &str) -> anyhow::Result<Self> {
        let within = scene.world.dir().join(format!("t13-{name}"));
        // The case is played once more where the neighbour was slow.
        match fs::remove_dir_all(&within) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let (root, victim) = (within.join("root"), within.join("victim"));
        fs::create_dir_all(&root)?;
        fs::create_dir(&victim)?;
        fs::write(victim.join("kept"), "of the host")?;
        // Whoever the server is could write there: nothing but the defence is in the way.
        for path in [&root, &victim] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
        }
        Ok(Self { root, victim })
    }

    async fn create(&self, scene: &Scene<'_>) -> anyhow::Result<crate::api::Answer> {
        let image = format!("dir:{}", self.root.display()).parse()?;
        let spec = serde_json::to_vec(&SandboxSpec { image, ..SandboxSpec::default() })?;
        scene.world.api.send(Method::POST, "/v1/sandboxes", spec.into()).await
    }

    /// What is not as it was: what the victim holds, and what is mounted on it.
    fn sprung(&self) -> anyhow::Result<Option<String>> {
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir(&self.victim)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        let content = fs::read_to_string(self.victim.join("kept"))?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mounted = mounts.contains(&self.victim.display().to_string());
        let kept = names == ["kept"] && content == "of the host" && !mounted;
        Ok((!kept).then(|| format!("{names:?} {content:?}, mounted on: {mounted}")))
    }
}

type Plant = fn(&Path, &Path) -> std::io::Result<()>;

/// What stands where a directory should be.
const PLANTS: [(&str, Plant); 5] = [
    ("a link to the host", |at, victim| symlink(victim, at)),
    ("a relative link out of the image", |at, _| symlink("../victim", at)),
    ("a link that leads nowhere", |at, _| symlink("/no/such/place", at)),
    ("a file", |at, _| fs::write(at, "")),
    ("a FIFO", |at, _| {
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, at, rustix::fs::FileType::Fifo, mode, 0).map_err(Into::into)
    }),
];

pub(super) async fn attack(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for place in PLACES {
        for (what, plant) in PLANTS {
            let trap = Trap::set(scene, "place")?;
            plant(&trap.root.join(place), &trap.victim)?;
            let answer = trap.create(scene).await?;
            let told = String::from_utf8_lossy(&answer.body).into_owned();
            let refused = answer.code() == "image_invalid" && told.contains(&format!("/{place} "));
            scene.found.holds(format!("{what} at /{place} is refused and named"), refused, &told);
            let sprung = trap.sprung()?;
            let evidence = sprung.as_deref().unwrap_or_default();
            scene.found.holds(format!("{what} at /{place} changes nothing"), sprung.is_none(), evidence);
        }
    }
    covered(scene).await?;
    changing(scene).await?;
    let states = scene.world.state_directory();
    let left = fs::read_dir(&states).with_context(|| states.display().to_string())?.count();
    // The neighbour has one.
    scene.found.holds("nothing is left of what was refused", left == 1 + scene.owned(), left);
    Ok(())
}

/// Below `/dev` an image may have what it likes, as the ones that container tools export do: all of it is covered by
/// devices of the sandbox's own.
async fn covered(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let trap = Trap::set(scene, "covered")?;
    fs::create_dir(trap.root.join("dev"))?;
    for name in ["null", "pts", "shm", "fd", "ptmx"] {
        symlink(&trap.victim, trap.root.join("dev").join(name))?;
    }
    let answer = trap.create(scene).await?;
    anyhow::ensure!(answer.status == 201, "{} {}", answer.status, answer.code());
    let info: Value = serde_json::from_slice(&answer.body)?;
    let id = info["id"].as_str().context("an id")?.to_owned();
    scene.owns(id.clone());
    for (name, kind) in [("null", "other"), ("pts", "directory"), ("shm", "directory")] {
        let path = format!("/v1/sandboxes/{id}/files/stat?path=/dev/{name}");
        let stat = scene.world.api.send(Method::GET, &path, Bytes::new()).await?;
        let stat: Value = serde_json::from_slice(&stat.body)?;
        scene.found.holds(format!("/dev/{name} is the sandbox's own"), stat["kind"] == kind, &stat);
    }
    let written = format!("/v1/sandboxes/{id}/files?path=/dev/shm/planted");
    scene.world.api.send(Method::PUT, &written, Bytes::from_static(b"x")).await?;
    let sprung = trap.sprung()?;
    scene.found.holds(
        "what is written below /dev stays inside",
        sprung.is_none(),
        sprung.unwrap_or_default(),
    );
    Ok(())
}

/// A directory that becomes a link and back while sandboxes are made: between the look and the mount too.
async fn changing(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let trap = Trap::set(scene, "race")?;
    let ended = AtomicBool::new(false);
    let (dev, link, aside) = (trap.root.join("dev"), trap.root.join("link"), trap.root.join("aside"));
    fs::create_dir(&dev)?;
    symlink(&trap.victim, &link)?;
    let flip = || -> std::io::Result<u64> {
        let mut flips = 0;
        while !ended.load(Ordering::Relaxed) {
            for (from, to) in [(&dev, &aside), (&link, &dev), (&dev, &link), (&aside, &dev)] {
                fs::rename(from, to)?;
            }
            flips += 1;
            std::thread::yield_now();
        }
        Ok(flips)
    };
    let (flips, answers) = std::thread::scope(|threads| {
        let flipping = threads.spawn(flip);
        let runtime = tokio::runtime::Handle::current();
        let answers = tokio::task::block_in_place(|| {
            runtime.block_on(async {
                let mut answers = Vec::new();
                for _ in 0..RACES {
                    let answer = trap.create(scene).await?;
                    if answer.status == 201 {
                        let info: Value = serde_json::from_slice(&answer.body)?;
                        scene.world.api.delete(info["id"].as_str().context("an id")?).await?;
                    }
                    answers.push(answer);
                }
                anyhow::Ok(answers)
            })
        });
        ended.store(true, Ordering::Relaxed);
        (flipping.join(), answers)
    });
    let flips = flips.map_err(|_| anyhow::anyhow!("the flipping thread panicked"))??;
    for answer in answers? {
        let code = answer.code();
        let ok = answer.status == 201 || matches!(code.as_str(), "image_invalid" | "create_failed");
        scene.found.holds("made or refused while its image changes", ok, &code);
    }
    scene.found.holds("the image changed meanwhile", flips > 0, flips);
    let sprung = trap.sprung()?;
    scene.found.holds(
        "no mount follows a link that comes late",
        sprung.is_none(),
        sprung.unwrap_or_default(),
    );
    Ok(())
}

/// A mount that nothing guards, in a namespace of its own: it follows the link.
pub(super) async fn control(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let trap = Trap::set(scene, "control")?;
    for place in PLACES {
        symlink(&trap.victim, trap.root.join(place))?;
        let target = trap.root.join(place);
        let script = format!(
            "mount -t tmpfs trap {target} && : > {target}/planted && grep -c ' {victim} ' /proc/self/mountinfo && \
             ls {victim}",
            target = target.display(),
            victim = trap.victim.display()
        );
        let said = shell(OWN_MOUNTS, &script).await?;
        scene.found.holds(format!("a mount on the link /{place} leads out"), said == "1\nplanted\n", &said);
    }
    Ok(())
}
