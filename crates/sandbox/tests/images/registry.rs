//! A real registry on loopback, filled by a real tool.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hothouse_domain::image::RegistryCredentials;
use hothouse_domain::{ErrorCode, PullPolicy, PullSpec, SandboxSpec, Secret};
use hothouse_sandbox::node::AtShutdown;
use hothouse_sandbox::{ImageLimits, Images};

use crate::layout::{Compression, Layer, Layout};
use crate::native_home::{Home, output};
use crate::skip::{installed, skip};
use crate::{of, on_disk, shell};

/// A registry; ends with the value.
struct Registry {
    process: Child,
    address: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It is ours, and what it holds goes with the test's home.
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Registry {
    /// Starts one; with `auth` only user `me` with password `s3cr3t` gets in.
    fn start(home: &Home, name: &str, auth: bool) -> Option<Self> {
        let (program, _) = (installed("docker-registry")?, installed("skopeo")?);
        // The port is free a moment later too: nobody else of this machine asks for this very one.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let place = home.beside(name);
        std::fs::create_dir_all(&place).unwrap();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            place.join("data").display()
        );
        if auth {
            let users = place.join("users");
            // bcrypt of `s3cr3t`.
            std::fs::write(&users, PASSWORDS).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display());
        }
        std::fs::write(place.join("config.yml"), config).unwrap();
        let process = Command::new(program)
            .arg("serve")
            .arg(place.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { process, address };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while TcpStream::connect(&registry.address).is_err() {
            assert!(std::time::Instant::now() < deadline, "the registry does not come up");
            std::thread::yield_now();
        }
        Some(registry)
    }

