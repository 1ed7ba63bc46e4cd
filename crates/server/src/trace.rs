//! The span of a request in traces: a client's trace goes on through it. Only in builds with the feature `otel`, and
//! there only where somebody collects traces.

use axum::extract::Request;
use tracing::Span;

/// The span of a request, within the trace that its `traceparent` names.
#[cfg(feature = "otel")]
pub(crate) fn span(request: &Request, route: &'static str, id: &str) -> Span {
    use opentelemetry::propagation::TextMapPropagator as _;
    use opentelemetry_http::HeaderExtractor;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use tracing::field::Empty;
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;

    // Without the path and the query: what a client chose stands in them.
    let span = tracing::debug_span!(
        target: "hothouse_trace",
        "http",
        otel.name = format!("{} {route}", request.method()),
        otel.kind = "server",
        http.request.method = request.method().as_str(),
        http.route = route,
        http.response.status_code = Empty,
        otel.status_code = Empty,
        hothouse.request = id,
        hothouse.tenant = Empty,
    );
    if !span.is_disabled() {
        let parent = TraceContextPropagator::new().extract(&HeaderExtractor(request.headers()));
        if let Err(error) = span.set_parent(parent) {
            tracing::debug!(%error, "a request's trace is not that of its client");
        }
    }
    span
}

/// There are none.
#[cfg(not(feature = "otel"))]
pub(crate) fn span(_request: &Request, _route: &'static str, _id: &str) -> Span {
    Span::none()
}

/// Notes whose request it is.
pub(crate) fn tenant(tenant: Option<&hothouse_domain::TenantName>) {
    if let (true, Some(tenant)) = (cfg!(feature = "otel"), tenant) {
        Span::current().record("hothouse.tenant", tracing::field::display(tenant));
    }
}

/// Notes how it was answered.
pub(crate) fn answered(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}
