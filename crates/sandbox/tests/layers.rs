//! Directories of the node above an image: what a sandbox sees of them, and what its snapshots make of them.
#![allow(
    clippy::unwrap_used,
    clippy::tests_outside_test_module,
    reason = "a test program: all of it is tests, and one that cannot go on panics"
)]

mod deadline;
mod native_home;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hothouse_domain::{
    EndCause, ErrorCode, ImageRef, LayerRef, RestoreSpec, SandboxSpec, SnapshotId, SnapshotSpec,
};
use hothouse_sandbox::{End, Node, Sandbox, SandboxError};

use native_home::{Home, names, output, tests_as_ordinary_user};

/// Three trees beside a home: `a`, `b` with something over it, and `c`.
struct Trees {
    home: Home,
}

impl Trees {
    fn new() -> Self {
        let trees = Self { home: Home::new() };
        for (path, content) in [
            ("a/opt/env/main", "a"),
            ("a/opt/env/data", "a"),
            ("a/usr/local/lib/layered/module", "a"),
            ("b/opt/env/main", "b"),
            ("b/opt/env/extra", "b"),
            ("c/opt/more/file", "c"),
        ] {
            let path = trees.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{content}\n")).unwrap();
        }
        trees
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.beside(name)
    }

    fn layers(&self, names: &[&str]) -> Vec<LayerRef> {
        names.iter().map(|name| format!("dir:{}", self.path(name).display()).parse().unwrap()).collect()
    }

    fn spec(&self, names: &[&str]) -> SandboxSpec {
        SandboxSpec { layers: self.layers(names), ..SandboxSpec::default() }
    }
}

/// All that is in the trees, as a sandbox sees it.
async fn seen(sandbox: &Sandbox) -> String {
    let line = "cd /; for f in $(find opt usr/local/lib/layered -type f 2>/dev/null | sort); do echo $f=$(cat $f); done";
    output(sandbox, line).await.replace('\n', " ")
}

async fn changes(node: &Node, sandbox: &Sandbox) -> Vec<String> {
    let (_files, entries) = node.changes(sandbox, PathBuf::from("/")).await.unwrap();
    let text = |entry: &hothouse_sandbox::snapshot::diff::Entry| {
        format!("{:?} {}", entry.change.change, entry.change.path)
    };
    entries.iter().map(text).filter(|text| !text.ends_with("/workspace")).collect()
}

async fn snapshot(node: &Node, sandbox: &Sandbox, id: &str) -> ImageRef {
    let id: SnapshotId = id.parse().unwrap();
    let spec = SnapshotSpec { id: Some(id.clone()), ..SnapshotSpec::default() };
    node.snapshot(sandbox, spec, End::new(EndCause::Deleted, "test", "it was")).await.unwrap();
    ImageRef::Snapshot(id)
}

const BOTH: &str = "opt/env/data=a opt/env/extra=b opt/env/main=b usr/local/lib/layered/module=a";
const CHANGED: &str =
    "opt/env/data=new opt/env/main=b usr/local/lib/layered/module=a usr/local/lib/layered/new=new";

