//! Taking a list of the API apart while it arrives.
//!
//! A list of 5,000 nodes is 60 MB of JSON. Its items are handed out one by one as they are complete,
//! so that no more than one of them is held, however long the server makes a page.

use serde::Deserialize;

/// The longest item, or the longest rest: etcd keeps no object of more than 1.5 MB.
const LONGEST: usize = 4 << 20;

/// What stands beside the items of a list.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct ListEnd {
    #[serde(default)]
    pub(super) metadata: ListMetadata,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct ListMetadata {
    /// The version that a watch goes on from.
    #[serde(default, rename = "resourceVersion")]
    pub(super) version: String,
    /// Where the next page begins; empty at the end.
    #[serde(default, rename = "continue")]
    pub(super) rest: String,
}

/// A list that arrives.
#[derive(Default)]
pub(super) struct ListSplitter {
    /// All but the items.
    rest: Vec<u8>,
    item: Vec<u8>,
    /// How deep `rest` is, and the item.
    depth: usize,
    item_depth: usize,
    in_items: bool,
    in_string: bool,
    escaped: bool,
    /// Where in `rest` the last string of the list itself began.
    string_at: usize,
    /// Whether that was the key `items`.
    at_items: bool,
}

impl ListSplitter {
    /// Take in a part, and hand out the items that are complete by it. The error is one line.
    pub(super) fn push(&mut self, part: &[u8], mut item: impl FnMut(&[u8])) -> Result<(), String> {
        for &byte in part {
            match self.in_items {
                true => {
                    if self.push_item(byte) {
                        item(&self.item);
                        self.item.clear();
                    }
                }
                false => self.push_rest(byte),
            }
            if self.item.len().max(self.rest.len()) > LONGEST {
                return Err(format!("something in it is longer than {LONGEST} bytes"));
            }
        }
        Ok(())
    }

    /// The rest of a list that has arrived.
    pub(super) fn end(self) -> Result<ListEnd, String> {
        // An array would pass for the fields of a structure.
        match self.rest.trim_ascii_start().first() {
            Some(b'{') => serde_json::from_slice(&self.rest).map_err(|error| error.to_string()),
            _ => Err("it is no JSON object".to_owned()),
        }
    }

    /// Whether an item is complete by this byte.
    fn push_item(&mut self, byte: u8) -> bool {
        if self.item_depth == 0 {
            match byte {
                b'{' => {
                    self.item_depth = 1;
                    self.item.push(byte);
                }
                b']' => {
                    self.in_items = false;
                    self.rest.push(byte);
                    self.depth -= 1;
                }
                // Between two items.
                _ => {}
            }
            return false;
        }
        self.item.push(byte);
        if self.skip_string(byte) {
            return false;
        }
        match byte {
            b'{' | b'[' => self.item_depth += 1,
            b'}' | b']' => self.item_depth -= 1,
            _ => {}
        }
        self.item_depth == 0
    }

    fn push_rest(&mut self, byte: u8) {
        let was_in_string = self.in_string;
        self.rest.push(byte);
        if self.skip_string(byte) {
            match (was_in_string, self.in_string) {
                (false, true) => self.string_at = self.rest.len(),
                (true, false) => {
                    let string = &self.rest[self.string_at..self.rest.len() - 1];
                    self.at_items = self.depth == 1 && string == b"items";
                }
                _ => {}
            }
            return;
        }
        match byte {
            b'{' | b'[' => {
                self.depth += 1;
                self.in_items = byte == b'[' && self.depth == 2 && self.at_items;
                self.at_items = false;
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b',' => self.at_items = false,
            _ => {}
        }
    }

    /// Whether a byte is part of a string, quotes included.
    fn skip_string(&mut self, byte: u8) -> bool {
        match (self.in_string, byte) {
            (false, b'"') => {
                self.in_string = true;
                true
            }
            (false, _) => false,
            (true, _) if self.escaped => {
                self.escaped = false;
                true
            }
            (true, b'\\') => {
                self.escaped = true;
                true
            }
            (true, b'"') => {
                self.in_string = false;
                true
            }
            (true, _) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &str, part: usize) -> (Vec<String>, Result<ListEnd, String>) {
        let mut splitter = ListSplitter::default();
        let mut items = Vec::new();
        for part in text.as_bytes().chunks(part.max(1)) {
            let outcome = splitter.push(part, |item| {
                items.push(String::from_utf8_lossy(item).into_owned());
            });
            outcome.unwrap();
        }
        (items, splitter.end())
    }

    #[test]
    fn items_are_handed_out_whole_wherever_the_parts_end() {
        let one = r#"{"metadata":{"name":"a\"]}","items":[{"x":1}]},"t":"items"}"#;
        let text = format!(
            r#"{{"kind":"NodeList","note":"items", "metadata":{{"resourceVersion":"77","continue":"next","items":[1]}},"items" : [{one}, {{}} ,{one}],"more":[{{}}]}}"#
        );
        for part in 1..text.len() {
            let (items, end) = split(&text, part);
            assert_eq!(items, [one, "{}", one], "{part}");
            let end = end.unwrap().metadata;
            assert_eq!((&*end.version, &*end.rest), ("77", "next"));
        }
    }

    #[test]
    fn lists_without_items_and_what_is_no_list() {
        for text in [r#"{"items":[],"metadata":{}}"#, r#"{"items":null}"#, "{}"] {
            let (items, end) = split(text, 1);
            assert_eq!((items.len(), end), (0, Ok(ListEnd::default())), "{text}");
        }
        for text in ["", "{", "<html>", "[{}]", r#"{"items":[{}"#, "}}}]]]"] {
            assert!(split(text, 1).1.is_err(), "{text}");
        }
    }

    #[test]
    fn something_endless_is_refused() {
        for begin in [r#"{"items":[{"x":""#, r#"{"x":""#] {
            let mut splitter = ListSplitter::default();
            splitter.push(begin.as_bytes(), |_| {}).unwrap();
            let outcome = splitter.push(&vec![b'x'; LONGEST + 1], |_| panic!());
            assert!(outcome.unwrap_err().contains("longer than"));
        }
    }

    proptest! {
        #[test]
        fn nothing_breaks_it(text in any::<Vec<u8>>(), part in 1_usize..9) {
            let mut splitter = ListSplitter::default();
            for part in text.chunks(part) {
                splitter.push(part, |_| {}).unwrap();
            }
            let _ = splitter.end();
        }

        #[test]
        fn nothing_like_json_breaks_it(text in r#"[\[\]{}",:\\ites]{0,60}"#) {
            split(&text, 3).1.ok();
        }
    }
}
