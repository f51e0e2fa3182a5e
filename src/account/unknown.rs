//! What a newer version keeps in an account and this one does not know: it stays, whatever this version changes, so that
//! workers of two versions run side by side.
//!
//! An account carries the number of its format. One of this format or an older one has nothing unknown in it, and so
//! costs nothing; one of a newer format is read a second time, for what reading it left behind. Lists are not looked into:
//! their entries come and go.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The format of the accounts that this version writes. A version that adds a field writes a greater one; a test holds
/// the fields of each.
pub const FORMAT: u16 = 2;

/// What accounts are of that were written before there was a number.
pub(super) fn first_format() -> u16 {
    1
}

/// Fields that this version does not know, and those within fields that it does.
#[derive(Clone, Debug, Default)]
pub struct Unknown {
    fields: Vec<(Box<str>, Box<RawValue>)>,
    within: Vec<(Box<str>, Unknown)>,
}

impl PartialEq for Unknown {
    fn eq(&self, other: &Self) -> bool {
        let texts = |unknown: &Self| -> Vec<(Box<str>, Box<str>)> {
            unknown.fields.iter().map(|(key, value)| (key.clone(), value.get().into())).collect()
        };
        texts(self) == texts(other) && self.within == other.within
    }
}

impl Unknown {
    /// What `original` has and `known`, the same as this version writes it, has not.
    ///
    /// # Errors
    /// Where one of both is no object.
    pub(super) fn between(original: &str, known: &str) -> Result<Self, serde_json::Error> {
        let (original, known): (Fields<'_>, Fields<'_>) =
            (serde_json::from_str(original)?, serde_json::from_str(known)?);
        let mut unknown = Self::default();
        for (key, value) in original.0 {
            match known.get(&key) {
                None => unknown.fields.push((key.into(), value.to_owned())),
                Some(mine) if is_object(value) && is_object(mine) => {
                    let within = Self::between(value.get(), mine.get())?;
                    if within != Self::default() {
                        unknown.within.push((key.into(), within));
                    }
                }
                Some(_) => {}
            }
        }
        Ok(unknown)
    }

    /// An account as this version writes it, with what is not known put back.
    pub(super) fn put_back(&self, json: Vec<u8>) -> Vec<u8> {
        let mut whole = Vec::with_capacity(2 * json.len());
        match std::str::from_utf8(&json).map(|json| self.write(json, &mut whole)) {
            Ok(Ok(())) => whole,
            // It was just written, and so is an object of UTF-8.
            failed => {
                debug_assert!(false, "{failed:?}");
                json
            }
        }
    }

    /// An object as this version writes it with what is not known put back, its own fields first and in their order.
    fn write(&self, json: &str, into: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let known: Fields<'_> = serde_json::from_str(json)?;
        into.push(b'{');
        let mut comma: &[u8] = b"";
        for (key, value) in &known.0 {
            into.extend_from_slice(comma);
            comma = b",";
            serde_json::to_writer(&mut *into, key)?;
            into.push(b':');
            match self.within.iter().find(|(name, _)| **name == **key).filter(|_| is_object(value)) {
                Some((_, within)) => within.write(value.get(), into)?,
                None => into.extend_from_slice(value.get().as_bytes()),
            }
        }
        for (key, value) in self.fields.iter().filter(|(key, _)| known.get(key).is_none()) {
            into.extend_from_slice(comma);
            comma = b",";
            serde_json::to_writer(&mut *into, key)?;
            into.push(b':');
            into.extend_from_slice(value.get().as_bytes());
        }
        into.push(b'}');
        Ok(())
    }

    /// Forgets what stands in a field of the account.
    pub(super) fn forget(&mut self, field: &str) {
        self.within.retain(|(name, _)| **name != *field);
    }
}

fn is_object(json: &RawValue) -> bool {
    json.get().starts_with('{')
}

