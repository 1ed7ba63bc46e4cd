//! A client of registries: OCI's distribution protocol, as far as pulling goes.

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use hothouse_domain::image::RegistryCredentials;
use hothouse_domain::{ImageId, ImageName};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use rustix::fs::FlockOperation;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::credentials;
use super::digest;
use super::error::Fault;
use super::manifest::{ACCEPT, MAX_DOCUMENT};
use crate::tls;

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a registry may be silent.
const READ_PATIENCE: Duration = Duration::from_secs(60);
/// A request is sent so often in all; what fails in between is gone on with where it broke off.
const TRIES: u32 = 5;
/// The pause before the second try, doubled with each.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause that a registry may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// Bytes, or a sixteenth of a blob if that is more, after which the tries are counted anew.
const MIN_GAIN: u64 = 64 << 10;
/// Where Docker's registry really is.
const DOCKER_HOST: &str = "registry-1.docker.io";

/// One repository of a registry.
#[derive(Debug)]
pub(super) struct Registry {
    http: Client,
    base: Url,
    name: ImageName,
    credentials: Option<RegistryCredentials>,
    /// What `Authorization` says, once the registry has asked.
    authorization: Mutex<Option<HeaderValue>>,
    closing: CancellationToken,
}

/// What a registry answered that cannot be gone on with; whether it is worth trying again.
struct Failed {
    fault: Fault,
    again: Again,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    Never,
    After(Option<Duration>),
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self { fault, again: Again::Never }
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host.strip_prefix('[').and_then(|rest| rest.split(']').next());
    let name = name.unwrap_or_else(|| host.rsplit_once(':').map_or(host, |(name, _)| name));
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The innermost cause says what happened; the outer ones only that something did.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn client(host: &str, scheme: &str) -> Result<Client, Fault> {
    let config = if scheme == "https" { tls::trusting_roots() } else { tls::trusting_nobody() };
    let config = config.map_err(|e| Fault::unavailable(e.to_string()))?;
    let mut builder = Client::builder()
        .tls_backend_preconfigured(config)
        .user_agent(concat!("hothouse/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_PATIENCE)
        .read_timeout(READ_PATIENCE);
    if is_loopback(host) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|e| Fault::unavailable(format!("making an HTTP client: {e}")))
}

impl Registry {
    /// The registry of a name. One on this machine may speak plain HTTP.
    pub(super) async fn open(
        name: &ImageName,
        credentials: Option<RegistryCredentials>,
        plain_http: bool,
        closing: CancellationToken,
    ) -> Result<Self, Fault> {
        let host = name.host();
        let real = if host == hothouse_domain::image_name::DEFAULT_REGISTRY { DOCKER_HOST } else { host };
        let credentials = credentials.or_else(|| credentials::find(host));
        let at = |scheme: &str| -> Result<Self, Fault> {
            let base = format!("{scheme}://{real}/v2/").parse();
            Ok(Self {
                http: client(real, scheme)?,
                base: base.map_err(|_| Fault::invalid(format!("{host:?} is no host")))?,
                name: name.clone(),
                credentials: credentials.clone(),
                authorization: Mutex::default(),
                closing: closing.clone(),
            })
        };
        if plain_http {
            return at("http");
        }
        if !is_loopback(host) {
            return at("https");
        }
        // Without roots there is no TLS, and on this machine none is needed.
        let Ok(secure) = at("https") else { return at("http") };
        match secure.http.get(secure.base.clone()).send().await {
            Ok(_) => Ok(secure),
            Err(_) => at("http"),
        }
    }

    fn url(&self, kind: &str, what: &str) -> Result<Url, Fault> {
        let path = format!("{}/{kind}/{what}", self.name.repository());
        self.base.join(&path).map_err(|e| Fault::invalid(format!("{path:?}: {e}")))
    }

    fn broken(&self, error: &reqwest::Error) -> Failed {
        let fault = Fault::unavailable(format!("talking to {}: {}", self.name.host(), cause(error)));
        Failed { fault, again: Again::After(None) }
    }

    /// Sends a request with what the registry knows us by, and proves who we are when it asks.
    async fn send(&self, request: &RequestBuilder) -> Result<Response, Failed> {
        for _ in 0..2 {
            let Some(mut request) = request.try_clone() else {
                return Err(Fault::unavailable("a request cannot be repeated").into());
            };
            let known = self.authorization.lock().await.clone();
            if let Some(authorization) = &known {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let sent = tokio::select! {
                sent = request.send() => sent,
                () = self.closing.cancelled() => return Err(Fault::unavailable("was stopped").into()),
            };
            let response = sent.map_err(|e| self.broken(&e))?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return self.judge(response).await;
            }
            let mut authorization = self.authorization.lock().await;
            // Somebody else may have asked meanwhile.
            if *authorization == known {
                *authorization = Some(self.prove(response.headers()).await?);
            }
        }
        let who = match &self.credentials {
            Some(credentials) => format!("refuses user {:?}", credentials.username),
            None => "wants to know who asks, or has no such image".to_owned(),
        };
        let host = self.name.host();
        Err(Fault::unavailable(format!("{host} {who}; log in with `docker login {host}` or give --creds"))
            .into())
    }

    async fn judge(&self, response: Response) -> Result<Response, Failed> {
        let (status, host) = (response.status(), self.name.host());
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        let wait =
            response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let wait = wait.map(Duration::from_secs);
        // What it says is for a person, and short.
        let text = response.text().await.unwrap_or_default();
        let said: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
        let fault = match status {
            StatusCode::NOT_FOUND => Fault {
                code: hothouse_domain::ErrorCode::ImageNotFound,
                reason: format!("{host} has no such image; check its name"),
            },
            StatusCode::FORBIDDEN => Fault::unavailable(format!("{host} does not let us have it: {said}")),
            _ => Fault::unavailable(format!("{host} answered {status}: {said}")),
        };
        let again = match status {
            StatusCode::TOO_MANY_REQUESTS => Again::After(wait),
            status if status.is_server_error() => Again::After(wait),
            _ => Again::Never,
        };
        Err(Failed { fault, again })
    }

    /// Answers a registry's question who we are.
    async fn prove(&self, headers: &HeaderMap) -> Result<HeaderValue, Failed> {
        let host = self.name.host();
        let asked = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let asked: Vec<&str> = asked.collect();
        let value = |text: String| -> Result<HeaderValue, Failed> {
            let mut value = HeaderValue::try_from(text)
                .map_err(|_| Fault::unavailable("the login has characters that HTTP does not take"))?;
            value.set_sensitive(true);
            Ok(value)
        };
        if let Some(challenge) = asked.iter().find_map(|text| Challenge::parse(text)) {
            return value(format!("Bearer {}", self.token(&challenge).await?));
        }
        let basic = asked.iter().any(|text| text.to_ascii_lowercase().starts_with("basic"));
        match (&self.credentials, basic) {
            (Some(credentials), true) => value(basic_of(credentials)),
            (None, true) => Err(Fault::unavailable(format!(
                "{host} wants a login; log in with `docker login {host}` or give --creds"
            ))
            .into()),
            (_, false) => {
                Err(Fault::unavailable(format!("{host} asks who we are in a way that is not known")).into())
            }
        }
    }

    async fn token(&self, challenge: &Challenge) -> Result<String, Failed> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let host = self.name.host();
        let realm: Url = challenge
            .realm
            .parse()
            .map_err(|_| Fault::unavailable(format!("{host} names no place to log in at")))?;
        // A password is not sent in the clear because somebody says so.
        if realm.scheme() != "https" && self.base.scheme() == "https" {
            return Err(Fault::unavailable(format!("{host} wants the login sent without TLS")).into());
        }
        let scope = format!("repository:{}:pull", self.name.repository());
        let mut request = self.http.get(realm).query(&[("scope", scope)]);
        if let Some(service) = &challenge.service {
            request = request.query(&[("service", service)]);
        }
        if let Some(credentials) = &self.credentials {
            request = request.header(header::AUTHORIZATION, basic_of(credentials));
        }
        let response = request.send().await.map_err(|e| self.broken(&e))?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let reason = format!("{host} refuses the login; check it with `docker login {host}`");
            return Err(Fault::unavailable(reason).into());
        }
        let response = self.judge(response).await?;
        let bytes = self.whole(response).await?;
        let answer: Answer = super::manifest::json("the answer to the login", &bytes)?;
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        token.ok_or_else(|| Fault::unavailable(format!("{host} gave no token")).into())
    }

