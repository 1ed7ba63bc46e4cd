//! A directory that is unpacked into, with something beside it that nothing may touch.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// One for the process, made anew for each input.
#[derive(Debug)]
pub struct Ground {
    base: &'static Path,
    before: Vec<Seen>,
}

/// What is known of a file.
type Seen = (PathBuf, u32, u64, u64, (i64, i64), (i64, i64), Option<String>);

fn seen(path: PathBuf) -> Seen {
    let meta = fs::symlink_metadata(&path).unwrap();
    let text = meta.is_file().then(|| fs::read_to_string(&path).unwrap());
    let (mtime, ctime) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
    (path, meta.mode(), meta.nlink(), meta.len(), mtime, ctime, text)
}

fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let base = std::env::temp_dir().join(format!("hothouse-fuzz-{}", std::process::id()));
        fs::create_dir(&base).unwrap();
        fs::create_dir(base.join("victim")).unwrap();
        fs::write(base.join("victim/file"), "untouched").unwrap();
        // An absolute link out of the archive finds it as /proc/self/cwd/victim.
        std::env::set_current_dir(&base).unwrap();
        base
    })
}

impl Ground {
    /// An empty directory.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let base = base();
        let layer = base.join("layer");
        if layer.exists() {
            remove(&layer);
        }
        fs::create_dir(&layer).unwrap();
        let before = ["victim", "victim/file"].map(|name| seen(base.join(name))).to_vec();
        Self { base, before }
    }

    /// Where to unpack.
    #[must_use]
    pub fn layer(&self) -> PathBuf {
        self.base.join("layer")
    }

    /// Checks that all is as it was beside it.
    ///
    /// # Panics
    /// When it is not.
    pub fn assert_untouched(&self) {
        let mut names: Vec<OsString> =
            fs::read_dir(self.base).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["layer", "victim"], "something new is beside it");
        assert_eq!(fs::read_dir(self.base.join("victim")).unwrap().count(), 1);
        let after: Vec<Seen> = self.before.iter().map(|(path, ..)| seen(path.clone())).collect();
        assert_eq!(after, self.before);
    }
}

impl Default for Ground {
    fn default() -> Self {
        Self::new()
    }
}

/// Root removes whatever permissions say; others have to give themselves some.
fn remove(directory: &Path) {
    if fs::remove_dir_all(directory).is_ok() {
        return;
    }
    let mut rest = vec![directory.to_owned()];
    while let Some(directory) = rest.pop() {
        if File::open(&directory).is_err()
            || fs::metadata(&directory).is_ok_and(|meta| meta.mode() & 0o300 != 0o300)
        {
            fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
        }
        let entries = fs::read_dir(&directory).unwrap().flatten();
        rest.extend(
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()),
        );
    }
    fs::remove_dir_all(directory).unwrap();
}
