//! iPXE: one script for each machine. It names the release and the digest of its root; who the machine is comes from
//! its enrolment, never from here.

use crate::inventory::{Machine, Site};
use crate::names::Word;
use crate::releases::Manifest;

/// The script. The digest of the root is checked by the initrd; kernel and initrd are checked by nobody under BIOS.
pub(super) fn script(name: &Word, site: &Site, machine: &Machine, manifest: &Manifest) -> String {
    let release = &manifest.release;
    let root = manifest
        .files
        .get("root.squashfs")
        .map_or("missing", |file| file.sha256.as_str());
    let stem = format!("http://{}/releases/{release}", site.boot_server);
    let mut arguments = format!("vertebra.release={release} vertebra.sha256={root} BOOTIF=01-${{netX/mac:hexhyp}}");
    for argument in &site.kernel_arguments {
        arguments.push(' ');
        arguments.push_str(argument);
    }
    format!(
        "#!ipxe\n\
         # {certname} at {name}\n\
         echo Vertebra {release} for {certname}\n\
         kernel {stem}/vmlinuz initrd=initrd.img {arguments} || goto failed\n\
         initrd --name initrd.img {stem}/initrd.img || goto failed\n\
         boot || goto failed\n\
         :failed\n\
         echo The release could not be fetched or started; again in 30 seconds\n\
         sleep 30\n\
         reboot\n",
        certname = machine.certname,
    )
}
