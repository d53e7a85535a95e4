//! The inventory: sites and machines, with every mistake told at once.
//!
//! Owns: the shape of `inventory.yaml`, its rules, what it takes from Hiera. Must never know: releases, or how anything
//! is rendered. Invariant: an [`Inventory`] exists only without mistakes.

mod hiera;
mod rules;

use crate::names::{Firmware, Flavour, HostName, Mac, Word};
use hiera::Hiera;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// A checked inventory.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// Sites by name.
    pub sites: BTreeMap<Word, Site>,
    /// Machines by certname.
    pub machines: BTreeMap<HostName, Machine>,
}

/// An IPv4 network: `10.1.0.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// First address.
    pub network: Ipv4Addr,
    /// Bits of the network, 8 to 30.
    pub prefix: u8,
}

impl Subnet {
    /// The mask: `255.255.255.0`.
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::MAX << (32 - u32::from(self.prefix)))
    }

    /// Last address.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | !u32::from(self.mask()))
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & u32::from(self.mask()) == u32::from(self.network)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// Addresses from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First.
    pub first: Ipv4Addr,
    /// Last.
    pub last: Ipv4Addr,
}

impl Range {
    /// Whether an address lies in it.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.first <= address && address <= self.last
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// A data centre, as its provisioning network sees it.
#[derive(Clone, Debug)]
pub struct Site {
    /// The provisioning network.
    pub subnet: Subnet,
    /// Its router, if it has one.
    pub gateway: Option<Ipv4Addr>,
    /// The boot server's address in it.
    pub boot_server: Ipv4Addr,
    /// The boot server's network interface, if dnsmasq shall hold to one.
    pub interface: Option<Word>,
    /// Name servers that dnsmasq asks. Empty: it answers for the boot server and the machines alone.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// Domain of the machines here: what follows the machine's own label.
    pub domain: HostName,
    /// The Puppet server that the node document names.
    pub puppet_server: HostName,
    /// Its address, if the boot server shall know it. Else one of `dns` does.
    pub puppet_address: Option<Ipv4Addr>,
    /// Further kernel arguments of machines that boot by iPXE.
    pub kernel_arguments: Vec<String>,
}

/// A machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Short name: `n1.north`.
    pub name: HostName,
    /// What Puppet and certificates call it.
    pub certname: HostName,
    /// Its site, which is its data centre.
    pub site: Word,
    /// Its role.
    pub role: Word,
    /// Its interfaces; the first is the one that names its files.
    pub macs: Vec<Mac>,
    /// Serial number on the chassis, if known: an enrolment must then show it.
    pub serial: Option<String>,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its firmware.
    pub firmware: Firmware,
    /// The flavour of releases that it boots.
    pub flavour: Flavour,
}

/// One mistake: file, entry, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub file: String,
    /// The entry in it: `machines[2] (n1.north)`.
    pub entry: String,
    /// What is wrong and what is right.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry.as_str() {
            "" => write!(f, "{}: {}", self.file, self.what),
            entry => write!(f, "{}: {entry}: {}", self.file, self.what),
        }
    }
}

/// Why there is no inventory: every mistake that was found.
#[derive(Debug)]
pub struct InventoryError(pub Vec<Mistake>);

impl std::error::Error for InventoryError {}

impl fmt::Display for InventoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.0 {
            writeln!(f, "{mistake}")?;
        }
        let count = self.0.len();
        write!(
            f,
            "{count} {}; nothing was changed",
            if count == 1 { "mistake" } else { "mistakes" }
        )
    }
}

/// A site, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteEntry {
    subnet: String,
    gateway: Option<String>,
    boot_server: String,
    interface: Option<String>,
    #[serde(default)]
    ranges: Vec<String>,
    #[serde(default)]
    reserved: Vec<String>,
    dns: Option<Vec<String>>,
    ntp: Option<Vec<String>>,
    puppet_server: Option<String>,
    puppet_address: Option<String>,
    #[serde(default)]
    kernel_arguments: Option<Vec<String>>,
}

/// A machine, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MachineEntry {
    name: String,
    certname: Option<String>,
    site: String,
    role: String,
    macs: Vec<String>,
    serial: Option<String>,
    address: String,
    firmware: String,
    flavour: Option<String>,
}

/// The file's own fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    domain: String,
    #[serde(default)]
    sites: Map<String, Value>,
    #[serde(default)]
    machines: Vec<Value>,
}

/// The version of the shape.
const FORMAT: u32 = 1;
/// Most machines in one inventory.
const MACHINES_MAX: usize = 10_000;

/// What is gathered while checking.
struct Mistakes {
    file: String,
    found: Vec<Mistake>,
}

impl Mistakes {
    fn add(&mut self, entry: &str, what: impl fmt::Display) {
        self.found.push(Mistake {
            file: self.file.clone(),
            entry: entry.to_owned(),
            what: what.to_string(),
        });
    }

    /// The value, or `None` and one mistake more.
    fn take<T, E: fmt::Display>(&mut self, entry: &str, field: &str, parsed: Result<T, E>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(what) => {
                self.add(entry, format!("{field}: {what}"));
                None
            }
        }
    }
}

impl Inventory {
    /// Reads `inventory.yaml` and the Hiera data beside it. All mistakes at once, in the order of the file.
    pub fn load(file: &Path, hiera: Option<&PathBuf>) -> Result<Inventory, InventoryError> {
        let mut mistakes = Mistakes {
            file: file.display().to_string(),
            found: Vec::new(),
        };
        let hiera = match hiera {
            None => Hiera::built_in(),
            Some(folder) => Hiera::load(folder, &mut mistakes.found),
        };
        let checked =
            read_document(file, &mut mistakes).and_then(|document| rules::check(&document, &hiera, &mut mistakes));
        match checked {
            Some(inventory) if mistakes.found.is_empty() => Ok(inventory),
            _ => Err(InventoryError(mistakes.found)),
        }
    }

    /// A machine by name or certname.
    pub fn find(&self, name: &str) -> Option<&Machine> {
        self.machines
            .values()
            .find(|machine| machine.certname.as_str() == name || machine.name.as_str() == name)
    }

    /// The machine with this hardware address.
    pub fn by_mac(&self, mac: &Mac) -> Option<&Machine> {
        self.machines.values().find(|machine| machine.macs.contains(mac))
    }
}

/// YAML as a tree; text in it stays text, duplicate keys are refused.
fn yaml(file: &Path) -> Result<Value, String> {
    let bytes = crate::files::read(file).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    serde_saphyr::from_str::<Value>(text).map_err(|error| format!("not YAML as it must be: {error}"))
}

fn read_document(file: &Path, mistakes: &mut Mistakes) -> Option<Document> {
    let tree = match yaml(file) {
        Ok(tree) => tree,
        Err(what) => {
            mistakes.add("", what);
            return None;
        }
    };
    let document: Document = match serde_json::from_value(tree) {
        Ok(document) => document,
        Err(error) => {
            mistakes.add("", error);
            return None;
        }
    };
    if document.format != FORMAT {
        mistakes.add(
            "format",
            format!("{} is not known here; this program reads {FORMAT}", document.format),
        );
        return None;
    }
    if document.machines.len() > MACHINES_MAX {
        let count = document.machines.len();
        mistakes.add(
            "machines",
            format!("{count} are more than {MACHINES_MAX}; split the inventory by organisation"),
        );
        return None;
    }
    Some(document)
}
