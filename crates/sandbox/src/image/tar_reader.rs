//! Reads tar archives as the tools of images write them: ustar, GNU and pax, sparse files included.
//!
//! Everything that an archive can make large is bounded. Content is never copied: it is lent out of the buffer that it
//! came in.

use std::io::{BufRead, Read};

use tar::{EntryType, Header};

use super::error::Fault;

const BLOCK: usize = 512;
/// The longest name, link target or set of extended headers, in bytes.
const MAX_META: u64 = 1 << 20;
/// The longest path.
const MAX_PATH: usize = 4096;
/// The most pieces of one sparse file.
const MAX_PIECES: usize = 65_536;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    /// Its content follows.
    File,
    /// Content with holes: where it has bytes, and how many.
    Sparse {
        pieces: Vec<(u64, u64)>,
        size: u64,
    },
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Fifo,
    Device,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    /// Bytes of content in the archive.
    pub(super) stored: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What extended headers say of the next entry.
#[derive(Debug, Default)]
struct Overrides {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: SparseOverrides,
}

/// The `GNU.sparse.*` records of the three pax forms.
#[derive(Debug, Default)]
struct SparseOverrides {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    /// `0.0` and `0.1`.
    numbers: Vec<u64>,
    listed: bool,
    /// `1.0`: the map comes before the content.
    in_content: bool,
}

/// A tar archive that is read once.
#[derive(Debug)]
pub(super) struct TarReader<R> {
    inner: R,
    /// Bytes of content and padding before the next header.
    content: u64,
    padding: u64,
    /// What the last global header says of all entries; read once, for an archive chooses how long it is.
    global: Overrides,
    /// Bytes read so far.
    read: u64,
}

fn broken(why: &str) -> Fault {
    Fault::invalid(format!("is no tar archive, or is damaged: {why}"))
}

