//! Which request does what to files.

use crate::message::{Reply, Request};
use crate::program::connection::StreamKey;
use crate::program::refusal::Refusal;
use crate::program::server::Server;

use super::list::List;
use super::patch::PatchUpload;
use super::read::ReadFile;
use super::remove::Remove;
use super::tar_in::TarIn;
use super::tar_out::TarOut;
use super::write::WriteFile;

impl Server {
    /// Handles a request about files.
    pub(in crate::program) fn on_file_request(
        &mut self,
        key: StreamKey,
        request: Request,
    ) -> Result<(), Refusal> {
        let root = &self.root;
        let reply = match request {
            Request::Stat { path, follow } => Reply::Stat(root.stat(&path, follow)?),
            Request::Mkdir { path, parents, mode } => {
                if parents {
                    root.make_dirs(&path, mode)?
                } else {
                    root.make_dir(&path, mode)?
                }
                Reply::Done
            }
            Request::Remove { path, recursive: false } => {
                root.remove(&path)?;
                Reply::Done
            }
            Request::Rename { from, to } => {
                root.rename(&from, &to)?;
                Reply::Done
            }
            Request::Remove { path, recursive: true } => {
                let remove = Remove::new(root, &path)?;
                self.start_download(key, remove);
                return Ok(());
            }
            Request::List { path } => {
                let list = List::new(root, &path)?;
                self.start_download(key, list);
                return Ok(());
            }
            Request::ReadFile { path, offset, length } => {
                let read = ReadFile::new(root, &path, offset, length)?;
                self.start_download(key, read);
                return Ok(());
            }
            Request::TarOut { path } => {
                let tar = TarOut::new(root, &path)?;
                self.start_download(key, tar);
                return Ok(());
            }
            Request::WriteFile { path, mode, parents, sha256 } => {
                if parents {
                    root.make_parents(&path)?;
                }
                let write = WriteFile::new(root, path, mode, sha256)?;
                self.start_upload(key, write);
                return Ok(());
            }
            Request::TarIn { path, max_entries, max_bytes } => {
                let tar = TarIn::new(root, &path, max_entries, max_bytes)?;
                self.start_upload(key, tar);
                return Ok(());
            }
            Request::Patch { path, strip } => {
                let patch = PatchUpload::new(root, &path, strip)?;
                self.start_upload(key, patch);
                return Ok(());
            }
            other => return Err(Refusal::invalid(format!("{other:?}: is not about files"))),
        };
        self.answer(key, &reply);
        Ok(())
    }
}
