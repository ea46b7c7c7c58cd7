//! What fires now, for those who hold state and take no messages.

use chrono::{DateTime, Utc};

use super::Monitor;
use crate::alert::{Event, Firing, Reason};
use crate::delivery::{Standing, Subject, standing};

impl Monitor {
    /// Every alert that fires and that an Alertmanager is to hold, and what was found of lists lately.
    pub fn standing(&self, now: DateTime<Utc>) -> Vec<Standing> {
        let mut all = Vec::new();
        let event = |it: &Firing, generation| Event::of(it, Reason::New, generation, now);
        for slot in &self.slots {
            let (platform, state) = (&self.platforms[slot.platform].platform, &slot.state);
            let subject = Subject::Credential(platform, &slot.credential, state);
            let events = state.firing().map(|it| event(it, state.generation));
            all.extend(events.filter_map(|it| standing(&self.config, subject, &it)));
        }
        for (at, slot) in self.platforms.iter().enumerate() {
            let probed = self.slots.iter().find(|it| it.platform == at);
            let probed = probed.map(|it| it.state.clone()).unwrap_or_default();
            let subject = Subject::Platform(&slot.platform, &slot.state, &probed);
            let events = slot.state.firing().map(|it| event(it, 0));
            all.extend(events.filter_map(|it| standing(&self.config, subject, &it)));
        }
        for (at, list) in &self.lists {
            let slot = &self.slots[*at];
            let platform = &self.platforms[slot.platform].platform;
            for (found, event) in list.standing(now) {
                let subject = Subject::Found(platform, &slot.credential, &slot.state, &found);
                all.extend(standing(&self.config, subject, &event));
            }
        }
        all
    }
}
