//! This test program once more, as somebody who is not root.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::{names, spawner};

/// Nobody's number on any machine.
pub(crate) const USER: u32 = 61_500;

/// Runs tests of this program as an ordinary user, from a directory that this user can read; what they said. `None` when
/// this is one already: then its tests have just shown it.
pub(crate) fn tests_as_ordinary_user(args: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let place = tempfile::Builder::new().prefix("hothouse-user-").tempdir().unwrap();
    let copy = |from: &Path, name: &str| {
        let to = place.path().join(name);
        std::fs::copy(from, &to).unwrap();
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755)).unwrap();
        to
    };
    let program = copy(&std::env::current_exe().unwrap(), "tests");
    let spawner = copy(&spawner(), "spawner");
    let temporary = place.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    chown(&temporary, Some(USER), Some(USER)).unwrap();
    let mut command = Command::new(program);
    command
        .args(args)
        .arg("--nocapture")
        .env("HOTHOUSE_TEST_SPAWNER", spawner)
        .env("TMPDIR", &temporary)
        .env("HOME", &temporary)
        .current_dir("/")
        .uid(USER)
        .gid(USER);
    let output = command.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains(" 0 passed"), "{said}");
    assert_eq!(names(&temporary), Vec::<String>::new(), "nothing is left behind: {said}");
    Some(said)
}
