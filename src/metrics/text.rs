//! OpenMetrics rewritten as the Prometheus text format 0.0.4. Pure.
//!
//! It rewrites what `expose` writes, not any OpenMetrics: types are counter, gauge, histogram and info, there are no
//! exemplars and no sample timestamps, and no HELP text holds a character that the two formats escape differently.

/// The same samples in text 0.0.4: counters and infos are typed by the names of their samples, an info is a gauge, and
/// there is neither UNIT nor EOF.
pub(super) fn from_openmetrics(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    let mut help = "";
    for line in openmetrics.split_inclusive('\n') {
        let Some(comment) = line.strip_prefix("# ") else {
            out.push_str(line);
            continue;
        };
        let comment = comment.trim_end_matches('\n');
        if let Some(rest) = comment.strip_prefix("HELP ") {
            help = rest.split_once(' ').map_or("", |(_, text)| text);
        } else if let Some(rest) = comment.strip_prefix("TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            for piece in ["# HELP ", name, suffix, " ", help, "\n"] {
                out.push_str(piece);
            }
            for piece in ["# TYPE ", name, suffix, " ", kind, "\n"] {
                out.push_str(piece);
            }
        }
    }
    out
}
