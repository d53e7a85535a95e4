//! The demographics service (PDS FHIR). Owns the rules of its records and the codes of its answers.
//!
//! Source: `pds-fhir.bundled.yaml` of NHSDigital/personal-demographics-service-api.

pub mod outcome;
pub mod rules;
