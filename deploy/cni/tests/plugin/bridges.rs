//! A bridge that is there already, with the address of another subnet.

use crate::call::V4;
use crate::host::{Host, skips};
use serde_json::json;

/// What can be done about it is in the error, and it helps.
#[test]
fn a_bridge_of_another_subnet_is_explained() {
    if skips() {
        return;
    }
    let host = Host::new(&V4);
    let shared = json!({"delegate": {}});
    let (a, b) = (host.conf("a", shared.clone()), host.conf("b", shared));
    host.call("ADD", ("c1", "eth0"), &a).result();
    let answer = host.call("ADD", ("c2", "net1"), &b);
    let (_, msg) = answer.error();
    assert!(
        msg.contains("\"cni0\" already has an IP address different from"),
        "{msg}"
    );
    for words in [
        "ip link delete cni0",
        "restart the pods",
        r#"set a \"bridge\" of its own"#,
    ] {
        assert!(
            answer.stdout().contains(words),
            "{words}: {}",
            answer.stdout()
        );
    }
    host.call("DEL", ("c2", "net1"), &b).result();

    let own = host.conf("b", json!({"delegate": {"bridge": "cni-b"}}));
    host.call("ADD", ("c2", "net1"), &own).result();
    host.call("DEL", ("c2", "net1"), &own).result();

    host.call("DEL", ("c1", "eth0"), &a).result();
    host.node.ip("link delete cni0").unwrap();
    host.call("ADD", ("c2", "net1"), &b).result();
    let forced = host.conf("a", json!({"delegate": {"forceAddress": true}}));
    host.call("ADD", ("c1", "eth0"), &forced).result();
    let shown = host.node.ip("-4 address show dev cni0").unwrap();
    assert!(
        shown.contains("10.1.17.1/24") && !shown.contains("10.2.5.1"),
        "{shown}"
    );
    host.call("DEL", ("c1", "eth0"), &forced).result();
    host.call("DEL", ("c2", "net1"), &b).result();
    host.assert_clean(&["a", "b"]);
}

/// Pods could not be attached: Debian's plugins speak CNI up to 1.0.0.
#[test]
fn status_says_that_the_delegate_is_too_old() {
    if skips() {
        return;
    }
    let host = Host::new(&V4);
    let conf = host.conf("a", json!({"cniVersion": "1.1.0"}));
    let (code, msg) = host.call("STATUS", ("", ""), &conf).error();
    assert_eq!(code, 50, "{msg}");
    assert!(msg.contains("\"bridge\" does not speak CNI 1.1.0"), "{msg}");
}
