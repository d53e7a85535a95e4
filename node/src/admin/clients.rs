//! Clients of the access tokens: listed, added, changed.

use super::directory::{malformed, page, parse, plain};
use super::{Admin, Answer, Refused, query_value};
use crate::auth::jwks::{self, Named};
use crate::auth::jws::PublicKey;
use crate::base::{OdsCode, RequestId};
use crate::services::identity::ClientId;
use crate::services::identity::command::{Client, ClientKey, Command, Mode, Outcome};
use crate::services::identity::state;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Requests a second of a client when nobody says.
const REQUESTS_PER_SECOND_DEFAULT: u32 = 5;
/// And at most.
const REQUESTS_PER_SECOND_MAX: u32 = 100_000;
/// Scopes of one client.
const SCOPES_MAX: usize = 50;
/// Bytes of one scope.
const SCOPE_BYTES_MAX: usize = 100;

/// What an operator sees of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientView {
    /// Its API key.
    pub id: String,
    /// Name.
    pub name: String,
    /// ODS code.
    pub ods: String,
    /// Keys of its assertions.
    pub keys: Vec<KeyView>,
    /// `application`, `worker`, `patient`.
    pub modes: Vec<String>,
    /// What its tokens may be for.
    pub scopes: Vec<String>,
    /// Requests a second; on each node, where nodes share no Redis.
    pub requests_per_second: u32,
    /// May be used.
    pub active: bool,
}

/// A public key, shown by its name and size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// Key identifier.
    pub kid: String,
    /// Bits of the modulus.
    pub bits: u32,
}

/// What a PUT changes; what is left out stays, or takes its default in a new client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientChange {
    /// Name; default: the identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// ODS code; required in a new client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ods: Option<String>,
    /// Its public keys, a JWKS as text: all of them, in place of those before. Required for the mode `application`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks: Option<String>,
    /// `application`, `worker`, `patient`; at least one in a new client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modes: Option<Vec<String>>,
    /// What its tokens may be for; default: nothing in particular.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Requests a second; on each node, where nodes share no Redis: 1 to 100000; default 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// May be used; default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// Refuse when the client exists already (`client add`).
    #[serde(default)]
    pub only_new: bool,
}

fn client_id(text: &str) -> Result<ClientId, Refused> {
    ClientId::parse(text).ok_or_else(|| malformed("a client is 1 to 64 letters, digits, '_' or '-'"))
}

fn keys(jwks: &str) -> Result<Vec<ClientKey>, Refused> {
    let named = jwks::read_rsa(jwks.as_bytes()).map_err(|cause| malformed(format!("the key set: {cause}")))?;
    let own = |named: Named| match named.key {
        PublicKey::Rsa { n, e } => Some(ClientKey { kid: named.kid, n, e }),
        PublicKey::P256(_) | PublicKey::P384(_) | PublicKey::Ed25519(_) => None,
    };
    Ok(named.into_iter().filter_map(own).collect())
}

/// Each once, in the order of [`Mode::ALL`].
fn modes(texts: &[String]) -> Result<Vec<Mode>, Refused> {
    let unknown = texts.iter().any(|text| Mode::parse(text).is_none());
    if unknown || texts.is_empty() {
        return Err(malformed(
            "give at least one mode, each of them application, worker or patient",
        ));
    }
    let wanted = |mode: &Mode| texts.iter().any(|text| text == mode.as_str());
    Ok(Mode::ALL.into_iter().filter(wanted).collect())
}

fn scopes(texts: Vec<String>) -> Result<Vec<String>, Refused> {
    let fits = |scope: &String| {
        (1..=SCOPE_BYTES_MAX).contains(&scope.len())
            && scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
    };
    if texts.len() > SCOPES_MAX || !texts.iter().all(fits) {
        return Err(malformed(format!(
            "a client has at most {SCOPES_MAX} scopes, each 1 to {SCOPE_BYTES_MAX} visible ASCII characters without quotes \
             and backslashes"
        )));
    }
    Ok(texts)
}

