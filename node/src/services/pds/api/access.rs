//! Who may do what: admission by token and client, then the row of the call in the table of routes, then the headers.
//!
//! Default deny: what no row allows is refused, and a handler cannot be called without a [`Grant`].

use super::asked::Headers;
use super::failure::Failure;
use super::routes::{May, Route};
use crate::audit::Entry;
use crate::auth::Caller;
use crate::auth::token::{Kind, Principal};
use crate::base::NhsNumber;
use crate::services::identity::access::{Admitted, NotAdmitted};
use crate::services::pds::outcome::{Code, Issue};
use crate::services::pds::rules::Mode;
use std::sync::Arc;

/// The scope that a token needs.
pub const SCOPE: &str = "personal-demographics-service";

/// A caller who was admitted.
pub(super) struct Access {
    caller: Caller,
    principal: Arc<Principal>,
}

/// Leave to see or change records, as far as the call's row goes.
#[derive(Clone, Copy)]
pub(super) struct Grant {
    /// The only number there is leave for; `None`: any.
    own: Option<NhsNumber>,
}

impl Grant {
    /// The number, when there is leave for it.
    ///
    /// # Errors
    /// ACCESS_DENIED (403), the same whether or not there is such a record.
    pub fn of(self, number: NhsNumber) -> Result<NhsNumber, Failure> {
        match self.own {
            Some(own) if own != number => {
                let what = "a patient may use their own record alone; ask for the NHS number of the signed-in patient";
                Err(Issue::new(Code::AccessDeniedPatient, what).into())
            }
            Some(_) | None => Ok(number),
        }
    }
}

impl Access {
    pub fn of(admitted: Admitted) -> Access {
        Access {
            caller: admitted.caller,
            principal: admitted.principal,
        }
    }

    /// Whether this caller may make the call.
    ///
    /// # Errors
    /// ACCESS_DENIED: 401 when the application or its token is not set up for it, 403 when this kind of person never may.
    pub fn grant(&self, route: &Route) -> Result<Grant, Failure> {
        if !self.principal.has_scope(SCOPE) {
            let what = format!("the access token is without the scope `{SCOPE}`; ask for one that has it");
            return Err(Issue::new(Code::AccessDenied, what).into());
        }
        match route.may(&self.principal.kind) {
            May::Any => Ok(Grant { own: None }),
            May::Own => match &self.principal.kind {
                Kind::Patient(patient) => match NhsNumber::parse(&patient.nhs_number) {
                    Some(own) => Ok(Grant { own: Some(own) }),
                    None => Err(forbidden()),
                },
                Kind::Application | Kind::Worker(_) => Err(forbidden()),
            },
            May::NotConfigured => {
                let what = "an application by itself may not make this call; a user has to sign in";
                Err(Issue::new(Code::AccessDenied, what).into())
            }
            May::Forbidden => Err(forbidden()),
        }
    }

    /// Takes over what the headers say of the caller, for the record.
    pub fn note(&mut self, headers: &Headers) {
        if let Some(organisation) = &headers.on_behalf {
            self.caller.on_behalf = organisation.to_string();
        }
    }

    /// Holds the headers against the token.
    ///
    /// # Errors
    /// INVALID_VALUE when a worker names another role profile than the token's.
    pub fn fits(&self, headers: &Headers) -> Result<(), Failure> {
        if let (Kind::Worker(worker), Some(role_id)) = (&self.principal.kind, &headers.role_id)
            && worker.role_id != *role_id
        {
            let what =
                "the header NHSD-Session-URID is not the role that the user signed in with; leave it out or correct it";
            return Err(Issue::new(Code::InvalidValue, what).into());
        }
        Ok(())
    }

    /// An application by itself.
    pub fn is_application(&self) -> bool {
        matches!(self.principal.kind, Kind::Application)
    }

    /// By whose rules a change is judged. Applications change nothing, so they never come here.
    pub fn mode(&self) -> Mode {
        match &self.principal.kind {
            Kind::Patient(_) => Mode::Patient,
            Kind::Worker(_) | Kind::Application => Mode::Worker,
        }
    }

    /// Whose request identifiers these are.
    pub fn who(&self) -> String {
        format!("{} {}", self.caller.client, self.caller.actor)
    }

    /// What the audit says of the caller.
    pub fn entry(&self) -> Entry {
        entry(&self.caller)
    }
}

/// What the audit says of a caller.
pub(super) fn entry(caller: &Caller) -> Entry {
    Entry {
        actor: caller.actor.clone(),
        role: caller.role.clone(),
        organisation: caller
            .organisation
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        client: caller.client.clone(),
        on_behalf: caller.on_behalf.clone(),
        ..Entry::default()
    }
}

fn forbidden() -> Failure {
    let what = "a user of this kind may not make this call";
    Issue::new(Code::AccessDeniedPatient, what).into()
}

impl From<NotAdmitted> for Failure {
    fn from(refused: NotAdmitted) -> Failure {
        match refused.retry_after_s() {
            Some(seconds) => Failure::too_many_requests(seconds),
            // Everything else is one status and code in the specification, whatever is wrong with the token.
            None => Issue::new(Code::AccessDenied, refused.to_string()).into(),
        }
    }
}
