//! Files that a claim brings, ready to be written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hothouse_domain::files::parse_mode;
use hothouse_domain::{ClaimFile, Encoding, Invalid};
use hothouse_sandbox::sandbox::WriteOptions;
use hothouse_sandbox::{Sandbox, SandboxError};

/// The files of one claim.
#[derive(Debug, Default)]
pub(crate) struct Files(Vec<(String, WriteOptions, Bytes)>);

impl Files {
    /// Decodes them.
    pub(crate) fn of(files: Vec<ClaimFile>) -> Result<Self, Invalid> {
        let decode = |(at, file): (usize, ClaimFile)| {
            let ClaimFile { path, content, encoding, mode } = file;
            let mode =
                mode.as_deref().map(|mode| parse_mode(&format!("files[{at}].mode"), mode)).transpose()?;
            let bytes = match encoding {
                Encoding::Utf8 => content.into_bytes(),
                Encoding::Base64 => STANDARD.decode(content).map_err(|e| {
                    Invalid::new(format!("files[{at}].content"), format!("is not standard base64: {e}"))
                })?,
            };
            Ok((path, WriteOptions { mode, sha256: None }, Bytes::from(bytes)))
        };
        files.into_iter().enumerate().map(decode).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes them, one after the other: a later one may replace an earlier one.
    pub(crate) async fn write(self, sandbox: &Sandbox) -> Result<(), SandboxError> {
        for (path, options, bytes) in self.0 {
            let once = futures::stream::iter([Ok(bytes)]);
            sandbox.write_file(&path, options, once).await?;
        }
        Ok(())
    }
}
