//! Files of a sandbox.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use hothouse_domain::files::{FileInfo, FileWritten, parse_mode};
use hothouse_domain::sandbox::check_path;
use hothouse_domain::{ErrorCode, Problem, SandboxId};
use hothouse_sandbox::sandbox::WriteOptions;
use hothouse_sandbox::{FileReader, Sandbox, SandboxError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::body::{Content, JsonBody};
use crate::problem::{Refusal, json_response};
use crate::query::Query;
use crate::target::InSandbox;

/// Bytes of the whole file, also when a part of it is sent.
const SIZE_HEADER: HeaderName = HeaderName::from_static("hothouse-size");
/// Permission bits of the file, octal.
const MODE_HEADER: HeaderName = HeaderName::from_static("hothouse-mode");
/// Permission bits of directories that are made when the request names none.
const DIRECTORY_MODE: u32 = 0o755;

/// The entries of a directory.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileList {
    /// Sorted by name.
    items: Vec<FileInfo>,
}

/// A directory to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MkdirRequest {
    /// Its absolute path in the sandbox.
    path: String,
    /// Permission bits, octal, e.g. `750`; `755` when absent.
    #[serde(default)]
    mode: Option<String>,
}

/// A file or directory to rename.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenameRequest {
    /// Its absolute path in the sandbox.
    from: String,
    /// Its new absolute path; an existing file there is replaced.
    to: String,
}

