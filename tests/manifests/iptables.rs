//! The image's `iptables`, which is of the variant that the host uses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use weft_lab::{Error, isolated, run, skip};

const SCRIPT: &str = include_str!("../../deploy/docker/iptables");

fn shell(line: &str) -> Result<String, Error> {
    run(Command::new("sh").args(["-c", line]))
}

#[test]
fn it_is_of_the_variant_that_somebody_has_rules_of_or_that_kubelet_names() {
    isolated(|| {
        let dir = tempfile::tempdir().unwrap();
        let remembered = dir.path().join("variant");
        let script = SCRIPT.replace("/tmp/iptables-variant", remembered.to_str().unwrap());
        assert_ne!(script, SCRIPT, "it remembers elsewhere");
        let names = ["iptables", "ip6tables-save"];
        for name in names {
            let file = dir.path().join(name);
            fs::write(&file, &script).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let expect = |variant: &str, called: &str| {
            for name in names {
                let said = run(Command::new(dir.path().join(name)).arg("-V")).unwrap();
                assert!(said.contains(called), "{name} is {said}");
                assert_eq!(fs::read_to_string(&remembered).unwrap().trim(), variant);
                fs::remove_file(&remembered).unwrap();
            }
        };
        expect("nft", "(nf_tables)");
        if let Err(error) = shell("iptables-legacy -t nat -A POSTROUTING -j MASQUERADE") {
            return skip(&format!("the kernel has no iptables-legacy: {error}"));
        }
        expect("legacy", "(legacy)");
        shell("iptables-nft -t mangle -N KUBE-KUBELET-CANARY").unwrap();
        expect("nft", "(nf_tables)");

        // What was found once is not looked for again.
        fs::write(&remembered, "legacy").unwrap();
        let said = run(Command::new(dir.path().join("iptables")).arg("-V")).unwrap();
        assert!(said.contains("(legacy)"), "{said}");
    });
}
