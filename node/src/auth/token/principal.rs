//! Who a verified token speaks for.

use super::TokenRefused;
use super::claims::Times;
use crate::auth::{Caller, CallerKind};
use crate::base::{OdsCode, Timestamp};
use crate::http::ClientCertificate;
use std::sync::Arc;

/// A verified token's content. Its `Debug` shows what kind it is and which client, never a person.
#[derive(Clone, PartialEq, Eq)]
pub struct Principal {
    /// Which kind, and what only that kind has.
    pub kind: Kind,
    /// The application: by itself, or used by the person. Rates and the audit go by it.
    pub client: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// End of the token.
    pub expires: Timestamp,
    /// Its beginning: the later of `iat` and `nbf`.
    pub begins: Timestamp,
}

/// The three access modes.
#[derive(Clone, PartialEq, Eq)]
pub enum Kind {
    /// An application by itself.
    Application,
    /// A healthcare worker.
    Worker(Worker),
    /// A patient.
    Patient(Patient),
}

/// A healthcare worker in the role they work in.
#[derive(Clone, PartialEq, Eq)]
pub struct Worker {
    /// User's id (`sub`).
    pub user: String,
    /// The role profile (`selected_roleid`), as in the header `NHSD-Session-URID`.
    pub role_id: String,
    /// Its code (`role_code`).
    pub role_code: String,
    /// Its organisation (`org_code`).
    pub organisation: OdsCode,
    /// Authentication assurance level, 2 or 3.
    pub assurance_level: u8,
}

/// A patient, proved to level P9.
#[derive(Clone, PartialEq, Eq)]
pub struct Patient {
    /// Ten digits, the last of them right.
    pub nhs_number: String,
    /// How they signed in.
    pub vector: Vector,
}

/// Vectors of trust by which a patient may sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vector {
    /// `P9.Cp.Cd`: password and registered device.
    PasswordAndDevice,
    /// `P9.Cp.Ck`: password and shared key.
    PasswordAndKey,
    /// `P9.Cm`: a hardware authenticator.
    Hardware,
}

impl Vector {
    /// Reads a `vot`; `None` when it is not one of the three.
    pub(super) fn parse(text: &str) -> Option<Vector> {
        match text {
            "P9.Cp.Cd" => Some(Vector::PasswordAndDevice),
            "P9.Cp.Ck" => Some(Vector::PasswordAndKey),
            "P9.Cm" => Some(Vector::Hardware),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Principal({:?} through {})", self.kind, self.client)
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Application => "Application",
            Kind::Worker(_) => "Worker",
            Kind::Patient(_) => "Patient",
        })
    }
}

impl Principal {
    /// Whether the token is valid at `now`: `Expired`, `NotYetValid`.
    pub(super) fn in_time(&self, now: Timestamp) -> Result<(), TokenRefused> {
        let times = Times {
            begins: self.begins,
            expires: self.expires,
        };
        times.hold(now)
    }

    /// Whether it may do what `scope` names.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|own| own == scope)
    }

    /// Who acts, for handlers and the audit. `organisation` is the client's own, which an application acts for.
    pub fn caller(&self, organisation: Option<OdsCode>, certificate: Option<Arc<ClientCertificate>>) -> Caller {
        let (kind, actor, role, organisation) = match &self.kind {
            Kind::Application => (
                CallerKind::Application,
                self.client.clone(),
                String::new(),
                organisation,
            ),
            Kind::Worker(worker) => (
                CallerKind::Worker,
                worker.user.clone(),
                worker.role_code.clone(),
                Some(worker.organisation.clone()),
            ),
            Kind::Patient(patient) => (CallerKind::Patient, patient.nhs_number.clone(), String::new(), None),
        };
        Caller {
            kind,
            actor,
            role,
            organisation,
            client: self.client.clone(),
            on_behalf: String::new(),
            certificate,
        }
    }
}
