//! What the nodes of one cluster have in common, and what each has of its own: authorities, certificates, keys, the
//! configuration file.

use crate::certificates::{Authority, Identity};
use crate::tokens::{self, new_signing_key};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use serde_json::json;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Port of the front door, on every node.
pub const HTTP_PORT: u16 = 8443;
/// Port for peers, on every node.
pub const PEER_PORT: u16 = 8444;
/// The environment's shared key of MESH.
pub const SHARED_KEY: &str = "ClusterKey";
/// `iss` of workers' tokens.
const ISSUER: &str = "https://authority.test";
/// Who asks for workers: registered once, known to all nodes.
pub const CLIENT: &str = "cluster-app";

/// What identifies a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Number in the cluster.
    pub id: u64,
    /// Name: also in its certificate.
    pub name: String,
    /// Site.
    pub site: String,
    /// Whom it asks to be taken in: `HOST:PORT`. Empty: it founds a cluster.
    pub peers: Vec<String>,
}

/// What a cluster's nodes prove and are proved by.
pub struct Papers {
    /// Signs the members' certificates.
    members: Authority,
    /// Signs certificates of servers and of clients.
    public: Authority,
    /// PEM of the key that signs the nodes' own tokens.
    signing_key: String,
    jwks: String,
    /// Signs workers' tokens.
    pub(super) workers: tokens::Authority,
}

impl Papers {
    /// New ones; `folder` is used for a moment.
    pub fn new(folder: &Path) -> Papers {
        let authority_key = new_signing_key();
        let file = folder.join("authority.key");
        fs::write(&file, &authority_key).expect("the folder can be written");
        let told = json!({"tokens": {
            "authority": {"kid": "authority-1", "issuer": ISSUER, "audience": "vertebra"},
            "authority_key": file.display().to_string(),
        }});
        let workers = tokens::Authority::of(&told);
        let x = URL_SAFE_NO_PAD.encode(workers.public_key());
        let key = json!({"kty": "OKP", "crv": "Ed25519", "kid": "authority-1", "use": "sig", "x": x});
        Papers {
            members: Authority::new("Cluster CA"),
            public: Authority::new("Public CA"),
            signing_key: new_signing_key(),
            jwks: json!({"keys": [key]}).to_string(),
            workers,
        }
    }

    /// The authority of servers, PEM.
    pub fn ca(&self) -> &str {
        &self.public.pem
    }

    /// The authority of members, PEM.
    pub fn members_ca(&self) -> &str {
        &self.members.pem
    }

    /// A client certificate for `ods`.
    pub fn client(&self, ods: &str) -> Identity {
        let name = format!("test.{}.api.mesh-client.nhs.uk", ods.to_lowercase());
        self.public.issue(&name, &[], &[ClientAuth])
    }

    /// A certificate by which `name` is a member: what peers ask for.
    pub fn peer(&self, name: &str) -> Identity {
        self.members.issue(name, &[name.to_owned()], &[ClientAuth, ServerAuth])
    }

    /// Writes configuration, certificates and keys of `member` at `address` into `folder`. `more` is TOML that is added;
    /// without peers' port when `alone`.
    pub fn write(&self, folder: &Path, member: &Member, address: Ipv4Addr, alone: bool, more: &str) {
        let put = |name: &str, text: &str| {
            let file = folder.join(name);
            fs::write(&file, text).expect("the folder can be written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a file of our own");
        };
        let names = [member.name.clone(), address.to_string(), "localhost".to_owned()];
        let server = self.public.issue(&member.name, &names, &[ServerAuth]);
        let peer = self.peer(&member.name);
        put("ca.pem", &self.public.pem);
        put("cluster-ca.pem", &self.members.pem);
        put("server.pem", &server.certificate);
        put("server.key", &server.key);
        put("peer.pem", &peer.certificate);
        put("peer.key", &peer.key);
        put("shared.key", SHARED_KEY);
        put("tokens.key", &self.signing_key);
        put("authority.jwks", &self.jwks);
        put("node.toml", &configuration(member, address, alone, more));
    }
}

fn configuration(member: &Member, address: Ipv4Addr, alone: bool, more: &str) -> String {
    let Member { id, name, site, peers } = member;
    let cluster = if alone {
        String::new()
    } else {
        format!(
            "[cluster]\nlisten = \"{address}:{PEER_PORT}\"\naddress = \"{address}:{PEER_PORT}\"\n\
             certificate = \"peer.pem\"\nkey = \"peer.key\"\nca = \"cluster-ca.pem\"\npeers = {}\n",
            json!(peers)
        )
    };
    format!(
        "[node]\nid = {id}\nname = \"{name}\"\nsite = \"{site}\"\ndata = \"data\"\n{cluster}\
         [http]\nlisten = \"{address}:{HTTP_PORT}\"\nreactors = 1\n\
         [tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\nclient_ca = \"ca.pem\"\nreload_ms = 3600000\n\
         require_client_certificate = false\n\
         [admin]\nsocket = \"admin.sock\"\nlisten = \"127.0.0.1:9443\"\n\
         [mesh]\nshared_key = \"shared.key\"\nrestrict_workflows = false\n\
         [tokens]\nsigning_key = \"tokens.key\"\nauthority_jwks = \"authority.jwks\"\nauthority_issuer = \"{ISSUER}\"\n\
         token_urls = [\"https://cluster/oauth2/token\"]\n\
         [logging]\nformat = \"text\"\n{more}"
    )
}