    fn push(&self, layout: &Path, name: &str, flags: &[&str]) {
        let output = Command::new("skopeo")
            .args(["copy", "-q", "--dest-tls-verify=false", "--insecure-policy"])
            .args(flags)
            .arg(format!("oci:{}:v1", layout.display()))
            .arg(format!("docker://{}/{name}", self.address))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// `htpasswd -nbB me s3cr3t`
const PASSWORDS: &str = "me:$2y$05$abcdefghijklmnopqrstuu9Avu/WgbsK7g7xfCY1X3pdjsTgxqQLS\n";

fn images(home: &Home) -> Images {
    Images::open(&home.path().join("images"), ImageLimits::default()).unwrap()
}

const SKIPPED: &str = "docker-registry or skopeo is not installed";

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_from_a_registry() {
    let home = Home::new();
    let Some(registry) = Registry::start(&home, "registry", false) else {
        return skip("an_image_comes_from_a_registry", SKIPPED);
    };
    let layout = home.beside("layout");
    let first = Layout::new(&layout).layer(shell().file("version", "1"), Compression::Gzip);
    first.write("v1");
    registry.push(&layout, "org/app:1", &[]);
    let image = format!("docker://{}/org/app:1", registry.address);
    home.with_node(async |node| {
        // Many who ask at once get one.
        let spec = || of(&image);
        let all = futures::future::join_all((0..8).map(|_| node.create(spec()))).await;
        for sandbox in all {
            assert_eq!(output(&sandbox.unwrap(), "cat /version").await, "1");
        }
        let info = node.images().list().await.unwrap().remove(0);
        assert_eq!(info.names, [format!("{}/org/app:1", registry.address)]);
        let pinned = format!("docker://{}", info.digests[0]);

        let second = Layout::new(&layout).layer(shell().file("version", "2"), Compression::Zstd);
        second.write("v1");
        registry.push(&layout, "org/app:1", &[]);
        let version =
            async |spec: SandboxSpec| output(&node.create(spec).await.unwrap(), "cat /version").await;
        assert_eq!(version(spec()).await, "1", "what is there is not looked for");
        assert_eq!(version(SandboxSpec { pull: PullPolicy::Always, ..spec() }).await, "2");
        assert_eq!(version(spec()).await, "2");
        assert_eq!(version(of(&pinned)).await, "1", "a digest does not move");
        node.images().remove(&hothouse_domain::ImageRef::Id(info.id)).await.unwrap_err();

        for (name, code) in
            [("org/app:none", ErrorCode::ImageNotFound), ("org/none:1", ErrorCode::ImageNotFound)]
        {
            let error = node.create(of(&format!("docker://{}/{name}", registry.address))).await.unwrap_err();
            assert_eq!(error.code(), code, "{error}");
        }
        let wrong = format!("docker://{}/org/app@sha256:{}", registry.address, "0".repeat(64));
        assert_eq!(node.create(of(&wrong)).await.unwrap_err().code(), ErrorCode::ImageNotFound);
        let never =
            SandboxSpec { pull: PullPolicy::Never, ..of(&format!("docker://{}/x", registry.address)) };
        assert_eq!(node.create(never).await.unwrap_err().code(), ErrorCode::ImageNotFound);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_asks_who_we_are_is_told() {
    let home = Home::new();
    let Some(registry) = Registry::start(&home, "registry", true) else {
        return skip("a_registry_that_asks_who_we_are_is_told", SKIPPED);
    };
    let layout = home.beside("layout");
    Layout::new(&layout).layer(shell(), Compression::Gzip).write("v1");
    registry.push(&layout, "app:1", &["--dest-creds", "me:s3cr3t"]);
    let images = images(&home);
    let image = format!("docker://{}/app:1", registry.address);
    let with = |credentials: Option<&str>| PullSpec {
        credentials: credentials.map(|password| RegistryCredentials {
            username: "me".to_owned(),
            password: Secret::new(password.to_owned()),
        }),
        ..PullSpec::of(image.parse().unwrap(), PullPolicy::Always)
    };
    for wrong in [None, Some("guess")] {
        let error = images.pull(with(wrong)).done().await.unwrap_err();
        assert_eq!(error.code, ErrorCode::ImageUnavailable, "{error}");
        assert!(error.to_string().contains("docker login"), "{error}");
        assert!(!error.to_string().contains("guess"));
    }
    images.pull(with(Some("s3cr3t"))).done().await.unwrap();
    images.close().await;
}

/// Sits before a registry and cuts connections off after so many bytes of each blob's answer, so many times.
struct Cutter {
    address: String,
    ranges: Arc<AtomicUsize>,
}

impl Cutter {
    fn start(target: String, cuts: usize, after: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (left, ranges) = (Arc::new(AtomicUsize::new(cuts)), Arc::<AtomicUsize>::default());
        let seen = Arc::clone(&ranges);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (target, left, seen) = (target.clone(), Arc::clone(&left), Arc::clone(&seen));
                std::thread::spawn(move || one(client.unwrap(), &target, &left, &seen, after));
            }
        });
        Self { address, ranges }
    }
}

/// One request of a connection, which is closed then.
fn one(mut client: TcpStream, target: &str, left: &AtomicUsize, seen: &AtomicUsize, after: usize) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let (mut head, mut blob) = (String::new(), false);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        blob |= line.contains("/blobs/");
        if line.to_ascii_lowercase().starts_with("range:") {
            seen.fetch_add(1, Ordering::Relaxed);
        }
        if line == "\r\n" {
            break;
        }
        if !line.to_ascii_lowercase().starts_with("connection:") {
            head += &line;
        }
    }
    let Ok(mut server) = TcpStream::connect(target) else { return };
    server.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).unwrap();
    let cut = blob
        && answer.len() > after
        && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    let end = if cut { after } else { answer.len() };
    // The client may have had enough.
    drop(client.write_all(&answer[..end]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_breaks_off_is_gone_on_with() {
    let home = Home::new();
    let Some(registry) = Registry::start(&home, "registry", false) else {
        return skip("a_registry_that_breaks_off_is_gone_on_with", SKIPPED);
    };
    let layout = home.beside("layout");
    Layout::new(&layout).layer(shell(), Compression::Gzip).write("v1");
    registry.push(&layout, "app:1", &[]);
    let images = images(&home);
    let spec = |address: &str| PullSpec {
        plain_http: true,
        ..PullSpec::of(format!("docker://{address}/app:1").parse().unwrap(), PullPolicy::Always)
    };
    let flaky = Cutter::start(registry.address.clone(), 3, 200_000);
    images.pull(spec(&flaky.address)).done().await.unwrap();
    assert!(flaky.ranges.load(Ordering::Relaxed) >= 3, "it went on where it had broken off");

    // One that stays away: it is told, and the next try goes on with what is there.
    let other = Home::new();
    let images = Images::open(&other.path().join("images"), ImageLimits::default()).unwrap();
    let dead = Cutter::start(registry.address.clone(), usize::MAX, 1000);
    let error = images.pull(spec(&dead.address)).done().await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ImageUnavailable, "{error}");
    let left = on_disk(&other);
    assert!(left.iter().all(|name| name.starts_with("blobs/")), "{left:?}");
    images.pull(spec(&registry.address)).done().await.unwrap();
    drop(registry);
    let error = images.pull(spec("127.0.0.1:9")).done().await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ImageUnavailable, "{error}");
    images.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_a_registry_has_damaged_is_refused() {
    let home = Home::new();
    let Some(registry) = Registry::start(&home, "registry", false) else {
        return skip("a_layer_that_a_registry_has_damaged_is_refused", SKIPPED);
    };
    let layout = home.beside("layout");
    Layout::new(&layout)
        .layer(shell(), Compression::Gzip)
        .layer(Layer::new().file("a", "b"), Compression::Gzip)
        .write("v1");
    registry.push(&layout, "app:1", &[]);
    let mut blobs = Vec::new();
    find_blobs(&home.beside("registry/data"), &mut blobs);
    let biggest = blobs.iter().max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let good = std::fs::read(biggest).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(biggest, &bad).unwrap();
    let node = home.node().await;
    let image = format!("docker://{}/app:1", registry.address);
    let error = node.create(of(&image)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ImageInvalid, "{error}");
    assert_eq!(on_disk(&home).iter().filter(|name| name.starts_with("images/")).count(), 0);
    std::fs::write(biggest, good).unwrap();
    // The damaged blob is not gone on with.
    node.create(of(&image)).await.unwrap();
    node.shutdown(AtShutdown::Destroy).await;
}

fn find_blobs(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_blobs(&path, found);
        } else if path.ends_with("data") {
            found.push(path);
        }
    }
}