    /// The body of a small document.
    async fn whole(&self, response: Response) -> Result<Vec<u8>, Failed> {
        let mut bytes = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|e| self.broken(&e))?;
            if (bytes.len() + chunk.len()) as u64 > MAX_DOCUMENT {
                return Err(
                    Fault::too_large(format!("has a document of more than {MAX_DOCUMENT} bytes")).into()
                );
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Pauses before another try, unless it makes no sense.
    async fn pause(&self, tried: &mut u32, failed: Failed) -> Result<(), Fault> {
        *tried += 1;
        let wait = match failed.again {
            Again::After(wait) if *tried < TRIES => wait.unwrap_or(PAUSE * (1 << (*tried - 1))),
            Again::After(_) | Again::Never => return Err(failed.fault),
        };
        if wait > MAX_PAUSE {
            let reason = format!("{}; it asks to wait {} s", failed.fault.reason, wait.as_secs());
            return Err(Fault { reason, ..failed.fault });
        }
        tracing::info!(image = %self.name, reason = failed.fault.reason, "trying again");
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(()),
            () = self.closing.cancelled() => Err(Fault::unavailable("was stopped")),
        }
    }

    /// Sends a request until it is answered; with the whole of a small answer.
    async fn ask(&self, request: RequestBuilder) -> Result<(HeaderMap, Vec<u8>), Fault> {
        let mut tried = 0;
        loop {
            let failed = match self.send(&request).await {
                Ok(response) => {
                    let headers = response.headers().clone();
                    match self.whole(response).await {
                        Ok(bytes) => return Ok((headers, bytes)),
                        Err(failed) => failed,
                    }
                }
                Err(failed) => failed,
            };
            self.pause(&mut tried, failed).await?;
        }
    }

