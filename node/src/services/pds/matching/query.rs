//! A search as a client asks for it, checked and in normal form.
//!
//! A search that is not fuzzy needs a family name and a date of birth; a fuzzy one needs one of the combinations in
//! [`FUZZY_COMBINATIONS`]. Refusals name the parameter and say what to do; they never repeat what was given.

use super::card::{GIVENS_MAX, Gender};
use super::day::{Day, Days};
use super::normal;
use crate::base::OdsCode;

/// Most parameters of one search; more are refused before any is read.
pub const PARAMETERS_MAX: usize = 32;
/// Longest name, in characters.
pub const NAME_CHARACTERS_MAX: usize = 35;
/// Most `given` parameters.
pub const GIVEN_PARAMETERS_MAX: usize = 5;
/// Most results.
pub const RESULTS_MAX: usize = 50;
/// Longest value of any other parameter, in bytes.
pub const VALUE_BYTES_MAX: usize = 254;
/// Characters before the first wildcard.
pub const WILDCARD_AFTER: usize = 2;

const _: () = assert!(GIVEN_PARAMETERS_MAX <= GIVENS_MAX);

/// The parameters there are.
pub const PARAMETERS: [&str; 14] = [
    "_exact-match",
    "_fuzzy-match",
    "_history",
    "_max-results",
    "address-postalcode",
    "address-postcode",
    "birthdate",
    "death-date",
    "email",
    "family",
    "gender",
    "general-practitioner",
    "given",
    "phone",
];

/// What a fuzzy search must have, one of these: whether given name, family name, gender, postcode; always a date of birth.
pub const FUZZY_COMBINATIONS: [[bool; 4]; 3] = [
    [true, true, false, false],
    [false, true, true, true],
    [true, false, true, true],
];

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An application without a person: one result, and only a unique one.
    Application,
    /// A healthcare worker: up to [`RESULTS_MAX`].
    Worker,
}

/// A name or a postcode as asked for. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    /// In normal form with its words, without wildcards.
    pub name: String,
    /// What stands between the wildcards, squeezed; one piece is the whole.
    pieces: Vec<String>,
}

/// A search. Its `Debug` shows nothing personal.
#[derive(Clone, PartialEq, Eq)]
pub struct Search {
    /// Homophones, exchanged names and history too.
    pub fuzzy: bool,
    /// Only records whose score is 1.0.
    pub exact: bool,
    /// Also what was so once; always in a fuzzy search.
    pub history: bool,
    /// More matches than this are too many; 1 to [`RESULTS_MAX`].
    pub results_max: usize,
    /// Family name.
    pub family: Option<Pattern>,
    /// Given names in order.
    pub givens: Vec<Pattern>,
    /// Gender.
    pub gender: Option<Gender>,
    /// Dates of birth.
    pub birth: Days,
    /// Dates of death.
    pub death: Option<Days>,
    /// Postcode.
    pub postcode: Option<Pattern>,
    /// Practice.
    pub practice: Option<OdsCode>,
    /// Email address in normal form.
    pub email: Option<String>,
    /// Telephone number in normal form.
    pub phone: Option<String>,
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_wild() { "Pattern(wild)" } else { "Pattern" })
    }
}

impl Search {
    /// Whether it finds people by where they live, are treated or can be reached.
    pub fn asks_for_a_place(&self) -> bool {
        self.postcode.is_some() || self.practice.is_some() || self.email.is_some() || self.phone.is_some()
    }
}

impl std::fmt::Debug for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (fuzzy, exact, history) = (self.fuzzy, self.exact, self.history);
        write!(
            f,
            "Search(fuzzy {fuzzy}, exact {exact}, history {history}, at most {})",
            self.results_max
        )
    }
}

/// Why a search is refused. A parameter is named by our own text, never by a client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// `UNSUPPORTED_SERVICE`.
    #[error("No search parameters were given. Give at least family and birthdate.")]
    Nothing,
    /// `INVALID_VALUE`.
    #[error(
        "More than {PARAMETERS_MAX} parameters were given. Give each once, and given at most {GIVEN_PARAMETERS_MAX} times."
    )]
    TooMany,
    /// `ADDITIONAL_PROPERTIES`; counted from 1.
    #[error(
        "Invalid request with error - Additional properties are not allowed: parameter number {position} is not known. Use only family, given, gender, birthdate, death-date, address-postalcode, general-practitioner, email, phone, _fuzzy-match, _exact-match, _history and _max-results."
    )]
    Unknown {
        /// Which.
        position: usize,
    },
    /// `MISSING_VALUE`.
    #[error("Missing value - '{parameter}'. Give it a value or leave it out.")]
    Empty {
        /// Whose value.
        parameter: &'static str,
    },
    /// `INVALID_VALUE`.
    #[error("Invalid value - '{parameter}' was given more often than it may be. {want}")]
    Repeated {
        /// Which.
        parameter: &'static str,
        /// What to do.
        want: &'static str,
    },
    /// `INVALID_VALUE`.
    #[error("Invalid value in field '{parameter}'. {want}")]
    Value {
        /// Which.
        parameter: &'static str,
        /// What to do.
        want: &'static str,
    },
    /// `INVALID_VALUE` with status 403.
    #[error("Invalid value in field '_max-results'. It must be 1 in application-restricted mode.")]
    OneResultOnly,
    /// `INVALID_SEARCH_DATA`.
    #[error("Invalid search data provided - {0}")]
    Combination(&'static str),
}

