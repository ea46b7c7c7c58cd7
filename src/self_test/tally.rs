//! What was owed and what arrived, by what people and machines get to see: subjects and texts of mails, JSON of webhooks.

use std::collections::{BTreeMap, BTreeSet};

use crate::sim::{Hook, Mail};

/// How many entries of what is wrong are kept; more would say the same.
const WRONG_MAX: usize = 50;

/// How the names of the watched keys begin; no other word of a message does.
pub(super) const NAME: &str = "watched-";

/// Something that everybody has to be told once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fact {
    pub(super) key: String,
    pub(super) kind: Kind,
}

/// What is told of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Expiring,
    Renewed,
}

/// The account.
#[derive(Debug)]
pub(super) struct Tally {
    /// Everybody who has to be told.
    targets: Vec<String>,
    owed: BTreeSet<Fact>,
    /// Under which messages each target was told each fact.
    told: BTreeMap<(Fact, String), BTreeSet<String>>,
    /// The bytes of each message, by target and id.
    messages: BTreeMap<(String, String), Vec<u8>>,
    copies: usize,
    wrong: Vec<String>,
}

impl Tally {
    pub(super) fn new(targets: Vec<String>) -> Self {
        Self {
            targets,
            owed: BTreeSet::new(),
            told: BTreeMap::new(),
            messages: BTreeMap::new(),
            copies: 0,
            wrong: Vec::new(),
        }
    }

    pub(super) fn owe(&mut self, fact: Fact) {
        self.owed.insert(fact);
    }

    pub(super) fn mail(&mut self, server: usize, mail: &Mail) {
        let id = mail.header("Message-ID").unwrap_or_default();
        let facts = facts_of(&mail.text());
        for to in &mail.to {
            let recipient = to.split('@').next().unwrap_or_default();
            let target = format!("mail {server} to {recipient}");
            self.arrive(&target, &id, &mail.raw, &facts);
        }
    }

    pub(super) fn hook(&mut self, hook: &Hook) {
        let target = format!("webhook {}", hook.path.trim_start_matches('/'));
        let json = hook.json().unwrap_or_default();
        let kind = match json["status"].as_str() {
            Some("firing") => Kind::Expiring,
            _ => Kind::Renewed,
        };
        let key = json["data"]["credential"]["name"].as_str().unwrap_or("nothing").to_owned();
        let facts = BTreeSet::from([Fact { key, kind }]);
        self.arrive(&target, hook.header("webhook-id"), &hook.body, &facts);
    }

    fn arrive(&mut self, target: &str, id: &str, bytes: &[u8], facts: &BTreeSet<Fact>) {
        let message = (target.to_owned(), id.to_owned());
        match self.messages.get(&message) {
            Some(first) if first == bytes => self.copies += 1,
            Some(_) => self.complain(format!("{target}: a copy of {id} differs from the first")),
            None => {
                if facts.is_empty() {
                    self.complain(format!("{target}: {id} tells nothing that is owed"));
                }
                self.messages.insert(message, bytes.to_vec());
            }
        }
        for fact in facts {
            if !self.owed.contains(fact) {
                self.complain(format!("{target}: {fact} is told by {id} and not so"));
                continue;
            }
            let ids = self.told.entry((fact.clone(), target.to_owned())).or_default();
            ids.insert(id.to_owned());
            if 1 < ids.len() {
                let ids = ids.iter().cloned().collect::<Vec<_>>().join(", ");
                self.complain(format!("{target}: {fact} is told under several ids: {ids}"));
            }
        }
    }

    fn complain(&mut self, what: String) {
        if self.wrong.len() < WRONG_MAX {
            self.wrong.push(what);
        }
    }

    /// Whether everybody has been told.
    pub(super) fn is_told(&self, fact: &Fact) -> bool {
        self.targets.iter().all(|it| self.told.contains_key(&(fact.clone(), it.clone())))
    }

    pub(super) fn is_complete(&self) -> bool {
        self.owed.iter().all(|it| self.is_told(it))
    }

    pub(super) fn obligations(&self) -> usize {
        self.owed.len() * self.targets.len()
    }

    pub(super) fn delivered(&self) -> usize {
        self.told.len()
    }

    pub(super) fn copies(&self) -> usize {
        self.copies
    }

    pub(super) fn lost(&self) -> Vec<String> {
        let every = |fact| self.targets.iter().map(move |target| (fact, target));
        self.owed
            .iter()
            .flat_map(every)
            .filter(|(fact, target)| {
                !self.told.contains_key(&(Fact::clone(fact), String::clone(target)))
            })
            .map(|(fact, target)| format!("{target}: {fact} never arrived"))
            .collect()
    }

    pub(super) fn into_wrong(self) -> Vec<String> {
        self.wrong
    }
}

impl std::fmt::Display for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.kind {
            Kind::Expiring => "expires",
            Kind::Renewed => "was renewed",
        };
        write!(f, "{} {what}", self.key)
    }
}

/// What the text of a mail says: its headlines begin with how urgent it is, and name the key.
fn facts_of(text: &str) -> BTreeSet<Fact> {
    let headline = |line: &str| {
        let kind = match line.split(' ').next()? {
            "OK" => Kind::Renewed,
            "INFO" | "WARNING" | "CRITICAL" => Kind::Expiring,
            _ => return None,
        };
        let from = line.find(NAME)?;
        let rest = &line[from + NAME.len()..];
        let digits = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len());
        Some(Fact { key: format!("{NAME}{}", &rest[..digits]), kind })
    };
    text.lines().filter_map(headline).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(number: u32, kind: Kind) -> Fact {
        Fact { key: format!("{NAME}{number:05}"), kind }
    }

    #[test]
    fn a_mail_is_read_by_its_headlines() {
        let text = "OK        p0/watched-00001 RENEWED until 2027-02-21\n\
                    INFO      p0/watched-00002 expires in 6 days\n\n\
                    INFO - API key \"watched-00002\" on ECE platform \"p0\" expires\n\
                    \x20 1. ece-expiry-exporter probe p0/watched-00003\n";
        let read: Vec<Fact> = facts_of(text).into_iter().collect();
        assert_eq!(read, [fact(1, Kind::Renewed), fact(2, Kind::Expiring)]);
    }

    #[test]
    fn what_is_lost_told_twice_changed_or_invented_is_found() {
        let mut tally = Tally::new(vec!["a".to_owned(), "b".to_owned()]);
        let facts = BTreeSet::from([fact(1, Kind::Expiring)]);
        tally.owe(fact(1, Kind::Expiring));
        let mut arrive = |target: &str, id: &str, bytes: &[u8], facts: &BTreeSet<Fact>| {
            tally.arrive(target, id, bytes, facts);
            (tally.copies, tally.wrong.len(), tally.lost().len())
        };
        assert_eq!(arrive("a", "1", b"x", &facts), (0, 0, 1), "b was not told");
        assert_eq!(arrive("a", "1", b"x", &facts), (1, 0, 1), "a copy");
        assert_eq!(arrive("a", "1", b"y", &facts), (1, 1, 1), "a copy that differs");
        assert_eq!(arrive("a", "2", b"x", &facts), (1, 2, 1), "told under another id");
        assert_eq!(arrive("b", "3", b"x", &BTreeSet::new()), (1, 3, 1), "a message about nothing");
        let invented = BTreeSet::from([fact(2, Kind::Expiring)]);
        assert_eq!(arrive("b", "4", b"x", &invented), (1, 4, 1), "what is not so");
        assert_eq!(arrive("b", "5", b"x", &facts), (1, 4, 0), "told");
        assert!(tally.is_complete());
    }
}
