//! Images from every kind of file, from a real registry and from a real Docker daemon, and sandboxes of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![expect(clippy::tests_outside_test_module, reason = "the whole program is a test")]

mod deadline;
#[path = "images/docker.rs"]
mod docker;
#[path = "images/dockerd.rs"]
mod dockerd;
#[path = "images/layout.rs"]
mod layout;
mod native_home;
#[path = "images/registry.rs"]
mod registry;
#[path = "images/skip.rs"]
mod skip;

use std::path::Path;

use hothouse_domain::image::PruneSpec;
use hothouse_domain::{ErrorCode, ImageRef, PullPolicy, PullSpec, SandboxSpec};
use hothouse_sandbox::node::AtShutdown;
use hothouse_sandbox::{ImageError, ImageLimits, Images, Sandbox};

use layout::{Compression, Layer, Layout};
use native_home::{Home, id, names, output, tests_as_ordinary_user};

/// Makes something wrong with a layout.
type Spoil = Box<dyn Fn(&Path)>;

/// A sandbox of this image.
fn of(image: &str) -> SandboxSpec {
    SandboxSpec { image: image.parse().unwrap(), ..SandboxSpec::default() }
}

/// A layer with a shell.
fn shell() -> Layer {
    Layer::new().copy("/bin/busybox", "bin/busybox").link("bin/sh", "busybox")
}

async fn look(sandbox: &Sandbox, command: &str) -> String {
    output(sandbox, command).await
}