fn padding_of(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

impl<R: BufRead> TarReader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, content: 0, padding: 0, global: Overrides::default(), read: 0 }
    }

    /// What comes behind the archive.
    pub(super) fn into_inner(self) -> R {
        self.inner
    }

    /// Where in the archive the content that comes next begins.
    pub(super) fn position(&self) -> u64 {
        self.read
    }

    fn fill(&mut self) -> Result<&[u8], Fault> {
        self.inner.fill_buf().map_err(|e| Fault::io("reading", &e))
    }

    /// The next piece of the entry's content; empty at its end. Follow it with [`consume`](Self::consume).
    pub(super) fn content(&mut self) -> Result<&[u8], Fault> {
        if self.content == 0 {
            return Ok(&[]);
        }
        let left = usize::try_from(self.content).unwrap_or(usize::MAX);
        let got = self.inner.fill_buf().map_err(|e| Fault::io("reading", &e))?;
        if got.is_empty() {
            return Err(broken("it is cut off"));
        }
        Ok(&got[..got.len().min(left)])
    }

    /// So much of the content was taken.
    pub(super) fn consume(&mut self, count: usize) {
        self.inner.consume(count);
        self.content -= count as u64;
        self.read += count as u64;
    }

    fn skip(&mut self, mut count: u64) -> Result<(), Fault> {
        while count > 0 {
            let got = self.fill()?.len();
            if got == 0 {
                return Err(broken("it is cut off"));
            }
            let step = usize::try_from(count).unwrap_or(usize::MAX).min(got);
            self.inner.consume(step);
            self.read += step as u64;
            count -= step as u64;
        }
        Ok(())
    }

    /// A block, or `None` at the end of all bytes.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Fault> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            let got = self.fill()?;
            if got.is_empty() {
                return if have == 0 { Ok(None) } else { Err(broken("it is cut off")) };
            }
            let step = got.len().min(BLOCK - have);
            block[have..have + step].copy_from_slice(&got[..step]);
            self.inner.consume(step);
            self.read += step as u64;
            have += step;
        }
        Ok(Some(block))
    }

    /// The content of a header that is about the next one.
    fn meta(&mut self, size: u64) -> Result<Vec<u8>, Fault> {
        if size > MAX_META {
            return Err(Fault::too_large(format!(
                "has a name or header of {size} bytes; at most {MAX_META}"
            )));
        }
        let mut bytes = Vec::new();
        let length = usize::try_from(size).unwrap_or(0);
        while bytes.len() < length {
            let got = self.fill()?;
            if got.is_empty() {
                return Err(broken("it is cut off"));
            }
            let step = got.len().min(length - bytes.len());
            bytes.extend_from_slice(&got[..step]);
            self.inner.consume(step);
            self.read += step as u64;
        }
        self.skip(padding_of(size))?;
        Ok(bytes)
    }

    /// The next entry, or `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Fault> {
        let (content, padding) = (std::mem::take(&mut self.content), std::mem::take(&mut self.padding));
        self.skip(content)?;
        self.skip(padding)?;
        let mut overrides = Overrides::default();
        // Bounded, or an archive of nothing but headers would be read for ever without an entry to count.
        for _ in 0..64 {
            let Some(block) = self.block()? else { return Ok(None) };
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            check_sum(&block, header)?;
            let size = header.entry_size().map_err(|_| broken("an entry's size is no number"))?;
            match header.entry_type() {
                EntryType::GNULongName => overrides.path = Some(until_nul(self.meta(size)?)),
                EntryType::GNULongLink => overrides.link = Some(until_nul(self.meta(size)?)),
                EntryType::XHeader => {
                    let records = self.meta(size)?;
                    overrides.read(&records)?;
                }
                EntryType::XGlobalHeader => {
                    let records = self.meta(size)?;
                    self.global = Overrides::default();
                    self.global.read(&records)?;
                }
                kind => return self.entry(&block, kind, size, overrides).map(Some),
            }
        }
        Err(broken("too many headers for one entry"))
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        kind: EntryType,
        size: u64,
        overrides: Overrides,
    ) -> Result<Entry, Fault> {
        let header = Header::from_byte_slice(block);
        let Overrides { uid: all_uid, gid: all_gid, mtime: all_mtime, .. } = self.global;
        // What is said of this entry alone wins.
        let Overrides { path, link, size: own_size, uid, gid, mtime, xattrs, mut sparse } = overrides;
        let mut stored = own_size.unwrap_or(size);
        let path = sparse.name.take().or(path).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = link.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        if path.len() > MAX_PATH || link.len() > MAX_PATH {
            return Err(Fault::invalid(format!("has a path of more than {MAX_PATH} bytes")));
        }
        if path.contains(&0) || link.contains(&0) {
            return Err(broken("a name has a NUL byte"));
        }
        let uid = uid.or(all_uid).unwrap_or_else(|| number(header.uid()));
        let gid = gid.or(all_gid).unwrap_or_else(|| number(header.gid()));
        let seconds = || (i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0), 0);
        let mtime = mtime.or(all_mtime).unwrap_or_else(seconds);
        let kind = match kind {
            // The old form of a directory.
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => match sparse.map()? {
                None if sparse.in_content => {
                    self.content = stored;
                    let pieces = self.map_in_content()?;
                    stored = self.content;
                    sparse_file(pieces, sparse.size.unwrap_or(0), stored)?
                }
                None => Kind::File,
                Some(pieces) => sparse_file(pieces, sparse.size.unwrap_or(0), stored)?,
            },
            EntryType::GNUSparse => {
                let pieces = self.old_map(block)?;
                let gnu = header.as_gnu().ok_or_else(|| broken("a sparse file in a strange header"))?;
                let size = gnu.real_size().map_err(|_| broken("a sparse file's size is no number"))?;
                sparse_file(pieces, size, stored)?
            }
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(link),
            EntryType::Link => Kind::HardLink(link),
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char | EntryType::Block => Kind::Device,
            other => {
                let byte = other.as_byte();
                return Err(Fault::invalid(format!("has an entry of kind {byte:#04x}, which is not known")));
            }
        };
        match kind {
            Kind::File | Kind::Sparse { .. } => {}
            // Some tools give links the size of what they lead to; no content follows.
            Kind::HardLink(_) | Kind::Symlink(_) => stored = 0,
            Kind::Directory | Kind::Fifo | Kind::Device => {}
        }
        self.content = stored;
        self.padding = padding_of(stored);
        let mode = header.mode().unwrap_or(0o644) & 0o7777;
        Ok(Entry { path, kind, stored, mode, uid, gid, mtime, xattrs })
    }

    /// The map of an old GNU sparse file: in the header, and in blocks behind it.
    fn old_map(&mut self, block: &[u8; BLOCK]) -> Result<Vec<(u64, u64)>, Fault> {
        let mut pieces = Vec::new();
        let mut take = |slots: &[u8]| -> Result<(), Fault> {
            for slot in slots.chunks_exact(24) {
                if slot[0] == 0 {
                    continue;
                }
                pieces.push((octal(&slot[..12])?, octal(&slot[12..])?));
            }
            if pieces.len() > MAX_PIECES { Err(too_many_pieces()) } else { Ok(()) }
        };
        take(&block[386..482])?;
        let mut more = block[482] != 0;
        while more {
            let next = self.block()?.ok_or_else(|| broken("it is cut off"))?;
            take(&next[..504])?;
            more = next[504] != 0;
        }
        Ok(pieces)
    }

    /// The map of pax form 1.0: decimal numbers, one a line, in whole blocks before the content.
    fn map_in_content(&mut self) -> Result<Vec<(u64, u64)>, Fault> {
        let mut text = Vec::new();
        let mut numbers = Vec::new();
        let mut wanted = 1;
        while numbers.len() < wanted {
            if self.content < BLOCK as u64 {
                return Err(broken("the map of a sparse file is cut off"));
            }
            let block = self.block()?.ok_or_else(|| broken("it is cut off"))?;
            self.content -= BLOCK as u64;
            text.extend_from_slice(&block);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                numbers.push(decimal(&line[..end])?);
                if numbers.len() == 1 {
                    let count = usize::try_from(numbers[0]).unwrap_or(usize::MAX);
                    if count > MAX_PIECES {
                        return Err(too_many_pieces());
                    }
                    wanted = 1 + 2 * count;
                }
                if numbers.len() == wanted {
                    break;
                }
            }
            if text.len() > BLOCK {
                return Err(broken("the map of a sparse file has a long line"));
            }
        }
        Ok(pairs(&numbers[1..]))
    }
}

