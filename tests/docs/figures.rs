//! Figures on pages against the constants that they come from.

use crate::markdown::{Page, hold};
use crate::rust::{constants, sources};
use std::collections::BTreeMap;

/// The constants of all these files, and of those in these folders. Names that several files have
/// are asked for by file.
fn known(places: &[&str]) -> BTreeMap<String, u64> {
    let mut values = BTreeMap::new();
    // One may be used in a file that comes before its own.
    for place in places.iter().chain(places) {
        let is_file = place.ends_with(".rs");
        let files = match is_file {
            true => vec![(*place).to_owned()],
            false => sources(&[place])
                .into_iter()
                .map(|(file, _)| file)
                .collect(),
        };
        for file in files {
            values = constants(&file, &values);
        }
    }
    values
}

/// A number as pages write it: 65,663.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Fail unless `page` has all of these texts.
fn has(page: &str, texts: &[String]) {
    // Tables and pictures are laid out by hand.
    let folded = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let whole = folded(&Page::read(page).text);
    let missing = texts.iter().filter(|text| !whole.contains(&folded(text)));
    hold(missing.cloned(), &format!("figures that {page} lacks"));
}

#[test]
fn the_picture_of_the_tun_buffer_has_the_codes_offsets() {
    let of = known(&["dataplane/src/sys"]);
    let frame = weft_dataplane::wire::frame::FRAME_OVERHEAD as u64;
    let header = of["VNET_HDR_LEN"];
    let headroom = of["HEADROOM"];
    let last = headroom + of["MAX_PACKET"];
    let start = headroom - header;
    has(
        "docs/packet.md",
        &[
            format!("0 {start} {headroom} {}", grouped(last)),
            format!("{} {headroom}", headroom - frame),
            format!(
                "The headroom in front of the IP packet is {headroom} bytes. The kernel writes from byte {start} on"
            ),
            format!("`virtio_net_hdr` of {header} bytes"),
        ],
    );
}

#[test]
fn the_picture_of_the_receive_buffer_has_the_codes_offsets() {
    let of = known(&["dataplane/src/sys"]);
    let out = of["RECVMSG_OUT"];
    let (name, control) = (of["NAME_SPACE"], of["RECEIVE_SPACE"]);
    assert_eq!(of["PAYLOAD"], out + name + control);
    has(
        "docs/packet.md",
        &[
            format!("0 {out} {} {}", out + name, of["PAYLOAD"]),
            format!("source {name} | control {control}"),
        ],
    );
}

#[test]
fn the_table_of_a_batch_has_the_codes_sizes() {
    let engine = known(&["dataplane/src/sys"]);
    let encap = known(&["dataplane/src/sys/ring/encap.rs"]);
    let decap = known(&["dataplane/src/sys/ring/decap.rs"]);
    let poll = known(&["dataplane/src/sys/poll/encap.rs"]);
    let worker = known(&["dataplane/src/worker"]);
    let ring = known(&["dataplane/src/sys/ring/mod.rs"]);
    let sender = known(&["dataplane/src/sys/sender.rs"]);
    let packet = engine["MAX_PACKET"];
    has(
        "docs/threads-and-memory.md",
        &[
            format!(
                "| the batch is full at | {} KB of IP packets | {} KB of UDP payload |",
                engine["ENCAP_BATCH_BYTES"] >> 10,
                engine["DECAP_BATCH_BYTES"] >> 10
            ),
            format!(
                "| buffers of the ring | {} of {} bytes | {} of {} bytes |",
                encap["BUFFERS"],
                grouped(engine["HEADROOM"] + packet),
                engine["DECAP_BUFFERS"],
                grouped(engine["PAYLOAD"] + packet)
            ),
            format!(
                "| outputs of a batch | {} sends, then the plan is sent and begun anew | {} writes, likewise |",
                worker["PLAN_SENDS"], worker["COALESCER_WRITES"]
            ),
            format!(
                "| gather entries of one submission | {} | {} |",
                grouped(sender["IOVECS"]),
                grouped(decap["IOVECS"])
            ),
            format!(
                "Submission queue: {} entries. Completion queue: {}.",
                ring["ENTRIES"],
                grouped(ring["COMPLETIONS"])
            ),
            format!(
                "The poll engine has {} buffers for encap and {} for decap",
                poll["BUFFERS"], engine["DECAP_BUFFERS"]
            ),
        ],
    );
}

#[test]
fn the_limits_of_a_train_are_the_codes() {
    let plan = known(&["dataplane/src/offload"]);
    let worker = known(&["dataplane/src/worker"]);
    has(
        "docs/packet.md",
        &[
            format!(
                "| bytes of a train | {} |",
                grouped(plan["MAX_TRAIN_BYTES"])
            ),
            format!("| frames of a train | {} |", plan["MAX_FRAMES"]),
            format!("| sends of one plan | {} |", worker["PLAN_SENDS"]),
            format!("| header arena | {} KiB,", worker["PLAN_ARENA"] >> 10),
        ],
    );
}
