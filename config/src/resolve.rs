//! Layers of assignments become one value a setting, each with where it came from.
//!
//! A layer is all files together, the environment, or all `--set` arguments. Within a layer the
//! later assignment of a key wins, and two names of one setting must agree. A stronger layer
//! overrides a weaker one setting by setting, a family member by member. `none` empties a family
//! below its layer and, as RabbitMQ has it, within its layer, whatever the order.

use std::collections::BTreeMap;

use crate::error::ConfigError;
use crate::kind::{self, Value};
use crate::known::{self, Known};
use crate::schema::{self, Found, Member, Part, Setting};
use crate::source::{Assignment, Origin, Shape};

/// The value of a setting or of a member, as it was written and as it was understood.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) text: String,
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// What a family holds.
#[derive(Clone, Default)]
pub(crate) struct Members {
    /// Where `none` was said; then there are no members.
    none: Option<Origin>,
    entries: BTreeMap<Member, Entry>,
}

/// Every setting with its value. A setting without default is absent until somebody gives it.
#[derive(Default)]
pub(crate) struct Values {
    single: BTreeMap<&'static str, Entry>,
    families: BTreeMap<&'static str, Members>,
}

/// Every setting with the value that holds and where it comes from, in the order of the table.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Effective {
    rows: Vec<Row>,
}

/// One line of `config show`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// The key as it was written, or the first name of the setting for a default.
    pub key: String,
    /// The value as it was written, `<hidden>` for a secret.
    pub value: String,
    /// Who said so.
    pub origin: Origin,
    /// The key of the setting in the table.
    pub setting: &'static str,
}

impl Effective {
    /// All rows, defaults too. Settings that have no value have no row.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows that somebody gave.
    pub fn given(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.origin != Origin::Default)
    }
}

/// Puts `layers`, weakest first, over the defaults. What is wrong goes to `errors`, and the rest
/// is resolved nevertheless.
pub(crate) fn resolve(layers: [Vec<Assignment>; 3], errors: &mut Vec<ConfigError>) -> Values {
    let mut values = Values::default();
    for assignments in layers {
        let mut layer = Layer::default();
        for assignment in assignments {
            layer.assign(assignment, errors);
        }
        values.overlay(layer, errors);
    }
    values.fill_defaults();
    values
}

/// An [`Assignment`] of a key that is not in the table.
pub(crate) fn unknown(key: &str, origin: Option<Origin>) -> ConfigError {
    // A slip in a served key is likelier than an exotic key of a family that is not served.
    const SLIP_LETTERS_MAX: usize = 2;
    let key = key.to_owned();
    let nearest = schema::nearest(&key);
    let slip = nearest
        .as_ref()
        .is_some_and(|(_, letters)| *letters <= SLIP_LETTERS_MAX);
    match known::find(&key) {
        Some(Known::Exactly) => ConfigError::NotServed { origin, key },
        Some(Known::ByPrefix) if !slip => ConfigError::NotServed { origin, key },
        _ => ConfigError::UnknownKey {
            origin,
            key,
            hint: nearest.map(|(hint, _)| hint),
        },
    }
}

/// What one layer says. A setting has an entry for every name that was used for it.
#[derive(Default)]
struct Layer {
    single: BTreeMap<&'static str, Vec<Entry>>,
    families: BTreeMap<&'static str, Members>,
}

impl Layer {
    fn assign(&mut self, assignment: Assignment, errors: &mut Vec<ConfigError>) {
        let Some(found) = schema::find(&assignment.key) else {
            errors.push(unknown(&assignment.key, Some(assignment.origin)));
            return;
        };
        match found.part.clone() {
            Part::Stem if self.assign_stem(&found, &assignment, errors) => {}
            Part::Stem => errors.push(bad_value(&found, &assignment, stem_allows(found.setting))),
            part => match kind::parse(found.kind, &assignment.text, assignment.shape) {
                Some(value) => self.insert(found.setting, part, assignment, value),
                None => errors.push(bad_value(&found, &assignment, found.kind.to_string())),
            },
        }
    }

    fn insert(&mut self, setting: &'static Setting, part: Part, from: Assignment, value: Value) {
        let entry = Entry {
            key: from.key,
            text: from.text,
            value,
            origin: from.origin,
        };
        if let Part::Member(member) = part {
            self.families
                .entry(setting.key)
                .or_default()
                .entries
                .insert(member, entry);
            return;
        }
        let entries = self.single.entry(setting.key).or_default();
        entries.retain(|earlier| earlier.key != entry.key);
        entries.push(entry);
    }

