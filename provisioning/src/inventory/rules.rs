//! The rules of an inventory. Every entry is looked at, whatever was wrong with those before it.

use super::hiera::Hiera;
use super::{Document, Inventory, Machine, MachineEntry, Mistakes, Range, Site, SiteEntry, Subnet};
use crate::names::{Firmware, Flavour, HostName, Mac, Word, shown};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A site with the ranges that only the rules need.
struct Checked {
    site: Site,
    ranges: Vec<Range>,
    reserved: Vec<Range>,
}

/// What kernels get where the inventory says nothing: both consoles.
const KERNEL_ARGUMENTS: [&str; 2] = ["console=tty0", "console=ttyS0,115200n8"];
/// Longest serial number, bytes.
const SERIAL_BYTES_MAX: usize = 64;

pub(super) fn check(document: &Document, hiera: &Hiera, mistakes: &mut Mistakes) -> Option<Inventory> {
    let domain: Option<HostName> = mistakes.take("domain", "domain", document.domain.parse());
    let domain = domain.unwrap_or_else(|| "invalid".parse().expect("a name"));
    if document.sites.is_empty() {
        mistakes.add("sites", "there is none; a machine needs a site");
    }
    let mut sites = BTreeMap::new();
    let mut broken = Vec::new();
    for (name, value) in &document.sites {
        match check_site(name, value, &domain, hiera, mistakes) {
            Some((word, checked)) => drop(sites.insert(word, checked)),
            None => broken.push(name.clone()),
        }
    }
    overlaps(&sites, mistakes);
    let around = Around {
        domain: &domain,
        sites: &sites,
        broken: &broken,
        hiera,
    };
    let mut machines = BTreeMap::new();
    let mut seen = Seen::default();
    for (at, value) in document.machines.iter().enumerate() {
        let entry = match value.get("name").and_then(Value::as_str) {
            Some(name) => format!("machines[{at}] ({})", shown(name)),
            None => format!("machines[{at}]"),
        };
        let Some(written) = shape::<MachineEntry>(&entry, value, mistakes) else {
            continue;
        };
        if let Some(machine) = around.machine(&entry, written, mistakes, &mut seen) {
            machines.insert(machine.certname.clone(), machine);
        }
    }
    Some(Inventory {
        sites: sites.into_iter().map(|(name, checked)| (name, checked.site)).collect(),
        machines,
    })
}

fn shape<T: serde::de::DeserializeOwned>(entry: &str, value: &Value, mistakes: &mut Mistakes) -> Option<T> {
    match serde_json::from_value(value.clone()) {
        Ok(written) => Some(written),
        Err(error) => {
            let text = error.to_string();
            let hint = if text.contains("invalid type: integer") || text.contains("invalid type: floating") {
                " (put numbers that are names in quotes)"
            } else {
                ""
            };
            mistakes.add(entry, format!("{text}{hint}"));
            None
        }
    }
}

