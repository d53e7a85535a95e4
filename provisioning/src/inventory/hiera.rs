//! What the inventory takes from Puppet's data: which sites and roles exist, and values that a site leaves out.
//!
//! A site exists when `datacentre/SITE.yaml` does. A role exists at a site when `role/ROLE.yaml` or `role/SITE/ROLE.yaml`
//! does. `provisioning::puppet_server`, `provisioning::dns` and `provisioning::ntp` are looked up in
//! `datacentre/SITE.yaml`, then in `common.yaml`.

use super::{Mistake, yaml};
use crate::names::Word;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The folder as far as it matters here.
pub(super) struct Hiera {
    folder: Option<PathBuf>,
    common: Value,
    sites: BTreeMap<String, Value>,
    /// (site or nothing, role)
    roles: BTreeSet<(Option<String>, String)>,
}

/// The keys that are looked up. Any other key below `provisioning::` is a mistake.
const KEYS: [&str; 3] = ["provisioning::puppet_server", "provisioning::dns", "provisioning::ntp"];

impl Hiera {
    /// Without a folder: the two roles of the product, at any site.
    pub(super) fn built_in() -> Hiera {
        Hiera {
            folder: None,
            common: Value::Null,
            sites: BTreeMap::new(),
            roles: ["node", "witness"].map(|role| (None, role.to_owned())).into(),
        }
    }

    pub(super) fn load(folder: &Path, mistakes: &mut Vec<Mistake>) -> Hiera {
        let mut hiera = Hiera {
            folder: Some(folder.to_owned()),
            common: Value::Null,
            sites: BTreeMap::new(),
            roles: BTreeSet::new(),
        };
        if !folder.is_dir() {
            mistakes.push(Mistake {
                file: folder.display().to_string(),
                entry: String::new(),
                what: "there is no such folder; name the one that holds datacentre/ and role/".to_owned(),
            });
            return hiera;
        }
        let common = folder.join("common.yaml");
        if common.is_file() {
            hiera.common = data(&common, mistakes);
        }
        for (site, file) in data_files(&folder.join("datacentre")) {
            hiera.sites.insert(site, data(&file, mistakes));
        }
        let roles = folder.join("role");
        hiera
            .roles
            .extend(data_files(&roles).into_keys().map(|role| (None, role)));
        for site in hiera.sites.keys() {
            let here = data_files(&roles.join(site)).into_iter();
            hiera.roles.extend(here.map(|(role, _)| (Some(site.clone()), role)));
        }
        hiera
    }

    /// Why a site is none, if so.
    pub(super) fn refuses_site(&self, site: &str) -> Option<String> {
        let folder = self.folder.as_ref()?;
        let known: Vec<&str> = self.sites.keys().map(String::as_str).collect();
        (!self.sites.contains_key(site)).then(|| {
            let file = folder.join("datacentre").join(format!("{site}.yaml"));
            format!("there is no {}; known: {}", file.display(), list(&known))
        })
    }

    /// Why a role is none at this site, if so.
    pub(super) fn refuses_role(&self, role: &Word, site: &str) -> Option<String> {
        let role = role.as_str().to_owned();
        let mut known: Vec<&str> = Vec::new();
        for (place, name) in &self.roles {
            if place.as_deref().is_none_or(|place| place == site) {
                known.push(name);
            }
        }
        (!known.contains(&role.as_str())).then(|| {
            let hint = match &self.folder {
                None => String::new(),
                Some(folder) => format!(" (files in {})", folder.join("role").display()),
            };
            format!("unknown role `{role}`; known at {site}: {}{hint}", list(&known))
        })
    }

    /// A text that a site leaves out.
    pub(super) fn text(&self, site: &str, key: &str) -> Option<String> {
        self.value(site, key)?.as_str().map(str::to_owned)
    }

    /// A list that a site leaves out.
    pub(super) fn texts(&self, site: &str, key: &str) -> Option<Vec<String>> {
        let values = self.value(site, key)?.as_array()?;
        Some(values.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    fn value(&self, site: &str, key: &str) -> Option<&Value> {
        let key = format!("provisioning::{key}");
        self.sites
            .get(site)
            .and_then(|data| data.get(&key))
            .or_else(|| self.common.get(&key))
    }
}

fn list(words: &[&str]) -> String {
    match words.is_empty() {
        true => "none".to_owned(),
        false => words.join(", "),
    }
}

/// The `.yaml` files of a folder, by name.
fn data_files(folder: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if let (Some(name), true) = (path.file_stem(), path.extension().is_some_and(|end| end == "yaml")) {
            found.insert(name.to_string_lossy().into_owned(), path.clone());
        }
    }
    found
}

/// A data file, with the types of the keys that are looked up checked.
fn data(file: &Path, mistakes: &mut Vec<Mistake>) -> Value {
    let mut add = |entry: &str, what: String| {
        mistakes.push(Mistake {
            file: file.display().to_string(),
            entry: entry.to_owned(),
            what,
        });
    };
    // A data file that says nothing (yet) is common in Hiera and no mistake.
    let says_something = |text: String| {
        text.lines()
            .any(|line| !matches!(line.trim(), "" | "---") && !line.trim().starts_with('#'))
    };
    if std::fs::read_to_string(file).is_ok_and(|text| !says_something(text)) {
        return Value::Null;
    }
    let tree = match yaml(file) {
        Ok(tree) => tree,
        Err(what) => {
            add("", what);
            return Value::Null;
        }
    };
    for (key, value) in tree.as_object().into_iter().flatten() {
        if !key.starts_with("provisioning::") {
            continue;
        }
        let texts = value.as_array().is_some_and(|items| items.iter().all(Value::is_string));
        let right = match key.as_str() {
            "provisioning::puppet_server" => value.is_string(),
            _ => texts,
        };
        if !KEYS.contains(&key.as_str()) {
            add(key, format!("unknown key; known: {}", KEYS.join(", ")));
        } else if !right {
            add(
                key,
                "wrong type: puppet_server is text, dns and ntp are lists of text".to_owned(),
            );
        }
    }
    tree
}