    /// `none`, or the list that TOML has for a numbered family.
    fn assign_stem(
        &mut self,
        found: &Found,
        assignment: &Assignment,
        errors: &mut Vec<ConfigError>,
    ) -> bool {
        let Some(family) = found.setting.family else {
            return false;
        };
        if family.none && assignment.text == "none" && assignment.shape != Shape::Other {
            self.families.entry(found.setting.key).or_default().none =
                Some(assignment.origin.clone());
            return true;
        }
        if !family.numbered || assignment.shape != Shape::List {
            return false;
        }
        self.families.remove(found.setting.key);
        for (index, text) in assignment.text.split(", ").enumerate() {
            let (key, text) = (format!("{}.{}", assignment.key, index + 1), text.to_owned());
            self.assign(
                Assignment {
                    key,
                    text,
                    shape: Shape::String,
                    ..assignment.clone()
                },
                errors,
            );
        }
        true
    }
}

fn stem_allows(setting: &Setting) -> String {
    match setting.family {
        Some(family) if family.numbered => format!("members '{}', or a TOML list", setting.key),
        _ => format!("none, or members '{}'", setting.key),
    }
}

fn bad_value(found: &Found, assignment: &Assignment, allowed: String) -> ConfigError {
    ConfigError::BadValue {
        origin: assignment.origin.clone(),
        key: assignment.key.clone(),
        value: found.setting.shown(&assignment.text).into(),
        allowed,
    }
}

impl Values {
    fn overlay(&mut self, layer: Layer, errors: &mut Vec<ConfigError>) {
        for (key, mut entries) in layer.single {
            let Some(last) = entries.pop() else { continue };
            for earlier in entries
                .into_iter()
                .filter(|earlier| earlier.value != last.value)
            {
                errors.push(ConfigError::Conflict {
                    origin: last.origin.clone(),
                    key: last.key.clone(),
                    other_origin: earlier.origin,
                    other_key: earlier.key,
                });
            }
            self.single.insert(key, last);
        }
        for (key, stronger) in layer.families {
            let members = self.families.entry(key).or_default();
            if stronger.none.is_some() {
                *members = Members {
                    none: stronger.none,
                    entries: BTreeMap::new(),
                };
            } else {
                members.none = None;
                members.entries.extend(stronger.entries);
            }
        }
    }

    fn fill_defaults(&mut self) {
        for setting in schema::settings() {
            let given = self.families.contains_key(setting.key);
            for (key, text) in setting.defaults().filter(|_| !given) {
                let value = schema::default_value(setting.kind, text);
                let (name, origin) = (key.clone(), Origin::Default);
                let entry = Entry {
                    key,
                    text: text.into(),
                    value,
                    origin,
                };
                match setting.family {
                    None => {
                        self.single.entry(setting.key).or_insert(entry);
                    }
                    Some(family) => {
                        let name = name.rsplit('.').next().unwrap_or_default();
                        let member = Member::of(family, name);
                        let entries = &mut self.families.entry(setting.key).or_default().entries;
                        entries.extend(member.map(|member| (member, entry)));
                    }
                }
            }
        }
    }

    /// The entry of a setting that is no family, `None` if it has no value.
    pub(crate) fn entry(&self, key: &'static str) -> Option<&Entry> {
        debug_assert!(schema::find(key).is_some_and(|found| found.setting.family.is_none()));
        self.single.get(key)
    }

    /// Names and entries of a family, in the order of their numbers or names.
    pub(crate) fn members(&self, key: &'static str) -> impl Iterator<Item = (&str, &Entry)> {
        let entries = self.families.get(key).map(|members| &members.entries);
        entries
            .into_iter()
            .flatten()
            .map(|(member, entry)| (member.name.as_str(), entry))
    }

    /// Lowers a default to another setting that bounds it.
    pub(crate) fn lower_default(&mut self, key: &'static str, number: u64) {
        if let Some(entry) = self.single.get_mut(key) {
            entry.text = number.to_string();
            entry.value = Value::Number(Some(number));
        }
    }

    /// The rows of `config show`.
    pub(crate) fn into_effective(self) -> Effective {
        let mut rows = Vec::new();
        for setting in schema::settings() {
            let row = |key: &str, value: &str, origin: &Origin| Row {
                key: key.into(),
                value: setting.shown(value).into(),
                origin: origin.clone(),
                setting: setting.key,
            };
            if let Some(entry) = self.single.get(setting.key) {
                rows.push(row(&entry.key, &entry.text, &entry.origin));
            }
            let Some(members) = self.families.get(setting.key) else {
                continue;
            };
            rows.extend(
                members
                    .none
                    .as_ref()
                    .map(|origin| row(setting.stem(), "none", origin)),
            );
            rows.extend(
                members
                    .entries
                    .values()
                    .map(|e| row(&e.key, &e.text, &e.origin)),
            );
        }
        Effective { rows }
    }
}
