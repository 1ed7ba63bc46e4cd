//! Applies a unified diff: all files or none.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use diffy::patch_set::{FileMode, FileOperation, FilePatch, ParseOptions, PatchKind, PatchSet};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::job::Upload;
use super::path::{Root, require_regular};
use super::temporary::{Attributes, Temporary};
use crate::message::{GuestErrorCode, Reply};
use crate::program::refusal::Refusal;

/// The longest patch, in bytes.
const MAX_PATCH: usize = 16 << 20;
/// The largest file that is patched, in bytes.
const MAX_FILE: usize = 64 << 20;
/// The names that the reply carries.
const MAX_NAMES: usize = 1000;

/// A patch that is being received.
#[derive(Debug)]
pub struct PatchUpload {
    path: String,
    dir: OwnedFd,
    strip: usize,
    bytes: Vec<u8>,
}

/// A file as the patch leaves it.
#[derive(Debug)]
struct Outcome {
    /// `None` when it is removed.
    content: Option<Vec<u8>>,
    /// What is there now.
    replaced: Option<Stat>,
    executable: Option<bool>,
}

impl PatchUpload {
    /// Begins to receive a patch for a directory.
    ///
    /// # Errors
    /// [`Refusal`] with the path.
    pub fn new(root: &Root, path: &str, strip: u32) -> Result<Self, Refusal> {
        let dir = root.open_dir(path)?;
        let strip = usize::try_from(strip).unwrap_or(usize::MAX);
        Ok(Self { path: path.to_owned(), dir, strip, bytes: Vec::new() })
    }

    fn rejected(why: impl Into<String>) -> Refusal {
        Refusal::new(GuestErrorCode::PatchRejected, why)
    }

