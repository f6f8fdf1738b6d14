//! Where there is no BPF file system, and where there is no BPF.

use crate::nodes::{isolated, nodes, passes, start};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::process::Command;
use weft_dataplane::fastpath::{Hook, Policy};
use weft_dataplane::wire::frame::Wire;

#[test]
fn without_a_bpf_file_system_programs_run_and_say_why_they_end_with_the_process() {
    isolated(|bpffs| {
        let [a, b] = nodes(bpffs, Wire::Vxlan);
        let plain = tempfile::tempdir().unwrap();
        for (folder, reason) in [
            (
                plain.path(),
                format!("{} is not a BPF file system", plain.path().display()),
            ),
            (
                "/nowhere".as_ref(),
                "No such file or directory (os error 2)".to_owned(),
            ),
        ] {
            let started = [&a, &b].map(|node| {
                let started = node.start(|config| config.bpffs = folder.to_owned());
                started.unwrap()
            });
            assert_eq!(started[0].unpinned(), Some(&*reason));
            assert!(a.is_in_place(&started[0]));
            assert!(passes(&a, &b));
        }
        assert_eq!(std::fs::read_dir(plain.path()).unwrap().count(), 0);
    });
}

#[test]
fn links_stay_links_where_a_bpf_file_system_is_read_only() {
    isolated(|bpffs| {
        let [a, b] = nodes(bpffs, Wire::Vxlan);
        // The folder of one is there already.
        std::fs::create_dir_all(a.pins(bpffs)).unwrap();
        let mut remount = Command::new("mount");
        remount.args(["-o", "remount,bind,ro"]).arg(bpffs);
        weft_lab::run(&mut remount).unwrap();
        for (node, programs) in [&a, &b].map(|node| (node, node.start(|_| {}).unwrap())) {
            assert_eq!(programs.hook(), Hook::Tcx);
            let why = programs.unpinned().unwrap_or_default();
            assert!(why.contains("Read-only file system"), "{why}");
            assert!(node.is_in_place(&programs));
        }
    });
}

#[test]
fn without_the_capability_one_line_says_so() {
    isolated(|bpffs| {
        let [a, _b] = nodes(bpffs, Wire::Vxlan);
        // Of this thread alone.
        let all = capabilities(None).unwrap();
        let mut fewer = all;
        fewer.effective -= CapabilitySet::BPF | CapabilitySet::SYS_ADMIN | CapabilitySet::PERFMON;
        let refused = a.ns.enter(|| {
            let (table, config) = (a.table(), a.config());
            set_capabilities(None, fewer).unwrap();
            let refused = weft_dataplane::fastpath::FastPath::load(config, table.overlay()).err();
            set_capabilities(None, all).unwrap();
            refused
        });
        let text = refused.unwrap().unwrap().to_string();
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("CAP_BPF"), "{text}");
    });
}

/// What the documentation asks for is enough, to be taken over and looked after as well.
#[test]
fn three_capabilities_are_enough() {
    isolated(|bpffs| {
        let [a, b] = nodes(bpffs, Wire::Vxlan);
        let all = capabilities(None).unwrap();
        let mut few = all;
        few.effective = CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON;
        for hook in [Hook::Tcx, Hook::Tcx, Hook::Clsact, Hook::Clsact] {
            for node in [&a, &b] {
                let outcome = node.ns.enter(|| {
                    let (table, mut config) = (node.table(), node.config());
                    config.hook = Some(hook);
                    let policy = Policy {
                        all: true,
                        super_packets: true,
                        mtu: 1500,
                    };
                    set_capabilities(None, few).unwrap();
                    let started = start(config, &table, policy);
                    let in_place = started
                        .as_ref()
                        .is_ok_and(|programs| programs.is_in_place());
                    set_capabilities(None, all).unwrap();
                    started.map(|programs| (in_place, programs.leave()))
                });
                assert_eq!(outcome.unwrap(), Ok((true, ())), "{hook:?}");
            }
            assert!(passes(&a, &b), "{hook:?}");
        }
    });
}
