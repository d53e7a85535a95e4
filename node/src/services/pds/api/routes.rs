//! Every call, in one table: path, method, who may make it, and its name in metrics and the audit.

use crate::auth::token::Kind;
use ::http::Method;

/// Where the service lives.
pub(super) const BASE: &str = "/personal-demographics/FHIR/R4";

/// What a call does; one handler each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Search,
    Create,
    Read,
    Update,
    Related,
    ReadCoverage,
    PutCoverage,
}

/// Whether a kind of caller may make a call at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum May {
    /// Any record.
    Any,
    /// The caller's own record.
    Own,
    /// Never: the application is not set up for it (401 ACCESS_DENIED in the specification).
    NotConfigured,
    /// Never: a person of this kind cannot do it (403 ACCESS_DENIED).
    Forbidden,
}

/// One call.
#[derive(Debug)]
pub(super) struct Route {
    pub call: Call,
    pub method: Method,
    /// The path behind [`BASE`]; `{id}` is an NHS number.
    pub path: &'static str,
    /// Metrics' label.
    pub label: &'static str,
    /// The audit's name of it.
    pub action: &'static str,
    /// The command's outcome is kept under the request's identifier.
    pub writes: bool,
    pub application: May,
    pub worker: May,
    pub patient: May,
}

/// All calls. What is not in a row is denied.
pub(super) const ROUTES: [Route; 7] = [
    Route {
        call: Call::Search,
        method: Method::GET,
        path: "/Patient",
        label: "pds_search",
        action: "pds.search",
        writes: false,
        application: May::Any,
        worker: May::Any,
        patient: May::Forbidden,
    },
    Route {
        call: Call::Create,
        method: Method::POST,
        path: "/Patient",
        label: "pds_create",
        action: "pds.create",
        writes: true,
        application: May::NotConfigured,
        worker: May::Any,
        patient: May::Forbidden,
    },
    Route {
        call: Call::Read,
        method: Method::GET,
        path: "/Patient/{id}",
        label: "pds_read",
        action: "pds.read",
        writes: false,
        application: May::Any,
        worker: May::Any,
        patient: May::Own,
    },
    Route {
        call: Call::Update,
        method: Method::PATCH,
        path: "/Patient/{id}",
        label: "pds_update",
        action: "pds.update",
        writes: true,
        application: May::NotConfigured,
        worker: May::Any,
        patient: May::Own,
    },
    Route {
        call: Call::Related,
        method: Method::GET,
        path: "/Patient/{id}/RelatedPerson",
        label: "pds_related",
        action: "pds.related",
        writes: false,
        application: May::Any,
        worker: May::Any,
        patient: May::Own,
    },
    Route {
        call: Call::ReadCoverage,
        method: Method::GET,
        path: "/Coverage",
        label: "pds_read_coverage",
        action: "pds.read_coverage",
        writes: false,
        application: May::NotConfigured,
        worker: May::Forbidden,
        patient: May::Own,
    },
    Route {
        call: Call::PutCoverage,
        method: Method::POST,
        path: "/Coverage",
        label: "pds_put_coverage",
        action: "pds.put_coverage",
        writes: true,
        application: May::NotConfigured,
        worker: May::Forbidden,
        patient: May::Own,
    },
];

impl Route {
    /// What a kind of caller may.
    pub fn may(&self, kind: &Kind) -> May {
        match kind {
            Kind::Application => self.application,
            Kind::Worker(_) => self.worker,
            Kind::Patient(_) => self.patient,
        }
    }
}

/// What a request's method and path name.
pub(super) enum Found<'a> {
    /// A call, and the text where the path has a number.
    Route(&'static Route, &'a str),
    /// The path is there, for other methods: these.
    OtherMethods(String),
    /// Nothing.
    Nothing,
}

/// Finds a call.
pub(super) fn find<'a>(method: &Method, path: &'a str) -> Found<'a> {
    let Some(path) = path.strip_prefix(BASE) else {
        return Found::Nothing;
    };
    let mut others = Vec::new();
    for route in &ROUTES {
        let Some(id) = fits(route.path, path) else { continue };
        if route.method == *method {
            return Found::Route(route, id);
        }
        others.push(route.method.as_str());
    }
    if others.is_empty() {
        Found::Nothing
    } else {
        Found::OtherMethods(others.join(", "))
    }
}

/// Whether a path has this form, and what stands where its number is.
fn fits<'a>(form: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, after)) = form.split_once("{id}") else {
        return (path == form).then_some("");
    };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.contains('/')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: Method, path: &str) -> String {
        match find(&method, &format!("{BASE}{path}")) {
            Found::Route(route, id) => format!("{:?} {id}", route.call),
            Found::OtherMethods(allow) => allow,
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn paths_and_methods_name_calls() {
        for (method, path, expected) in [
            (Method::GET, "/Patient", "Search "),
            (Method::POST, "/Patient", "Create "),
            (Method::GET, "/Patient/9000000009", "Read 9000000009"),
            (Method::GET, "/Patient/", "Read "),
            (Method::PATCH, "/Patient/x", "Update x"),
            (Method::GET, "/Patient/9000000009/RelatedPerson", "Related 9000000009"),
            (Method::GET, "/Coverage", "ReadCoverage "),
            (Method::POST, "/Coverage", "PutCoverage "),
            (Method::DELETE, "/Patient/9000000009", "GET, PATCH"),
            (Method::PUT, "/Coverage", "GET, POST"),
            (Method::GET, "/Patient/9000000009/RelatedPerson/1", "nothing"),
            (Method::GET, "/Observation", "nothing"),
            (Method::GET, "", "nothing"),
        ] {
            assert_eq!(found(method, path), expected, "{path}");
        }
    }
}
