//! What dnsmasq and nginx are given: a folder that boots machines with no daemon of ours.
//!
//! Owns: the layout of that folder. Must never know: tokens or anything else that is secret. Invariants: the same input
//! gives the same bytes; what is on disk is replaced file by file, each whole.
//!
//! ```text
//! OUTPUT/CHECKSUMS                    sha256sum -c of all that is below
//! OUTPUT/SITE/dnsmasq.conf            DHCP, TFTP and names for the site
//! OUTPUT/SITE/nginx.conf              HTTP for the site
//! OUTPUT/SITE/tftp/undionly.kpxe, ipxe.efi
//! OUTPUT/SITE/www/boot/MAC.ipxe       what this machine boots, by iPXE
//! OUTPUT/SITE/www/boot/MAC.efi        the signed image that it boots, by UEFI HTTP boot: a link to the release's
//! OUTPUT/SITE/www/releases            a link to the releases of the store
//! ```

mod dnsmasq;
mod ipxe;
mod nginx;
mod write;

pub use write::{WriteError, Written, write};

use crate::boot_plan::BootPlan;
use crate::config::Config;
use crate::inventory::{Inventory, Machine, Site};
use crate::names::{Firmware, HostName, Word};
use crate::releases::{EFI_FILE, Manifest, Releases};
use crate::secret::sha256;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The first line of every rendered text file.
pub(crate) const HEADING: &str = "Rendered by vertebra-provisioning: a change here is lost, change the inventory.";

/// One rendered thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rendered {
    /// A file.
    File(Vec<u8>),
    /// A symbolic link to this.
    Link(String),
}

/// Everything, by path below the output folder.
pub type Tree = BTreeMap<String, Rendered>;

/// Why nothing was rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// iPXE is not there.
    #[error("{file}: {cause}; install Debian's package `ipxe`, or name the folder as `ipxe` in the configuration")]
    Ipxe {
        /// The file.
        file: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
}

/// What is fixed about a boot server.
pub(crate) struct Place<'a> {
    /// The output folder.
    pub output: &'a Path,
    /// Where nginx tells of requests for boot files.
    pub operator_listen: SocketAddr,
}

/// Renders all sites. `plans` tells what each machine boots.
pub fn render(
    config: &Config,
    inventory: &Inventory,
    releases: &Releases,
    plans: &BTreeMap<HostName, BootPlan>,
) -> Result<Tree, RenderError> {
    let mut tree = Tree::new();
    // Release files that a machine's boot needs: they are in CHECKSUMS too.
    let mut checksums: BTreeMap<String, String> = BTreeMap::new();
    let place = Place {
        output: &config.output,
        operator_listen: config.serve.operator_listen,
    };
    for (name, site) in &inventory.sites {
        let machines: Vec<&Machine> = inventory
            .machines
            .values()
            .filter(|machine| machine.site == *name)
            .collect();
        let mut put = |path: String, rendered| drop(tree.insert(format!("{name}/{path}"), rendered));
        let text = |text: String| Rendered::File(text.into_bytes());
        put(
            "dnsmasq.conf".to_owned(),
            text(dnsmasq::config(name, site, &machines, &place)),
        );
        put("nginx.conf".to_owned(), text(nginx::config(name, site, &place)));
        for file in ipxe_programs(&machines) {
            put(
                format!("tftp/{file}"),
                Rendered::File(ipxe_program(&config.ipxe, file)?),
            );
        }
        let store = config.state.join("releases");
        put("www/releases".to_owned(), Rendered::Link(store.display().to_string()));
        for machine in machines {
            let served = plans.get(&machine.certname).and_then(|plan| plan.served.as_ref());
            let Some(stored) = served.and_then(|release| releases.stored.get(release)) else {
                continue;
            };
            for (path, rendered) in boot_files(name, site, machine, &stored.manifest) {
                put(path, rendered);
            }
            for (file, named) in &stored.manifest.files {
                let path = format!("{name}/www/releases/{}/{file}", stored.manifest.release);
                checksums.insert(path, named.sha256.to_string());
            }
        }
    }
    for (path, rendered) in &tree {
        if let Rendered::File(bytes) = rendered {
            checksums.insert(path.clone(), sha256(bytes).to_string());
        }
    }
    let lines: String = checksums
        .iter()
        .map(|(path, sha256)| format!("{sha256}  {path}\n"))
        .collect();
    tree.insert("CHECKSUMS".to_owned(), Rendered::File(lines.into_bytes()));
    Ok(tree)
}

fn boot_files(name: &Word, site: &Site, machine: &Machine, manifest: &Manifest) -> Vec<(String, Rendered)> {
    let script = ipxe::script(name, site, machine, manifest);
    let mut files = Vec::new();
    for mac in &machine.macs {
        let stem = format!("www/boot/{}", mac.hyphens());
        files.push((format!("{stem}.ipxe"), Rendered::File(script.clone().into_bytes())));
        if machine.firmware == Firmware::Uefi && manifest.files.contains_key(EFI_FILE) {
            let target = format!("../releases/{}/{EFI_FILE}", manifest.release);
            files.push((format!("{stem}.efi"), Rendered::Link(target)));
        }
    }
    files
}

/// The iPXE programs that firmware of these kinds fetches over TFTP.
fn ipxe_programs(machines: &[&Machine]) -> BTreeSet<&'static str> {
    machines
        .iter()
        .map(|machine| ipxe_program_of(machine.firmware))
        .collect()
}

pub(crate) fn ipxe_program_of(firmware: Firmware) -> &'static str {
    match firmware {
        Firmware::Bios => "undionly.kpxe",
        Firmware::Uefi => "ipxe.efi",
    }
}

fn ipxe_program(folder: &Path, file: &str) -> Result<Vec<u8>, RenderError> {
    let file = folder.join(file);
    crate::files::read(&file).map_err(|cause| RenderError::Ipxe { file, cause })
}
