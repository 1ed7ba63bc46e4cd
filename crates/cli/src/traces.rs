//! Traces of what the server does, sent as OTLP over HTTP to where `OTEL_EXPORTER_OTLP_ENDPOINT` says.
//!
//! ```text
//!  span ends ──► at most so many wait ──► a thread of their own sends them in batches ──► collector
//!                     │ more are lost          │ those of a batch that fails are lost
//!                     ▼                        ▼
//!                 counted, told in the log once, and in all at the end
//! ```
//!
//! No request waits for any of this. Only spans with the target `hothouse_trace` are sent, never what is logged: where they
//! are made it is seen to that they carry names and times, and nothing that was sent to run or came out of it.

use std::env;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanProcessor,
};
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::registry::LookupSpan;

use crate::failure::Failure;
use crate::place::tls;

/// The target of spans that are sent.
const TARGET: &str = "hothouse_trace";
/// Spans that may wait or be on their way unless `OTEL_BSP_MAX_QUEUE_SIZE` says another number; more are lost.
const WAITING: usize = 8192;
/// How long sending a batch may take.
const SEND_PATIENCE: Duration = Duration::from_secs(10);
/// How long the end may take for what still waits.
const END_PATIENCE: Duration = Duration::from_secs(3);
/// Bytes of a collector's answer that are read.
const MAX_ANSWER: usize = 64 << 10;

/// The traces of this process.
pub(crate) struct Traces {
    provider: SdkTracerProvider,
    spans: Arc<Spans>,
}

impl Traces {
    /// As `OTEL_*` say; none where no endpoint is named. The runtime sends them.
    pub(crate) fn from_environment(runtime: Handle) -> Result<Option<Self>, Failure> {
        let Some(endpoint) = crate::commands::traces_endpoint() else { return Ok(None) };
        let unusable = |reason: String| {
            Failure::usage("OTEL_EXPORTER_OTLP_ENDPOINT", format!("{endpoint:?}: {reason}"))
                .hint("use e.g. http://127.0.0.1:4318, or unset it to send no traces")
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Sender { http: client(&endpoint)?, runtime })
            .with_protocol(protocol()?)
            .build()
            .map_err(|e| unusable(e.to_string()))?;
        let limit = env::var("OTEL_BSP_MAX_QUEUE_SIZE").ok().and_then(|text| text.parse().ok());
        let spans = Arc::new(Spans { limit: limit.unwrap_or(WAITING), ..Spans::default() });
        let sending = Sending { exporter, spans: Arc::clone(&spans) };
        // The other settings are those of OTEL_BSP_*.
        let config = BatchConfigBuilder::default().with_max_queue_size(spans.limit).build();
        let batches = BatchSpanProcessor::builder(sending).with_batch_config(config).build();
        let mut resource = Resource::builder();
        if env::var_os("OTEL_SERVICE_NAME").is_none() && env::var_os("OTEL_RESOURCE_ATTRIBUTES").is_none() {
            resource = resource.with_service_name("hothouse");
        }
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_span_processor(Bounded { batches, spans: Arc::clone(&spans) })
            .build();
        Ok(Some(Self { provider, spans }))
    }

    /// Takes the spans of the program.
    pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let ours = FilterFn::new(|metadata| metadata.is_span() && metadata.target() == TARGET);
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("hothouse"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(ours.with_max_level_hint(LevelFilter::DEBUG))
    }

    /// Sends what still waits, for at most [`END_PATIENCE`]. Blocks.
    pub(crate) fn end(self) {
        let ended = self.provider.shutdown_with_timeout(END_PATIENCE);
        let late = self.spans.waiting.load(Ordering::Relaxed);
        let lost = self.spans.lost.load(Ordering::Relaxed) + u64::try_from(late).unwrap_or(u64::MAX);
        match ended {
            Ok(()) if lost == 0 => {}
            Ok(()) => tracing::warn!(lost, "spans of traces were lost in all"),
            Err(error) => tracing::warn!(%error, lost, "spans of traces were lost in all"),
        }
    }
}

fn protocol() -> Result<Protocol, Failure> {
    let name = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    let Some((name, value)) = name.into_iter().find_map(|name| Some((name, env::var(name).ok()?))) else {
        return Ok(Protocol::HttpBinary);
    };
    match value.as_str() {
        "" | "http/protobuf" => Ok(Protocol::HttpBinary),
        "http/json" => Ok(Protocol::HttpJson),
        other => Err(Failure::usage(name, format!("{other:?} is not spoken here"))
            .hint("use http/protobuf, on port 4318 of most collectors, or http/json")),
    }
}

fn client(endpoint: &str) -> Result<reqwest::Client, Failure> {
    let tls = match endpoint.starts_with("https:") {
        true => tls::config()?.as_ref().clone(),
        false => tls::without_roots()?,
    };
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .timeout(SEND_PATIENCE)
        .no_proxy()
        .build()
        .map_err(|e| {
            Failure::new(hothouse_domain::ErrorCode::Internal, format!("making an HTTP client: {e}"))
        })
}

/// What became of the spans.
#[derive(Debug, Default)]
struct Spans {
    /// How many may wait.
    limit: usize,
    waiting: AtomicUsize,
    lost: AtomicU64,
    /// Some were lost since the last batch that was taken, and that was told.
    told: AtomicBool,
}

impl Spans {
    fn lose(&self, count: usize, why: &dyn std::fmt::Display) {
        self.lost.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(%why, "spans of traces are lost; requests go on, and more of them are not told of");
        }
    }

    fn taken(&self) {
        if self.told.swap(false, Ordering::Relaxed) {
            let lost = self.lost.load(Ordering::Relaxed);
            tracing::info!(lost, "spans of traces are taken again");
        }
    }
}

/// Lets no more wait than the limit.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    spans: Arc<Spans>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &opentelemetry::Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        let limit = self.spans.limit;
        if self.spans.waiting.fetch_add(1, Ordering::Relaxed) >= limit {
            self.spans.waiting.fetch_sub(1, Ordering::Relaxed);
            return self.spans.lose(1, &format_args!("{limit} wait to be sent already"));
        }
        self.batches.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Sends batches and knows what became of them.
#[derive(Debug)]
struct Sending {
    exporter: SpanExporter,
    spans: Arc<Spans>,
}

impl opentelemetry_sdk::trace::SpanExporter for Sending {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let sent = self.exporter.export(batch).await;
        self.spans.waiting.fetch_sub(count, Ordering::Relaxed);
        match &sent {
            Ok(()) => self.spans.taken(),
            Err(error) => self.spans.lose(count, error),
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Our HTTP client, for a thread that is not of its runtime.
#[derive(Debug)]
struct Sender {
    http: reqwest::Client,
    runtime: Handle,
}

impl HttpClient for Sender {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let sent = self.runtime.spawn(send(self.http.clone(), request));
        Box::pin(async move { sent.await? })
    }
}

async fn send(http: reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let mut answer = http.execute(request.try_into()?).await?;
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await?
        && body.len() < MAX_ANSWER
    {
        body.extend_from_slice(&piece);
    }
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}
