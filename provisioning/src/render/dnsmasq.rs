//! dnsmasq: addresses for known machines, and what each kind of firmware is told to fetch.

use super::{HEADING, Place, ipxe_program_of};
use crate::inventory::{Machine, Site};
use crate::names::{Firmware, Word};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

fn list(addresses: &[Ipv4Addr]) -> String {
    addresses.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(",")
}

/// The whole file of a site.
pub(super) fn config(name: &Word, site: &Site, machines: &[&Machine], place: &Place<'_>) -> String {
    let boot = site.boot_server;
    let domain = &site.domain;
    let mut text = format!("# {HEADING}\n# Site {name}: {}\n\n", site.subnet);
    let mut line = |what: std::fmt::Arguments<'_>| writeln!(text, "{what}").expect("a String takes all");
    line(format_args!("listen-address={boot}"));
    if let Some(interface) = &site.interface {
        line(format_args!("interface={interface}"));
    }
    // Loopback belongs to no site: two on one boot server would meet there.
    line(format_args!("except-interface=lo\nbind-dynamic\n"));
    line(format_args!(
        "# Names: the boot server's, the machines', and what the site's own servers know."
    ));
    line(format_args!(
        "no-resolv\nno-hosts\ndomain-needed\nbogus-priv\ndomain={domain}\nlocal=/{domain}/"
    ));
    for server in &site.dns {
        line(format_args!("server={server}"));
    }
    line(format_args!("host-record=vertebra-boot,vertebra-boot.{domain},{boot}"));
    if let Some(address) = site.puppet_address {
        line(format_args!("host-record={},{address}", site.puppet_server));
    }
    for machine in machines {
        line(format_args!("host-record={},{}", machine.certname, machine.address));
    }
    line(format_args!(
        "\n# Addresses, for machines of the inventory alone: anybody else hears nothing."
    ));
    line(format_args!(
        "dhcp-range={},static,{},1h",
        site.subnet.network,
        site.subnet.mask()
    ));
    line(format_args!(
        "dhcp-authoritative\nno-ping\nleasefile-ro\ndhcp-ignore=tag:!known"
    ));
    match site.gateway {
        Some(gateway) => line(format_args!("dhcp-option=option:router,{gateway}")),
        None => line(format_args!("dhcp-option=option:router")),
    }
    line(format_args!("dhcp-option=option:dns-server,{boot}"));
    if !site.ntp.is_empty() {
        line(format_args!("dhcp-option=option:ntp-server,{}", list(&site.ntp)));
    }
    for machine in machines {
        let macs: Vec<&str> = machine.macs.iter().map(|mac| mac.as_str()).collect();
        let (tag, firmware) = (machine.name.hyphens(), machine.firmware);
        line(format_args!(
            "dhcp-host={},set:m-{tag},set:{firmware},{},{tag}",
            macs.join(","),
            machine.address
        ));
    }
    line(format_args!(
        "\n# Who asks: firmware of one kind or another, or iPXE, which needs no proxy DHCP server."
    ));
    line(format_args!("dhcp-match=set:pxe-bios,option:client-arch,0"));
    for architecture in [7, 9] {
        line(format_args!(
            "dhcp-match=set:pxe-uefi,option:client-arch,{architecture}"
        ));
    }
    line(format_args!("dhcp-match=set:ipxe,175"));
    line(format_args!("dhcp-vendorclass=set:http,HTTPClient"));
    line(format_args!("dhcp-option=tag:ipxe,encap:175,176,1b"));
    line(format_args!(
        "# UEFI HTTP boot takes an answer only if it says the same."
    ));
    line(format_args!("dhcp-option-force=tag:http,60,HTTPClient"));
    line(format_args!(
        "\nenable-tftp\ntftp-root={}/{name}/tftp",
        place.output.display()
    ));
    for firmware in [Firmware::Bios, Firmware::Uefi] {
        if machines.iter().any(|machine| machine.firmware == firmware) {
            let program = ipxe_program_of(firmware);
            line(format_args!(
                "dhcp-boot=tag:{firmware},tag:pxe-{firmware},tag:!ipxe,tag:!http,{program},vertebra-boot,{boot}"
            ));
        }
    }
    for machine in machines {
        let tag = machine.name.hyphens();
        let Some(mac) = machine.macs.first() else { continue };
        let stem = format!("http://{boot}/boot/{}", mac.hyphens());
        line(format_args!(
            "dhcp-boot=tag:m-{tag},tag:ipxe,{stem}.ipxe,vertebra-boot,{boot}"
        ));
        if machine.firmware == Firmware::Uefi {
            line(format_args!(
                "dhcp-boot=tag:m-{tag},tag:http,tag:!ipxe,{stem}.efi,vertebra-boot,{boot}"
            ));
        }
    }
    text
}
