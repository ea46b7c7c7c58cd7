//! The deployments of the simulated ECE, and what their Elasticsearch holds.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::Fault;

/// A deployment.
#[derive(Debug, Clone)]
pub struct SimDeployment {
    /// Its id; ECE makes 32 hexadecimal digits.
    pub id: String,
    /// Its name, which others may have too.
    pub name: String,
    /// What its Elasticsearch is called in paths.
    pub ref_id: String,
    /// What its Elasticsearch answers, by the path behind `proxy/`. What is missing answers 404.
    pub inside: InsideOf,
    /// What goes wrong inside it.
    pub fault: Fault,
}

/// What the Elasticsearch of a deployment holds.
#[derive(Debug, Clone, Default)]
pub struct InsideOf {
    /// Its API keys, as it describes them.
    pub keys: Vec<Value>,
    /// Its certificates, as it describes them.
    pub certificates: Vec<Value>,
    /// Its license, as it describes it; without it, the call answers 404.
    pub license: Option<Value>,
}

/// Who may send requests to deployments. Elastic does not say, so both can be tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyFor {
    /// Who may change deployments.
    #[default]
    Managers,
    /// Who may see them.
    Viewers,
}

impl SimDeployment {
    /// A deployment of this name with a random id and nothing inside.
    pub fn new(name: &str) -> Self {
        Self {
            id: format!("{:032x}", fastrand::u128(..)),
            name: name.to_owned(),
            ref_id: "main-elasticsearch".to_owned(),
            inside: InsideOf::default(),
            fault: Fault::None,
        }
    }

    /// Adds an API key, and returns its id.
    pub fn add_key(&mut self, user: &str, name: &str, expires: Option<DateTime<Utc>>) -> String {
        let id = format!("{:020x}", fastrand::u64(..));
        let mut key = json!({
            "id": id,
            "name": name,
            "type": "rest",
            "creation": 1_735_689_600_000_i64,
            "invalidated": false,
            "username": user,
            "realm": "cloud-saml-kibana",
            "metadata": {},
        });
        if let Some(at) = expires {
            key["expiration"] = at.timestamp_millis().into();
        }
        self.inside.keys.push(key);
        id
    }

    /// Adds a certificate at this path.
    pub fn add_certificate(&mut self, path: &str, subject: &str, expires: DateTime<Utc>) {
        self.inside.certificates.push(json!({
            "path": path,
            "format": "PEM",
            "alias": null,
            "subject_dn": subject,
            "serial_number": "8c3d",
            "has_private_key": true,
            "expiry": expires.to_rfc3339_opts(SecondsFormat::Millis, true),
        }));
    }

    /// Replaces the license; without a date it is the free one.
    pub fn set_license(&mut self, expires: Option<DateTime<Utc>>) {
        let mut license = json!({
            "status": "active",
            "uid": "cbff45e7-c553-41f7-ae4f-9205eabd80xx",
            "type": if expires.is_some() { "enterprise" } else { "basic" },
        });
        if let Some(at) = expires {
            license["expiry_date"] = at.to_rfc3339_opts(SecondsFormat::Millis, true).into();
            license["expiry_date_in_millis"] = at.timestamp_millis().into();
        }
        self.inside.license = Some(license);
    }
}
