//! Both languages have the same layout: the header's structs are laid out here by the rules of C,
//! which for integers of their own alignment are few.

use super::*;
use std::collections::BTreeMap;
use std::mem::offset_of;

const HEADER: &str = include_str!("../../../bpf/layout.h");

/// The size of a struct and where its fields begin.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    size: usize,
    fields: BTreeMap<String, usize>,
}

/// Bytes of an integer of C.
fn width(kind: &str) -> usize {
    match kind {
        "__u8" => 1,
        "__u16" | "__be16" => 2,
        "__u32" | "__be32" => 4,
        "__u64" => 8,
        other => panic!("{other} is not known here"),
    }
}

/// The fields of a struct of the header: type, name, and how many of them there are.
fn fields(name: &str) -> Vec<(&'static str, &'static str, usize)> {
    let (_, body) = HEADER.split_once(&format!("struct {name} {{")).unwrap();
    let (body, _) = body.split_once("};").unwrap();
    let declared = body.split_inclusive('\n').filter_map(|line| {
        let (kind, rest) = line.trim().split_once(' ')?;
        let (field, _) = rest.split_once(';')?;
        Some(match field.split_once('[') {
            Some((field, len)) => (kind, field, len.trim_end_matches(']').parse().unwrap()),
            None => (kind, field, 1),
        })
    });
    declared.collect()
}

fn in_c(name: &str) -> Layout {
    let (mut end, mut align) = (0_usize, 1);
    let mut offsets = BTreeMap::new();
    for (kind, field, count) in fields(name) {
        let width = width(kind);
        align = align.max(width);
        let offset = end.next_multiple_of(width);
        offsets.insert(field.to_owned(), offset);
        end = offset + width * count;
    }
    Layout {
        size: end.next_multiple_of(align),
        fields: offsets,
    }
}

macro_rules! in_rust {
    ($type:ty { $($field:ident),+ $(,)? }) => {
        Layout {
            size: size_of::<$type>(),
            fields: [$((stringify!($field).to_owned(), offset_of!($type, $field))),+].into(),
        }
    };
}

#[test]
fn structs_are_the_same_in_both_languages() {
    let settings = in_rust!(Settings {
        tunnel,
        underlay,
        vxlan,
        vni,
        strict,
        local,
        network,
        network_mask,
        own,
        own_mask,
        port,
        mac,
        lifetime,
    });
    assert_eq!(in_c("settings"), settings);
    let state = in_rust!(State {
        beat,
        opened,
        backlog,
        all,
        super_packets,
        merger,
        closed,
        l2,
        mtu,
    });
    assert_eq!(in_c("state"), state);
    let peer = in_rust!(Peer {
        addr,
        flags,
        port,
        mac,
        pad,
        mtu,
    });
    assert_eq!(in_c("peer"), peer);
}

#[test]
fn a_key_of_the_table_is_its_length_the_role_and_the_address() {
    let key = in_c("table_key");
    let length = size_of::<u32>();
    assert_eq!(key.size, length + size_of::<TableKey>());
    let offsets = [("prefix_len", 0), ("role", length), ("addr", length + 4)];
    assert_eq!(key.fields, offsets.map(|(n, o)| (n.to_owned(), o)).into());
    assert_eq!(ROLE_BITS as usize, 8 * width("__u32"));
}

#[test]
fn constants_are_the_same_in_both_languages() {
    let constants = [
        ("ROLE_ROUTE", ROLE_ROUTE),
        ("ROLE_SENDER", ROLE_SENDER),
        ("PEER_RECEIVE_ONLY", RECEIVE_ONLY.into()),
    ];
    for (name, value) in constants {
        assert!(
            HEADER.contains(&format!("#define {name} {value}\n")),
            "{name}"
        );
    }
}