/// What a search that is not fuzzy must have.
pub const TOO_FEW: &str = "family and birthdate are the least that a search needs.";
/// What a fuzzy search must have.
pub const TOO_FEW_FUZZY: &str = "a fuzzy search needs given, family and birthdate; or family, birthdate, gender and address-postalcode; or given, birthdate, gender and address-postalcode.";
/// Both names of the postcode.
pub const BOTH_POSTCODES: &str =
    "address-postalcode and address-postcode were both given. Give address-postalcode alone.";
/// A pattern in a fuzzy search.
pub const WILD_FUZZY: &str = "wildcards cannot be used in a fuzzy search. Leave out * or _fuzzy-match.";
/// A pattern in an exact search.
pub const WILD_EXACT: &str = "wildcards never match exactly. Leave out * or _exact-match.";
/// A range without a day in it.
pub const EMPTY_RANGE: &str = "a date given with ge is after the one given with le. Exchange them.";

impl Invalid {
    /// The code in `details.coding`.
    pub const fn code(self) -> &'static str {
        match self {
            Invalid::Nothing => "UNSUPPORTED_SERVICE",
            Invalid::Unknown { .. } => "ADDITIONAL_PROPERTIES",
            Invalid::Empty { .. } => "MISSING_VALUE",
            Invalid::TooMany | Invalid::Repeated { .. } | Invalid::Value { .. } | Invalid::OneResultOnly => {
                "INVALID_VALUE"
            }
            Invalid::Combination(_) => "INVALID_SEARCH_DATA",
        }
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Invalid::OneResultOnly => 403,
            Invalid::Nothing
            | Invalid::TooMany
            | Invalid::Unknown { .. }
            | Invalid::Empty { .. }
            | Invalid::Repeated { .. }
            | Invalid::Value { .. }
            | Invalid::Combination(_) => 400,
        }
    }
}

impl Pattern {
    /// The pattern without wildcards of a name in normal form.
    pub fn plain(name: String) -> Pattern {
        let pieces = vec![normal::squeezed(&name)];
        Pattern { name, pieces }
    }

    /// Whether it has wildcards.
    pub fn is_wild(&self) -> bool {
        self.pieces.len() > 1
    }

    /// What stands before the first wildcard; all of it when there is none.
    pub fn prefix(&self) -> &str {
        &self.pieces[0]
    }

    /// Whether a squeezed value fits.
    pub fn fits(&self, value: &str) -> bool {
        let [first, middle @ .., last] = &self.pieces[..] else {
            return self.pieces[0] == value;
        };
        let Some(mut rest) = value.strip_prefix(first.as_str()) else {
            return false;
        };
        for piece in middle {
            match rest.find(piece.as_str()) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        rest.ends_with(last.as_str())
    }

    /// `normal` makes the normal form of what stands between wildcards.
    fn parse(parameter: &'static str, text: &str, normal: impl Fn(&str) -> String) -> Result<Pattern, Invalid> {
        let early = "Use * only after the first two letters.";
        if text.chars().take(WILDCARD_AFTER).any(|c| c == '*') {
            return Err(Invalid::Value { parameter, want: early });
        }
        let pieces: Vec<String> = text.split('*').map(|piece| normal::squeezed(&normal(piece))).collect();
        if pieces.len() > 1 && pieces[0].len() < WILDCARD_AFTER {
            return Err(Invalid::Value { parameter, want: early });
        }
        let name = normal(&text.replace('*', ""));
        Ok(Pattern { name, pieces })
    }
}

impl Search {
    /// Whether a place is asked for: then only unrestricted records can match.
    pub fn asks_place(&self) -> bool {
        self.postcode.is_some() || self.practice.is_some()
    }

    /// Whether what was so once counts.
    pub fn counts_history(&self) -> bool {
        self.history || self.fuzzy
    }

