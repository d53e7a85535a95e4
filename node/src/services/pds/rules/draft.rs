//! Owns a record while operations are applied to it: the copy, and for every base-level list which stored item stands
//! where, whether it was touched, and whether the client proved which item it meant. It must never judge a value.
//!
//! ```text
//!             add /list/-                      remove /list/i (right after a test of it)
//!   (absent) ───────────▶ New        Stored ──────────────────────────────────────────▶ (gone)
//!                                    Stored ──replace /list/i──▶ Stored, Whole
//!                                    Stored ──below /list/i────▶ Stored, Part      Part ──replace /list/i──▶ Whole
//! ```

use super::super::outcome::{Code, Issue};
use super::fields::{By, FIELDS, Field, Shape, extension};
use super::operations::{Operation, Verb};
use super::profile::Kind;
use super::{Mode, items, text};
use serde_json::Value;

/// How much of an item the operations changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Nothing.
    None,
    /// Something below it.
    Part,
    /// All of it: replaced, or added.
    Whole,
}

/// One item of a base-level list.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Its index in the stored record; `None` when it was added.
    pub stored: Option<usize>,
    /// How much of it changed.
    pub touch: Touch,
    /// Whether the client named the item: by its id, by its url or by the whole of it.
    named: bool,
    /// The operation that touched it first.
    by: usize,
}

impl Slot {
    /// An item that a request to create a patient brings.
    pub const ADDED: Slot = Slot {
        stored: None,
        touch: Touch::Whole,
        named: true,
        by: 0,
    };
}

/// A record being changed.
pub struct Draft<'a> {
    /// As it is stored.
    pub before: &'a Value,
    /// As it is becoming.
    pub after: Value,
    /// The items of each field, in the order of [`FIELDS`]; empty for single values.
    pub slots: [Vec<Slot>; FIELDS.len()],
    /// Which single values were touched.
    pub singles: [bool; FIELDS.len()],
    mode: Mode,
}

const UNPROVED: &str = "send the id (or, of an extension, the url) of the item that this changes in the same request";