    /// A manifest by tag or digest, with its digest.
    pub(super) async fn manifest(&self, wanted: &str) -> Result<(Vec<u8>, ImageId), Fault> {
        let url = self.url("manifests", wanted)?;
        let (_, bytes) = self.ask(self.http.get(url).header(header::ACCEPT, ACCEPT)).await?;
        let found = digest::of(&bytes);
        if wanted.starts_with("sha256:") && wanted != found.as_str() {
            return Err(Fault::invalid(format!("the registry gave {found} for {wanted}")));
        }
        Ok((bytes, found))
    }

    /// The digest that a tag has now, without fetching what it names.
    pub(super) async fn head(&self, tag: &str) -> Result<Option<ImageId>, Fault> {
        let url = self.url("manifests", tag)?;
        let (headers, _) = self.ask(self.http.head(url).header(header::ACCEPT, ACCEPT)).await?;
        let named = headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
        Ok(named.and_then(|text| digest::parse(text).ok()))
    }

    /// A small blob, checked.
    pub(super) async fn document(&self, id: &ImageId) -> Result<Vec<u8>, Fault> {
        let url = self.url("blobs", id.as_str())?;
        let (_, bytes) = self.ask(self.http.get(url)).await?;
        let found = digest::of(&bytes);
        if found == *id {
            Ok(bytes)
        } else {
            Err(Fault::invalid(format!("blob {id} is corrupt: it is {found}")))
        }
    }

    /// Fetches a layer's blob into a file, from where an earlier try broke off.
    pub(super) async fn fetch(&self, id: &ImageId, size: u64, blob: &mut Blob) -> Result<(), Fault> {
        let url = self.url("blobs", id.as_str())?;
        let mut tried = 0;
        loop {
            let before = blob.length()?;
            let Err(failed) = self.fetch_once(&url, size, blob).await else { return Ok(()) };
            // It gets on. A registry that gives a little each time is given up all the same.
            if blob.length()? > before.saturating_add((size / 16).max(MIN_GAIN)) {
                tried = 0;
            }
            self.pause(&mut tried, failed).await?;
        }
    }

