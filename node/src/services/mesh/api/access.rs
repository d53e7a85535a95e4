//! Who may do what: certificate and token → caller and grant. Handlers cannot be called without both.
//!
//! The order in which a request is judged, so that a refusal tells nothing that the caller has not proved: form of the
//! header, mailbox in token and path, certificate there at all, time, signature (an unknown mailbox is compared with a
//! password nobody has, and is refused like a wrong one), single use on this node, certificate against mailbox, mailbox
//! active, single use in the log and on other nodes (reads; a write's is judged by its command).

use super::errors::{Failure, Refused};
use crate::auth::Caller;
use crate::auth::certificate::{self, SANDBOX_COMMON_NAME};
use crate::auth::nhsmesh::{SharedKeys, Token};
use crate::auth::nonces::{Nonces, Spend};
use crate::base::Clock;
use crate::http::Peer;
use crate::ledger::Read;
use crate::services::mesh::MailboxId;
use crate::services::mesh::command::{Mailbox, Nonce};
use crate::services::mesh::state;
use ::http::{HeaderMap, header};

/// A caller that proved to be a mailbox.
#[derive(Clone, Debug)]
pub(super) struct MailboxCaller {
    pub mailbox: MailboxId,
    pub caller: Caller,
}

/// The right to read the caller's mailbox in this request.
#[derive(Debug)]
pub(super) struct MayRead(());

/// The right to one command for the caller's mailbox: the token to be spent by it.
#[derive(Debug)]
pub(super) struct MayWrite(Nonce);

impl MayWrite {
    /// The token, for the one command.
    pub(super) fn nonce(self) -> Nonce {
        self.0
    }
}

/// The right to look mailboxes up.
#[derive(Debug)]
pub(super) struct MayLookUp(());

/// The right to test-only calls.
#[derive(Debug)]
pub(super) struct MayTest(());

/// A refusal before or after the caller was known. Those before are counted, those after are on the record.
#[derive(Debug)]
pub(super) struct Denied {
    pub failure: Failure,
    pub caller: Option<Caller>,
}

impl From<Refused> for Denied {
    fn from(refused: Refused) -> Denied {
        Denied {
            failure: refused.into(),
            caller: None,
        }
    }
}

/// What the password of an unknown mailbox is compared as; the comparison's result is dropped.
const NOBODYS_PASSWORD: &str = "no mailbox has this password";

/// What access is judged by.
pub(super) struct Gate<'a, R: Read> {
    pub ledger: &'a R,
    pub clock: &'a Clock,
    pub keys: &'a SharedKeys,
    pub nonces: &'a Nonces,
    pub sandbox: bool,
}

