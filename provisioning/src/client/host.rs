//! Where things lie on a node, and what its kernel says about it.

use super::{Enrolled, NodeError};
use crate::files;
use crate::names::{HostName, Mac, ReleaseId};
use std::fs;
use std::path::{Path, PathBuf};

/// Most interfaces that are tried.
const MACS_MAX: usize = 8;

/// A node's root: `/`, or a folder that stands for it.
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// The node whose files lie below `root`.
    pub fn new(root: &Path) -> Host {
        Host { root: root.to_owned() }
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    pub(super) fn enrolment_file(&self) -> PathBuf {
        self.path("var/lib/vertebra/host/enrolment.json")
    }

    pub(super) fn admin_socket(&self) -> PathBuf {
        self.path("run/vertebra/admin.sock")
    }

    /// The boot CA of the image.
    pub fn boot_ca(&self) -> PathBuf {
        self.path("usr/share/vertebra/boot-ca.pem")
    }

    /// Writes a file durably, making its folder.
    pub(super) fn write(&self, file: &Path, text: &[u8], mode: u32) -> Result<(), NodeError> {
        let folder = file.parent().unwrap_or(&self.root);
        let made = fs::create_dir_all(folder).and_then(|()| files::write(file, text, mode));
        made.map_err(|cause| NodeError::Io {
            file: file.to_owned(),
            cause,
        })
    }

    /// Who this node is, if it was enrolled. A file that is damaged is as good as none: the machine is armed again.
    pub(super) fn enrolled(&self) -> Result<Option<Enrolled>, NodeError> {
        let file = self.enrolment_file();
        let bytes = files::read_if_there(&file).map_err(|cause| NodeError::Io {
            file: file.clone(),
            cause,
        })?;
        let Some(bytes) = bytes else { return Ok(None) };
        match serde_json::from_slice::<Enrolled>(&bytes) {
            Ok(enrolled) if enrolled.format == 1 => Ok(Some(enrolled)),
            _ => {
                eprintln!("{}: not what enrol writes; enrolling anew", file.display());
                Ok(None)
            }
        }
    }

    pub(super) fn keep(&self, enrolled: &Enrolled) -> Result<(), NodeError> {
        let mut text = serde_json::to_vec_pretty(enrolled).expect("an enrolment has a JSON form");
        text.push(b'\n');
        self.write(&self.enrolment_file(), &text, 0o600)
    }

    /// Whether the CA has signed.
    pub(super) fn has_certificate(&self, certname: &HostName) -> bool {
        self.path("var/lib/puppet/ssl/certs")
            .join(format!("{certname}.pem"))
            .is_file()
    }

    /// The release that the kernel was told of.
    pub(super) fn release(&self) -> Option<ReleaseId> {
        let line = fs::read_to_string(self.path("proc/cmdline")).ok()?;
        let named = line
            .split_whitespace()
            .rev()
            .find_map(|word| word.strip_prefix("vertebra.release="))?;
        named.parse().ok()
    }

    /// The chassis' serial number, if the firmware knows one.
    pub(super) fn serial(&self) -> Option<String> {
        let text = fs::read_to_string(self.path("sys/class/dmi/id/product_serial")).ok()?;
        let text = text.trim();
        let plain = !text.is_empty() && text.len() <= 64 && !text.chars().any(char::is_control);
        plain.then(|| text.to_owned())
    }

    /// MAC addresses: those of interfaces with a default route first, then all others.
    pub(super) fn macs(&self) -> Vec<Mac> {
        let routes = fs::read_to_string(self.path("proc/net/route")).unwrap_or_default();
        let mut interfaces: Vec<String> = Vec::new();
        for line in routes.lines().skip(1) {
            let mut columns = line.split_whitespace();
            if let (Some(name), Some("00000000")) = (columns.next(), columns.next()) {
                interfaces.push(name.to_owned());
            }
        }
        let mut others: Vec<String> = Vec::new();
        for entry in fs::read_dir(self.path("sys/class/net")).into_iter().flatten().flatten() {
            others.push(entry.file_name().to_string_lossy().into_owned());
        }
        others.sort();
        interfaces.extend(others);
        let mut macs: Vec<Mac> = Vec::new();
        for interface in interfaces {
            let folder = self.path("sys/class/net").join(interface);
            let address = fs::read_to_string(folder.join("address")).unwrap_or_default();
            if let Ok(mac) = address.trim().parse::<Mac>()
                && !macs.contains(&mac)
                && macs.len() < MACS_MAX
            {
                macs.push(mac);
            }
        }
        macs
    }

    /// The running kernel's name of this host, and the file's.
    pub(super) fn set_name(&self, certname: &HostName) -> Result<(), NodeError> {
        self.write(&self.path("etc/hostname"), format!("{certname}\n").as_bytes(), 0o644)?;
        // In a container the kernel's name may not be ours to set; Puppet goes by its certname.
        if let Err(error) = fs::write(self.path("proc/sys/kernel/hostname"), certname.as_str()) {
            eprintln!("host name not set in the kernel: {error}");
        }
        Ok(())
    }
}
