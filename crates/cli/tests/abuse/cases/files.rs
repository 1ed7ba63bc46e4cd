//! T14: paths that try to leave the sandbox, or to make the server wait.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Method;

use crate::api::Answer;
use crate::scene::Scene;

/// Long enough for any file request that does not block.
const PROMPT: Duration = Duration::from_secs(3);

fn escape(path: &str) -> String {
    path.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

async fn read(scene: &Scene<'_>, id: &str, path: &str) -> anyhow::Result<Answer> {
    let target = format!("/v1/sandboxes/{id}/files?path={}", escape(path));
    scene.world.api.send(Method::GET, &target, Bytes::new()).await
}

async fn write(scene: &Scene<'_>, id: &str, path: &str, content: &str) -> anyhow::Result<Answer> {
    let target = format!("/v1/sandboxes/{id}/files?path={}", escape(path));
    scene.world.api.send(Method::PUT, &target, Bytes::from(content.to_owned())).await
}

/// The answer gives nothing away and wrote nothing: an error of the client's, or what lies inside.
fn refused(answer: &Answer) -> bool {
    (400..500).contains(&answer.status)
}

pub(super) async fn attack(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let id = scene.plain().await?;
    let secret = scene.world.dir().join("secret");
    std::fs::write(&secret, "of the host")?;
    let secret = secret.display().to_string();
    reads(scene, &id, &secret).await?;
    writes(scene, &id, &secret).await?;
    blockers(scene, &id).await?;
    swapped(scene, &id, &secret).await?;
    ids(scene).await?;
    let kept = std::fs::read_to_string(&secret)?;
    scene.found.holds("the host's file is as it was", kept == "of the host", kept);
    Ok(())
}

async fn reads(scene: &mut Scene<'_>, id: &str, secret: &str) -> anyhow::Result<()> {
    let links = format!(
        "ln -s {secret} /workspace/link; ln -s / /workspace/root; ln -s ../../../../../../.. /workspace/up; \
         ln -s /proc/1/root /workspace/proc; ln -s /proc/self/cwd /workspace/cwd; ln -s loop /workspace/loop"
    );
    scene.shell(id, &links).await?;
    let tries = [
        secret.to_owned(),
        format!("/../../../..{secret}"),
        format!("/workspace/../../../..{secret}"),
        "/workspace/link".to_owned(),
        format!("/workspace/root{secret}"),
        format!("/workspace/up{secret}"),
        format!("/workspace/proc{secret}"),
        format!("/workspace/cwd/../..{secret}"),
        format!("/proc/1/root{secret}"),
        format!("/proc/self/root{secret}"),
        format!("/proc/thread-self/root{secret}"),
        "/workspace/loop".to_owned(),
        "relative".to_owned(),
        "../../etc/shadow".to_owned(),
        String::new(),
        "/workspace/\0/x".to_owned(),
        format!("/{}", "x/".repeat(4000)),
        format!("/workspace/{}", "n".repeat(300)),
        "/etc/shadow".to_owned(),
        "/proc/1/environ".to_owned(),
        "/proc/1/mem".to_owned(),
    ];
    for path in tries {
        let answer = read(scene, id, &path).await?;
        let shown: String = path.chars().take(60).collect();
        scene.found.holds(format!("reading {shown:?}"), refused(&answer), answer.code());
    }
    Ok(())
}

async fn writes(scene: &mut Scene<'_>, id: &str, secret: &str) -> anyhow::Result<()> {
    // A path of the host is a path of the sandbox: writing there is fine, and must stay inside.
    for path in [secret.to_owned(), format!("/workspace/up{secret}"), "/workspace/link".to_owned()] {
        let answer = write(scene, id, &path, "from inside").await?;
        let outside = std::fs::read_to_string(secret)?;
        let kept = outside == "of the host" && (answer.status < 500);
        scene.found.holds(format!("writing {path:?}"), kept, format!("{} {outside:?}", answer.code()));
    }
    for path in
        ["relative", "/workspace/a\0b", "/", "/workspace/", "/proc/sys/kernel/core_pattern", "/dev/full"]
    {
        let answer = write(scene, id, path, "x").await?;
        scene.found.holds(format!("writing {path:?}"), refused(&answer), answer.code());
    }
    Ok(())
}

async fn blockers(scene: &mut Scene<'_>, id: &str) -> anyhow::Result<()> {
    let made = scene
        .shell(
            id,
            "mkfifo /workspace/fifo; ln -s fifo /workspace/to-fifo; \
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/workspace/socket\")'",
        )
        .await?;
    anyhow::ensure!(made.stderr.is_empty(), "{}", made.stderr);
    for path in
        ["/workspace/fifo", "/workspace/to-fifo", "/workspace/socket", "/dev/zero", "/dev/tty", "/dev/random"]
    {
        let began = Instant::now();
        let answer = tokio::time::timeout(PROMPT, read(scene, id, path)).await;
        let evidence = format!("{answer:?} after {:?}", began.elapsed());
        let held = answer.is_ok_and(|answer| answer.is_ok_and(|answer| refused(&answer)));
        scene.found.holds(format!("reading {path} is refused at once"), held, evidence);
    }
    for path in ["/workspace/fifo", "/workspace/socket", "/dev/null"] {
        // A write replaces what is there, or is refused; it does not wait for a reader.
        let answer = tokio::time::timeout(PROMPT, write(scene, id, path, "x")).await;
        let evidence = format!("{answer:?}");
        let held = answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status < 500));
        scene.found.holds(format!("writing {path} does not block"), held, evidence);
    }
    Ok(())
}