/// The fields of an object in their order.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    fields.push((key, value));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Account, Retention};
    use crate::entry::{Change, Note, Noted, TierChange, TierWhy};
    use crate::yaml::golden;

    const KEEPS: Retention = Retention { history: 10, months: 12, days: 30 };

    /// As a version after this one might write it.
    fn newer() -> String {
        format!(
            r#"{{"v":7,"f":{},"member_id":"m","later":{{"a":[1,2.50]}},"available":5,"pending":0,"tier":{{"id":"gold","since":3,"colour":"red","before":{{"id":"basic","since":1,"colour":"grey"}}}},"lots":[[5,9,null,0,"new"]],"earned":{{"total":5,"weeks":[1.50]}},"profile":{{"said":4,"nickname":"em"}},"newest":4,"a \"name\"":null}}"#,
            FORMAT + 1
        )
    }

    fn written(account: &Account) -> serde_json::Value {
        serde_json::from_slice(&account.to_json()).unwrap()
    }

    #[test]
    fn what_a_newer_version_keeps_stays_whatever_this_one_changes() {
        let mut account = Account::from_json(newer().as_bytes()).unwrap();
        let note = Note::Order { amount: 3.into(), order_id: None };
        let noted = Noted { note, index: 0, at: 8, day: "1970-01-01".parse().unwrap() };
        account.evolve(&Change::Noted(noted), &KEEPS).unwrap();
        let json = account.to_json();
        let start = format!(r#"{{"v":8,"f":{},"member_id":"m","#, FORMAT + 1);
        assert!(json.starts_with(start.as_bytes()), "{}", String::from_utf8_lossy(&json));
        for kept in [
            r#""later":{"a":[1,2.50]}"#,
            r#""colour":"red""#,
            r#""colour":"grey""#,
            r#""weeks":[1.50]"#,
            r#""nickname":"em""#,
            r#""a \"name\"":null"#,
        ] {
            assert!(
                String::from_utf8_lossy(&json).contains(kept),
                "{kept}: {}",
                String::from_utf8_lossy(&json)
            );
        }
        assert!(String::from_utf8_lossy(&json).contains(r#""orders":1"#));
        // And so through this version again and again.
        let again = Account::from_json(&json).unwrap();
        assert_eq!(again, account);
        assert_eq!(again.to_json(), json);
    }

    #[test]
    fn what_goes_takes_with_it_what_a_newer_version_kept_in_it() {
        let mut account = Account::from_json(newer().as_bytes()).unwrap();
        account.tier = None;
        assert_eq!(written(&account).get("tier"), None);
        let mut account = Account::from_json(newer().as_bytes()).unwrap();
        let noted = Noted { note: Note::Erased {}, index: 0, at: 8, day: "1970-01-01".parse().unwrap() };
        account.evolve(&Change::Noted(noted), &KEEPS).unwrap();
        assert!(!written(&account).to_string().contains("nickname"), "{}", written(&account));
        assert!(written(&account).to_string().contains("later"));
    }

    #[test]
    fn a_level_that_changes_keeps_nothing_of_another_level() {
        let mut account = Account::from_json(newer().as_bytes()).unwrap();
        let change = TierChange {
            from: "gold".into(),
            to: "basic".into(),
            benefits: Vec::new(),
            measure: crate::types::Points::ZERO,
            why: TierWhy::Review,
            until: None,
            at: 9,
            rested_on: None,
        };
        account.evolve(&Change::Tier(change), &KEEPS).unwrap();
        assert_eq!(written(&account)["tier"].get("colour"), None, "{}", written(&account));
        assert!(written(&account).to_string().contains("later"));
    }

    #[test]
    fn an_account_of_before_formats_is_read_and_is_of_this_one_with_its_next_change() {
        let account = Account::from_json(br#"{"v":1,"member_id":"m","available":5,"pending":0}"#).unwrap();
        assert!(account.unknown.is_none());
        assert!(account.to_json().starts_with(format!(r#"{{"v":1,"f":{FORMAT},"#).as_bytes()));
    }

    #[test]
    fn an_account_that_this_version_must_not_change_is_an_error_that_names_both_formats() {
        let needs =
            |needs: u16| newer().replacen(r#","member_id""#, &format!(r#","needs":{needs},"member_id""#), 1);
        let error = Account::from_json(needs(FORMAT + 1).as_bytes()).unwrap_err().to_string();
        let formats =
            format!("format {}, which only a worker that knows format {} may change", FORMAT + 1, FORMAT + 1);
        assert!(error.contains(&formats) && error.contains(&format!("formats up to {FORMAT}")), "{error}");
        // What it does know it may change, and the mark stays.
        let account = Account::from_json(needs(FORMAT).as_bytes()).unwrap();
        assert!(written(&account)["needs"] == FORMAT && written(&account).to_string().contains("later"));
    }

    /// A field that is added goes with a greater [`FORMAT`], unless that was not released yet: or the version before would
    /// take what holds it for something that it knows, and drop it.
    #[test]
    fn the_fields_of_this_format_are_known() {
        fn fields(schema: &serde_json::Value, defs: &serde_json::Value, path: &str, into: &mut Vec<String>) {
            if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
                fields(&defs[name], defs, path, into);
            }
            for (name, of) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}{name}");
                // A level holds the one before.
                let is_again = path.ends_with("before.before");
                into.push(path.clone());
                if !is_again {
                    fields(of, defs, &format!("{path}."), into);
                }
            }
        }
        let schema = serde_json::to_value(schemars::schema_for!(Account)).unwrap();
        let mut found = Vec::new();
        fields(&schema, &schema["$defs"], "", &mut found);
        found.sort();
        golden("tests/fixtures/account-fields.txt", &format!("format {FORMAT}\n{}\n", found.join("\n")));
    }
}
