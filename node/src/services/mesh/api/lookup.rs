//! Look-ups: which mailboxes receive a workflow.

use super::access::MayLookUp;
use super::errors::{Failure, Field, Place};
use super::routes::LookUpCall;
use super::views::{self, Version};
use super::{Answer, Asked, Mesh};
use crate::auth::Caller;
use crate::base::OdsCode;
use crate::services::mesh::command::Mailbox;
use crate::services::mesh::state;
use ::http::StatusCode;

/// Longest workflow that a message may have, in characters.
const WORKFLOW_CHARS_MAX: usize = 300;

impl Mesh {
    /// Look-ups of mailboxes.
    pub(super) fn look_up(
        &self,
        call: LookUpCall,
        asked: &Asked,
        _caller: &Caller,
        _grant: MayLookUp,
    ) -> Result<Answer, Failure> {
        let workflow = asked.parameters.name.trim();
        if workflow.is_empty() || workflow.chars().count() > WORKFLOW_CHARS_MAX {
            return Err(field("workflow_id", format!("must have 1 to {WORKFLOW_CHARS_MAX} characters")).into());
        }
        let response = match call {
            LookUpCall::EndpointLookup => {
                let ods = asked.parameters.ods.trim();
                if ods.is_empty() {
                    return Err(field("ods_code", "must not be empty".into()).into());
                }
                // What cannot be an organisation's code is nobody's.
                let found = match OdsCode::parse(ods) {
                    Some(ods) => self.receivers(workflow, Some(&ods)),
                    None => Vec::new(),
                };
                match asked.version {
                    Version::V1 => views::json(StatusCode::OK, Version::V1, &views::lookup_v1(asked.id, &found)),
                    Version::V2 => views::json(StatusCode::OK, Version::V2, &views::lookup_v2(&found)),
                }
            }
            LookUpCall::WorkflowSearch => {
                let found = self.receivers(workflow, None);
                views::json(StatusCode::OK, asked.version, &views::lookup_v2(&found))
            }
        };
        let subject = workflow
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect::<String>();
        Ok(Answer::new(response, subject))
    }

    fn receivers(&self, workflow: &str, ods: Option<&OdsCode>) -> Vec<Mailbox> {
        let mut found = state::receivers(&self.ledger, workflow, ods.map(OdsCode::as_str));
        found.retain(|mailbox| mailbox.active);
        found
    }
}

fn field(name: &'static str, msg: String) -> Field {
    Field {
        place: Place::Path,
        name,
        msg,
        kind: "string_length",
    }
}
