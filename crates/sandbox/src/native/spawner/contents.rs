//! The content of large files that are copied: pieces of them by several threads at once. Memory that was not used lately
//! is slow to write to, by one processor.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{SeekFrom, Stat, seek};
use rustix::io::{Errno, pread, pwrite};

use super::root::{Step, at};

/// Files that are shorter are copied where they are met.
const LARGE: u64 = 256 << 10;
/// What one thread copies in one go.
const PIECE: u64 = 1 << 20;
/// What is read before it is written.
const BUFFER: usize = 256 << 10;
/// So many files are held open, which takes two descriptors each.
const MOST_FILES: usize = 64;
/// More would not be faster, and others have work too.
const MOST_THREADS: usize = 4;

/// A file whose content is still to be copied.
#[derive(Debug)]
pub(super) struct Pending {
    source: OwnedFd,
    pub(super) target: OwnedFd,
    pub(super) stat: Stat,
    /// Names the copying of it.
    pub(super) step: String,
}

/// Large files whose content is still to be copied.
#[derive(Debug, Default)]
pub(super) struct Contents {
    files: Vec<Pending>,
    pieces: Vec<(usize, Range<u64>)>,
}

impl Contents {
    /// Whether a file of this length is worth it.
    pub(super) fn is_large(size: u64) -> bool {
        size >= LARGE
    }

    /// Takes one; gives how many bytes are to be copied, those that are no hole.
    pub(super) fn add(
        &mut self,
        source: OwnedFd,
        target: OwnedFd,
        stat: Stat,
        step: String,
    ) -> io::Result<u64> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        rustix::fs::ftruncate(&target, size)?;
        let (mut bytes, mut position) = (0, 0);
        while position < size {
            let begin = match seek(&source, SeekFrom::Data(position)) {
                Ok(begin) => begin,
                // Only a hole is left.
                Err(Errno::NXIO) => break,
                Err(e) => return Err(e.into()),
            };
            let end = seek(&source, SeekFrom::Hole(begin))?.min(size);
            let mut from = begin;
            while from < end {
                let to = end.min(from + PIECE);
                self.pieces.push((self.files.len(), from..to));
                bytes += to - from;
                from = to;
            }
            position = end.max(begin + 1);
        }
        self.files.push(Pending { source, target, stat, step });
        Ok(bytes)
    }

    /// Whether no more should be added.
    pub(super) fn is_full(&self) -> bool {
        self.files.len() >= MOST_FILES
    }

    /// Copies all that was added, and gives the files back.
    pub(super) fn copy(&mut self) -> Result<Vec<Pending>, Step> {
        let (files, pieces) = (std::mem::take(&mut self.files), std::mem::take(&mut self.pieces));
        let next = AtomicUsize::new(0);
        let work = || {
            let mut buffer = Vec::new();
            while let Some((file, range)) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                let Some(file) = files.get(*file) else { continue };
                buffer.resize(BUFFER, 0);
                copy_piece(file, range, &mut buffer).map_err(at(file.step.clone()))?;
            }
            Ok(())
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let others = processors.min(MOST_THREADS).min(pieces.len()).saturating_sub(1);
        std::thread::scope(|scope| {
            let start = |_| std::thread::Builder::new().spawn_scoped(scope, work);
            // Where there are no more, fewer do it.
            let threads: Vec<_> = (0..others).map_while(|number| start(number).ok()).collect();
            let mut done = work();
            for thread in threads {
                let result = match thread.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                };
                done = done.and(result);
            }
            done
        })?;
        Ok(files)
    }
}

fn copy_piece(file: &Pending, range: &Range<u64>, buffer: &mut [u8]) -> io::Result<()> {
    let mut from = range.start;
    while from < range.end {
        let most = usize::try_from(range.end - from).unwrap_or(BUFFER).min(BUFFER);
        let got = pread(&file.source, &mut buffer[..most], from)?;
        if got == 0 {
            // It has become shorter meanwhile.
            break;
        }
        let mut written = 0;
        while written < got {
            written += pwrite(&file.target, &buffer[written..got], from + written as u64)?;
        }
        from += got as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _, Write as _};
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn large_files_are_the_same_afterwards_and_their_holes_are_holes() {
        let directory = tempfile::tempdir().unwrap();
        let mut contents = Contents::default();
        let mut wanted = Vec::new();
        for number in 0..3_u8 {
            let path = directory.path().join(format!("from{number}"));
            let mut source = File::create(&path).unwrap();
            let data: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8 ^ number).collect();
            source.write_all(&data).unwrap();
            source.seek(io::SeekFrom::Start(40_000_000)).unwrap();
            source.write_all(b"after a hole").unwrap();
            source.set_len(50_000_000).unwrap();
            let target = File::create(directory.path().join(format!("to{number}"))).unwrap();
            let stat = rustix::fs::fstat(&source).unwrap();
            let source = File::open(&path).unwrap();
            let bytes =
                contents.add(source.into(), target.into(), stat, format!("copying {number}")).unwrap();
            assert!((3_000_012..4_000_000).contains(&bytes), "{bytes}");
            wanted.push(path);
        }
        assert_eq!(contents.copy().unwrap().len(), 3);
        assert!(contents.copy().unwrap().is_empty(), "each once");
        for (number, path) in wanted.iter().enumerate() {
            let read = |path: &std::path::Path| {
                let mut content = Vec::new();
                File::open(path).unwrap().read_to_end(&mut content).unwrap();
                content
            };
            let copy = directory.path().join(format!("to{number}"));
            assert!(read(path) == read(&copy), "{number}");
            assert!(std::fs::metadata(&copy).unwrap().blocks() * 512 < 5_000_000, "holes");
        }
    }

    #[test]
    fn a_failure_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        let (source, target) = (File::open(&path).unwrap(), File::open(&path).unwrap());
        let stat = rustix::fs::fstat(&source).unwrap();
        let mut contents = Contents::default();
        let pending =
            Pending { source: source.into(), target: target.into(), stat, step: "copying it".to_owned() };
        contents.files.push(pending);
        contents.pieces.push((0, 0..1 << 20));
        let step = contents.copy().unwrap_err();
        assert_eq!(step.name, "copying it");
    }
}