fn check_site(
    name: &str,
    value: &Value,
    domain: &HostName,
    hiera: &Hiera,
    mistakes: &mut Mistakes,
) -> Option<(Word, Checked)> {
    let entry = format!("sites.{}", shown(name));
    let before = mistakes.found.len();
    let word: Option<Word> = mistakes.take(&entry, "name", name.parse());
    if let Some(what) = word.as_ref().and_then(|word| hiera.refuses_site(word.as_str())) {
        mistakes.add(&entry, what);
    }
    let written = shape::<SiteEntry>(&entry, value, mistakes)?;
    let subnet = mistakes.take(&entry, "subnet", parse_subnet(&written.subnet))?;
    let boot_server = mistakes.take(&entry, "boot_server", parse_address(&written.boot_server));
    let gateway = written
        .gateway
        .as_deref()
        .and_then(|text| mistakes.take(&entry, "gateway", parse_address(text)));
    for (field, address) in [("boot_server", boot_server), ("gateway", gateway)] {
        if let Some(what) = address.and_then(|address| unusable(&subnet, address)) {
            mistakes.add(&entry, format!("{field}: {what}"));
        }
    }
    if gateway.is_some() && gateway == boot_server {
        mistakes.add(&entry, "gateway: it is the boot server's address");
    }
    let mut ranges_of = |field: &str, texts: &[String]| {
        let mut ranges = Vec::new();
        for text in texts {
            let Some(range) = mistakes.take(&entry, field, parse_range(text)) else {
                continue;
            };
            match subnet.contains(range.first) && subnet.contains(range.last) {
                true => ranges.push(range),
                false => mistakes.add(&entry, format!("{field}: {range} is not inside {subnet}")),
            }
        }
        ranges
    };
    let ranges = ranges_of("ranges", &written.ranges);
    let reserved = ranges_of("reserved", &written.reserved);
    let dns = addresses(
        &entry,
        "dns",
        written.dns.or_else(|| hiera.texts(name, "dns")),
        mistakes,
    );
    let ntp = addresses(
        &entry,
        "ntp",
        written.ntp.or_else(|| hiera.texts(name, "ntp")),
        mistakes,
    );
    let interface = written
        .interface
        .and_then(|text| mistakes.take(&entry, "interface", text.parse::<Word>()));
    let puppet_server = match written.puppet_server.or_else(|| hiera.text(name, "puppet_server")) {
        Some(text) => mistakes.take(&entry, "puppet_server", text.parse::<HostName>()),
        None => {
            let what = "puppet_server: it is missing; write it here or as `provisioning::puppet_server` in Hiera";
            mistakes.add(&entry, what);
            None
        }
    };
    let puppet_address = written
        .puppet_address
        .as_deref()
        .and_then(|text| mistakes.take(&entry, "puppet_address", parse_address(text)));
    let arguments = written
        .kernel_arguments
        .unwrap_or_else(|| KERNEL_ARGUMENTS.map(str::to_owned).to_vec());
    for argument in &arguments {
        if let Some(what) = bad_argument(argument) {
            mistakes.add(&entry, format!("kernel_arguments: `{}` {what}", shown(argument)));
        }
    }
    let site_domain = mistakes.take(&entry, "name", format!("{}.{domain}", shown(name)).parse::<HostName>());
    if mistakes.found.len() > before {
        return None;
    }
    let word = word?;
    let site = Site {
        subnet,
        gateway,
        boot_server: boot_server?,
        interface,
        dns,
        ntp,
        domain: site_domain?,
        puppet_server: puppet_server?,
        puppet_address,
        kernel_arguments: arguments,
    };
    Some((word, Checked { site, ranges, reserved }))
}

fn overlaps(sites: &BTreeMap<Word, Checked>, mistakes: &mut Mistakes) {
    let all: Vec<(&Word, &Subnet)> = sites
        .iter()
        .map(|(name, checked)| (name, &checked.site.subnet))
        .collect();
    for (at, (name, subnet)) in all.iter().enumerate() {
        for (other, theirs) in &all[..at] {
            if subnet.contains(theirs.network) || theirs.contains(subnet.network) {
                mistakes.add(
                    &format!("sites.{name}"),
                    format!("subnet: {subnet} overlaps {theirs} of site {other}"),
                );
            }
        }
    }
}

fn addresses(entry: &str, field: &str, texts: Option<Vec<String>>, mistakes: &mut Mistakes) -> Vec<Ipv4Addr> {
    let texts = texts.unwrap_or_default();
    texts
        .iter()
        .filter_map(|text| mistakes.take(entry, field, parse_address(text)))
        .collect()
}

