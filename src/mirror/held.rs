//! What Alertmanagers are to hold: what fires, and for a while what has ended. No I/O, no clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::notify::alertmanager::Alert;

/// How long the end of an alert is told again and again, as Prometheus does: an Alertmanager that was away learns it, too.
const ENDED_FOR: TimeDelta = TimeDelta::minutes(15);

/// What the Alertmanagers of one receiver are to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// What fires, by fingerprint.
    pub firing: BTreeMap<String, Arc<Alert>>,
    /// What has ended lately and when, by fingerprint.
    pub ended: BTreeMap<String, (Arc<Alert>, DateTime<Utc>)>,
}

impl Held {
    /// Takes over what fires at `now`. What fired before and does no more has ended.
    pub fn follow(&mut self, fires: impl IntoIterator<Item = Alert>, now: DateTime<Utc>) {
        let mut firing = BTreeMap::new();
        for mut alert in fires {
            let fingerprint = alert.fingerprint();
            if let Some(before) = self.firing.get(&fingerprint) {
                // The next step of the same severity is the same alert, which began with the first.
                alert.starts_at = alert.starts_at.min(before.starts_at);
            }
            firing.insert(fingerprint, Arc::new(alert));
        }
        for (fingerprint, alert) in std::mem::replace(&mut self.firing, firing) {
            self.ended.insert(fingerprint, (alert, now));
        }
        self.pass(now);
    }

    /// Forgets what ended long ago.
    pub fn pass(&mut self, now: DateTime<Utc>) {
        let firing = &self.firing;
        self.ended.retain(|fingerprint, (_, at)| {
            // The clock may have been set back; an end that lies ahead would let the alert fire.
            *at = (*at).min(now);
            !firing.contains_key(fingerprint) && now - *at < ENDED_FOR
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_300_000 + 60 * minutes, 0).unwrap()
    }

    fn alert(severity: &str, starts_at: DateTime<Utc>) -> Alert {
        let labels = [("alertname", "ECECredentialExpiring"), ("severity", severity)];
        Alert {
            labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            annotations: BTreeMap::new(),
            starts_at,
            generator_url: None,
        }
    }

    fn severities(held: &Held) -> (Vec<&str>, Vec<(&str, DateTime<Utc>)>) {
        let severity = |it: &Arc<Alert>| match it.labels["severity"].as_str() {
            "warning" => "warning",
            _ => "critical",
        };
        let firing = held.firing.values().map(severity).collect();
        (firing, held.ended.values().map(|(it, at)| (severity(it), *at)).collect())
    }

    #[test]
    fn an_alert_that_becomes_worse_is_another_and_the_milder_one_ends() {
        let mut held = Held::default();
        held.follow([alert("warning", at(0))], at(0));
        assert_eq!(severities(&held), (vec!["warning"], vec![]));
        held.follow([alert("critical", at(5))], at(5));
        assert_eq!(severities(&held), (vec!["critical"], vec![("warning", at(5))]));
        held.follow([], at(6));
        assert_eq!(severities(&held).0, [""; 0]);
        assert_eq!(severities(&held).1.len(), 2);
    }

    #[test]
    fn an_end_keeps_its_instant_and_is_forgotten_after_a_quarter_of_an_hour() {
        let mut held = Held::default();
        held.follow([alert("warning", at(0))], at(0));
        held.follow([], at(1));
        for minute in 2..16 {
            held.follow([], at(minute));
            assert_eq!(severities(&held).1, [("warning", at(1))], "minute {minute}");
        }
        held.pass(at(16));
        assert_eq!(held, Held::default());
    }

    #[test]
    fn what_fires_again_has_not_ended() {
        let mut held = Held::default();
        held.follow([alert("warning", at(0))], at(0));
        held.follow([], at(1));
        held.follow([alert("warning", at(2))], at(2));
        assert_eq!(severities(&held), (vec!["warning"], vec![]));
        let began: Vec<_> = held.firing.values().map(|it| it.starts_at).collect();
        assert_eq!(began, [at(2)], "another episode has a start of its own");
    }

    #[test]
    fn a_later_step_of_the_same_severity_does_not_move_the_start() {
        let mut held = Held::default();
        held.follow([alert("critical", at(0))], at(0));
        held.follow([alert("critical", at(60))], at(60));
        let began: Vec<_> = held.firing.values().map(|it| it.starts_at).collect();
        assert_eq!(began, [at(0)]);
    }

    #[test]
    fn an_end_never_lies_ahead_when_the_clock_is_set_back() {
        let mut held = Held::default();
        held.follow([alert("warning", at(0))], at(0));
        held.follow([], at(60));
        held.follow([], at(10));
        assert_eq!(severities(&held).1, [("warning", at(10))]);
    }
}
