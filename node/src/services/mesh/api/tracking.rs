//! What became of a message, for its sender.

use super::access::{MailboxCaller, MayRead};
use super::errors::{Failure, Refused};
use super::input::Query;
use super::routes::MESSAGE_ID;
use super::views::{self, Traced, Version};
use super::{Answer, Asked, Mesh};
use crate::services::mesh::MessageId;
use crate::services::mesh::state::{self, Message};
use ::http::StatusCode;

impl Mesh {
    /// GET /{mailbox}/outbox/tracking?messageID=. A message of another sender is answered as if there were none.
    pub(super) fn track(&self, asked: &Asked, caller: &MailboxCaller, _grant: MayRead) -> Result<Answer, Failure> {
        let query = Query::parse(asked.head.uri.query());
        let id = query.text(&MESSAGE_ID)?.and_then(|text| MessageId::parse(text.trim()));
        let message = id
            .and_then(|id| state::message(&self.ledger, &id))
            .filter(|message| message.sender.as_ref() == Some(&caller.mailbox))
            .ok_or(Refused::MessageUnknown)?;
        Ok(self.tracked(&message, asked.version))
    }

    /// GET /{mailbox}/outbox/tracking/{local id}; always in the shape of version 1.
    pub(super) fn track_local(
        &self,
        asked: &Asked,
        caller: &MailboxCaller,
        _grant: MayRead,
    ) -> Result<Answer, Failure> {
        let found = state::by_local_id(&self.ledger, &caller.mailbox, &asked.parameters.name, 2);
        match found.as_slice() {
            [] => Err(Refused::MessageUnknown.into()),
            [id] => {
                let message = state::message(&self.ledger, id).ok_or(Refused::MessageUnknown)?;
                Ok(self.tracked(&message, Version::V1))
            }
            _ => Err(Refused::LocalIdAmbiguous.into()),
        }
    }

    fn tracked(&self, message: &Message, version: Version) -> Answer {
        let sender = message
            .sender
            .as_ref()
            .and_then(|sender| state::mailbox(&self.ledger, sender));
        let recipient = state::mailbox(&self.ledger, &message.recipient);
        let traced = Traced {
            message,
            sender: sender.as_ref(),
            recipient: recipient.as_ref(),
        };
        let response = match version {
            Version::V1 => views::json(StatusCode::OK, version, &views::tracking_v1(&traced)),
            Version::V2 => views::json(StatusCode::OK, version, &views::tracking_v2(&traced)),
        };
        Answer::about(response, &message.id)
    }
}