/// What of all machines may stand once, and the entry where it stood first.
#[derive(Default)]
struct Seen(BTreeMap<(&'static str, String), String>);

impl Seen {
    fn once(&mut self, entry: &str, kind: &'static str, value: String, mistakes: &mut Mistakes) {
        let first = self.0.entry((kind, value.clone())).or_insert_with(|| entry.to_owned());
        if first != entry {
            let first = first.clone();
            mistakes.add(entry, format!("{kind} {value} is already that of {first}"));
        }
    }
}

/// What a machine is judged against.
struct Around<'a> {
    domain: &'a HostName,
    sites: &'a BTreeMap<Word, Checked>,
    /// Sites that were written but have mistakes: their machines are not told of a missing site too.
    broken: &'a [String],
    hiera: &'a Hiera,
}

impl Around<'_> {
    fn machine(&self, entry: &str, written: MachineEntry, mistakes: &mut Mistakes, seen: &mut Seen) -> Option<Machine> {
        let (name, certname) = self.names(entry, &written, mistakes, seen);
        let role: Option<Word> = mistakes.take(entry, "role", written.role.parse());
        let firmware: Option<Firmware> = mistakes.take(entry, "firmware", written.firmware.parse());
        let flavour = written.flavour.as_deref().unwrap_or("hardware").parse();
        let flavour: Option<Flavour> = mistakes.take(entry, "flavour", flavour);
        let macs = macs(entry, &written.macs, mistakes, seen);
        if let Some(serial) = &written.serial {
            let odd = serial.trim() != serial || serial.is_empty() || serial.chars().any(char::is_control);
            if odd || serial.len() > SERIAL_BYTES_MAX {
                let what = format!("serial: write 1 to {SERIAL_BYTES_MAX} printable characters");
                mistakes.add(entry, what);
            }
            seen.once(entry, "serial", serial.clone(), mistakes);
        }
        let (site, address) = self.place(entry, &written, role.as_ref(), mistakes, seen);
        Some(Machine {
            name: name?,
            certname: certname?,
            site: site?,
            role: role?,
            macs,
            serial: written.serial,
            address: address?,
            firmware: firmware?,
            flavour: flavour?,
        })
    }

    fn names(
        &self,
        entry: &str,
        written: &MachineEntry,
        mistakes: &mut Mistakes,
        seen: &mut Seen,
    ) -> (Option<HostName>, Option<HostName>) {
        let name: Option<HostName> = mistakes.take(entry, "name", written.name.parse());
        let certname = match (&written.certname, &name) {
            (Some(text), _) => mistakes.take(entry, "certname", text.parse()),
            (None, Some(name)) => mistakes.take(entry, "certname", format!("{name}.{}", self.domain).parse()),
            (None, None) => None,
        };
        if let Some(name) = &name {
            // The dotless form is a label of its own and a tag in dnsmasq's file.
            seen.once(entry, "name", name.hyphens(), mistakes);
            if name.hyphens().len() > 63 {
                mistakes.add(entry, "name: longer than 63 characters");
            }
            if name.as_str() == "vertebra-boot" {
                mistakes.add(entry, "name: `vertebra-boot` is the boot server's");
            }
        }
        let certname: Option<HostName> = certname;
        if let Some(certname) = &certname {
            seen.once(entry, "certname", certname.to_string(), mistakes);
        }
        (name, certname)
    }

    fn place(
        &self,
        entry: &str,
        written: &MachineEntry,
        role: Option<&Word>,
        mistakes: &mut Mistakes,
        seen: &mut Seen,
    ) -> (Option<Word>, Option<Ipv4Addr>) {
        let address = mistakes.take(entry, "address", parse_address(&written.address));
        let site = written
            .site
            .parse::<Word>()
            .ok()
            .filter(|word| self.sites.contains_key(word));
        match &site {
            Some(site) => {
                if let Some(what) = role.and_then(|role| self.hiera.refuses_role(role, site.as_str())) {
                    mistakes.add(entry, format!("role: {what}"));
                }
                if let Some(what) = address.and_then(|address| misplaced(address, site, &self.sites[site])) {
                    mistakes.add(entry, format!("address: {what}"));
                }
            }
            None if self.broken.contains(&written.site) => {}
            None => {
                let known: Vec<&str> = self.sites.keys().map(Word::as_str).collect();
                let what = format!(
                    "site: unknown site `{}`; known: {}",
                    shown(&written.site),
                    known.join(", ")
                );
                mistakes.add(entry, what);
            }
        }
        if let Some(address) = address {
            seen.once(entry, "address", address.to_string(), mistakes);
        }
        (site, address)
    }
}