fn too_many_pieces() -> Fault {
    Fault::too_large(format!("has a sparse file of more than {MAX_PIECES} pieces"))
}

fn pairs(numbers: &[u64]) -> Vec<(u64, u64)> {
    numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

/// A sparse file whose map is in order and fits what is stored.
fn sparse_file(pieces: Vec<(u64, u64)>, size: u64, stored: u64) -> Result<Kind, Fault> {
    let (mut at, mut sum) = (0_u64, 0_u64);
    for (offset, length) in &pieces {
        let end = offset.checked_add(*length).filter(|end| *offset >= at && *end <= size);
        at = end.ok_or_else(|| broken("the map of a sparse file is out of order"))?;
        sum += length;
    }
    if sum != stored {
        return Err(broken("the map of a sparse file does not fit its content"));
    }
    Ok(Kind::Sparse { pieces, size })
}

fn check_sum(block: &[u8; BLOCK], header: &Header) -> Result<(), Fault> {
    let all: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let own: u32 = block[148..156].iter().map(|byte| u32::from(*byte)).sum();
    if header.cksum().ok() == Some(all - own + 8 * 32) {
        Ok(())
    } else {
        Err(broken("a header's checksum is wrong"))
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// An id that is no number, or larger than any, is nobody's.
fn number(id: std::io::Result<u64>) -> u32 {
    id.ok().and_then(|id| u32::try_from(id).ok()).unwrap_or(65_534)
}

fn octal(field: &[u8]) -> Result<u64, Fault> {
    if field[0] & 0x80 != 0 {
        // Base 256, for numbers that octal digits do not hold.
        let mut value = u64::from(field[0] & 0x7f);
        for byte in &field[1..] {
            value = value.checked_mul(256).ok_or_else(|| broken("a number is too large"))? | u64::from(*byte);
        }
        return Ok(value);
    }
    let digits: Vec<u8> = field.iter().copied().take_while(|byte| *byte != 0 && *byte != b' ').collect();
    let text = std::str::from_utf8(&digits).map_err(|_| broken("a number is none"))?;
    u64::from_str_radix(text, 8).map_err(|_| broken("a number is none"))
}

fn decimal(digits: &[u8]) -> Result<u64, Fault> {
    let text = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
    text.ok_or_else(|| broken("a number is none"))
}

/// `SECONDS[.FRACTION]`, which may be negative.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().take(9).collect();
    let nanos: u32 = format!("{digits:0<9}").parse().ok()?;
    // A fraction counts away from zero, a kernel's nanoseconds never do.
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

impl Overrides {
    fn read(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for (key, value) in records(bytes)? {
            let id = || decimal(value).ok().and_then(|id| u32::try_from(id).ok());
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(decimal(value)?),
                b"uid" => self.uid = id(),
                b"gid" => self.gid = id(),
                b"mtime" => self.mtime = time(value),
                b"GNU.sparse.name" => self.sparse.name = Some(value.to_vec()),
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = Some(decimal(value)?),
                b"GNU.sparse.major" => self.sparse.in_content = value == b"1",
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    self.sparse.listed = true;
                    self.sparse.numbers.push(decimal(value)?);
                }
                b"GNU.sparse.map" => {
                    self.sparse.listed = true;
                    let numbers = value.split(|byte| *byte == b',').filter(|digits| !digits.is_empty());
                    self.sparse.numbers = numbers.map(decimal).collect::<Result<_, _>>()?;
                }
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.xattrs.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }
}

impl SparseOverrides {
    fn map(&self) -> Result<Option<Vec<(u64, u64)>>, Fault> {
        if !self.listed || self.in_content {
            return Ok(None);
        }
        if self.numbers.len() > 2 * MAX_PIECES {
            return Err(too_many_pieces());
        }
        if self.numbers.len() % 2 == 1 {
            return Err(broken("the map of a sparse file is cut off"));
        }
        Ok(Some(pairs(&self.numbers)))
    }
}

/// Key and value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// The records of a pax header: `LENGTH KEY=VALUE\n` each.
fn records(mut bytes: &[u8]) -> Result<Vec<Record<'_>>, Fault> {
    let bad = || broken("an extended header is none");
    let mut found = Vec::new();
    while !bytes.is_empty() && bytes[0] != 0 {
        let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or_else(bad)?;
        let length = usize::try_from(decimal(&bytes[..space])?).map_err(|_| bad())?;
        let record = bytes.get(space + 1..length).ok_or_else(bad)?;
        let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
        found.push((&record[..equals], &record[equals + 1..]));
        bytes = &bytes[length..];
    }
    Ok(found)
}

impl<R: BufRead> Read for TarReader<R> {
    /// The content of the entry.
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.content().map_err(|fault| std::io::Error::other(fault.reason))?;
        let count = got.len().min(buffer.len());
        buffer[..count].copy_from_slice(&got[..count]);
        self.consume(count);
        Ok(count)
    }
}