/// Read a regular file: all of it, or a part by `offset` and `length` or by a `Range` of bytes.
#[utoipa::path(get, operation_id = "file_read", path = "/v1/sandboxes/{sandbox_id}/files", tag = "files",
    params(
        ("sandbox_id" = SandboxId, Path),
        ("path" = String, Query, description = "Absolute path in the sandbox"),
        ("offset" = Option<u64>, Query, description = "First byte; 0 when absent"),
        ("length" = Option<u64>, Query, description = "At most so many bytes"),
        ("Range" = Option<String>, Header, description = "One range, e.g. `bytes=0-99`, `bytes=100-` or `bytes=-100`"),
    ), responses(
    (status = 200, body = Vec<u8>, content_type = "application/octet-stream", headers(
        ("Hothouse-Size" = u64, description = "Bytes of the whole file"),
        ("Hothouse-Mode" = String, description = "Permission bits, octal"))),
    (status = 206, description = "The range asked for", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn read(
    InSandbox(sandbox): InSandbox,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let path = query.path("path")?;
    let offset = query.number("offset", 0..=u64::MAX)?;
    let length = query.number("length", 0..=u64::MAX)?;
    query.finish()?;
    let range = Range::of(&headers)?;
    if range.is_some() && (offset.is_some() || length.is_some()) {
        return Err(Refusal::field("Range", "and offset or length exclude each other"));
    }
    match range {
        Some(range) => read_range(&sandbox, &path, range).await,
        None => {
            let offset = offset.unwrap_or(0);
            let reader = sandbox.read_file(&path, offset, length).await?;
            let promised = match reader.info() {
                // Files of size 0 may still have content (in /proc), so their length is not promised.
                Some(info) if info.size > 0 => {
                    let rest = info.size.saturating_sub(offset);
                    Some(length.map_or(rest, |length| length.min(rest)))
                }
                Some(_) | None => None,
            };
            Ok(file_response(StatusCode::OK, reader, promised))
        }
    }
}

async fn read_range(sandbox: &Sandbox, path: &str, range: Range) -> Result<Response, Refusal> {
    let probe = sandbox.read_file(path, 0, Some(0)).await?;
    let size = probe.info().map_or(0, |info| info.size);
    drop(probe);
    let Some((first, last)) = range.within(size) else {
        let detail = format!("Range is outside of the file, which has {size} bytes");
        let refusal = Refusal::new(ErrorCode::InvalidRequest, detail).about("Range");
        let mut response = refusal.with_status(StatusCode::RANGE_NOT_SATISFIABLE).into_response();
        set_header(&mut response, header::CONTENT_RANGE, format!("bytes */{size}"));
        return Ok(response);
    };
    let length = last - first + 1;
    let reader = sandbox.read_file(path, first, Some(length)).await?;
    let mut response = file_response(StatusCode::PARTIAL_CONTENT, reader, Some(length));
    set_header(&mut response, header::CONTENT_RANGE, format!("bytes {first}-{last}/{size}"));
    Ok(response)
}

fn set_header(response: &mut Response, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}

fn file_response(status: StatusCode, reader: FileReader, promised: Option<u64>) -> Response {
    let info = reader.info().map(|info| (info.size, info.mode));
    let mut response = Response::new(reader_body(reader, promised));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(length) = promised {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    if let Some((size, mode)) = info {
        headers.insert(SIZE_HEADER, size.into());
        set_header(&mut response, MODE_HEADER, format!("{:03o}", mode & 0o7777));
    }
    response
}

/// The content as a body. When more comes than was promised (the file grew) the rest is left out; when less comes, the
/// connection breaks off, so that the client sees it.
pub(crate) fn reader_body(reader: FileReader, promised: Option<u64>) -> Body {
    Body::from_stream(chunks(reader, promised.unwrap_or(u64::MAX)))
}

fn chunks(reader: FileReader, left: u64) -> impl Stream<Item = Result<bytes::Bytes, SandboxError>> {
    futures::stream::try_unfold((reader, left), |(mut reader, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let Some(mut chunk) = reader.next().await? else { return Ok(None) };
        chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - chunk.len() as u64;
        Ok(Some((chunk, (reader, left))))
    })
}

/// Write a regular file with the bytes of the body: atomically, missing parents are made.
#[utoipa::path(put, operation_id = "file_write", path = "/v1/sandboxes/{sandbox_id}/files", tag = "files",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    params(
        ("sandbox_id" = SandboxId, Path),
        ("path" = String, Query, description = "Absolute path in the sandbox"),
        ("mode" = Option<String>, Query, description = "Permission bits, octal; those of the file that is replaced, or 644, when absent"),
        ("sha256" = Option<String>, Query, description = "Refuse, and change nothing, unless the content has this digest (hex)"),
    ), responses(
    (status = 200, description = "Written", body = FileWritten),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn write(
    State(app): State<App>,
    InSandbox(sandbox): InSandbox,
    mut query: Query,
    request: Request,
) -> Result<Response, Refusal> {
    let path = query.path("path")?;
    let mode = query.take("mode")?.map(|text| parse_mode("mode", &text)).transpose()?;
    let sha256 = query.take("sha256")?.map(|text| parse_sha256(&text)).transpose()?;
    query.finish()?;
    let (content, fault) = Content::new(request.into_body(), app.limits.file_bytes, &app)?;
    let options = WriteOptions { mode, sha256 };
    let written = sandbox.write_file(&path, options, content).await.map_err(|error| fault.or(error))?;
    Ok(json_response(StatusCode::OK, &written))
}

/// What is at a path; a link at its end is not followed.
#[utoipa::path(get, operation_id = "file_stat", path = "/v1/sandboxes/{sandbox_id}/files/stat", tag = "files",
    params(("sandbox_id" = SandboxId, Path), ("path" = String, Query, description = "Absolute path in the sandbox")),
    responses(
    (status = 200, body = FileInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn stat(InSandbox(sandbox): InSandbox, mut query: Query) -> Result<Response, Refusal> {
    let path = query.path("path")?;
    query.finish()?;
    Ok(json_response(StatusCode::OK, &sandbox.stat(&path).await?))
}

/// The entries of a directory, sorted by name.
#[utoipa::path(get, operation_id = "file_list", path = "/v1/sandboxes/{sandbox_id}/files/list", tag = "files",
    params(("sandbox_id" = SandboxId, Path), ("path" = String, Query, description = "Absolute path in the sandbox")),
    responses(
    (status = 200, body = FileList),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(InSandbox(sandbox): InSandbox, mut query: Query) -> Result<Response, Refusal> {
    let path = query.path("path")?;
    query.finish()?;
    Ok(json_response(StatusCode::OK, &FileList { items: sandbox.list_dir(&path).await? }))
}

/// Make a directory and missing parents; one that exists is fine.
#[utoipa::path(post, operation_id = "file_mkdir", path = "/v1/sandboxes/{sandbox_id}/files/mkdir", tag = "files", request_body = MkdirRequest,
    params(("sandbox_id" = SandboxId, Path)), responses(
    (status = 204, description = "It is there"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn mkdir(
    InSandbox(sandbox): InSandbox,
    query: Query,
    JsonBody(request): JsonBody<MkdirRequest>,
) -> Result<Response, Refusal> {
    query.finish()?;
    check_path("path", &request.path)?;
    let mode =
        request.mode.as_deref().map(|text| parse_mode("mode", text)).transpose()?.unwrap_or(DIRECTORY_MODE);
    sandbox.mkdir(&request.path, mode).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Rename a file or directory.
#[utoipa::path(post, operation_id = "file_rename", path = "/v1/sandboxes/{sandbox_id}/files/rename", tag = "files", request_body = RenameRequest,
    params(("sandbox_id" = SandboxId, Path)), responses(
    (status = 204, description = "Renamed"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn rename(
    InSandbox(sandbox): InSandbox,
    query: Query,
    JsonBody(request): JsonBody<RenameRequest>,
) -> Result<Response, Refusal> {
    query.finish()?;
    check_path("from", &request.from)?;
    check_path("to", &request.to)?;
    sandbox.rename(&request.from, &request.to).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Remove a file, or a directory: an empty one, or with all in it when `recursive`.
#[utoipa::path(delete, operation_id = "file_remove", path = "/v1/sandboxes/{sandbox_id}/files", tag = "files",
    params(
        ("sandbox_id" = SandboxId, Path),
        ("path" = String, Query, description = "Absolute path in the sandbox"),
        ("recursive" = Option<bool>, Query, description = "With all that is in it"),
    ), responses(
    (status = 204, description = "Gone"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn remove(InSandbox(sandbox): InSandbox, mut query: Query) -> Result<Response, Refusal> {
    let path = query.path("path")?;
    let recursive = query.switch("recursive")?;
    query.finish()?;
    sandbox.remove(&path, recursive).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn parse_sha256(text: &str) -> Result<[u8; 32], Refusal> {
    let refusal = || Refusal::field("sha256", "is not 64 hexadecimal digits");
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(refusal());
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| refusal())?;
    }
    Ok(digest)
}

/// One range of bytes, as RFC 9110 writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    /// From a byte to a byte, the last one included, or to the end.
    From(u64, Option<u64>),
    /// The last so many bytes.
    Last(u64),
}

impl Range {
    /// The range that the headers ask for; another unit is ignored, as RFC 9110 says.
    fn of(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(value) = headers.get(header::RANGE) else { return Ok(None) };
        let text = value.to_str().unwrap_or_default().trim();
        let Some(spec) = text.strip_prefix("bytes=") else { return Ok(None) };
        let range = spec.split_once('-').and_then(|(first, last)| match (first.trim(), last.trim()) {
            ("", last) => last.parse().ok().map(Self::Last),
            (first, "") => first.parse().ok().map(|first| Self::From(first, None)),
            (first, last) => match (first.parse().ok()?, last.parse().ok()?) {
                (first, last) if first <= last => Some(Self::From(first, Some(last))),
                _ => None,
            },
        });
        match range {
            Some(range) => Ok(Some(range)),
            None => Err(Refusal::field(
                "Range",
                "is not one range of bytes, e.g. bytes=0-99, bytes=100-, bytes=-100",
            )),
        }
    }

    /// First and last byte within a file of this size; `None` when there are none.
    fn within(self, size: u64) -> Option<(u64, u64)> {
        let end = size.checked_sub(1)?;
        match self {
            Self::From(first, _) if first > end => None,
            Self::From(first, last) => Some((first, last.unwrap_or(end).min(end))),
            Self::Last(0) => None,
            Self::Last(count) => Some((size.saturating_sub(count), end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    #[test_case("bytes=0-9", 100, Some((0, 9)); "first ten")]
    #[test_case("bytes=90-", 100, Some((90, 99)); "open end")]
    #[test_case("bytes=90-500", 100, Some((90, 99)); "end beyond the file")]
    #[test_case("bytes=-10", 100, Some((90, 99)); "last ten")]
    #[test_case("bytes=-500", 100, Some((0, 99)); "more than there is")]
    #[test_case("bytes=100-", 100, None; "after the end")]
    #[test_case("bytes=0-", 0, None; "empty file")]
    #[test_case("bytes=-0", 100, None; "last none")]
    fn ranges(text: &str, size: u64, expected: Option<(u64, u64)>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, text.parse().unwrap());
        assert_eq!(Range::of(&headers).unwrap().unwrap().within(size), expected);
    }

    #[test_case("bytes=9-0"; "backwards")]
    #[test_case("bytes=0-1,3-4"; "two ranges")]
    #[test_case("bytes="; "nothing")]
    #[test_case("bytes=a-b"; "letters")]
    fn what_is_no_range_is_refused(text: &str) {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, text.parse().unwrap());
        assert!(Range::of(&headers).is_err());
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(parse_mode("mode", "755").unwrap(), 0o755);
        assert_eq!(parse_mode("mode", "0644").unwrap(), 0o644);
        for wrong in ["", "8", "10000", "-1", "+7", "0x1ff", "rwx"] {
            assert!(parse_mode("mode", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn digests_are_64_hexadecimal_digits() {
        assert_eq!(parse_sha256(&"0f".repeat(32)).unwrap(), [0x0f; 32]);
        for wrong in ["", "0f", &"0g".repeat(32), &"é".repeat(32), &"0f".repeat(33)] {
            assert!(parse_sha256(wrong).is_err(), "{wrong}");
        }
    }
}