fn macs(entry: &str, texts: &[String], mistakes: &mut Mistakes, seen: &mut Seen) -> Vec<Mac> {
    if texts.is_empty() {
        mistakes.add(entry, "macs: there is none; a machine is found by its MAC");
    }
    let mut macs: Vec<Mac> = Vec::new();
    for text in texts {
        if let Some(mac) = mistakes.take(entry, "macs", text.parse::<Mac>()) {
            seen.once(entry, "MAC", mac.to_string(), mistakes);
            match macs.contains(&mac) {
                true => mistakes.add(entry, format!("macs: {mac} stands there twice")),
                false => macs.push(mac),
            }
        }
    }
    macs
}

/// Why an address cannot be a machine's at this site.
fn misplaced(address: Ipv4Addr, name: &Word, checked: &Checked) -> Option<String> {
    let site = &checked.site;
    if !site.subnet.contains(address) {
        return Some(format!("{address} is outside of site {name}, which is {}", site.subnet));
    }
    if let Some(what) = unusable(&site.subnet, address) {
        return Some(what);
    }
    if address == site.boot_server {
        return Some(format!("{address} is the boot server's"));
    }
    if site.gateway == Some(address) {
        return Some(format!("{address} is the gateway's"));
    }
    if site.dns.contains(&address) || site.ntp.contains(&address) {
        return Some(format!("{address} is a name or time server's"));
    }
    if let Some(range) = checked.reserved.iter().find(|range| range.contains(address)) {
        return Some(format!("{address} is in the reserved range {range}"));
    }
    if !checked.ranges.is_empty() && !checked.ranges.iter().any(|range| range.contains(address)) {
        let ranges: Vec<String> = checked.ranges.iter().map(Range::to_string).collect();
        return Some(format!(
            "{address} is in none of the site's ranges: {}",
            ranges.join(", ")
        ));
    }
    None
}

fn unusable(subnet: &Subnet, address: Ipv4Addr) -> Option<String> {
    if !subnet.contains(address) {
        return Some(format!("{address} is outside of {subnet}"));
    }
    let ends = address == subnet.network || address == subnet.broadcast();
    ends.then(|| format!("{address} is the network's own or its broadcast address"))
}

fn parse_address(text: &str) -> Result<Ipv4Addr, String> {
    text.parse()
        .map_err(|_| format!("`{}` is not an IPv4 address", shown(text)))
}

fn parse_range(text: &str) -> Result<Range, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_address(first.trim())?, parse_address(last.trim())?);
    match first <= last {
        true => Ok(Range { first, last }),
        false => Err(format!("`{}` ends before it begins", shown(text))),
    }
}

fn parse_subnet(text: &str) -> Result<Subnet, String> {
    let bad = || {
        format!(
            "`{}` is not a network; write it as 10.1.0.0/24, prefix 8 to 30",
            shown(text)
        )
    };
    let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
    let network: Ipv4Addr = address.parse().map_err(|_| bad())?;
    let prefix: u8 = prefix.parse().map_err(|_| bad())?;
    if !(8..=30).contains(&prefix) {
        return Err(bad());
    }
    let subnet = Subnet { network, prefix };
    let first = Ipv4Addr::from(u32::from(network) & u32::from(subnet.mask()));
    match first == network {
        true => Ok(subnet),
        false => Err(format!(
            "`{}` has host bits; the network is {first}/{prefix}",
            shown(text)
        )),
    }
}

fn bad_argument(argument: &str) -> Option<&'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"=,.:/_-+@".contains(&b);
    if argument.is_empty() || argument.len() > 128 || !argument.bytes().all(plain) {
        return Some("has characters that do not belong into a kernel argument");
    }
    let key = argument.split('=').next().unwrap_or("");
    if key.starts_with("vertebra.") || matches!(key, "initrd" | "BOOTIF" | "init" | "rdinit") {
        return Some("is set by the boot script or must not be set");
    }
    None
}
