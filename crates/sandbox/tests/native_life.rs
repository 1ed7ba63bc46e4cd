//! The life of sandboxes of the native backend: made, frozen, found again, ended, and nothing left.
#![allow(
    clippy::unwrap_used,
    clippy::tests_outside_test_module,
    reason = "a test program: all of it is tests, and one that cannot go on panics"
)]

mod deadline;
mod native_home;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;

use hothouse_domain::{Enforcement, ImageRef, SandboxSpec};
use hothouse_guest::frame::{Channel, HEADER_LEN, Kind, encode};
use hothouse_guest::message::Hello;
use hothouse_sandbox::native::{NativeBackend, Running};

use native_home::{Home, eventually, id, names, output};

/// A hello to the guest and its answer, which tells that it serves.
async fn greet(running: &Running) {
    let stream = running.connect().await.unwrap().into_std().unwrap();
    let greeted = tokio::task::spawn_blocking(move || {
        let mut stream = stream;
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        let mut frame = Vec::new();
        encode(&mut frame, Kind::Hello, 0, Channel::None, &postcard::to_stdvec(&Hello::new()).unwrap());
        stream.write_all(&frame).unwrap();
        let mut header = [0; HEADER_LEN];
        stream.read_exact(&mut header).unwrap();
        header[8]
    });
    assert_eq!(greeted.await.unwrap(), Kind::Hello as u8);
}

async fn create(backend: &NativeBackend, name: &str) -> Running {
    backend.create(&id(name), &SandboxSpec::default()).await.unwrap()
}

/// Children of this process that are spawners or guests, and the descriptors that it has open.
fn descriptors() -> usize {
    names(std::path::Path::new("/proc/self/fd")).len()
}

/// The one child process of this test's backend that runs the spawner on this home.
fn spawner_pid(home: &Home) -> i32 {
    let program = native_home::spawner();
    let own = std::process::id();
    for name in names(std::path::Path::new("/proc")) {
        let Ok(pid) = name.parse::<i32>() else { continue };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent =
            stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1).map(str::to_owned));
        let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if parent == Some(own.to_string())
            && arguments.starts_with(program.to_str().unwrap())
            && arguments.contains(&home.instance())
        {
            return pid;
        }
    }
    panic!("no spawner among this test's children");
}

