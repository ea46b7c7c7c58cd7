//! Prints the Prometheus rules: as they are, for the Prometheus Operator, with links to dashboards and to runbooks that are
//! kept elsewhere.
//!
//! Works on the text of `alerts/ece-expiry.rules.yml`, which is ours: groups begin with `  - name: `, alerts with
//! `      - alert: `, and each alert ends with one line `runbook_url`. The tests load every form into `promtool`, so the
//! shape cannot change unseen.

use clap::ValueEnum;

/// The rules, as they are in the repository.
const RULES: &str = include_str!("../../alerts/ece-expiry.rules.yml");

/// What stands above the groups of a `PrometheusRule`.
const OPERATOR: &str = "\
# Prometheus rules of ece-expiry-exporter for the Prometheus Operator.
# Made by `ece-expiry-exporter rules --format operator`; do not edit.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: ece-expiry-exporter
  labels:
    app.kubernetes.io/name: ece-expiry-exporter
spec:
";

/// The form of the rules.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Format {
    /// A file for `rule_files`
    Prometheus,
    /// A `PrometheusRule` for Kubernetes
    Operator,
}

/// The rules in a form. With the address of a Grafana, each alert links to the dashboard about it; with the address of
/// runbooks, each links to the page of its name there, and not to the exporter.
pub(super) fn text(format: Format, grafana_url: Option<&str>, runbook_url: Option<&str>) -> String {
    let rules = linked(RULES, grafana_url, runbook_url);
    match format {
        Format::Prometheus => rules,
        Format::Operator => operator(&rules),
    }
}

/// Checks the address of a Grafana or of runbooks: it goes into a quoted text of YAML that is a template too, and from
/// there into every message, so it may hold no password.
pub(super) fn base_url(url: &str) -> Result<String, String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest.filter(|it| !it.is_empty() && !it.starts_with('/')) else {
        return Err("it must begin with https:// or http:// and name a host".to_owned());
    };
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return Err(
            "it must not hold a user or a password: the address stands in every alert; leave out what is before the @"
                .to_owned(),
        );
    }
    let fits = |it: u8| it.is_ascii_alphanumeric() || b"-._~:/[]@%".contains(&it);
    if !rest.bytes().all(fits) {
        return Err("it must be an address without query, spaces and quotes".to_owned());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// `rules` with the other address in each `runbook_url`, and an annotation `dashboard_url` below it, as far as given.
fn linked(rules: &str, grafana: Option<&str>, runbooks: Option<&str>) -> String {
    let mut out = String::with_capacity(rules.len() * 3 / 2);
    let (mut dashboard, mut alert) = ("", "");
    for line in rules.split_inclusive('\n') {
        if let Some(group) = line.strip_prefix("  - name: ") {
            dashboard = dashboard_of(group.trim_end());
        }
        if let Some(name) = line.strip_prefix("      - alert: ") {
            alert = name.trim_end();
        }
        let is_link = line.trim_start().starts_with("runbook_url: ");
        let indent = &line[..line.len() - line.trim_start().len()];
        match runbooks.filter(|_| is_link) {
            Some(url) => out.extend([indent, "runbook_url: '", url, "/", alert, "'\n"]),
            None => out.push_str(line),
        }
        if let Some(url) = grafana.filter(|_| is_link) {
            out.extend([indent, "dashboard_url: '", url, "/d/", dashboard, "'\n"]);
        }
    }
    out
}

/// The dashboard about the alerts of a group, with its variables.
fn dashboard_of(group: &str) -> &'static str {
    match group {
        "ece-credentials" => {
            "ece-credential-detail?var-platform={{ $labels.platform | urlquery }}&var-credential={{ $labels.credential | urlquery }}"
        }
        "ece-platforms" | "ece-listed-keys" => {
            "ece-expiry-overview?var-platform={{ $labels.platform | urlquery }}"
        }
        _ => "ece-expiry-exporter",
    }
}

/// `rules` as a `PrometheusRule`: its groups one level deeper, without the comment that opens the file.
fn operator(rules: &str) -> String {
    let groups = rules.find("groups:\n").unwrap_or(0);
    let mut out = OPERATOR.to_owned();
    for line in rules[groups..].split_inclusive('\n') {
        if !line.trim().is_empty() {
            out.push_str("  ");
        }
        out.push_str(line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_cannot_leave_its_quotes() {
        for good in ["https://g.example.org", "http://[::1]:3000/grafana"] {
            assert_eq!(base_url(good).as_deref(), Ok(good));
            assert_eq!(base_url(&format!("{good}/")).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "g.example.org",
            "https://",
            "https:///x",
            "https://g/'",
            "https://g/{{",
            "https://g/?a=b",
            "https://g/ x",
            "https://g\n",
        ] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_with_a_user_or_a_password_is_refused() {
        for bad in ["https://me:hunter2@g.example.org", "https://me@g.example.org/x"] {
            let why = base_url(bad).unwrap_err();
            assert!(why.contains("must not hold a user or a password"), "{why}");
        }
        assert_eq!(base_url("https://g/@x").as_deref(), Ok("https://g/@x"), "a path may");
    }
}