    /// Parses the pairs of a query string, percent-decoded.
    ///
    /// # Errors
    /// In order: nothing at all or too many; a parameter that is not known; an empty, repeated or malformed value, in the
    /// order in which they stand; more results than the mode allows; a combination that is no search.
    pub fn parse(pairs: &[(String, String)], mode: Mode) -> Result<Search, Invalid> {
        if pairs.is_empty() {
            return Err(Invalid::Nothing);
        }
        if pairs.len() > PARAMETERS_MAX {
            return Err(Invalid::TooMany);
        }
        let mut known = Vec::with_capacity(pairs.len());
        for (at, (name, value)) in pairs.iter().enumerate() {
            let parameter = PARAMETERS.iter().find(|parameter| *parameter == name);
            known.push((*parameter.ok_or(Invalid::Unknown { position: at + 1 })?, value.as_str()));
        }
        let mut given = Given::default();
        for (parameter, value) in known {
            given.take(parameter, value)?;
        }
        given.search(mode)
    }
}

/// What was given, before it is known whether it makes a search.
#[derive(Default)]
struct Given {
    fuzzy: Option<bool>,
    exact: Option<bool>,
    history: Option<bool>,
    results_max: Option<usize>,
    family: Option<Pattern>,
    givens: Vec<Pattern>,
    gender: Option<Gender>,
    birth: Bounds,
    death: Bounds,
    postalcode: Option<Pattern>,
    postcode: Option<Pattern>,
    practice: Option<OdsCode>,
    email: Option<String>,
    phone: Option<String>,
}

impl Given {
    fn take(&mut self, parameter: &'static str, value: &str) -> Result<(), Invalid> {
        let value = value.trim();
        if value.is_empty() {
            return Err(Invalid::Empty { parameter });
        }
        if value.len() > VALUE_BYTES_MAX {
            let want = "It is longer than any value may be.";
            return Err(Invalid::Value { parameter, want });
        }
        match parameter {
            "_fuzzy-match" => once(parameter, &mut self.fuzzy, truth(parameter, value)?),
            "_exact-match" => once(parameter, &mut self.exact, truth(parameter, value)?),
            "_history" => once(parameter, &mut self.history, truth(parameter, value)?),
            "_max-results" => once(parameter, &mut self.results_max, results(value)?),
            "family" => once(parameter, &mut self.family, name(parameter, value)?),
            "given" => {
                if self.givens.len() == GIVEN_PARAMETERS_MAX {
                    let want = "Give at most five given names.";
                    return Err(Invalid::Repeated { parameter, want });
                }
                self.givens.push(name(parameter, value)?);
                Ok(())
            }
            "gender" => {
                let want = "Use male, female, other or unknown.";
                let gender = Gender::of_code(value).ok_or(Invalid::Value { parameter, want })?;
                once(parameter, &mut self.gender, gender)
            }
            "birthdate" => self.birth.take(parameter, value),
            "death-date" => self.death.take(parameter, value),
            "address-postalcode" => once(parameter, &mut self.postalcode, postcode(parameter, value)?),
            "address-postcode" => once(parameter, &mut self.postcode, postcode(parameter, value)?),
            "general-practitioner" => {
                let want = "Use the ODS code of the practice: letters and digits, without wildcards.";
                let code = OdsCode::parse(value).ok_or(Invalid::Value { parameter, want })?;
                once(parameter, &mut self.practice, code)
            }
            "email" => once(parameter, &mut self.email, email(parameter, value)?),
            "phone" => once(parameter, &mut self.phone, phone(parameter, value)?),
            _ => unreachable!("every known parameter is taken"),
        }
    }