impl<'a> Draft<'a> {
    /// A draft in which nothing has changed.
    pub fn new(before: &'a Value, mode: Mode) -> Draft<'a> {
        let slots = std::array::from_fn(|field| {
            let slot = |at| Slot {
                stored: Some(at),
                touch: Touch::None,
                named: false,
                by: 0,
            };
            match FIELDS[field].shape {
                Shape::Single { .. } => Vec::new(),
                Shape::List { .. } => (0..items(before, FIELDS[field].name).len()).map(slot).collect(),
            }
        });
        Draft {
            before,
            after: before.clone(),
            slots,
            singles: [false; FIELDS.len()],
            mode,
        }
    }

    /// Applies one operation. `previous` is the one before it in the request.
    ///
    /// # Errors
    /// The rule of lists or of access that it breaks; then INVALID_UPDATE when it does not apply to the record.
    pub fn apply(&mut self, operation: &mut Operation, previous: Option<&(Verb, Vec<String>)>) -> Result<(), Issue> {
        let Some(field) = operation.field else {
            return self.run(operation);
        };
        let at = FIELDS
            .iter()
            .position(|known| std::ptr::eq(known, field))
            .expect("a field is of the table");
        match field.shape {
            Shape::Single { removable } => self.single(at, removable, operation),
            Shape::List { key, removable } => self.list(at, key, removable, operation, previous),
        }
    }

    /// Every touched item that was stored must have been named.
    ///
    /// # Errors
    /// INVALID_UPDATE at the first operation that touched an item nobody named.
    pub fn proved(&self) -> Result<(), Issue> {
        let unproved = |slot: &&Slot| slot.touch != Touch::None && slot.stored.is_some() && !slot.named;
        match self.slots.iter().flatten().find(unproved) {
            Some(slot) => Err(Issue::at(Code::InvalidUpdate, format!("patches/{}", slot.by), UNPROVED)),
            None => Ok(()),
        }
    }

    fn run(&mut self, operation: &mut Operation) -> Result<(), Issue> {
        let advice = match operation.verb {
            Verb::Test => "the record does not hold the asserted value, retrieve it again",
            Verb::Add | Verb::Replace | Verb::Remove => "path leads to nothing in the record, retrieve it again",
        };
        let applied = json_patch::patch_unsafe(&mut self.after, &[operation.take()]);
        applied.map_err(|_| operation.issue(Code::InvalidUpdate, advice))
    }

    fn single(&mut self, at: usize, removable: bool, operation: &mut Operation) -> Result<(), Issue> {
        let changes = operation.verb != Verb::Test;
        if operation.verb == Verb::Remove && operation.tokens.len() == 1 && !removable {
            return Err(operation.issue(Code::ForbiddenUpdate, "replace this element, it cannot be removed"));
        }
        self.run(operation)?;
        self.singles[at] |= changes;
        Ok(())
    }

    fn list(
        &mut self,
        at: usize,
        key: &'static str,
        removable: bool,
        operation: &mut Operation,
        previous: Option<&(Verb, Vec<String>)>,
    ) -> Result<(), Issue> {
        let field = &FIELDS[at];
        if operation.verb == Verb::Test {
            return self.test(at, key, operation);
        }
        if operation.tokens.len() < 2 {
            let advice = "address one item by its index, or add one through /-";
            return Err(operation.issue(Code::InvalidUpdate, advice));
        }
        if operation.tokens.len() == 2 && operation.verb == Verb::Add {
            return self.add(at, key, operation);
        }
        let Some(item) = index(&operation.tokens[1]).filter(|item| *item < self.slots[at].len()) else {
            let advice = "address an item that the list holds, by its index; add items through /-";
            return Err(operation.issue(Code::InvalidUpdate, advice));
        };
        self.permit_item(at, item, operation)?;
        if operation.tokens.len() > 2 {
            return self.below(at, item, key, operation, previous);
        }
        if operation.verb == Verb::Replace {
            return self.replace(at, item, key, operation);
        }
        let usual = field.kind == Kind::Name && text(&items(&self.after, "name")[item], "use") == "usual";
        let kept = field.name == "extension"
            && extension(text(&items(&self.after, "extension")[item], "url")).is_none_or(|known| !known.removable);
        if !removable || usual || kept {
            return Err(operation.issue(Code::ForbiddenUpdate, "replace this item, it cannot be removed"));
        }
        if !follows_test(operation, key, previous) {
            let advice = "put a test of this very item's id, url or whole value immediately before its removal";
            return Err(operation.issue(Code::InvalidUpdate, advice));
        }
        self.run(operation)?;
        self.slots[at].remove(item);
        Ok(())
    }

    fn test(&mut self, at: usize, key: &str, operation: &mut Operation) -> Result<(), Issue> {
        self.run(operation)?;
        let tokens = &operation.tokens;
        let names = tokens.len() == 2 || (tokens.len() == 3 && tokens[2] == key) || sub_extension(tokens);
        if let Some(slot) = tokens
            .get(1)
            .and_then(|token| index(token))
            .and_then(|item| self.slots[at].get_mut(item))
        {
            slot.named |= names;
        }
        Ok(())
    }

    fn add(&mut self, at: usize, key: &str, operation: &mut Operation) -> Result<(), Issue> {
        let field = &FIELDS[at];
        if operation.tokens[1] != "-" {
            return Err(operation.issue(
                Code::InvalidUpdate,
                "add items of this list through /-, without an index",
            ));
        }
        if key == "id" && operation.value.get("id").is_some() {
            return Err(operation.issue(
                Code::InvalidUpdate,
                "leave out the id of a new item, the service gives it one",
            ));
        }
        self.permit_value(field, &operation.value, operation)?;
        let list = self
            .after
            .as_object_mut()
            .map(|record| record.entry(field.name).or_insert_with(|| Value::Array(Vec::new())));
        if !list.is_some_and(|list| list.is_array()) {
            let advice = "the record holds no list here, so nothing can be added to it";
            return Err(operation.issue(Code::InvalidUpdate, advice));
        }
        self.run(operation)?;
        let by = operation.at;
        self.slots[at].push(Slot {
            stored: None,
            touch: Touch::Whole,
            named: true,
            by,
        });
        Ok(())
    }

    fn replace(&mut self, at: usize, item: usize, key: &str, operation: &mut Operation) -> Result<(), Issue> {
        let stored = &items(&self.after, FIELDS[at].name)[item];
        let identity = stored.get(key).cloned();
        let sent = operation.value.get(key);
        if self.slots[at][item].stored.is_none() {
            let advice = "put the final value into the operation that adds this item";
            return Err(operation.issue(Code::InvalidUpdate, advice));
        }
        if sent.is_some() && sent != identity.as_ref() {
            let advice = "send the item's own id or url; to put another in its place, remove it and add the other";
            return Err(operation.issue(Code::InvalidUpdate, advice));
        }
        self.permit_value(&FIELDS[at], &operation.value, operation)?;
        let named = sent.is_some();
        if let (Some(identity), Some(value)) = (identity, operation.value.as_object_mut()) {
            value.entry(key).or_insert(identity);
        }
        self.run(operation)?;
        self.touch(at, item, Touch::Whole, named, operation.at);
        Ok(())
    }

    /// Changes below an item of a base-level list.
    fn below(
        &mut self,
        at: usize,
        item: usize,
        key: &str,
        operation: &mut Operation,
        previous: Option<&(Verb, Vec<String>)>,
    ) -> Result<(), Issue> {
        let field = &FIELDS[at];
        let tokens = operation.tokens.clone();
        let last = tokens.last().map_or("", String::as_str);
        if self.slots[at][item].stored.is_none() {
            let advice = "put everything into the value of the operation that adds this item";
            return Err(operation.issue(Code::InvalidUpdate, advice));
        }
        if operation.verb != Verb::Remove && matches!(last, "id" | "url") {
            if self.after.pointer(operation.path.as_str()) != Some(&operation.value) {
                let advice = "mirror the id or url as it was retrieved, it cannot be changed";
                return Err(operation.issue(Code::InvalidUpdate, advice));
            }
            self.slots[at][item].named |= (tokens.len() == 3 && last == key) || sub_extension(&tokens);
            return Ok(());
        }
        if self.mode == Mode::Patient && matches!(field.name, "extension" | "telecom") {
            return Err(operation.issue(
                Code::ForbiddenUpdate,
                "send the whole item, patient access changes no part of it",
            ));
        }
        let mut named = false;
        if operation.verb == Verb::Remove {
            let preference = field.name == "extension"
                && tokens.len() == 4
                && extension(text(&items(&self.after, "extension")[item], "url"))
                    .is_some_and(|known| known.kind == Kind::ContactPreference);
            if !preference {
                let advice = "replace the whole item without this part, parts are not removed";
                return Err(operation.issue(Code::InvalidUpdate, advice));
            }
            if !follows_test(operation, "url", previous) {
                let advice = "put a test of this very extension's url or whole value immediately before its removal";
                return Err(operation.issue(Code::InvalidUpdate, advice));
            }
        } else if field.name == "extension" && tokens.len() == 4 && tokens[2] == "extension" {
            // The url inside names the part, and no two extensions have a part of the same url.
            let sent = operation.value.get("url");
            if operation.verb == Verb::Replace
                && self
                    .after
                    .pointer(operation.path.as_str())
                    .and_then(|part| part.get("url"))
                    != sent
            {
                let advice = "send the url of the part that stands here, it cannot be changed";
                return Err(operation.issue(Code::InvalidUpdate, advice));
            }
            named = sent.is_some();
        }
        self.run(operation)?;
        self.touch(at, item, Touch::Part, named, operation.at);
        Ok(())
    }

    fn touch(&mut self, at: usize, item: usize, touch: Touch, named: bool, by: usize) {
        let slot = &mut self.slots[at][item];
        if slot.touch == Touch::None {
            slot.by = by;
        }
        if slot.touch != Touch::Whole {
            slot.touch = touch;
        }
        slot.named |= named;
    }

    /// May the caller change the item that stands there?
    fn permit_item(&self, at: usize, item: usize, operation: &Operation) -> Result<(), Issue> {
        let field = &FIELDS[at];
        self.permit_value(field, &items(&self.after, field.name)[item], operation)
    }

    /// May the caller set such a value, or change one that is so?
    fn permit_value(&self, field: &Field, value: &Value, operation: &Operation) -> Result<(), Issue> {
        let patient = self.mode == Mode::Patient;
        if field.name == "telecom" && patient {
            let system = text(value, "system");
            if system != "email" && !(system == "phone" && text(value, "use") == "mobile") {
                let advice = "patient access changes only a mobile number or an email address";
                return Err(operation.issue(Code::ForbiddenUpdate, advice));
            }
        }
        if field.name == "extension" {
            let by = extension(text(value, "url")).map(|known| known.by);
            let permitted = match by {
                // Left to the structure, which says what is wrong with it.
                None => operation.verb != Verb::Remove,
                Some(By::Both) => true,
                Some(By::Worker) => !patient,
                Some(By::Nobody) => false,
            };
            if !permitted {
                return Err(operation.issue(Code::ForbiddenUpdate, "leave this out, this access cannot change it"));
            }
        }
        Ok(())
    }
}

/// An index as JSON Patch writes it: digits without a leading zero.
fn index(token: &str) -> Option<usize> {
    let plain = token == "0" || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()));
    if plain { token.parse().ok() } else { None }
}

/// The path of a part of an extension, or of that part's url.
fn sub_extension(tokens: &[String]) -> bool {
    let part = tokens.len() == 4 || (tokens.len() == 5 && tokens[4] == "url");
    part && tokens[0] == "extension" && tokens[2] == "extension"
}

/// True when the operation before asserts the very item that this one removes.
fn follows_test(operation: &Operation, key: &str, previous: Option<&(Verb, Vec<String>)>) -> bool {
    let Some((Verb::Test, tested)) = previous else {
        return false;
    };
    match tested.strip_prefix(operation.tokens.as_slice()) {
        Some([]) => true,
        Some([last]) => last == key,
        _ => false,
    }
}