/// Names of what a store has on disk, half-made things included.
fn on_disk(home: &Home) -> Vec<String> {
    let store = home.path().join("images/store");
    let mut found = Vec::new();
    for kind in ["layers", "images", "names", "imports", "blobs"] {
        found.extend(names(&store.join(kind)).into_iter().map(|name| format!("{kind}/{name}")));
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_every_kind_of_file_makes_a_sandbox() {
    let home = Home::new();
    let beside = home.beside("");
    let layout = Layout::new(&home.beside("layout"))
        .config(serde_json::json!({
            "Env": ["FROM_IMAGE=1", "BOTH=image"], "WorkingDir": "/srv/app", "Cmd": ["/bin/sh"],
        }))
        .layer(shell(), Compression::Gzip)
        .layer(
            Layer::new().file("data/a", "lower").file("data/gone", "x").file("opq/old", "x"),
            Compression::Zstd,
        )
        .layer(
            Layer::new()
                .file("data/a", "upper")
                .file("data/.wh.gone", "")
                .file("opq/.wh..wh..opq", "")
                .file("opq/new", "y"),
            Compression::None,
        );
    layout.write("v1");
    layout.write_docker_archive(&home.beside("saved.tar"), "app:1");
    tar(&home.beside("layout"), &home.beside("archive.tar"), &[]);
    tar(&home.beside("layout"), &home.beside("archive.tar.gz"), &["-z"]);
    shell().unpack(&home.beside("root"));
    tar(&home.beside("root"), &home.beside("root.tar"), &[]);
    tar(&home.beside("root"), &home.beside("root.tar.gz"), &["-z"]);
    let path = |name: &str| beside.join(name).display().to_string();
    home.with_node(async |node| {
        for image in [
            format!("oci:{}", path("layout")),
            format!("oci:{}:v1", path("layout")),
            format!("oci-archive:{}", path("archive.tar")),
            format!("oci-archive:{}:v1", path("archive.tar.gz")),
            format!("docker-archive:{}", path("saved.tar")),
            format!("docker-archive:{}:app:1", path("saved.tar")),
            "app:1".to_owned(),
            layout.id(),
            layout.id()[..20].to_owned(),
        ] {
            let mut spec = of(&image);
            spec.env.insert("BOTH".to_owned(), "sandbox".to_owned());
            let sandbox = node.create(spec).await.unwrap();
            let said = look(
                &sandbox,
                "pwd; echo $FROM_IMAGE $BOTH; cat /data/a; echo; cd /data; echo *; cd /opq; echo *",
            )
            .await;
            assert_eq!(said, "/srv/app\n1 sandbox\nupper\na\nnew", "{image}");
            assert_eq!(sandbox.info().spec.workdir.as_deref(), Some("/srv/app"));
            node.delete(sandbox.id()).await.unwrap();
        }
        for image in [format!("tarball:{}", path("root.tar")), format!("tarball:{}", path("root.tar.gz"))] {
            let sandbox = node.create(of(&image)).await.unwrap();
            assert_eq!(
                look(&sandbox, "pwd; echo /*").await,
                "/workspace\n/bin /dev /proc /tmp /workspace",
                "{image}"
            );
            node.delete(sandbox.id()).await.unwrap();
        }
        // One image, however often it came.
        assert_eq!(node.images().list().await.unwrap().len(), 2);
    })
    .await;
}

fn tar(from: &Path, to: &Path, flags: &[&str]) {
    let mut command = std::process::Command::new("tar");
    command.args(flags).arg("-C").arg(from).arg("-cf").arg(to).arg(".");
    assert!(command.status().unwrap().success());
}

#[test]
fn ordinary_user_images_make_sandboxes() {
    let tests = [
        "an_image_of_every_kind_of_file_makes_a_sandbox",
        "the_sandboxes_of_an_image_keep_it",
        "deep_images_are_merged",
        "what_is_wrong_with_an_image_is_told_and_leaves_nothing",
    ];
    tests_as_ordinary_user(&tests);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_owners_of_an_image_are_those_of_its_sandboxes() {
    if !rustix::process::geteuid().is_root() {
        return skip::skip("users_and_owners_of_an_image_are_those_of_its_sandboxes", "needs root");
    }
    let home = Home::new();
    Layout::new(&home.beside("layout"))
        .config(serde_json::json!({ "User": "1000:1001" }))
        .layer(shell().link("bin/id", "busybox").link("bin/stat", "busybox"), Compression::Gzip)
        .layer(
            Layer::new().owned("home/file", "x", (1000, 1001), 0o640).owned("other", "y", (70, 80), 0o644),
            Compression::Gzip,
        )
        .write("v1");
    let image = format!("oci:{}", home.beside("layout").display());
    home.with_node(async |node| {
        let sandbox = node.create(of(&image)).await.unwrap();
        assert_eq!(look(&sandbox, "id -u; id -g; cat /home/file").await, "1000\n1001\nx");
        assert_eq!(look(&sandbox, "stat -c '%u:%g:%a' /home/file /other").await, "1000:1001:640\n70:80:644");
        assert_eq!(sandbox.info().spec.user.as_deref(), Some("1000:1001"));
        let spec = SandboxSpec { user: Some("0".to_owned()), ..of(&image) };
        assert_eq!(look(&node.create(spec).await.unwrap(), "id -u").await, "0");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_images_are_merged() {
    let home = Home::new();
    let mut layout = Layout::new(&home.beside("layout")).layer(shell(), Compression::Gzip);
    for n in 0..120 {
        let layer = Layer::new().file(&format!("n/{n}"), &n.to_string()).file("last", &n.to_string());
        // Every tenth takes away what the one before has made.
        let layer = if n % 10 == 9 { layer.file(&format!("n/.wh.{}", n - 1), "") } else { layer };
        layout = layout.layer(layer, Compression::Gzip);
    }
    layout.write("v1");
    home.with_node(async |node| {
        let image = format!("oci:{}", home.beside("layout").display());
        let sandbox = node.create(of(&image)).await.unwrap();
        assert_eq!(
            look(&sandbox, "cat /last; echo; cd /n; set -- *; echo $#; [ -e 8 ] || [ -e 118 ] || echo gone")
                .await,
            "119\n108\ngone"
        );
        let info = node.images().list().await.unwrap().remove(0);
        assert_eq!(info.layers.len(), 64);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandboxes_of_an_image_keep_it() {
    let home = Home::new();
    Layout::new(&home.beside("layout")).layer(shell(), Compression::Gzip).write("v1");
    let image = format!("oci:{}", home.beside("layout").display());
    let all = PruneSpec { all: true, unused_for_s: 0 };
    let node = home.node().await;
    let sandbox = node.create(SandboxSpec { id: Some(id("keeper")), ..of(&image) }).await.unwrap();
    let info = node.images().list().await.unwrap().remove(0);
    assert!(info.in_use);
    let wanted = ImageRef::Id(info.id.clone());
    let refused = |error: ImageError| assert_eq!(error.code, ErrorCode::ImageInUse, "{error}");
    refused(node.images().remove(&wanted).await.unwrap_err());
    assert_eq!(node.images().prune(all).await.unwrap().images, []);
    // Another process with the same store, such as `hothouse image prune`.
    let other = Images::open(&home.path().join("images"), ImageLimits::default()).unwrap();
    assert_eq!(other.prune(all).await.unwrap().images, []);
    refused(other.remove(&wanted).await.unwrap_err());
    // Nobody holds it but a sandbox that outlives its server.
    drop(sandbox);
    node.shutdown(AtShutdown::Leave).await;
    drop(node);
    assert_eq!(other.prune(all).await.unwrap().images, []);
    refused(other.remove(&wanted).await.unwrap_err());
    let node = home.node().await;
    assert_eq!(look(&node.get(&id("keeper")).unwrap(), "echo alive").await, "alive");
    refused(node.images().remove(&wanted).await.unwrap_err());
    node.delete(&id("keeper")).await.unwrap();
    let pruned = node.images().prune(all).await.unwrap();
    assert_eq!((pruned.images, pruned.layers), (vec![info.id], 1));
    assert_eq!(on_disk(&home), Vec::<String>::new());
    node.shutdown(AtShutdown::Destroy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_image_is_told_and_leaves_nothing() {
    let home = Home::new();
    let good = || Layout::new(&home.beside("layout")).layer(shell(), Compression::Gzip);
    let cases: Vec<(&str, ErrorCode, Spoil)> = vec![
        ("is corrupt", ErrorCode::ImageInvalid, Box::new(|at| layout::damage(at, layout::Part::Layer))),
        ("is missing", ErrorCode::ImageInvalid, Box::new(|at| layout::remove(at, layout::Part::Layer))),
        ("is corrupt", ErrorCode::ImageInvalid, Box::new(|at| layout::damage(at, layout::Part::Config))),
        ("No such file", ErrorCode::ImageInvalid, Box::new(|at| layout::remove(at, layout::Part::Config))),
        (
            "is no index",
            ErrorCode::ImageInvalid,
            Box::new(|at| {
                std::fs::write(at.join("index.json"), r#"{"config":{"digest":""},"layers":[]}"#).unwrap()
            }),
        ),
        (
            "not what it should be",
            ErrorCode::ImageInvalid,
            Box::new(|at| std::fs::write(at.join("index.json"), "{").unwrap()),
        ),
        (
            "is no image layout",
            ErrorCode::ImageInvalid,
            Box::new(|at| std::fs::remove_file(at.join("index.json")).unwrap()),
        ),
    ];
    let node = home.node().await;
    let image = format!("oci:{}", home.beside("layout").display());
    for (why, code, spoil) in cases {
        good().write("v1");
        spoil(&home.beside("layout"));
        let error = node.create(of(&image)).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(on_disk(&home), Vec::<String>::new(), "{why}");
        std::fs::remove_dir_all(home.beside("layout")).unwrap();
    }
    for (layout, why) in [
        (good().wrong_diff_id(), "not the layer that the configuration names"),
        (good().media_type("application/vnd.oci.image.layer.v1.tar+bzip2"), "is not supported"),
        (good().architecture("s390x"), "is for linux/s390x"),
    ] {
        layout.write("v1");
        let error = node.create(of(&image)).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(error.code(), ErrorCode::ImageInvalid, "{error}");
        assert_eq!(on_disk(&home), Vec::<String>::new(), "{why}");
    }
    for (image, code) in
        [("nothing:1", ErrorCode::ImageNotFound), ("sha256:0123456789", ErrorCode::ImageNotFound)]
    {
        assert_eq!(node.create(of(image)).await.unwrap_err().code(), code);
    }
    good().write("v1");
    let never = SandboxSpec { pull: PullPolicy::Never, ..of(&image) };
    let error = node.create(never.clone()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ImageNotFound, "{error}");
    node.create(of(&image)).await.unwrap();
    node.create(never).await.unwrap();
    node.shutdown(AtShutdown::Destroy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_may_take_no_more_than_its_limits() {
    let home = Home::new();
    let images = |limits| {
        let path = home.path().join("images");
        Images::open(&path, limits).unwrap()
    };
    let write = |name: &str, content: &str| {
        let layer = Layer::new().file("file", &content.repeat(200_000));
        Layout::new(&home.beside(name)).layer(layer, Compression::Gzip).write("v1");
        PullSpec::of(format!("oci:{}", home.beside(name).display()).parse().unwrap(), PullPolicy::Missing)
    };
    let (one, two) = (write("one", "a"), write("two", "b"));
    for limits in [
        ImageLimits { max_bytes: 100_000, ..ImageLimits::default() },
        ImageLimits { max_entries: 0, ..ImageLimits::default() },
    ] {
        let error = images(limits).pull(one.clone()).done().await.unwrap_err();
        assert_eq!(error.code, ErrorCode::TooLarge, "{error}");
        assert_eq!(on_disk(&home), Vec::<String>::new());
    }
    // Room for one: the one that was used longest ago goes.
    let tight = images(ImageLimits { max_store_bytes: 300_000, ..ImageLimits::default() });
    let first = tight.pull(one.clone()).done().await.unwrap();
    let second = tight.pull(two).done().await.unwrap();
    assert_ne!(first.id, second.id);
    let left: Vec<_> = tight.list().await.unwrap().into_iter().map(|info| info.id).collect();
    assert_eq!(left, [second.id]);
    // No room for any.
    let full = images(ImageLimits { max_store_bytes: 1000, ..ImageLimits::default() });
    let error = full.pull(one).done().await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NoSpace, "{error}");
    assert_eq!(on_disk(&home), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_with_a_link_at_a_mount_point_makes_no_sandbox() {
    let home = Home::new();
    home.with_node(async |node| {
        for name in ["proc", "dev", "sys", "tmp"] {
            Layout::new(&home.beside("layout"))
                .layer(shell().link(name, "/etc"), Compression::Gzip)
                .write("v1");
            let error =
                node.create(of(&format!("oci:{}", home.beside("layout").display()))).await.unwrap_err();
            assert!(error.to_string().contains(&format!("/{name} ")), "{error}");
            assert_eq!(error.code(), ErrorCode::ImageInvalid);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_image_is_the_same_when_it_comes_back() {
    use futures::StreamExt as _;
    let home = Home::new();
    Layout::new(&home.beside("layout"))
        .config(serde_json::json!({ "Env": ["A=b"], "Labels": {"l": "m"} }))
        .layer(shell().file("d/x", "1").file("d/y", "2"), Compression::Gzip)
        .layer(Layer::new().file("d/.wh.x", "").file(&"n".repeat(150), "long"), Compression::Gzip)
        .write("v1");
    let node = home.node().await;
    let spec = PullSpec {
        name: Some("kept:1".parse().unwrap()),
        ..PullSpec::of(
            format!("oci:{}", home.beside("layout").display()).parse().unwrap(),
            PullPolicy::Missing,
        )
    };
    let before = node.images().pull(spec).done().await.unwrap();
    let mut archive = node.images().export(&"kept:1".parse().unwrap()).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = archive.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    let file = home.beside("exported.tar");
    std::fs::write(&file, bytes).unwrap();
    node.images().remove(&"kept:1".parse().unwrap()).await.unwrap();
    for image in [
        format!("docker-archive:{}", file.display()),
        format!("oci-archive:{}", file.display()),
        "kept:1".to_owned(),
    ] {
        let sandbox = node.create(of(&image)).await.unwrap();
        assert_eq!(look(&sandbox, "cd /d; echo *; echo $A").await, "y\nb");
        assert_eq!(node.images().inspect(&image.parse().unwrap()).await.unwrap().config, before.config);
    }
    node.shutdown(AtShutdown::Destroy).await;
}