    fn search(self, mode: Mode) -> Result<Search, Invalid> {
        let results_max = match (mode, self.results_max) {
            (Mode::Application, None | Some(1)) => 1,
            (Mode::Application, Some(_)) => return Err(Invalid::OneResultOnly),
            (Mode::Worker, results_max) => results_max.unwrap_or(RESULTS_MAX),
        };
        if self.postalcode.is_some() && self.postcode.is_some() {
            return Err(Invalid::Combination(BOTH_POSTCODES));
        }
        let (fuzzy, exact) = (self.fuzzy.unwrap_or(false), self.exact.unwrap_or(false));
        let postcode = self.postalcode.or(self.postcode);
        let patterns = self.family.iter().chain(&self.givens).chain(&postcode);
        if patterns.into_iter().any(Pattern::is_wild) {
            match (fuzzy, exact) {
                (true, _) => return Err(Invalid::Combination(WILD_FUZZY)),
                (false, true) => return Err(Invalid::Combination(WILD_EXACT)),
                (false, false) => {}
            }
        }
        let there = [
            !self.givens.is_empty(),
            self.family.is_some(),
            self.gender.is_some(),
            postcode.is_some(),
        ];
        let enough = |need: &[bool; 4]| need.iter().zip(there).all(|(need, there)| there || !need);
        let (suffices, too_few) = match fuzzy {
            true => (FUZZY_COMBINATIONS.iter().any(enough), TOO_FEW_FUZZY),
            false => (self.family.is_some(), TOO_FEW),
        };
        let birth = self.birth.days()?.filter(|_| suffices);
        Ok(Search {
            fuzzy,
            exact,
            history: self.history.unwrap_or(false),
            results_max,
            family: self.family,
            givens: self.givens,
            gender: self.gender,
            birth: birth.ok_or(Invalid::Combination(too_few))?,
            death: self.death.days()?,
            postcode,
            practice: self.practice,
            email: self.email,
            phone: self.phone,
        })
    }
}

/// The bounds of a range of dates.
#[derive(Default)]
struct Bounds {
    from: Option<Day>,
    to: Option<Day>,
}

impl Bounds {
    fn take(&mut self, parameter: &'static str, value: &str) -> Result<(), Invalid> {
        let want = "Use a date that exists as eqYYYY-MM-DD, geYYYY-MM-DD or leYYYY-MM-DD.";
        let (form, date) = match value.split_at_checked(2) {
            Some(("eq" | "ge" | "le", date)) => value.split_at(value.len() - date.len()),
            // FHIR's default.
            Some(_) | None => ("eq", value),
        };
        let day = Day::parse(date).ok_or(Invalid::Value { parameter, want })?;
        let from = (form != "le").then_some(day);
        let to = (form != "ge").then_some(day);
        if (from.is_some() && self.from.is_some()) || (to.is_some() && self.to.is_some()) {
            let want = "Give one date, or two of which one has ge and one le.";
            return Err(Invalid::Repeated { parameter, want });
        }
        self.from = self.from.or(from);
        self.to = self.to.or(to);
        Ok(())
    }

    fn days(&self) -> Result<Option<Days>, Invalid> {
        if self.from.is_none() && self.to.is_none() {
            return Ok(None);
        }
        let days = Days::new(self.from.unwrap_or(Day::FIRST), self.to.unwrap_or(Day::LAST));
        days.map(Some).ok_or(Invalid::Combination(EMPTY_RANGE))
    }
}

fn once<T>(parameter: &'static str, place: &mut Option<T>, value: T) -> Result<(), Invalid> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Invalid::Repeated {
            parameter,
            want: "Give it once.",
        }),
    }
}

fn truth(parameter: &'static str, value: &str) -> Result<bool, Invalid> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Invalid::Value {
            parameter,
            want: "Use true or false.",
        }),
    }
}

fn results(value: &str) -> Result<usize, Invalid> {
    let number = value.parse().ok().filter(|number| (1..=RESULTS_MAX).contains(number));
    number.ok_or(Invalid::Value {
        parameter: "_max-results",
        want: "Use a whole number from 1 to 50.",
    })
}

fn name(parameter: &'static str, value: &str) -> Result<Pattern, Invalid> {
    if value.chars().count() > NAME_CHARACTERS_MAX {
        let want = "Use at most 35 characters.";
        return Err(Invalid::Value { parameter, want });
    }
    let pattern = Pattern::parse(parameter, value, normal::name)?;
    if pattern.name.bytes().any(|byte| byte.is_ascii_alphabetic()) {
        return Ok(pattern);
    }
    let want = "Use a name with at least one letter.";
    Err(Invalid::Value { parameter, want })
}

fn postcode(parameter: &'static str, value: &str) -> Result<Pattern, Invalid> {
    let want = "Use a postcode: at most ten letters and digits, spaces are ignored.";
    let fits = value.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ' || c == '*');
    let pattern = Pattern::parse(parameter, value, |piece| normal::postcode(piece).unwrap_or_default())?;
    // The limit is the whole's: a piece that is too long would be no piece at all.
    let whole = normal::postcode(&value.replace('*', ""));
    (fits && whole.is_some())
        .then_some(pattern)
        .ok_or(Invalid::Value { parameter, want })
}

fn email(parameter: &'static str, value: &str) -> Result<String, Invalid> {
    let want = "Use one whole email address, without wildcards.";
    let (local, domain) = value.split_once('@').unwrap_or_default();
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '*';
    let fits = !local.is_empty() && !domain.is_empty() && !value.contains(odd);
    let normal = normal::email(value).filter(|_| fits);
    normal.ok_or(Invalid::Value { parameter, want })
}

fn phone(parameter: &'static str, value: &str) -> Result<String, Invalid> {
    let want = "Use one whole telephone number: digits, and at most + ( ) - . and spaces, without wildcards.";
    let fits = value
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '+' | '(' | ')' | '-' | '.' | ' '));
    normal::phone(value)
        .filter(|_| fits)
        .ok_or(Invalid::Value { parameter, want })
}
