//! `hothouse build` with a real builder.

use crate::dockerd::Docker;
use crate::process::answer;
use crate::program::hothouse;
use crate::skip::skip;

const DOCKERFILE: &str = "FROM scratch AS base\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\nARG WHO=nobody\n\
    ENV WHO=$WHO\nWORKDIR /w\nFROM base\nCOPY sub/file /w/file\n";

#[test]
fn what_docker_builds_is_an_image_of_ours() {
    let work = tempfile::tempdir().unwrap();
    let Some(docker) = Docker::start(&work.path().join("docker")) else {
        return skip(
            "what_docker_builds_is_an_image_of_ours",
            "dockerd and docker are not installed, or the test is not root's",
        );
    };
    let context = work.path().join("context");
    std::fs::create_dir_all(context.join("sub")).unwrap();
    std::fs::copy("/bin/busybox", context.join("busybox")).unwrap();
    std::fs::write(context.join("sub/file"), "built").unwrap();
    std::fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
    let home = work.path().join("home");
    let run = |args: &[&str]| {
        let mut command = hothouse(args);
        command.env("HOTHOUSE_HOME", &home).env("DOCKER_HOST", docker.host()).env("DOCKER_BUILDKIT", "0");
        answer(command.current_dir(&context))
    };
    let built = run(&["build", "--with", "docker", "-n", "app:1", "--build-arg", "WHO=somebody", "."]);
    assert_eq!(built.status, 0, "{built:?}");
    assert!(built.stdout.starts_with("sha256:") && built.stdout.lines().count() == 1, "{built:?}");
    assert!(built.stderr.contains("Step 1"), "what the builder says is shown: {built:?}");
    let ran = run(&[
        "run",
        "--image",
        "app:1",
        "--",
        "/bin/busybox",
        "sh",
        "-c",
        "echo $WHO; pwd; busybox cat file",
    ]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "somebody\n/w\nbuilt"), "{ran:?}");

    let stage = run(&["build", "--target", "base", "-n", "base:1", "--with", "docker", "--json"]);
    assert!(stage.stdout.contains("\"base:1\""), "{stage:?}");
    std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY none /\n").unwrap();
    let failed = run(&["build", "--with", "docker", "-n", "app:2"]);
    assert_eq!(failed.status, 1, "{failed:?}");
    assert!(failed.stderr.contains("docker build ended with exit status"), "{failed:?}");
    let images = run(&["image", "ls", "--json"]);
    assert!(!images.stdout.contains("app:2"), "{images:?}");
}

#[test]
fn without_a_builder_it_says_which_to_install() {
    let empty = tempfile::tempdir().unwrap();
    let mut command = hothouse(&["build", "-n", "app:1"]);
    let told = answer(command.env("PATH", empty.path()));
    assert_eq!(told.status, 1, "{told:?}");
    assert!(told.stderr.contains("apt-get install buildah"), "{told:?}");
    let mut command = hothouse(&["build", "-n", "app:1", "--with", "podman"]);
    let told = answer(command.env("PATH", empty.path()));
    assert!(told.stderr.contains("podman is not installed"), "{told:?}");
}