    fn open(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..1000 {
            match rustix::fs::openat2(&self.dir, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::BUSY)
    }

    /// A file as it is now; `None` when there is none.
    fn read(&self, name: &str) -> Result<Option<(Vec<u8>, Stat)>, Refusal> {
        let failed = |errno| Refusal::file(name, errno);
        let seen = match self.open(name, OFlags::PATH) {
            Ok(seen) => seen,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        require_regular(name, &rustix::fs::fstat(&seen).map_err(failed)?)?;
        let file = self.open(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map_err(failed)?;
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        require_regular(name, &stat)?;
        let mut content = Vec::new();
        loop {
            content.reserve(64 << 10);
            match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut content)) {
                Ok(0) => return Ok(Some((content, stat))),
                Ok(_) if content.len() > MAX_FILE => {
                    let message = format!("{name}: longer than {MAX_FILE} bytes");
                    return Err(Refusal::new(GuestErrorCode::TooLarge, message));
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// A name of the patch without its leading components, checked to stay in the directory.
    fn name(&self, raw: &[u8]) -> Result<String, Refusal> {
        let text = std::str::from_utf8(raw).map_err(|_| {
            Self::rejected(format!("{:?}: the name is not UTF-8", String::from_utf8_lossy(raw)))
        })?;
        let mut rest = text;
        for _ in 0..self.strip {
            match rest.split_once('/') {
                Some((_, after)) => rest = after.trim_start_matches('/'),
                None => break,
            }
        }
        let bad = rest.is_empty()
            || rest.starts_with('/')
            || rest.contains('\0')
            || rest.split('/').any(|component| component == "..");
        if bad {
            return Err(Self::rejected(format!("{text:?}: no name inside the directory")));
        }
        Ok(rest.to_owned())
    }

    /// Takes a file's present state out of what the patch has changed so far, or from the disk.
    fn take(&self, outcomes: &mut BTreeMap<String, Outcome>, name: &str) -> Result<Outcome, Refusal> {
        if let Some(outcome) = outcomes.remove(name) {
            return Ok(outcome);
        }
        let found = self.read(name)?;
        let (content, replaced) = found.map_or((None, None), |(content, stat)| (Some(content), Some(stat)));
        Ok(Outcome { content, replaced, executable: None })
    }

    fn apply(
        &self,
        outcomes: &mut BTreeMap<String, Outcome>,
        patch: &FilePatch<'_, [u8]>,
    ) -> Result<(), Refusal> {
        let (from, to, keep) = match patch.operation() {
            FileOperation::Create(to) => (None, Some(self.name(to)?), false),
            FileOperation::Delete(from) => (Some(self.name(from)?), None, false),
            FileOperation::Modify { original, modified } => {
                // `diff -u` names the old file `x.orig`, or both alike; the new name is the one that counts.
                let (original, modified) = (self.name(original)?, self.name(modified)?);
                let exists = outcomes.contains_key(&modified) || self.open(&modified, OFlags::PATH).is_ok();
                let name = if exists { modified } else { original };
                (Some(name.clone()), Some(name), false)
            }
            FileOperation::Rename { from, to } => (Some(self.name(from)?), Some(self.name(to)?), false),
            FileOperation::Copy { from, to } => (Some(self.name(from)?), Some(self.name(to)?), true),
        };
        let shown = to.as_deref().or(from.as_deref()).unwrap_or_default().to_owned();
        let PatchKind::Text(text) = patch.patch() else {
            return Err(Self::rejected(format!("{shown}: binary patches are not supported")));
        };
        if matches!(patch.new_mode(), Some(FileMode::Symlink | FileMode::Gitlink)) {
            return Err(Self::rejected(format!("{shown}: links and submodules are not supported")));
        }
        let source = match &from {
            None => Outcome { content: None, replaced: None, executable: None },
            Some(from) => self.take(outcomes, from)?,
        };
        let base = match (&from, &source.content) {
            (Some(from), None) => return Err(Self::rejected(format!("{from}: no such file"))),
            (_, content) => content.as_deref().unwrap_or_default(),
        };
        let content = diffy::apply_bytes(base, text)
            .map_err(|error| Self::rejected(format!("{shown}: {}", error.to_string().to_lowercase())))?;
        if let (Some(from), true) = (&from, to != from) {
            let left = if keep { source.content.clone() } else { None };
            if to.is_none() && !content.is_empty() {
                return Err(Self::rejected(format!("{from}: something would be left of a removed file")));
            }
            outcomes
                .insert(from.clone(), Outcome { content: left, replaced: source.replaced, executable: None });
        }
        let Some(to) = to else { return Ok(()) };
        let before = if Some(&to) == from.as_ref() { source } else { self.take(outcomes, &to)? };
        if from.is_none() && before.content.as_ref().is_some_and(|content| !content.is_empty()) {
            return Err(Self::rejected(format!("{to}: exists already")));
        }
        let executable = patch.new_mode().map(|mode| *mode == FileMode::Executable);
        let executable = executable.or(before.executable);
        outcomes.insert(to, Outcome { content: Some(content), replaced: before.replaced, executable });
        Ok(())
    }

    /// The directory of a name, made when `make`, and its last component.
    fn parent(&self, name: &str, make: bool) -> Result<(OwnedFd, CString), Errno> {
        let (parent, last) = name.rsplit_once('/').unwrap_or((".", name));
        let last = CString::new(last).map_err(|_| Errno::INVAL)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.open(parent, flags) {
            Err(Errno::NOENT) if make => {}
            other => return Ok((other?, last)),
        }
        for (end, _) in parent.match_indices('/').chain([(parent.len(), "")]) {
            let prefix = &parent[..end];
            if prefix.is_empty() {
                continue;
            }
            if matches!(self.open(prefix, flags), Err(Errno::NOENT)) {
                let (above, component) = prefix.rsplit_once('/').unwrap_or((".", prefix));
                let above = self.open(above, flags)?;
                rustix::fs::mkdirat(above.as_fd(), component, Mode::from_raw_mode(0o755))?;
            }
        }
        Ok((self.open(parent, flags)?, last))
    }

    /// Writes every new content beside its place, then puts all in place.
    fn commit(&self, outcomes: &BTreeMap<String, Outcome>) -> Result<u64, Refusal> {
        let mut staged = Vec::new();
        let mut bytes = 0;
        for (name, outcome) in outcomes {
            let failed = |errno| Refusal::file(name, errno);
            let Some(content) = &outcome.content else { continue };
            let (dir, last) = self.parent(name, true).map_err(failed)?;
            let mut temporary = Temporary::new(dir).map_err(failed)?;
            temporary.write(content).map_err(failed)?;
            bytes += content.len() as u64;
            let mut attributes = Attributes::like(outcome.replaced.as_ref());
            match outcome.executable {
                Some(true) => attributes.mode |= 0o111,
                Some(false) => attributes.mode &= !0o111,
                None => {}
            }
            staged.push((name, temporary, last, attributes));
        }
        for (name, temporary, last, attributes) in staged {
            temporary.place(&last, attributes).map_err(|errno| Refusal::file(name, errno))?;
        }
        for (name, outcome) in outcomes {
            if outcome.content.is_none() && outcome.replaced.is_some() {
                let failed = |errno| Refusal::file(name, errno);
                let (dir, last) = self.parent(name, false).map_err(failed)?;
                rustix::fs::unlinkat(&dir, &last, AtFlags::empty()).map_err(failed)?;
            }
        }
        Ok(bytes)
    }
}

fn is_git(patch: &[u8]) -> bool {
    patch.starts_with(b"diff --git ") || patch.windows(12).any(|window| window == b"\ndiff --git ")
}

impl Upload for PatchUpload {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.bytes.len() + bytes.len() > MAX_PATCH {
            let message = format!("{}: a patch of more than {MAX_PATCH} bytes", self.path);
            return Err(Refusal::new(GuestErrorCode::TooLarge, message));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Reply, Refusal> {
        let options = if is_git(&self.bytes) { ParseOptions::gitdiff() } else { ParseOptions::unidiff() };
        let mut outcomes = BTreeMap::new();
        let mut any = false;
        for patch in PatchSet::parse_bytes(&self.bytes, options) {
            let patch = patch.map_err(|error| Self::rejected(error.to_string().to_lowercase()))?;
            any = true;
            self.apply(&mut outcomes, &patch)?;
        }
        if !any {
            return Err(Self::rejected("no change in the patch"));
        }
        let bytes = self.commit(&outcomes)?;
        let count = outcomes.len() as u64;
        let paths = outcomes.into_keys().take(MAX_NAMES).collect();
        Ok(Reply::Changed { paths, count, bytes })
    }
}