impl ClientChange {
    /// The client after the change; `before` is what there is.
    pub(super) fn onto(self, id: ClientId, before: Option<Client>) -> Result<Client, Refused> {
        if self.only_new && before.is_some() {
            return Err(malformed(format!(
                "client {id} exists already; change it with `vertebra client set`"
            )));
        }
        let old = before.as_ref();
        let ods = match (&self.ods, old) {
            (Some(text), _) => {
                OdsCode::parse(text).ok_or_else(|| malformed("an ODS code is 1 to 12 letters and digits"))?
            }
            (None, Some(old)) => old.ods.clone(),
            (None, None) => return Err(malformed("a new client needs an ODS code (--ods)")),
        };
        let modes = match (&self.modes, old) {
            (Some(texts), _) => modes(texts)?,
            (None, Some(old)) => old.modes.clone(),
            (None, None) => {
                return Err(malformed(
                    "a new client needs a mode (--mode application, worker or patient)",
                ));
            }
        };
        let keys = match (&self.jwks, old) {
            (Some(jwks), _) => keys(jwks)?,
            (None, Some(old)) => old.keys.clone(),
            (None, None) => Vec::new(),
        };
        if modes.contains(&Mode::Application) && keys.is_empty() {
            return Err(malformed(
                "a client in the mode application needs its public keys (--jwks)",
            ));
        }
        let requests_per_second = self
            .requests_per_second
            .or(old.map(|old| old.requests_per_second))
            .unwrap_or(REQUESTS_PER_SECOND_DEFAULT);
        if !(1..=REQUESTS_PER_SECOND_MAX).contains(&requests_per_second) {
            return Err(malformed(format!(
                "requests a second (--rate) are 1 to {REQUESTS_PER_SECOND_MAX}"
            )));
        }
        Ok(Client {
            name: match self.name {
                Some(text) => plain("the name", &text, 200)?,
                None => old.map_or_else(|| id.to_string(), |old| old.name.clone()),
            },
            scopes: match self.scopes {
                Some(texts) => scopes(texts)?,
                None => old.map_or_else(Vec::new, |old| old.scopes.clone()),
            },
            active: self.active.unwrap_or(old.is_none_or(|old| old.active)),
            id,
            ods,
            keys,
            modes,
            requests_per_second,
        })
    }
}

fn view(client: &Client) -> ClientView {
    let key = |key: &ClientKey| KeyView {
        kid: key.kid.clone(),
        bits: u32::try_from(jwks::bits(&key.n)).unwrap_or(u32::MAX),
    };
    ClientView {
        id: client.id.to_string(),
        name: client.name.clone(),
        ods: client.ods.to_string(),
        keys: client.keys.iter().map(key).collect(),
        modes: client.modes.iter().map(|mode| mode.as_str().to_owned()).collect(),
        scopes: client.scopes.clone(),
        requests_per_second: client.requests_per_second,
        active: client.active,
    }
}

impl Admin {
    pub(super) fn clients(&self, query: &str) -> Result<Answer, Refused> {
        let after = query_value(query, "after").map(|text| client_id(&text)).transpose()?;
        let max = page(query)?;
        let page = state::clients(&self.ledger, after.as_ref(), max);
        let next = page
            .last()
            .filter(|_| page.len() == max)
            .map(|client| client.id.to_string());
        let clients: Vec<ClientView> = page.iter().map(view).collect();
        Ok(Answer::ok(&json!({ "clients": clients, "next_after": next })))
    }

    pub(super) fn client(&self, text: &str) -> Result<Answer, Refused> {
        let id = client_id(text)?;
        let client = state::client(&self.ledger, &id).ok_or_else(|| Refused::Unknown(format!("client {id}")))?;
        Ok(Answer::ok(&view(&client)))
    }

    pub(super) async fn put_client(&self, text: &str, body: &[u8], id: RequestId) -> Result<Answer, Refused> {
        let client = client_id(text)?;
        let change: ClientChange = parse(body)?;
        self.log.linearizable().await?;
        let wanted = change.onto(client.clone(), state::client(&self.ledger, &client))?;
        let applied = self.log.propose(Command::PutClient(wanted).encode()).await?;
        match Outcome::decode(&applied.outcome) {
            Ok(Outcome::Done) => {}
            Ok(Outcome::Refused(_)) => return Err(Refused::Judged("apply refused it")),
            Ok(Outcome::Issued) | Err(_) => {
                tracing::error!(index = applied.at.index, "the outcome does not fit the command");
                return Err(Refused::Failed);
            }
        }
        self.record(id, "admin.client.put", client.as_str(), "200").await?;
        self.client(client.as_str())
    }
}

#[cfg(test)]
mod tests;
