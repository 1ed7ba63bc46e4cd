//! The same image, as Docker unpacks it and as we do: a real daemon with a directory of its own.

use std::io::Write as _;
use std::process::{Command, Stdio};

use hothouse_domain::SandboxSpec;

use crate::dockerd::Docker;

use crate::layout::{Compression, Layer, Layout};
use crate::native_home::{Home, output};
use crate::skip::skip;
use crate::{of, shell, tar};

/// Runs `docker` to its end; its output.
fn run(docker: &Docker, args: &[&str], input: &[u8]) -> String {
    let mut child = docker
        .command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What makes whiteouts, opaque directories, hard links, owners, bits, holes and long names.
const RECIPE: &str = r#"FROM base
RUN busybox mkdir -p /d/keep /d/gone/deep /d/opq/old /d/swap /tmp && cd /d && \
    echo a > keep/a && ln keep/a keep/hard && ln -s keep/a soft && ln -s /nowhere dangling && \
    echo b > gone/deep/b && echo c > opq/old/c && echo s > swap/s && echo f > file && \
    chmod 4711 keep/a && chmod 1777 /tmp && chmod 2750 opq && busybox chown 1000:1001 opq/old/c && \
    busybox chown -h 5:6 soft && mkfifo pipe && busybox mknod node c 1 3
RUN cd /d && rm -rf gone && rm -rf opq && busybox mkdir opq && echo n > opq/new && rm soft && \
    busybox rm -rf swap && echo now-a-file > swap && rm file && busybox mkdir file && echo in > file/in
RUN cd /d && busybox dd if=/dev/zero of=holes bs=1 count=1 seek=3M 2>/dev/null && \
    n=$(busybox printf '%0200d' 0) && busybox mkdir -p $n/$n && echo long > $n/$n/$n && \
    ln keep/hard keep/third && touch -d '1999-12-31 23:59:59' keep && echo more >> keep/a && chmod 000 opq/new
RUN cd /d && rm -rf swap && busybox mkdir swap && touch swap/again && rm node
ENV FROM=image
WORKDIR /d/keep
"#;

/// Every file with all that matters of it, but for what Docker itself puts into a container.
const INVENTORY: &str = r#"cd / && busybox find / -xdev \( -path /proc -o -path /dev -o -path /sys -o -path /workspace \
    -o -path /.dockerenv -o -path /etc \) -prune -o -print | busybox sort | while IFS= read -r f; do
  if [ -L "$f" ]; then busybox stat -c '%n %F %u:%g %Y' "$f"; busybox readlink "$f"
  elif [ "$f" = / ]; then :
  elif [ -d "$f" ]; then busybox stat -c '%n %F %a %u:%g %Y' "$f"
  elif [ -f "$f" ]; then busybox stat -c '%n %F %a %u:%g %s %Y %h' "$f"; busybox sha256sum < "$f"
  else busybox stat -c '%n %F %a %u:%g %Y' "$f"; fi; done"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_unpacked_image_is_what_docker_makes_of_it() {
    const NAME: &str = "an_unpacked_image_is_what_docker_makes_of_it";
    let home = Home::new();
    let Some(docker) = Docker::start(&home.beside("docker")) else {
        return skip(NAME, "dockerd and docker are not installed, or the test is not root's");
    };
    let mut base = shell();
    for applet in ["ls", "ln", "rm", "chmod", "touch", "mkfifo", "mkdir", "echo"] {
        base = base.link(&format!("bin/{applet}"), "busybox");
    }
    let root = home.beside("root");
    base.unpack(&root);
    tar(&root, &home.beside("root.tar"), &["--owner=0", "--group=0"]);
    run(&docker, &["import", "-", "base"], &std::fs::read(home.beside("root.tar")).unwrap());
    run(&docker, &["build", "-q", "--network=none", "-t", "made:1", "-"], RECIPE.as_bytes());
    let saved = home.beside("saved.tar");
    run(&docker, &["save", "-o", saved.to_str().unwrap(), "made:1"], b"");
    let theirs = run(
        &docker,
        &["run", "--rm", "--network=none", "-u", "0", "made:1", "/bin/sh", "-c", INVENTORY],
        b"",
    );
    assert!(theirs.lines().count() > 40, "{theirs}");
    home.with_node(async |node| {
        let sandbox = node.create(of(&format!("docker-archive:{}", saved.display()))).await.unwrap();
        // A device that the image brings is left out: sandboxes could not use it. Here the last layer removes it.
        let ours = output(&sandbox, INVENTORY).await;
        assert_same(&ours, theirs.trim_end());
        assert_eq!(output(&sandbox, "pwd; echo $FROM").await, "/d/keep\nimage");
    })
    .await;

    // What we write is what Docker reads.
    let node = home.node().await;
    let mut archive = node.images().export(&"made:1".parse().unwrap()).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = futures::StreamExt::next(&mut archive).await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    run(&docker, &["rmi", "made:1"], b"");
    run(&docker, &["load"], &bytes);
    let again = run(
        &docker,
        &["run", "--rm", "--network=none", "-u", "0", "made:1", "/bin/sh", "-c", INVENTORY],
        b"",
    );
    assert_same(&again, &theirs);
    node.shutdown(hothouse_sandbox::node::AtShutdown::Destroy).await;
}

fn assert_same(ours: &str, theirs: &str) {
    let differ: Vec<_> =
        ours.lines().zip(theirs.lines()).filter(|(ours, theirs)| ours != theirs).take(5).collect();
    assert!(
        differ.is_empty() && ours.lines().count() == theirs.lines().count(),
        "ours and Docker's: {differ:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_from_the_docker_daemon() {
    const NAME: &str = "an_image_comes_from_the_docker_daemon";
    // In a process of its own: the daemon is named by a variable.
    if std::env::var_os("DOCKER_HOST_OF_TEST").is_none() {
        let home = Home::new();
        let Some(docker) = Docker::start(&home.beside("docker")) else {
            return skip(NAME, "dockerd and docker are not installed, or the test is not root's");
        };
        let layout = Layout::new(&home.beside("layout"))
            .layer(shell(), Compression::Gzip)
            .layer(Layer::new().file("here", "yes"), Compression::Gzip);
        layout.write_docker_archive(&home.beside("saved.tar"), "local:1");
        run(&docker, &["load"], &std::fs::read(home.beside("saved.tar")).unwrap());
        let status = Command::new(std::env::current_exe().unwrap())
            .args([&format!("docker::{NAME}"), "--exact", "--nocapture"])
            .env("DOCKER_HOST", docker.host())
            .env("DOCKER_HOST_OF_TEST", "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let home = Home::new();
    home.with_node(async |node| {
        for _ in 0..2 {
            let sandbox = node.create(of("docker-daemon:local:1")).await.unwrap();
            assert_eq!(output(&sandbox, "cat /here").await, "yes");
        }
        assert_eq!(node.images().list().await.unwrap()[0].names, ["local:1"]);
        let missing: SandboxSpec = of("docker-daemon:none:1");
        let error = node.create(missing).await.unwrap_err();
        assert_eq!(error.code(), hothouse_domain::ErrorCode::ImageNotFound, "{error}");
    })
    .await;
}
