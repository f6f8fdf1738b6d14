//! Programs of others.

use crate::nodes::{INNER_PORT, Node, PORT};
use aya::maps::Array;
use aya::programs::tc::{NlOptions, TcAttachOptions, TcHandle, qdisc_add_clsact};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use std::process::Command;
use weft_dataplane::fastpath::Hook;

/// What a program answers to pass a packet on, and to accept it for good.
pub(crate) const NEXT: &str = "return -1;";
pub(crate) const OK: &str = "return 0;";

/// Where somebody's program looks at packets, and which of them it counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    device: &'static str,
    egress: bool,
    /// Bytes before the UDP header.
    udp_at: usize,
    /// Its destination port.
    port: u16,
}

/// Datagrams of the overlay on the underlay.
pub(crate) const UNDERLAY_IN: Spot = Spot {
    device: "eth0",
    egress: false,
    udp_at: 14 + 20,
    port: PORT,
};
pub(crate) const UNDERLAY_OUT: Spot = Spot {
    egress: true,
    ..UNDERLAY_IN
};

/// What is sent inside; there are no MAC headers.
pub(crate) const TUNNEL_OUT: Spot = Spot {
    device: "flannel.1",
    egress: true,
    udp_at: 20,
    port: INNER_PORT,
};

impl Spot {
    fn direction(self) -> TcAttachType {
        match self.egress {
            true => TcAttachType::Egress,
            false => TcAttachType::Ingress,
        }
    }
}

/// When a program sees packets, beside ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Before all others.
    First,
    /// Before ours, if it is attached before ours is.
    Before,
    /// After ours, if it is attached after ours is.
    Behind,
}

/// How a program is attached by a hook for its turn.
fn options(hook: Hook, turn: Turn) -> TcAttachOptions {
    let priority = match (hook, turn) {
        (Hook::Tcx, Turn::First) => return TcAttachOptions::TcxOrder(LinkOrder::first()),
        (Hook::Tcx, _) => return TcAttachOptions::TcxOrder(LinkOrder::default()),
        (Hook::Clsact, Turn::First) => 1,
        (Hook::Clsact, Turn::Before) => 9,
        (Hook::Clsact, Turn::Behind) => 40_000,
    };
    filter(priority, TcHandle::from(1))
}

/// As a filter of this priority and handle.
pub(crate) fn filter(priority: u16, handle: TcHandle) -> TcAttachOptions {
    TcAttachOptions::Netlink(NlOptions {
        priority,
        handle,
        classid: None,
    })
}

/// Whether they cannot be built here. If so the test is skipped.
pub(crate) fn skips_test() -> bool {
    weft_lab::skips_test_without(&[
        ("clang-14", "clang-14"),
        ("/usr/include/bpf/bpf_helpers.h", "libbpf-dev"),
    ])
}

/// A program that counts datagrams of a spot and goes on with `rest`.
fn source(spot: Spot, rest: &str) -> String {
    let Spot { udp_at, port, .. } = spot;
    format!(
        r#"
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {{
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
}} seen SEC(".maps");
SEC("classifier") int other(struct __sk_buff *skb)
{{
	__u32 zero = 0;
	__u16 port = 0;
	__u64 *count = bpf_map_lookup_elem(&seen, &zero);
	bpf_skb_load_bytes(skb, {udp_at} + 2, &port, 2);
	if (count && port == __builtin_bswap16({port}))
		__sync_fetch_and_add(count, 1);
	{rest}
}}
char _license[] SEC("license") = "Apache-2.0";
"#
    )
}

/// Somebody else's program, attached for as long as it lives.
pub(crate) struct Other(Ebpf);

impl Other {
    /// On a node, by `hook`. The program ends with the C statements `rest`.
    pub(crate) fn attach(node: &Node, spot: Spot, rest: &str, hook: Hook, turn: Turn) -> Other {
        Other::attach_by(node, spot, rest, options(hook, turn))
    }

    pub(crate) fn attach_by(
        node: &Node,
        spot: Spot,
        rest: &str,
        options: TcAttachOptions,
    ) -> Other {
        let dir = tempfile::tempdir().unwrap();
        let (c, object) = (dir.path().join("other.c"), dir.path().join("other.o"));
        std::fs::write(&c, source(spot, rest)).unwrap();
        let headers = format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH);
        let mut clang = Command::new("clang-14");
        clang.args(["-O2", "-g", "-target", "bpf", "-isystem", &headers, "-c"]);
        weft_lab::run(clang.arg(&c).arg("-o").arg(&object)).unwrap();
        let mut programs = EbpfLoader::new().load_file(&object).unwrap();
        let program = programs.program_mut("other").unwrap();
        let program: &mut SchedClassifier = program.try_into().unwrap();
        program.load().unwrap();
        let attach = || {
            if matches!(options, TcAttachOptions::Netlink(_)) {
                // It may be there.
                let _ = qdisc_add_clsact(spot.device);
            }
            program.attach_with_options(spot.device, spot.direction(), options)
        };
        node.ns.enter(attach).unwrap().unwrap();
        Other(programs)
    }

    /// How many it has counted.
    pub(crate) fn seen(&self) -> u64 {
        let map = Array::<_, u64>::try_from(self.0.map("seen").unwrap()).unwrap();
        map.get(&0, 0).unwrap()
    }

    pub(crate) fn id(&mut self) -> u32 {
        let program: &mut SchedClassifier =
            self.0.program_mut("other").unwrap().try_into().unwrap();
        program.info().unwrap().id()
    }
}
