//! Log lines: logfmt as Prometheus writes it, JSON, or plain text for people; counted by level.

use std::fmt;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::metrics::Telemetry;
use crate::time;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `time=… level=… msg=…`
    Logfmt,
    /// One JSON object a line.
    Json,
    /// For people at a terminal.
    Plain,
}

/// Starts logging to standard error at `level` for this program and at `warn` for its libraries.
pub fn start(level: LevelFilter, format: Format, telemetry: Arc<Telemetry>) {
    let filter = Targets::new()
        .with_target("ece_expiry_exporter", level)
        .with_default(level.min(LevelFilter::WARN));
    let registry =
        tracing_subscriber::registry().with(Counter(telemetry).with_filter(filter.clone()));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = match format {
        Format::Logfmt => registry.with(lines.event_format(Logfmt).with_filter(filter)).try_init(),
        Format::Json => {
            registry.with(lines.json().flatten_event(true).with_filter(filter)).try_init()
        }
        Format::Plain => registry.with(lines.event_format(Plain).with_filter(filter)).try_init(),
    };
    // A second start in one process (tests) keeps the first.
    let _ = started;
}

/// Counts log lines for the metric.
struct Counter(Arc<Telemetry>);

impl<S: Subscriber> Layer<S> for Counter {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.logged(*event.metadata().level());
    }
}

/// `time=… level=… source=… msg=… key=value`.
struct Logfmt;

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static>
    FormatEvent<S, N> for Logfmt
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let level = meta.level().as_str().to_ascii_lowercase();
        let at = time::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        write!(out, "time={at} level={level} source={}", meta.target())?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        write!(out, " msg={:?}", fields.message)?;
        for (name, value) in &fields.others {
            if value.is_empty()
                || value
                    .contains(|c: char| c.is_whitespace() || c.is_control() || "\"=".contains(c))
            {
                write!(out, " {name}={value:?}")?;
            } else {
                write!(out, " {name}={value}")?;
            }
        }
        writeln!(out)
    }
}

/// `12:34:56 WARN  message`: the fields are in the message as well.
struct Plain;

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static>
    FormatEvent<S, N> for Plain
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        writeln!(
            out,
            "{} {:<5} {}",
            time::now().format("%T"),
            event.metadata().level(),
            fields.message
        )
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.others.push((name, value.to_owned())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