impl<R: Read> Gate<'_, R> {
    /// Proves the caller to be `mailbox` for reading.
    pub(super) async fn may_read(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
        mailbox: &str,
    ) -> Result<(MailboxCaller, MayRead), Denied> {
        let (caller, nonce) = self.prove(headers, peer, Some(mailbox))?;
        self.unspent(&caller, &nonce).await?;
        Ok((caller, MayRead(())))
    }

    /// Proves the caller to be `mailbox` for one command.
    pub(super) fn may_write(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
        mailbox: &str,
    ) -> Result<(MailboxCaller, MayWrite), Denied> {
        let (caller, nonce) = self.prove(headers, peer, Some(mailbox))?;
        Ok((caller, MayWrite(nonce)))
    }

    /// Lets a caller look up: by certificate alone, since the specification has no token on these calls; a token that is
    /// there must be good.
    pub(super) async fn may_look_up(&self, headers: &HeaderMap, peer: &Peer) -> Result<(Caller, MayLookUp), Denied> {
        if headers.contains_key(header::AUTHORIZATION) {
            let (caller, nonce) = self.prove(headers, peer, None)?;
            self.unspent(&caller, &nonce).await?;
            return Ok((caller.caller, MayLookUp(())));
        }
        match &peer.certificate {
            Some(certificate) => {
                let name = certificate::parse(&certificate.common_name);
                if name.is_none() && !self.sandbox {
                    return Err(Refused::CertificateForeign.into());
                }
                let organisation = name.map(|name| name.ods);
                let caller = Caller::system(certificate.common_name.clone(), organisation, Some(certificate.clone()));
                Ok((caller, MayLookUp(())))
            }
            None if self.sandbox => Ok((self.tester(peer), MayLookUp(()))),
            None => Err(Refused::CertificateMissing.into()),
        }
    }

    /// Lets anybody test who reached the sandbox; the router finds these calls nowhere else.
    pub(super) fn may_test(&self, peer: &Peer) -> Result<(Caller, MayTest), Denied> {
        if !self.sandbox {
            return Err(Refused::UnknownPath.into());
        }
        Ok((self.tester(peer), MayTest(())))
    }

    fn tester(&self, peer: &Peer) -> Caller {
        Caller::system("sandbox".to_owned(), None, peer.certificate.clone())
    }

    /// Judges the token and the certificate. `mailbox` is the path's; `None` where a call names no mailbox.
    fn prove(&self, headers: &HeaderMap, peer: &Peer, mailbox: Option<&str>) -> Result<(MailboxCaller, Nonce), Denied> {
        let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(Token::parse).ok_or(Refused::AuthorizationUnreadable)?;
        if mailbox.is_some_and(|mailbox| mailbox.to_ascii_uppercase() != token.mailbox) {
            return Err(Refused::MailboxMismatch.into());
        }
        if peer.certificate.is_none() && !self.sandbox {
            return Err(Refused::CertificateMissing.into());
        }
        let now = self.clock.now();
        if !token.in_time(now, state::TOKEN_MS) {
            return Err(Refused::TokenOutOfTime.into());
        }
        let found = MailboxId::parse(token.mailbox)
            .filter(|id| id.as_str() == token.mailbox)
            .and_then(|id| state::mailbox(self.ledger, &id));
        let password = found.as_ref().map_or(NOBODYS_PASSWORD, |mailbox| &mailbox.password);
        let signed = token.signed_by(self.keys, password);
        let mailbox = found.filter(|_| signed).ok_or(Refused::TokenInvalid)?;
        let nonce = Nonce {
            fingerprint: token.fingerprint(),
            stamped: token.stamped,
        };
        match self.nonces.spend(&nonce.fingerprint, nonce.stamped, now) {
            Spend::First => {}
            Spend::Replayed => return Err(self.denied(Refused::TokenReplayed, &mailbox, peer)),
            Spend::TooOld => return Err(self.denied(Refused::TokenOutOfTime, &mailbox, peer)),
            Spend::Full => return Err(self.denied(Refused::NoncesFull, &mailbox, peer)),
        }
        if !self.certificate_fits(peer, &mailbox) {
            return Err(self.denied(Refused::CertificateForeign, &mailbox, peer));
        }
        if !mailbox.active {
            return Err(self.denied(Refused::MailboxInactive, &mailbox, peer));
        }
        Ok((
            MailboxCaller {
                caller: identity(&mailbox, peer),
                mailbox: mailbox.id,
            },
            nonce,
        ))
    }

    fn denied(&self, refused: Refused, mailbox: &Mailbox, peer: &Peer) -> Denied {
        Denied {
            failure: refused.into(),
            caller: Some(identity(mailbox, peer)),
        }
    }

    /// Whether the connection's certificate may act for `mailbox`: its organisation is the mailbox's, and when its local
    /// identifier names a mailbox, it is this one. The sandbox also takes none, and its own.
    fn certificate_fits(&self, peer: &Peer, mailbox: &Mailbox) -> bool {
        let Some(certificate) = &peer.certificate else {
            return self.sandbox;
        };
        if self.sandbox && certificate.common_name == SANDBOX_COMMON_NAME {
            return true;
        }
        let Some(name) = certificate::parse(&certificate.common_name) else {
            return false;
        };
        if name.ods != mailbox.ods {
            return false;
        }
        name.local_id.eq_ignore_ascii_case(mailbox.id.as_str())
            || MailboxId::parse(name.local_id).is_none_or(|other| state::mailbox(self.ledger, &other).is_none())
    }

    async fn unspent(&self, caller: &MailboxCaller, nonce: &Nonce) -> Result<(), Denied> {
        let Nonce { fingerprint, stamped } = nonce;
        let spent = state::spent(self.ledger, nonce)
            || self
                .nonces
                .is_taken_elsewhere(fingerprint, *stamped, self.clock.now())
                .await;
        if spent {
            let caller = Some(caller.caller.clone());
            return Err(Denied {
                failure: Refused::TokenReplayed.into(),
                caller,
            });
        }
        Ok(())
    }
}

fn identity(mailbox: &Mailbox, peer: &Peer) -> Caller {
    Caller::system(
        mailbox.id.as_str().to_owned(),
        Some(mailbox.ods.clone()),
        peer.certificate.clone(),
    )
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