/// A directory that becomes a link to outside, and back, while files are written through it.
async fn swapped(scene: &mut Scene<'_>, id: &str, secret: &str) -> anyhow::Result<()> {
    let parent = std::path::Path::new(secret).parent().unwrap_or(std::path::Path::new("/"));
    let swapper = format!(
        "import os, time\nos.makedirs('/workspace/a', exist_ok=True)\nos.symlink({parent:?}, '/workspace/b')\n\
         end = time.monotonic() + 1.5\n\
         while time.monotonic() < end:\n    os.rename('/workspace/a', '/workspace/c'); os.rename('/workspace/b', '/workspace/a'); \
         os.rename('/workspace/c', '/workspace/b')",
    );
    let spec = crate::scene::python(&swapper, &[]);
    scene.world.api.exec_detached(id, spec).await?;
    let until = Instant::now() + Duration::from_secs(1);
    let mut worst = 0;
    while Instant::now() < until {
        let answer = write(scene, id, "/workspace/a/secret", "swapped").await?;
        worst = worst.max(answer.status);
        let got = read(scene, id, "/workspace/a/secret").await?;
        if got.status == 200 && got.body.as_ref() == b"of the host" {
            scene.found.holds("a swapped directory", false, "the host's file was read");
        }
    }
    let kept = std::fs::read_to_string(secret)?;
    scene.found.holds(
        "a swapped directory",
        kept == "of the host" && worst < 500,
        format!("{worst} {kept:?}"),
    );
    Ok(())
}

async fn ids(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for id in
        ["..", "%2e%2e", "..%2f..%2fetc", "%00", "a%2fb", ".hidden", "-dash", "%ff", "x%0d%0aInjected:1"]
    {
        let answer = scene.world.api.send_raw("GET", &format!("/v1/sandboxes/{id}")).await?;
        scene.found.holds(format!("the id {id:?}"), refused(&answer), answer.code());
    }
    let long = "x".repeat(200);
    let answer = scene.world.api.send_raw("GET", &format!("/v1/sandboxes/{long}")).await?;
    scene.found.holds("an id of 200 characters", refused(&answer), answer.code());
    Ok(())
}

pub(super) async fn control(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    // What a server does that joins paths: the link in the upper layer is followed to the host.
    let dir = tempfile::tempdir()?;
    let secret = scene.world.dir().join("secret");
    std::fs::write(&secret, "of the host")?;
    std::fs::create_dir(dir.path().join("workspace"))?;
    std::os::unix::fs::symlink(&secret, dir.path().join("workspace/link"))?;
    let followed = std::fs::read_to_string(dir.path().join("workspace/link"))?;
    scene.found.holds("joined paths follow the link out", followed == "of the host", followed);
    let climbed = dir.path().join(format!("workspace/{}{}", "../".repeat(20), secret.display()));
    let climbed = std::fs::read_to_string(climbed)?;
    scene.found.holds("joined paths climb out", climbed == "of the host", climbed);
    Ok(())
}
