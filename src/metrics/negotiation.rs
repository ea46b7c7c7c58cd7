//! Which format a client asks for. Pure.

use super::Format;

/// Quality in thousandths: the header allows three digits.
const QUALITY_MAX: u16 = 1000;

/// The format for an `Accept` header (several headers joined by commas).
///
/// OpenMetrics only for a client that names it and does not like text 0.0.4 better, as every Prometheus since 2.5 does;
/// text for everybody else, including `*/*`, no header and a header that cannot be read: the answer is then for people
/// and for tools that know only the older format.
pub fn negotiate(accept: Option<&str>) -> Format {
    let ranges = accept.unwrap_or_default().split(',').map(parse);
    let mut openmetrics = 0;
    let mut text = 0;
    for range in ranges {
        match range.media.as_str() {
            "application/openmetrics-text" if range.allows("1.0.0") => {
                openmetrics = openmetrics.max(range.quality);
            }
            "text/plain" if range.allows("0.0.4") => text = text.max(range.quality),
            _ => {}
        }
    }
    match openmetrics {
        0 => Format::Text,
        quality if quality < text => Format::Text,
        _ => Format::OpenMetrics,
    }
}

/// One element of the header.
struct Range<'a> {
    media: String,
    version: Option<&'a str>,
    quality: u16,
}

impl Range<'_> {
    fn allows(&self, version: &str) -> bool {
        self.version.is_none_or(|it| it == version)
    }
}

fn parse(range: &str) -> Range<'_> {
    let mut parts = range.split(';');
    let media = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut found = Range { media, version: None, quality: QUALITY_MAX };
    for part in parts {
        let Some((name, value)) = part.split_once('=') else { continue };
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => found.quality = quality(value),
            "version" => found.version = Some(value),
            _ => {}
        }
    }
    found
}

/// A quality in thousandths; what cannot be read counts as refused.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=1000 before"
)]
fn quality(value: &str) -> u16 {
    let quality = value.parse::<f64>().ok().filter(|it| it.is_finite()).unwrap_or(0.0);
    (quality.clamp(0.0, 1.0) * f64::from(QUALITY_MAX)).round() as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_gets_the_format_it_asks_for() {
        let openmetrics = [
            // Prometheus 2.42.
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            // Prometheus 3.
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,/;q=0.1",
            "application/openmetrics-text",
            "Application/OpenMetrics-Text ; Version=\"1.0.0\" ; Q=0.3",
            "text/plain;version=0.0.4;q=0.5, application/openmetrics-text;version=1.0.0;q=0.5",
            "text/html, application/openmetrics-text; version=1.0.0; charset=utf-8",
        ];
        let text = [
            "",
            "*/*",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/plain;version=0.0.4",
            "text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.5",
            "application/openmetrics-text;version=1.0.0;q=0",
            "application/openmetrics-text;version=1.0.0;q=0.000, text/plain;q=0.1",
            "application/openmetrics-text;version=1.0.0;q=NaN",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;version=2.0.0",
            "application/*",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
            ";;;,,,=;q=",
        ];
        for accept in openmetrics {
            assert_eq!(negotiate(Some(accept)), Format::OpenMetrics, "{accept}");
        }
        for accept in text {
            assert_eq!(negotiate(Some(accept)), Format::Text, "{accept}");
        }
        assert_eq!(negotiate(None), Format::Text);
    }
}
