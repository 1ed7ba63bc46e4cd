//! Writes a file: all of it or nothing.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, OFlags, Stat};
use sha2::{Digest, Sha256};

use super::job::Upload;
use super::path::{Root, require_regular};
use super::temporary::{Attributes, Temporary};
use crate::message::{GuestErrorCode, Reply};
use crate::program::refusal::Refusal;

/// A file that is being written.
#[derive(Debug)]
pub struct WriteFile {
    path: String,
    name: CString,
    temporary: Temporary,
    attributes: Attributes,
    expected: Option<[u8; 32]>,
    digest: Sha256,
    size: u64,
}

/// The directory and name to write to: those of the file that links at the end of the path lead to, if there is one.
fn place(root: &Root, path: &str) -> Result<(OwnedFd, CString, Option<Stat>), Refusal> {
    let real = match root.open_path(path, OFlags::PATH) {
        Ok(found) => {
            let stat = rustix::fs::fstat(&found).map_err(|errno| Refusal::file(path, errno))?;
            require_regular(path, &stat)?;
            let link = format!("/proc/self/fd/{}", found.as_raw_fd());
            let real = rustix::fs::readlink(&*link, Vec::new()).map_err(|e| Refusal::file(path, e))?;
            real.into_string().ok().filter(|real| real.starts_with('/'))
        }
        Err(refusal) if refusal.code == GuestErrorCode::FileNotFound => None,
        Err(refusal) => return Err(refusal),
    };
    let (dir, name) = root.open_parent(real.as_deref().unwrap_or(path))?;
    // Asked again of the very entry that will be replaced.
    let replaced = match rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => require_regular(path, &stat).is_ok().then_some(stat),
        Err(_) => None,
    };
    Ok((dir, name, replaced))
}

impl WriteFile {
    /// Begins to write a file.
    ///
    /// # Errors
    /// [`Refusal`], also when something at the path is no regular file.
    pub fn new(
        root: &Root,
        path: String,
        mode: Option<u32>,
        expected: Option<[u8; 32]>,
    ) -> Result<Self, Refusal> {
        let (dir, name, replaced) = place(root, &path)?;
        let temporary = Temporary::new(dir).map_err(|errno| Refusal::file(&path, errno))?;
        let mut attributes = Attributes::like(replaced.as_ref());
        attributes.mode = mode.unwrap_or(attributes.mode);
        Ok(Self { path, name, temporary, attributes, expected, digest: Sha256::new(), size: 0 })
    }
}

impl Upload for WriteFile {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.temporary.write(bytes).map_err(|errno| Refusal::file(&self.path, errno))?;
        self.digest.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Reply, Refusal> {
        let sha256: [u8; 32] = self.digest.finalize().into();
        if self.expected.is_some_and(|expected| expected != sha256) {
            let message = format!("{}: the content has another sha256 than was promised", self.path);
            return Err(Refusal::invalid(message));
        }
        self.temporary
            .place(&self.name, self.attributes)
            .map_err(|errno| Refusal::file(&self.path, errno))?;
        Ok(Reply::Written { size: self.size, sha256 })
    }
}
