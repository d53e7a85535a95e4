//! Commands of a node. A boot service that is down is told and is no failure, where the node can do without it.

use super::{CliError, NodeArgs, print};
use crate::client::{self, Host, NodeError, Outcome};
use crate::http_client::{ClientError, Service};
use crate::names::{ReleaseId, Stage};
use std::time::Duration;

fn service(args: &NodeArgs, host: &Host) -> Result<Service, NodeError> {
    let ca = args.boot_ca.clone().unwrap_or_else(|| host.boot_ca());
    Ok(Service::new(&args.service, &ca)?)
}

pub(super) fn enrol(args: &NodeArgs, deadline_seconds: u64) -> Result<u8, CliError> {
    let host = Host::new(&args.root);
    let patience = Duration::from_secs(deadline_seconds);
    let outcome = client::enrol(&host, || service(args, &host), args.mac.as_ref(), patience)?;
    print(match outcome {
        Outcome::Already => "enrolled before; Puppet's files are in place\n",
        Outcome::Now => "enrolled; the next Puppet run asks for a certificate\n",
    });
    Ok(0)
}

/// A report that does not arrive keeps no machine from booting.
fn forgiven(error: NodeError) -> Result<u8, CliError> {
    match error {
        NodeError::Client(ClientError::Io { .. } | ClientError::Answer { .. }) => {
            eprintln!("vertebra-provisioning: {error}; going on without");
            Ok(0)
        }
        error => Err(error.into()),
    }
}

pub(super) fn stage(args: &NodeArgs, stage: &str, failed: Option<&str>) -> Result<u8, CliError> {
    let stage: Stage = stage.parse()?;
    let host = Host::new(&args.root);
    let told =
        service(args, &host).and_then(|service| client::report(&host, &service, args.mac.as_ref(), stage, failed));
    match told {
        Ok(()) => Ok(0),
        Err(error) => forgiven(error),
    }
}

pub(super) fn check_in(args: &NodeArgs, release: Option<ReleaseId>) -> Result<u8, CliError> {
    let host = Host::new(&args.root);
    match service(args, &host).and_then(|service| client::check_in(&host, &service, release)) {
        Ok(release) => {
            print(&format!("checked in with release {release}\n"));
            Ok(0)
        }
        Err(error) => forgiven(error),
    }
}
