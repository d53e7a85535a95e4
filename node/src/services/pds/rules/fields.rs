//! Owns the table of a Patient's elements: which may be patched, by whom, and by which definition of the profile an
//! item is judged. Data only; it must never look at a record.

use super::profile::Kind;

/// How an element of the Patient is shaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A single value.
    Single {
        /// Whether it may be removed.
        removable: bool,
    },
    /// A base-level list.
    List {
        /// What identifies an item: `id` or `url`.
        key: &'static str,
        /// Whether whole items may be removed by this interface at all.
        removable: bool,
    },
}

/// One patchable element of a Patient.
#[derive(Debug)]
pub struct Field {
    /// Its name in the resource.
    pub name: &'static str,
    /// Its shape.
    pub shape: Shape,
    /// Whether patient access may change it.
    pub by_patient: bool,
    /// The definition by which a value or an item is judged; extensions choose by their url instead.
    pub kind: Kind,
}

const fn single(name: &'static str, removable: bool, kind: Kind) -> Field {
    Field {
        name,
        shape: Shape::Single { removable },
        by_patient: false,
        kind,
    }
}

const fn list(name: &'static str, removable: bool, by_patient: bool, kind: Kind) -> Field {
    Field {
        name,
        shape: Shape::List { key: "id", removable },
        by_patient,
        kind,
    }
}

/// The patchable elements, in the order in which issues are listed.
pub static FIELDS: [Field; 11] = [
    list("name", true, false, Kind::Name),
    single("gender", false, Kind::Gender),
    single("birthDate", false, Kind::BirthDate),
    single("deceasedDateTime", false, Kind::DeceasedDateTime),
    single("multipleBirthInteger", true, Kind::MultipleBirthInteger),
    list("address", true, true, Kind::Address),
    list("telecom", true, true, Kind::Telecom),
    list("contact", true, true, Kind::Contact),
    // Only NHAIS and the National Back Office remove a practice, and neither comes this way.
    list("generalPractitioner", false, false, Kind::Practice),
    single("managingOrganization", true, Kind::Organization),
    Field {
        name: "extension",
        shape: Shape::List {
            key: "url",
            removable: true,
        },
        by_patient: true,
        kind: Kind::Unknown,
    },
];

/// Elements that the service alone sets.
pub const OURS: [&str; 4] = ["id", "meta", "identifier", "resourceType"];

/// The field called `name`, if it may be patched.
pub fn field(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name)
}

/// One extension that the profile knows.
#[derive(Debug)]
pub struct Known {
    /// Its url.
    pub url: &'static str,
    /// The definition by which it is judged.
    pub kind: Kind,
    /// Who may set it.
    pub by: By,
    /// Whether it may be removed.
    pub removable: bool,
    /// Whether it would tell where a person lives, is treated or comes from.
    pub place: bool,
}

/// Who may set an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Workers and patients.
    Both,
    /// Workers.
    Worker,
    /// Nobody by this interface.
    Nobody,
}

/// Death notification status.
pub const DEATH_NOTIFICATION: &str =
    "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-DeathNotificationStatus";
/// Registering authority, of a request to create a patient.
pub const REGISTERING_AUTHORITY: &str =
    "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-RegisteringAuthority";
/// NHS numbers as an identifier system.
pub const NHS_NUMBER_SYSTEM: &str = "https://fhir.nhs.uk/Id/nhs-number";

const fn known(url: &'static str, kind: Kind, by: By, removable: bool, place: bool) -> Known {
    Known {
        url,
        kind,
        by,
        removable,
        place,
    }
}

/// The extensions of a Patient that the specification defines.
pub static EXTENSIONS: [Known; 8] = [
    known(
        "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NominatedPharmacy",
        Kind::Pharmacy,
        By::Both,
        true,
        true,
    ),
    known(
        "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-PreferredDispenserOrganization",
        Kind::Pharmacy,
        By::Both,
        true,
        true,
    ),
    known(
        "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-MedicalApplianceSupplier",
        Kind::Pharmacy,
        By::Both,
        true,
        true,
    ),
    known(DEATH_NOTIFICATION, Kind::DeathNotification, By::Worker, false, false),
    known(
        "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSCommunication",
        Kind::Communication,
        By::Both,
        true,
        false,
    ),
    known(
        "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-ContactPreference",
        Kind::ContactPreference,
        By::Worker,
        true,
        false,
    ),
    known(
        "http://hl7.org/fhir/StructureDefinition/patient-birthPlace",
        Kind::BirthPlace,
        By::Both,
        true,
        true,
    ),
    known(
        "https://fhir.nhs.uk/StructureDefinition/Extension-PDS-RemovalFromRegistration",
        Kind::Unknown,
        By::Nobody,
        false,
        true,
    ),
];

/// The extension of that url, if the profile knows it.
pub fn extension(url: &str) -> Option<&'static Known> {
    EXTENSIONS.iter().find(|known| known.url == url)
}
