//! Who may see and change what of PDS, and what nobody may learn: access, leaks, tokens, rates; and its answers judged by
//! other people's tools.
//!
//! One sandbox serves the tests that leave its people as they are; those that need a population of their own start others.

mod counts;
mod leaks;
mod matrix;
mod people;
mod rates;
mod restricting;
mod schemas;
mod tokens;

use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;
use tokio::sync::Mutex;
use vertebra_tests::node::{Folder, Node, binary};
use vertebra_tests::pds::Client;
use vertebra_tests::tokens::{Application, Authority, with};

/// The scope of PDS.
const SCOPE: &str = "personal-demographics-service";
/// Well-formed, and nobody's.
const ABSENT: &str = "9434765919";

/// A running sandbox and its folder.
struct World {
    node: Node,
    folder: Folder,
}

impl World {
    fn start(name: &str, arguments: &[&str]) -> World {
        let folder = Folder::new(name);
        let node = Node::start_with(&folder.path().join("data"), arguments);
        World { node, folder }
    }

    /// `vertebra` with these arguments, asking this sandbox.
    fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--sandbox").arg(&self.node.data);
        command.output().expect("the binary starts")
    }

    /// The same, which must succeed; its standard output.
    fn told(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Loads resources; all of them must be taken.
    fn import(&self, resources: &[Value]) {
        let file = self.folder.path().join("people.ndjson");
        people::write(&file, resources);
        self.told(&["import", "--kind", "patients", text(&file)]);
    }

    /// The audit's entries on PDS.
    fn audited(&self) -> Vec<Value> {
        let lines = self.told(&["audit", "query", "--json", "--action", "pds.*", "--limit", "100000"]);
        let entries = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line is JSON"));
        entries.collect()
    }

    fn client(&self, token: &str) -> Client {
        Client::new(self.node.target(None), token)
    }

    /// Adds a client with the application's key, which it then signs assertions with.
    fn add_client(&self, name: &str, scope: &str, modes: &[&str], rate: &str) -> Application {
        let jwks = self.node.data.join("application.jwks");
        let mut arguments = vec!["client", "add", name, "--ods", "X26", "--jwks", text(&jwks)];
        arguments.extend(["--scope", scope, "--rate", rate]);
        for mode in modes {
            arguments.extend(["--mode", mode]);
        }
        self.told(&arguments);
        let mut application = Application::of(&self.node.sandbox);
        application.client = name.to_owned();
        application
    }

    fn signed(&self, claims: &Value) -> String {
        Authority::of(&self.node.sandbox).signed(claims)
    }

    /// What the token of a healthcare worker says.
    fn worker_claims(&self, client: &str) -> Value {
        let own = json!({
            "scope": SCOPE, "sub": "555043308597", "selected_roleid": "555254242102", "role_code": "S8000:G8000:R8001",
            "org_code": "X26", "authentication_assurance_level": "3",
        });
        self.person(client, own)
    }

    /// What the token of a patient says.
    fn patient_claims(&self, client: &str, number: &str) -> Value {
        let own = json!({
            "scope": SCOPE, "sub": "a-patient", "nhs_number": number, "identity_proofing_level": "P9", "vot": "P9.Cp.Cd",
        });
        self.person(client, own)
    }

    fn person(&self, client: &str, own: Value) -> Value {
        let mut claims = Authority::of(&self.node.sandbox).claims(client);
        for (name, value) in own.as_object().expect("claims are an object") {
            claims = with(claims, name, value.clone());
        }
        claims
    }
}

/// Held by a test that starts sandboxes of its own: together they would lock more memory than a user may.
static ALONE: Mutex<()> = Mutex::const_new(());

/// The sandbox that tests share.
fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| World::start("pds-access", &["--reactors", "2"]))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of our own is text")
}