    async fn fetch_once(&self, url: &Url, size: u64, blob: &mut Blob) -> Result<(), Failed> {
        let path = blob.path.clone();
        let failed = |e: std::io::Error| Fault::store(path.display(), &e);
        let have = blob.file.seek(SeekFrom::End(0)).map_err(failed)?;
        if have >= size && size > 0 {
            return Ok(());
        }
        let mut request = self.http.get(url.clone());
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let response = self.send(&request).await?;
        let mut at = have;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            // It begins at the beginning, or knows of no such range.
            blob.file.set_len(0).map_err(failed)?;
            blob.file.rewind().map_err(failed)?;
            at = 0;
        }
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            let fault = Fault::unavailable("the registry has less of it than before");
            return Err(Failed { fault, again: Again::After(None) });
        }
        let mut chunks = response.bytes_stream();
        loop {
            let chunk = tokio::select! {
                chunk = chunks.next() => chunk,
                () = self.closing.cancelled() => return Err(Fault::unavailable("was stopped").into()),
            };
            let Some(chunk) = chunk else { break };
            let chunk = chunk.map_err(|e| self.broken(&e))?;
            at += chunk.len() as u64;
            if size > 0 && at > size {
                return Err(
                    Fault::invalid(format!("has more than the {size} bytes that were announced")).into()
                );
            }
            // A page cache takes it in microseconds.
            blob.file.write_all(&chunk).map_err(failed)?;
        }
        if at < size {
            let fault = Fault::unavailable(format!("{} ended {at} bytes into {size}", self.name.host()));
            return Err(Failed { fault, again: Again::After(None) });
        }
        Ok(())
    }
}

fn basic_of(credentials: &RegistryCredentials) -> String {
    use base64::Engine as _;
    let pair = format!("{}:{}", credentials.username, credentials.password.reveal());
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// How a registry asks for a token.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    realm: String,
    service: Option<String>,
}

impl Challenge {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        while let Some((key, after)) = rest.split_once('=') {
            let (value, next) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match key.trim_matches([' ', ',']) {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                _ => {}
            }
            rest = next;
        }
        Some(Self { realm: realm?, service })
    }
}

/// A blob while it comes and is unpacked; one process at a time has it.
#[derive(Debug)]
pub(super) struct Blob {
    file: File,
    path: PathBuf,
    whole: bool,
}

impl Blob {
    /// Takes the file of a blob, with what an earlier try has left in it; waits for whoever has it.
    pub(super) fn take(path: PathBuf) -> Result<Self, Fault> {
        let failed = |e: std::io::Error| Fault::store(path.display(), &e);
        let options = || File::options().create(true).truncate(false).read(true).write(true).open(&path);
        loop {
            let file = options().map_err(failed)?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
            // Whoever had it may have removed it.
            if path.exists() && same(&file, &path) {
                return Ok(Self { file, path, whole: false });
            }
        }
    }

    fn length(&self) -> Result<u64, Fault> {
        self.file.metadata().map(|meta| meta.len()).map_err(|e| Fault::store(self.path.display(), &e))
    }

    /// All of it is there; reads it from the beginning. The file goes when the result is dropped.
    pub(super) fn read(mut self) -> Result<Self, Fault> {
        self.file.rewind().map_err(|e| Fault::store(self.path.display(), &e))?;
        self.whole = true;
        Ok(self)
    }
}

fn same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(ours), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        // One that was fetched in part is gone on with; one that turned out corrupt must not be.
        if self.whole {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let text = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a,b""#;
        let challenge = Challenge::parse(text).unwrap();
        assert_eq!(challenge.realm, "https://auth.docker.io/token");
        assert_eq!(challenge.service.as_deref(), Some("registry.docker.io"));
        assert_eq!(Challenge::parse("bearer realm=http://a/t").unwrap().realm, "http://a/t");
        assert_eq!(Challenge::parse(r#"Basic realm="x""#), None);
        assert_eq!(Challenge::parse(r#"Bearer realm="x"#), None);
    }

    #[test]
    fn loopback_is_loopback() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.3.2.1", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.org", "example.org:5000", "10.0.0.1", "[fe80::1]:5000"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
