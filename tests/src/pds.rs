//! A client of PDS (FHIR R4), its headers and bodies the test's own choice; and what it makes of an answer.

use crate::node::Node;
use crate::tokens::Application;
use crate::wire::{Answer, Connection, Target};
use serde_json::{Value, json};
use std::io;

/// Where the service lives.
pub const BASE: &str = "/personal-demographics/FHIR/R4";
/// The content type of patches.
pub const JSON_PATCH: (&str, &str) = ("Content-Type", "application/json-patch+json");
/// The content type of resources.
pub const FHIR_JSON: (&str, &str) = ("Content-Type", "application/fhir+json");

/// A new request identifier: the form of a UUID, version 4.
pub fn request_id() -> String {
    let mut bytes = rand::random::<[u8; 16]>();
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let text = hex::encode(bytes);
    let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
    parts.join("-")
}

/// What the service answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status, headers and bytes as they came.
    pub answer: Answer,
    /// The body; `Null` when it is no JSON.
    pub json: Value,
}

impl Reply {
    /// From an answer.
    pub fn of(answer: Answer) -> Reply {
        let json = answer.json();
        Reply { answer, json }
    }

    /// Status code.
    pub fn status(&self) -> u16 {
        self.answer.status
    }

    /// The first header of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.header(name)
    }

    /// The Spine code of the first issue of an OperationOutcome; empty when the body is none.
    pub fn code(&self) -> &str {
        self.codes().first().copied().unwrap_or_default()
    }

    /// The Spine codes of all issues.
    pub fn codes(&self) -> Vec<&str> {
        let codes = self.issues().iter();
        let codes = codes.map(|issue| issue.pointer("/details/coding/0/code").and_then(Value::as_str));
        codes.map(Option::unwrap_or_default).collect()
    }

    /// What the first issue tells; empty when the body is no OperationOutcome.
    pub fn diagnostics(&self) -> &str {
        let first = self.issues().first().and_then(|issue| issue["diagnostics"].as_str());
        first.unwrap_or_default()
    }

    /// The issues of an OperationOutcome; none when the body is another resource.
    pub fn issues(&self) -> &[Value] {
        if self.json["resourceType"] != "OperationOutcome" {
            return &[];
        }
        self.json["issue"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// The version in the ETag, `W/"2"`; 0 without one.
    pub fn version(&self) -> u32 {
        let tag = self
            .header("etag")
            .and_then(|tag| tag.strip_prefix("W/\"")?.strip_suffix('"'));
        tag.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// The NHS number of a Patient; empty when the body is none.
    pub fn id(&self) -> &str {
        self.json["id"].as_str().unwrap_or_default()
    }

    /// The resources of a Bundle.
    pub fn resources(&self) -> Vec<&Value> {
        let entries = self.json["entry"].as_array().map(Vec::as_slice).unwrap_or_default();
        entries.iter().map(|entry| &entry["resource"]).collect()
    }

    /// The `id` of each resource of a Bundle.
    pub fn ids(&self) -> Vec<&str> {
        let resources = self.resources().into_iter();
        resources
            .map(|resource| resource["id"].as_str().unwrap_or_default())
            .collect()
    }

    /// Panics unless this is a refusal with this status and Spine code, in the form of the specification.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> &Reply {
        assert_eq!((self.status(), self.code()), (status, code), "{}", self.answer.text());
        for issue in self.issues() {
            let coding = &issue["details"]["coding"][0];
            assert_eq!(
                coding["system"],
                "https://fhir.nhs.uk/R4/CodeSystem/Spine-ErrorOrWarningCode"
            );
            assert!(issue["severity"] == "error" && coding["version"] == "1", "{issue}");
            for told in [&issue["code"], &issue["diagnostics"], &coding["display"]] {
                assert!(told.as_str().is_some_and(|text| !text.is_empty()), "{issue}");
            }
        }
        assert_eq!(self.header("etag"), None, "a refusal shows no version");
        self
    }

    /// Panics unless this is an answer with this status that is no OperationOutcome.
    #[track_caller]
    pub fn ok(&self, status: u16) -> &Reply {
        assert_eq!((self.status(), self.code()), (status, ""), "{}", self.answer.text());
        self
    }
}

/// A client with one token and one connection.
pub struct Client {
    /// Where the service is.
    pub target: Target,
    /// The access token, bare.
    pub token: String,
    connection: Option<Connection>,
}

impl Client {
    /// A client that presents this access token.
    pub fn new(target: Target, token: &str) -> Client {
        Client {
            target,
            token: token.to_owned(),
            connection: None,
        }
    }

    /// The sandbox's healthcare worker.
    pub fn worker(node: &Node) -> Client {
        Client::told(node, "worker")
    }

    /// The sandbox's patient, 9000000009.
    pub fn patient(node: &Node) -> Client {
        Client::told(node, "patient")
    }

    fn told(node: &Node, who: &str) -> Client {
        let token = node.sandbox["tokens"][who]
            .as_str()
            .expect("sandbox.json has the token");
        Client::new(node.target(None), token)
    }

    /// The sandbox's application by itself, with a token of the token endpoint.
    pub async fn application(node: &Node) -> Client {
        let target = node.target(None);
        let token = Application::of(&node.sandbox).access_token(&target).await;
        Client::new(target, &token)
    }

    /// Another client of the same caller, with a connection of its own.
    pub fn another(&self) -> Client {
        Client::new(self.target.clone(), &self.token)
    }

    /// Forgets the connection: the next call opens another.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// A call on any path. `Authorization` and a fresh `X-Request-ID` are added unless given; a given empty value leaves
    /// them out. Where the call fails, the next one opens another connection.
    ///
    /// # Errors
    /// The connection broke: it is not known whether the call was carried out.
    pub async fn try_call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        let (host, fresh) = (self.target.host.clone(), request_id());
        let bearer = format!("Bearer {}", self.token);
        let mut all = vec![("Host", host.as_str())];
        for (name, value) in [("Authorization", bearer.as_str()), ("X-Request-ID", fresh.as_str())] {
            if !headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
                all.push((name, value));
            }
        }
        all.extend(headers.iter().filter(|(_, value)| !value.is_empty()));
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.target).await?,
        };
        let answer = connection.exchange(method, path, &all, body).await?;
        if !answer.closes() {
            self.connection = Some(connection);
        }
        Ok(Reply::of(answer))
    }

    /// The same below [`BASE`]. Panics when the connection breaks.
    pub async fn call(&mut self, method: &str, rest: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let path = format!("{BASE}{rest}");
        let reply = self.try_call(method, &path, headers, body).await;
        reply.unwrap_or_else(|error| panic!("{method} {path} got no answer: {error}"))
    }

    /// GET with no headers of its own.
    pub async fn get(&mut self, rest: &str) -> Reply {
        self.call("GET", rest, &[], b"").await
    }

    /// GET /Patient/{number}
    pub async fn read(&mut self, number: &str) -> Reply {
        self.get(&format!("/Patient/{number}")).await
    }

    /// GET /Patient?…
    pub async fn search(&mut self, parameters: &[(&str, &str)]) -> Reply {
        self.get(&format!("/Patient?{}", query(parameters))).await
    }

    /// PATCH /Patient/{number} of `version` with a list of patches.
    pub async fn patch(&mut self, number: &str, version: u32, patches: &Value) -> Reply {
        self.patch_as(&request_id(), number, version, patches).await
    }

    /// The same with this request identifier.
    pub async fn patch_as(&mut self, request: &str, number: &str, version: u32, patches: &Value) -> Reply {
        let tag = format!("W/\"{version}\"");
        let headers = [("X-Request-ID", request), ("If-Match", tag.as_str()), JSON_PATCH];
        let body = json!({ "patches": patches }).to_string();
        self.call("PATCH", &format!("/Patient/{number}"), &headers, body.as_bytes())
            .await
    }

    /// POST /Patient
    pub async fn create(&mut self, patient: &Value) -> Reply {
        self.create_as(&request_id(), patient).await
    }

    /// The same with this request identifier.
    pub async fn create_as(&mut self, request: &str, patient: &Value) -> Reply {
        let headers = [("X-Request-ID", request), FHIR_JSON];
        self.call("POST", "/Patient", &headers, patient.to_string().as_bytes())
            .await
    }

    /// GET /Patient/{number}/RelatedPerson
    pub async fn related(&mut self, number: &str) -> Reply {
        self.get(&format!("/Patient/{number}/RelatedPerson")).await
    }

    /// GET /Coverage
    pub async fn coverage(&mut self, number: &str) -> Reply {
        let query = query(&[("subscriber:identifier", number)]);
        self.get(&format!("/Coverage?{query}")).await
    }

    /// POST /Coverage for `version` of the subscriber's record.
    pub async fn put_coverage(&mut self, version: u32, coverage: &Value) -> Reply {
        self.put_coverage_as(&request_id(), version, coverage).await
    }

    /// The same with this request identifier.
    pub async fn put_coverage_as(&mut self, request: &str, version: u32, coverage: &Value) -> Reply {
        let tag = format!("W/\"{version}\"");
        let headers = [("X-Request-ID", request), ("If-Match", tag.as_str()), FHIR_JSON];
        self.call("POST", "/Coverage", &headers, coverage.to_string().as_bytes())
            .await
    }
}

/// A query of these parameters.
pub fn query(parameters: &[(&str, &str)]) -> String {
    let pairs = parameters
        .iter()
        .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn escaped(text: &str) -> String {
    let bytes = text.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b':' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    bytes.collect()
}
