//! `hothouse cp`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use hothouse_domain::files::FileKind;
use hothouse_domain::{ErrorCode, SandboxId};

use super::{needs_server, transfer};
use crate::failure::Failure;
use crate::flags::ServerFlags;
use crate::interrupt::or_interrupted;
use crate::place::SandboxHandle;

/// Copy files and directories into a sandbox of a server or out of it
///
/// As for cp: into DST when that is a directory, else to DST itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hothouse cp ./project sb-1:/workspace/
  hothouse cp sb-1:/workspace/out.csv .")]
pub(crate) struct CpArgs {
    /// From: a local path, or ID:/path in a sandbox
    #[arg(value_name = "SRC")]
    from: Side,
    /// To: a local path, or ID:/path in a sandbox
    #[arg(value_name = "DST")]
    to: Side,
    #[command(flatten)]
    server: ServerFlags,
}

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Side {
    Local(PathBuf),
    Inside(SandboxId, String),
}

impl FromStr for Side {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            // A local path with a colon is written ./a:b or /x/a:b, as for scp.
            Some((id, path)) if !id.contains('/') => {
                let id = id
                    .parse()
                    .map_err(|e| format!("sandbox id {e}; a local path with ':' begins with ./"))?;
                if !path.starts_with('/') {
                    return Err(format!("path {path:?} is not absolute; use ID:/path"));
                }
                Ok(Self::Inside(id, path.to_owned()))
            }
            Some(_) | None if text.is_empty() => Err("is empty; use a local path or ID:/path".to_owned()),
            Some(_) | None => Ok(Self::Local(PathBuf::from(text))),
        }
    }
}

/// Copies.
pub(crate) async fn run(args: CpArgs) -> Result<u8, Failure> {
    let CpArgs { from, to, server } = args;
    let client = server.client()?;
    let copied = match (from, to) {
        (Side::Local(local), Side::Inside(id, path)) => {
            let sandbox = client.sandbox(id);
            Box::pin(or_interrupted(into_sandbox(&sandbox, &local, &path))).await
        }
        (Side::Inside(id, path), Side::Local(local)) => {
            let sandbox = client.sandbox(id);
            Box::pin(or_interrupted(out_of_sandbox(&sandbox, &path, &local))).await
        }
        (Side::Local(_), Side::Local(_)) => {
            return Err(Failure::usage("SRC or DST", "must be in a sandbox: ID:/path"));
        }
        (Side::Inside(..), Side::Inside(..)) => {
            return Err(Failure::usage("SRC or DST", "must be local; copy by way of a local path"));
        }
    };
    copied.map_err(needs_server)?;
    Ok(0)
}

async fn into_sandbox(sandbox: &SandboxHandle, local: &Path, path: &str) -> Result<(), Failure> {
    let target = match sandbox.stat(path).await {
        Ok(info) if info.kind == FileKind::Directory => below(path, local_name(local)?),
        // A link may lead to a directory, which only a look through it tells.
        Ok(info) if info.kind == FileKind::Symlink => match sandbox.stat(&below(path, ".")).await {
            Ok(_) => below(path, local_name(local)?),
            Err(_) => path.to_owned(),
        },
        Ok(_) => path.to_owned(),
        Err(failure) if failure.code() != Some(ErrorCode::FileNotFound) => return Err(failure),
        Err(_) if path.ends_with('/') => below(path, local_name(local)?),
        Err(_) => path.to_owned(),
    };
    transfer::upload(sandbox, local, &target).await
}

async fn out_of_sandbox(sandbox: &SandboxHandle, path: &str, local: &Path) -> Result<(), Failure> {
    let info = sandbox.stat(path).await?;
    let into = local.is_dir() || local.as_os_str().as_encoded_bytes().ends_with(b"/");
    let target = if into {
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        if name.is_empty() || name == "." || name == ".." { local.to_path_buf() } else { local.join(name) }
    } else {
        local.to_path_buf()
    };
    match info.kind {
        FileKind::File => transfer::download_file(sandbox, path, &target, (info.size, info.mode)).await,
        FileKind::Directory => transfer::download_directory(sandbox, path, &target).await,
        FileKind::Symlink => {
            let to = info.target.unwrap_or_default();
            Err(Failure::usage(path.to_owned(), "is a symbolic link")
                .hint(format!("copy what it leads to: {to}")))
        }
        FileKind::Other => Err(Failure::usage(path.to_owned(), "is neither a file nor a directory")),
    }
}

fn below(directory: &str, name: &str) -> String {
    format!("{}/{name}", directory.trim_end_matches('/'))
}

fn local_name(local: &Path) -> Result<&str, Failure> {
    local.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        Failure::usage(local.display().to_string(), "has no usable name")
            .hint("give the whole target path: ID:/directory/name")
    })
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    #[test_case("a" ; "name")]
    #[test_case("./a:b" ; "colon after a slash")]
    #[test_case("/x/a:b" ; "colon in an absolute path")]
    fn local(text: &str) {
        assert_eq!(text.parse(), Ok(Side::Local(PathBuf::from(text))));
    }

    #[test]
    fn inside() {
        assert_eq!("sb-1:/a:b".parse(), Ok(Side::Inside("sb-1".parse().unwrap(), "/a:b".to_owned())));
    }

    #[test_case(""; "empty")]
    #[test_case("sb-1:a"; "relative")]
    #[test_case("sb-1:"; "no path")]
    #[test_case(":/a"; "no id")]
    #[test_case("s b:/a"; "bad id")]
    fn refused(text: &str) {
        text.parse::<Side>().unwrap_err();
    }
}
