//! JSON objects as Go's `encoding/json` reads them into a struct.

use crate::text::{one_line, shown};
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The keys of one JSON object with their values as written, in the order of the text.
///
/// Looking a key up follows Go: case does not matter, of several values the last wins, a
/// `null` leaves what was there before, unknown keys are nobody's concern.
#[derive(Clone, Debug, Default)]
pub struct Object(Vec<(String, Box<RawValue>)>);

/// A value of another JSON type than the key wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongType {
    /// The value as written, as far as it fits one line.
    pub value: String,
}

impl Object {
    /// Read an object; `null` counts as an empty one, as in Go. The error is one line.
    pub fn parse(text: &str) -> Result<Object, String> {
        serde_json::from_str(text).map_err(|error: serde_json::Error| one_line(&error.to_string()))
    }

    /// The value of `key` as written, `null` included.
    pub fn raw(&self, key: &str) -> Option<&str> {
        self.values(key).next()
    }

    /// The value of `key`; `None` if absent or `null`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, WrongType> {
        match self.values(key).find(|value| *value != "null") {
            None => Ok(None),
            Some(value) => serde_json::from_str(value)
                .map(Some)
                .map_err(|_| WrongType {
                    value: shown(value),
                }),
        }
    }

    /// All keys as written, in the order of the text.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The same object as text, without these keys.
    pub(crate) fn without(&self, keys: &[&str]) -> String {
        let is_left = |name: &str| keys.iter().any(|key| key.eq_ignore_ascii_case(name));
        let entries = self.0.iter().filter(|(name, _)| !is_left(name));
        let entries: Vec<String> = entries
            .map(|(name, value)| format!("{}:{value}", serde_json::Value::from(&**name)))
            .collect();
        format!("{{{}}}", entries.join(","))
    }

    /// All values of `key`, the last of the text first.
    fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .rev()
            .filter(move |(name, _)| name.eq_ignore_ascii_case(key))
            .map(|(_, value)| value.get())
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Object) -> bool {
        let text = |object: &Object| -> Vec<(String, String)> {
            object
                .0
                .iter()
                .map(|(key, value)| (key.clone(), value.get().to_owned()))
                .collect()
        };
        text(self) == text(other)
    }
}

impl Eq for Object {}

impl<'de> serde::Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_unit<E>(self) -> Result<Object, E> {
                Ok(Object::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_any(Keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_rules_for_keys() {
        let object = Object::parse(r#"{"a":1,"A":2,"b":"x","B":null,"z":[1]}"#).unwrap();
        assert_eq!(object.get::<u32>("a"), Ok(Some(2)), "the last wins");
        assert_eq!(
            object.get::<String>("B"),
            Ok(Some("x".into())),
            "null changes nothing"
        );
        assert_eq!(object.raw("b"), Some("null"));
        assert_eq!(object.get::<u32>("absent"), Ok(None));
        let wrong = object.get::<u32>("z").unwrap_err();
        assert_eq!(wrong.value, "[1]");
    }

    #[test]
    fn null_is_empty_and_other_values_are_no_object() {
        assert_eq!(Object::parse(" null ").unwrap(), Object::default());
        for text in ["", "[]", "1", "\"x\"", "{", "{}x"] {
            assert!(Object::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn integers_are_written_as_integers() {
        let object = Object::parse(r#"{"n":24.0,"m":-1,"k":1e1}"#).unwrap();
        for key in ["n", "m", "k"] {
            assert!(object.get::<u8>(key).is_err(), "{key}");
        }
    }
}
