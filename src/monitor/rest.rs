//! That a platform is left alone for as long as it asks.
//!
//! All credentials of the platform wait together: who counts requests counts those of one user or of one address, and
//! all probes come from both. What an answer asks for is read by `observation::rest`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::time;

/// A rest that grows by less moves nobody's next run: probes in flight land together, each with a rest of its own.
const GROWTH_MIN: TimeDelta = TimeDelta::seconds(1);

/// The rest of one platform.
#[derive(Debug, Default)]
pub(super) struct Rest {
    until: Option<DateTime<Utc>>,
    /// No probe since the rest has come back without asking for another.
    is_untried: bool,
}

/// What an observation changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heeded {
    /// Nothing to speak of.
    AsBefore,
    /// A rest began.
    Begun,
    /// The present rest lasts longer than was known.
    Longer,
}

impl Rest {
    /// Takes into account that a probe finished at `now` and what it was asked for.
    pub(super) fn heed(&mut self, asked: Option<Duration>, now: DateTime<Utc>) -> Heeded {
        let before = self.until(now);
        let Some(asked) = asked else {
            // What comes back during a rest was sent before it.
            self.is_untried &= before.is_some();
            return Heeded::AsBefore;
        };
        let until = time::add(now, asked);
        self.is_untried = true;
        self.until = Some(before.map_or(until, |it| it.max(until)));
        match before {
            None => Heeded::Begun,
            Some(before) if before + GROWTH_MIN <= until => Heeded::Longer,
            Some(_) => Heeded::AsBefore,
        }
    }

    /// Until when no probe is started; `None` if one may be.
    pub(super) fn until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.until.filter(|until| now < *until)
    }

    /// How many probes may be in flight where otherwise `max` may. After a rest one goes first: if the platform has not
    /// recovered, one more request is all that it sees.
    pub(super) fn in_flight_max(&self, max: usize, now: DateTime<Utc>) -> usize {
        match self.until(now) {
            Some(_) => 0,
            None if self.is_untried => 1,
            None => max,
        }
    }

    /// Ends it: the clock was set back, so its end means nothing.
    pub(super) fn end(&mut self) {
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600 + second, 0).unwrap()
    }

    const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

    #[test]
    fn nothing_flies_in_a_rest_and_one_probe_after_it() {
        let mut rest = Rest::default();
        assert_eq!(rest.in_flight_max(16, at(0)), 16);
        assert_eq!(rest.heed(MINUTE, at(0)), Heeded::Begun);
        assert_eq!(rest.in_flight_max(16, at(59)), 0);
        assert_eq!(rest.until(at(59)), Some(at(60)));
        assert_eq!(rest.in_flight_max(16, at(60)), 1);
        assert_eq!(rest.heed(None, at(61)), Heeded::AsBefore);
        assert_eq!(rest.in_flight_max(16, at(61)), 16);
    }

    #[test]
    fn what_was_in_flight_neither_ends_nor_shortens_a_rest() {
        let mut rest = Rest::default();
        rest.heed(MINUTE, at(0));
        assert_eq!(rest.heed(None, at(1)), Heeded::AsBefore);
        assert_eq!(rest.heed(Some(Duration::from_secs(5)), at(2)), Heeded::AsBefore);
        assert_eq!(rest.until(at(2)), Some(at(60)));
        assert_eq!(rest.heed(MINUTE, at(10)), Heeded::Longer);
        assert_eq!(rest.in_flight_max(16, at(70)), 1, "no answer since was a good one");
    }

    #[test]
    fn another_rest_begins_after_the_first() {
        let mut rest = Rest::default();
        rest.heed(MINUTE, at(0));
        assert_eq!(rest.heed(MINUTE, at(60)), Heeded::Begun);
        rest.end();
        assert_eq!(rest.until(at(61)), None);
    }
}
