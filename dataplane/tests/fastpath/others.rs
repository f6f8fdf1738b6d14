//! Programs of others.

use crate::nodes::Node;
use aya::maps::Array;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions};
use aya::{Ebpf, EbpfLoader};
use std::process::Command;

/// Whether they cannot be built here. If so the test is skipped.
pub(crate) fn skips_test() -> bool {
    weft_lab::skips_test_without(&[
        ("clang-14", "clang-14"),
        ("/usr/include/bpf/bpf_helpers.h", "libbpf-dev"),
    ])
}

/// A program that counts UDP datagrams to the overlay's port and goes on with `rest`.
fn source(rest: &str) -> String {
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
	bpf_skb_load_bytes(skb, 14 + 20 + 2, &port, 2);
	if (count && port == __builtin_bswap16(8472))
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
    /// On `eth0` of a node. The program ends with the C statements `rest`.
    pub(crate) fn attach(
        node: &Node,
        direction: TcAttachType,
        rest: &str,
        order: LinkOrder,
    ) -> Other {
        let dir = tempfile::tempdir().unwrap();
        let (c, object) = (dir.path().join("other.c"), dir.path().join("other.o"));
        std::fs::write(&c, source(rest)).unwrap();
        let headers = format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH);
        let mut clang = Command::new("clang-14");
        clang.args(["-O2", "-g", "-target", "bpf", "-isystem", &headers, "-c"]);
        weft_lab::run(clang.arg(&c).arg("-o").arg(&object)).unwrap();
        let mut programs = EbpfLoader::new().load_file(&object).unwrap();
        let program = programs.program_mut("other").unwrap();
        let program: &mut SchedClassifier = program.try_into().unwrap();
        program.load().unwrap();
        let options = TcAttachOptions::TcxOrder(order);
        let attach = || program.attach_with_options("eth0", direction, options);
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
