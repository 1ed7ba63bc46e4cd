//! `host`: this machine's own programs, and nothing else of it.
//!
//! `/usr` (and `/bin`, `/lib*`, `/sbin` where they are directories of their own) come straight from the machine; the rest
//! of the root is a small tree made here, with an `/etc` that is picked file by file. `/root`, `/home`, `/var` and whatever
//! else the machine has are not there.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use super::{DIRECTORIES, Image, Layer, path_text, skeleton};

/// Raise when what is made here changes.
const GENERATION: u32 = 1;

/// Top-level names that come from the machine, as links where they are links.
const FROM_MACHINE: [&str; 8] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "libo32"];

/// Directories of the root, with their permissions.
const MADE: [(&str, u32); 22] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/local", 0o755),
    ("var/log", 0o755),
    ("var/mail", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
    ("workspace", 0o755),
];

/// Files and directories of `/etc` that are copied where the machine has them: how programs find each other, never who
/// may do what here.
const ETC: [&str; 32] = [
    "alternatives",
    "bash.bashrc",
    "ca-certificates.conf",
    "debian_version",
    "fonts",
    "gai.conf",
    "host.conf",
    "inputrc",
    "java-17-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "login.defs",
    "magic",
    "magic.mime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "perl",
    "profile",
    "profile.d",
    "protocols",
    "python3",
    "python3.11",
    "rpc",
    "services",
    "skel",
    "terminfo",
    "timezone",
];

/// Files of `/etc` that are written.
const WRITTEN: [(&str, &str); 7] = [
    (
        "passwd",
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
         user:x:1000:1000:user:/home/user:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    (
        "group",
        "root:x:0:\ndaemon:x:1:\nadm:x:4:\ntty:x:5:\nstaff:x:50:\nusers:x:100:\nuser:x:1000:\nnogroup:x:65534:\n",
    ),
    ("hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
    ("hostname", "sandbox\n"),
    ("resolv.conf", ""),
    ("shells", "/bin/sh\n/bin/bash\n"),
    ("environment", ""),
];

/// Makes the image under `images`, unless it is there.
pub(super) fn prepare(images: &Path, idmapped: bool) -> io::Result<Image> {
    fs::create_dir_all(images)?;
    let root = images.join(format!("host-{GENERATION}"));
    if !root.is_dir() {
        let unfinished = images.join(format!("host-{GENERATION}.unfinished-{}", std::process::id()));
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        make_root(&unfinished)?;
        match fs::rename(&unfinished, &root) {
            // Another process was faster.
            Err(_) if root.is_dir() => fs::remove_dir_all(&unfinished)?,
            other => other?,
        }
    }
    let mut overlays = vec![("/".to_owned(), vec![layer(&root)?])];
    for name in FROM_MACHINE {
        let source = Path::new("/").join(name);
        if !fs::symlink_metadata(&source).is_ok_and(|meta| meta.is_dir()) {
            continue;
        }
        let mut layers = vec![layer(&source)?];
        if !idmapped {
            let directories = images.join(format!("host-{GENERATION}-directories-{name}"));
            skeleton::copy(&source, &directories)?;
            layers.insert(0, layer(&directories)?);
        }
        overlays.push((format!("/{name}"), layers));
    }
    let directories = DIRECTORIES.map(str::to_owned).to_vec();
    Ok(Image { overlays, directories, config: Arc::default(), layers: Vec::new(), pin: None })
}

fn layer(path: &Path) -> io::Result<Layer> {
    path_text(path).map(Layer::whole).map_err(io::Error::other)
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().mode(mode).create(path)?;
    // The umask has had its say.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn make_root(root: &Path) -> io::Result<()> {
    make_directory(root, 0o755)?;
    for (name, mode) in MADE {
        make_directory(&root.join(name), mode)?;
    }
    make_directory(&root.join("home/user"), 0o755)?;
    for name in FROM_MACHINE {
        let source = Path::new("/").join(name);
        match fs::symlink_metadata(&source) {
            Ok(meta) if meta.is_symlink() => symlink(fs::read_link(&source)?, root.join(name))?,
            Ok(meta) if meta.is_dir() => make_directory(&root.join(name), 0o755)?,
            Ok(_) | Err(_) => {}
        }
    }
    let etc = root.join("etc");
    for name in ETC {
        copy(&Path::new("/etc").join(name), &etc.join(name))?;
    }
    // Certificates are public; the keys beside them are not.
    if Path::new("/etc/ssl/certs").is_dir() {
        make_directory(&etc.join("ssl"), 0o755)?;
        copy(Path::new("/etc/ssl/certs"), &etc.join("ssl/certs"))?;
        copy(Path::new("/etc/ssl/openssl.cnf"), &etc.join("ssl/openssl.cnf"))?;
    }
    for (name, content) in WRITTEN {
        fs::write(etc.join(name), content)?;
    }
    if !etc.join("nsswitch.conf").exists() {
        fs::write(etc.join("nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files\n")?;
    }
    symlink("/proc/self/mounts", etc.join("mtab"))
}

/// Copies what everybody may read; links stay links.
fn copy(source: &Path, target: &Path) -> io::Result<()> {
    let Ok(meta) = fs::symlink_metadata(source) else { return Ok(()) };
    let mode = meta.permissions().mode() & 0o7777;
    if meta.is_symlink() {
        return symlink(fs::read_link(source)?, target);
    }
    if mode & 0o004 == 0 {
        return Ok(());
    }
    if meta.is_file() {
        fs::copy(source, target)?;
        return Ok(());
    }
    if meta.is_dir() {
        make_directory(target, mode & 0o755 | 0o700)?;
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            copy(&entry.path(), &target.join(entry.file_name()))?;
        }
    }
    Ok(())
}