/// How long a process' turns on the CPU are, in nanoseconds; none where this kernel does not tell.
fn turn(pid: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/sched")).ok()?;
    let line = text.lines().find(|line| line.starts_with("se.slice"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_sandboxes_yields_to_what_runs_and_what_it_makes_does_not() {
    let home = Home::new();
    let backend = home.backend().await;
    let running = create(&backend, "one").await;
    let spawner = spawner_pid(&home).to_string();
    let guests = std::fs::read_to_string(format!("/proc/{spawner}/task/{spawner}/children")).unwrap();
    let guest = guests.split_whitespace().next().unwrap();
    // Kernels before 6.12 have turns of one length only.
    if let (Some(usual), Some(long), Some(of_guest)) = (turn("self"), turn(&spawner), turn(guest)) {
        assert!(long > usual, "the spawner's turns take {long} ns, as those of others");
        assert_eq!(of_guest, usual, "the guest's turns are not the usual ones");
    }
    running.destroy().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_is_made_answers_and_goes_without_a_trace() {
    let home = Home::new();
    let backend = home.backend().await;
    // What the first one makes for good is not held against the rest.
    create(&backend, "first").await.destroy().await.unwrap();
    let before = descriptors();
    for round in 0..20 {
        let running = create(&backend, &format!("round-{round}")).await;
        greet(&running).await;
        assert_eq!(home.state_directories().len(), 1);
        assert_eq!(*running.death().borrow(), None);
        running.destroy().await.unwrap();
        assert_eq!(home.state_directories(), Vec::<String>::new());
    }
    eventually("descriptors as before", || descriptors() <= before).await;
    let groups = home.groups();
    drop(backend);
    eventually(&format!("no control groups of {groups:?}"), || home.groups().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_are_all_there_and_all_go() {
    let home = Home::new();
    let backend = std::sync::Arc::new(home.backend().await);
    let mut making = tokio::task::JoinSet::new();
    for number in 0..40 {
        let backend = std::sync::Arc::clone(&backend);
        making.spawn(async move { create(&backend, &format!("many-{number}")).await });
    }
    let all = making.join_all().await;
    for running in &all {
        greet(running).await;
    }
    for running in all {
        running.destroy().await.unwrap();
    }
    assert_eq!(home.state_directories(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_id_is_refused_and_its_owner_lives() {
    let home = Home::new();
    let backend = home.backend().await;
    let running = create(&backend, "taken").await;
    backend.create(&id("taken"), &SandboxSpec::default()).await.unwrap_err();
    greet(&running).await;
    running.destroy().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_ends_is_reported_and_can_be_destroyed() {
    let home = Home::new();
    let backend = home.backend().await;
    let running = create(&backend, "mortal").await;
    let mut death = running.death();
    home.kill_guest("mortal");
    let reason = death.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    assert!(reason.contains("signal 9"), "{reason}");
    running.connect().await.unwrap_err();
    running.destroy().await.unwrap();
    assert_eq!(home.state_directories(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_one_stands_still_thaws_and_can_be_destroyed_frozen() {
    let home = Home::new();
    let backend = home.backend().await;
    if backend.capabilities().get("freeze") != Some(&Enforcement::Enforced) {
        let running = create(&backend, "cold").await;
        running.freeze().await.unwrap_err();
        return running.destroy().await.unwrap();
    }
    let running = create(&backend, "cold").await;
    running.freeze().await.unwrap();
    // The kernel accepts for it; it does not answer.
    let stream = running.connect().await.unwrap();
    let mut byte = [0];
    let silence = std::time::Duration::from_millis(50);
    let answer =
        tokio::time::timeout(silence, tokio::io::AsyncReadExt::read(&mut { stream }, &mut byte)).await;
    assert!(answer.is_err(), "a frozen guest said something");
    running.thaw().await.unwrap();
    greet(&running).await;
    running.freeze().await.unwrap();
    running.destroy().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_outlive_their_backend_and_are_found_again() {
    let home = Home::new();
    let backend = home.backend().await;
    let (kept, lost) = (create(&backend, "kept").await, create(&backend, "lost").await);
    drop((kept, lost, backend));
    home.kill_guest("lost");
    std::fs::create_dir(home.path().join("sandboxes/half-made")).unwrap();

    let backend = home.backend().await;
    let mut found = backend.adopt().await;
    assert_eq!((found.alive.len(), found.dead.len()), (1, 1));
    let (running, terms) = found.alive.remove(0);
    let workdir = Some(SandboxSpec::DEFAULT_WORKDIR.to_owned());
    let spec = SandboxSpec { workdir, ..SandboxSpec::default() };
    assert_eq!((running.id(), terms.spec), (&id("kept"), spec));
    assert_eq!(found.dead[0].0, id("lost"));
    assert_eq!(home.state_directories(), ["kept"], "the dead and the half-made are swept");
    greet(&running).await;

    // Its end is noticed though nobody is its parent.
    let mut death = running.death();
    home.kill_guest("kept");
    death.wait_for(Option::is_some).await.unwrap();
    running.destroy().await.unwrap();
    assert_eq!(home.state_directories(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_outlive_the_spawner_and_new_ones_are_made() {
    let home = Home::new();
    let backend = home.backend().await;
    let (one, two) = (create(&backend, "one").await, create(&backend, "two").await);
    let pid = spawner_pid(&home);
    native_home::kill(pid);
    eventually("another spawner", || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_err()).await;
    let three = create(&backend, "three").await;
    for running in [&one, &two, &three] {
        greet(running).await;
    }
    let mut death = two.death();
    home.kill_guest("two");
    death.wait_for(Option::is_some).await.unwrap();
    for running in [one, two, three] {
        running.destroy().await.unwrap();
    }
    assert_eq!(home.state_directories(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_an_image_and_an_unsafe_one_is_refused() {
    let home = Home::new();
    let root = home.beside("rootfs");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    let built =
        std::process::Command::new("cp").arg("/usr/bin/true").arg(root.join("bin/true")).status().unwrap();
    assert!(built.success());
    let image: ImageRef = format!("dir:{}", root.display()).parse().unwrap();
    home.with_node(async |node| {
        let spec = SandboxSpec { image: image.clone(), id: Some(id("plain")), ..SandboxSpec::default() };
        let sandbox = node.create(spec).await.unwrap();
        let listing = sandbox.list_dir("/").await.unwrap();
        let mut found: Vec<&str> = listing.iter().map(|file| file.path.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, ["/bin", "/dev", "/proc", "/tmp", "/workspace"]);

        std::fs::rename(&root, home.beside("earlier")).unwrap();
        std::fs::create_dir_all(root.join("etc")).unwrap();
        let spec = SandboxSpec { image: image.clone(), id: Some(id("later")), ..SandboxSpec::default() };
        let listing = node.create(spec).await.unwrap().list_dir("/").await.unwrap();
        assert!(listing.iter().any(|file| file.path == "/etc"), "what is there now counts: {listing:?}");
        std::fs::remove_dir_all(&root).unwrap();
        std::fs::rename(home.beside("earlier"), &root).unwrap();
    })
    .await;
    assert_eq!(names(&root), ["bin"], "the image itself does not change");

    for name in ["proc", "dev", "sys", "tmp"] {
        symlink("/etc", root.join(name)).unwrap();
        let backend = home.backend().await;
        let spec = SandboxSpec { image: image.clone(), ..SandboxSpec::default() };
        let refused = backend.create(&id("unsafe"), &spec).await.unwrap_err();
        assert!(refused.to_string().contains(&format!("/{name} ")), "{refused}");
        assert_eq!(home.state_directories(), Vec::<String>::new());
        std::fs::remove_file(root.join(name)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_working_directory_is_made_where_it_is_named() {
    let home = Home::new();
    home.with_node(async |node| {
        let spec = SandboxSpec { workdir: Some("/a/b".to_owned()), ..SandboxSpec::default() };
        let sandbox = node.create(spec).await.unwrap();
        assert_eq!(output(&sandbox, "pwd").await, "/a/b");
    })
    .await;
}