async fn layers_lie_above_an_image_and_below_what_is_changed() {
    let trees = Trees::new();
    trees
        .home
        .with_node(async |node| {
            let sandbox = node.create(trees.spec(&["a", "b"])).await.unwrap();
            assert_eq!(seen(&sandbox).await, BOTH);
            assert_eq!(sandbox.info().spec.layers, trees.layers(&["a", "b"]));
            let line =
                "cd /usr/local/lib/layered; echo new > /opt/env/data; rm /opt/env/extra; echo new > new";
            output(&sandbox, line).await;
            assert_eq!(seen(&sandbox).await, CHANGED);
            assert_eq!(
                fs::read_to_string(trees.path("a/opt/env/data")).unwrap(),
                "a\n",
                "it is only ever read"
            );
            assert_eq!(names(&trees.path("a/usr/local/lib/layered")), ["module"]);
            assert_eq!(
                seen(&node.create(trees.spec(&["b", "a"])).await.unwrap()).await,
                BOTH.replace("main=b", "main=a")
            );

            let expected =
                ["Modified /opt/env/data", "Deleted /opt/env/extra", "Added /usr/local/lib/layered/new"];
            assert_eq!(changes(&node, &sandbox).await, expected, "against image and layers");

            // A snapshot has its layers by itself.
            let image = snapshot(&node, &sandbox, "one").await;
            let info = node.snapshot_info(&"one".parse().unwrap(), None).unwrap();
            assert_eq!((info.image, info.image_layers), (ImageRef::Host, trees.layers(&["a", "b"])));
            let made =
                node.create(SandboxSpec { image: image.clone(), ..SandboxSpec::default() }).await.unwrap();
            assert_eq!(seen(&made).await, CHANGED);
            assert_eq!(made.info().spec.layers, trees.layers(&["a", "b"]));
            assert_eq!(changes(&node, &made).await, Vec::<String>::new());

            // What is made of it may have more, below what it has changed; its own are not there twice.
            let more = SandboxSpec { image, ..trees.spec(&["b", "c"]) };
            let more = node.create(more).await.unwrap();
            let with_more = CHANGED.replacen(" usr/", " opt/more/file=c usr/", 1);
            assert_eq!(seen(&more).await, with_more);
            assert_eq!(more.info().spec.layers, trees.layers(&["a", "b", "c"]));
            output(&more, "rm /opt/env/data /opt/more/file").await;
            assert_eq!(changes(&node, &more).await, ["Deleted /opt/env/data", "Deleted /opt/more/file"]);
            let image = snapshot(&node, &more, "two").await;
            let last = node.create(SandboxSpec { image, ..SandboxSpec::default() }).await.unwrap();
            let end = "opt/env/main=b usr/local/lib/layered/module=a usr/local/lib/layered/new=new";
            assert_eq!(seen(&last).await, end);

            // A fork is made of both, and what is set back has the layers of what it is set back to.
            let files = node.files_of(&sandbox).await.unwrap();
            let spec = node.fork_spec(&sandbox, &files, hothouse_domain::ClaimSpec::default()).unwrap();
            assert_eq!(seen(&node.create(spec).await.unwrap()).await, CHANGED);
            drop(files);
            node.restore(&sandbox, RestoreSpec { snapshot: None }, None).await.unwrap();
            assert_eq!(seen(&sandbox).await, BOTH);
            let to = RestoreSpec { snapshot: Some("two".parse().unwrap()) };
            node.restore(&sandbox, to, None).await.unwrap();
            assert_eq!(seen(&sandbox).await, end);
            assert_eq!(sandbox.info().spec.layers, trees.layers(&["a", "b", "c"]));
        })
        .await;
}

async fn a_layer_is_what_is_in_its_place_when_a_sandbox_is_made() {
    let trees = Trees::new();
    trees
        .home
        .with_node(async |node| {
            let earlier = node.create(trees.spec(&["a"])).await.unwrap();
            fs::rename(trees.path("a"), trees.path("earlier")).unwrap();
            fs::rename(trees.path("c"), trees.path("a")).unwrap();
            let later = node.create(trees.spec(&["a"])).await.unwrap();
            assert_eq!(seen(&later).await, "opt/more/file=c");
            assert_eq!(
                output(&earlier, "cat /opt/env/main").await,
                "a",
                "it keeps the one that it was made of"
            );
            fs::remove_dir_all(trees.path("a")).unwrap();
            let gone = node.create(trees.spec(&["a"])).await.unwrap_err();
            assert!(gone.to_string().contains("give a directory of this node"), "{gone}");
        })
        .await;
}

async fn a_layer_lies_above_a_directory_too_and_an_unsafe_one_is_refused() {
    let trees = Trees::new();
    let root = trees.path("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    for name in ["bin", "lib64"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    let image: ImageRef = format!("dir:{}", root.display()).parse().unwrap();
    trees
        .home
        .with_node(async |node| {
            let sandbox = node.create(SandboxSpec { image, ..trees.spec(&["a"]) }).await.unwrap();
            let listing = sandbox.list_dir("/opt/env").await.unwrap();
            let found: Vec<&str> = listing.iter().map(|file| file.path.as_str()).collect();
            assert_eq!(found, ["/opt/env/data", "/opt/env/main"]);

            let refused = async |name: &str| {
                let error: SandboxError = node.create(trees.spec(&[name])).await.unwrap_err();
                assert_eq!(error.code(), ErrorCode::ImageInvalid, "{error}");
                error.to_string()
            };
            for (name, link) in [("usr", "/etc"), ("proc", "/etc"), ("tmp", "/workspace")] {
                let layer = trees.path(&format!("unsafe-{name}"));
                fs::create_dir(&layer).unwrap();
                symlink(link, layer.join(name)).unwrap();
                let reason = refused(&format!("unsafe-{name}")).await;
                assert!(reason.contains(&format!("/{name} in it")), "{reason}");
            }
            assert!(refused("a/opt/env/main").await.contains("is not a directory"));
            if Path::new("/lib").is_symlink() {
                fs::create_dir_all(trees.path("hides/lib")).unwrap();
                assert!(refused("hides").await.contains("a link to usr/lib in the image"));
            }
        })
        .await;
}

async fn everything_holds() {
    layers_lie_above_an_image_and_below_what_is_changed().await;
    a_layer_is_what_is_in_its_place_when_a_sandbox_is_made().await;
    a_layer_lies_above_a_directory_too_and_an_unsafe_one_is_refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_hold_for_whoever_runs_this() {
    everything_holds().await;
}

#[test]
fn layers_hold_for_an_ordinary_user() {
    tests_as_ordinary_user(&["--exact", "layers_hold_for_whoever_runs_this"]);
}
