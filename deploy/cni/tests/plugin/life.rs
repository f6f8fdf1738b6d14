//! ADD and DEL of a container, with a delegate that writes down what it is told.

use crate::call::{Bench, DUAL, Stack, V4, V4_TWICE, V6, json_in};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Writes down what it gets, and answers ADD with a result.
const SCRIPT: &str = r#"
cat >conf.$CNI_COMMAND
echo $CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $CNI_ARGS >>calls
[ $CNI_COMMAND != ADD ] || echo '{"cniVersion": "1.0.0", "ips": []}'
"#;

fn lives(stack: &Stack) {
    let bench = Bench::new(stack);
    bench.delegate("bridge", SCRIPT);
    let id = stack.container_id;
    let conf = bench.conf(json!({}));
    let answer = bench.call("ADD", id, &conf);
    answer.result();
    assert_eq!(
        answer.stdout(),
        "{\"cniVersion\": \"1.0.0\", \"ips\": []}\n"
    );

    let kept = fs::read_to_string(bench.state(id)).unwrap();
    // Sorted keys, no blanks: serde_json writes its maps so, Go's json.Marshal too.
    assert_eq!(kept, stack.rendered().to_string());
    assert_eq!(kept, fs::read_to_string(bench.path("conf.ADD")).unwrap());
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(bench.path("data")), 0o700);
    assert_eq!(mode(bench.state(id)), 0o600);

    // The agent may have gone meanwhile, and the lease with it.
    fs::remove_file(bench.path("subnet.env")).unwrap();
    assert_eq!(bench.call("DEL", id, &conf).result(), Value::Null);
    assert_eq!(kept, fs::read_to_string(bench.path("conf.DEL")).unwrap());
    assert!(!bench.state(id).exists());

    let calls = fs::read_to_string(bench.path("calls")).unwrap();
    let expected = format!("ADD {id} /run/netns/none eth0\nDEL {id} /run/netns/none eth0\n");
    assert_eq!(calls, expected, "once each, in the same environment");

    // The delegate is asked to give back what it holds, and to leave the namespace alone.
    assert_eq!(bench.call("DEL", id, &conf).result(), Value::Null, "again");
    let calls = fs::read_to_string(bench.path("calls")).unwrap();
    assert_eq!(calls, format!("{expected}DEL {id} eth0\n"));
}

#[test]
fn c1_life_of_a_container_with_ipv4() {
    lives(&V4);
}

#[test]
fn c2_life_of_a_container_with_two_ipv4_networks() {
    lives(&V4_TWICE);
}

#[test]
fn c3_life_of_a_container_with_ipv6() {
    lives(&V6);
}

#[test]
fn c4_life_of_a_container_with_both() {
    lives(&DUAL);
}

#[test]
fn what_cannot_be_detached_is_kept() {
    let bench = Bench::new(&V4);
    bench.delegate(
        "bridge",
        "[ ! -e busy ] || { echo '{\"code\":11,\"msg\":\"busy\"}'; exit 1; }",
    );
    let conf = bench.conf(json!({}));
    bench.call("ADD", "c1", &conf).result();
    fs::write(bench.path("busy"), "").unwrap();
    assert_eq!(bench.call("DEL", "c1", &conf).error(), (11, "busy".into()));
    assert!(bench.state("c1").exists());
    fs::remove_file(bench.path("busy")).unwrap();
    bench.call("DEL", "c1", &conf).result();
    assert!(!bench.state("c1").exists());
}

#[test]
fn a_failed_add_can_be_tidied_up() {
    let bench = Bench::new(&V4);
    bench.delegate(
        "bridge",
        "echo $CNI_COMMAND >>calls; [ $CNI_COMMAND != ADD ]",
    );
    let conf = bench.conf(json!({"cniVersion": "0.3.1"}));
    let answer = bench.call("ADD", "c1", &conf);
    let (code, msg) = answer.error();
    assert_eq!(code, 999, "{msg}");
    assert!(answer.stdout().contains(r#""cniVersion":"0.3.1""#));
    bench.call("DEL", "c1", &conf).result();
    let calls = fs::read_to_string(bench.path("calls")).unwrap();
    assert_eq!(calls, "ADD\nDEL\n");
}

#[test]
fn a_damaged_file_does_not_stop_del_for_ever() {
    let bench = Bench::new(&V4);
    bench.delegate("bridge", "echo $CNI_COMMAND-$CNI_NETNS-$CNI_IFNAME >calls");
    fs::create_dir(bench.path("data")).unwrap();
    for damaged in ["", "{\"name\":\"cni-fl", "[]", "{}", "{\"type\":1}"] {
        fs::write(bench.state("c1"), damaged).unwrap();
        let answer = bench.call("DEL", "c1", &bench.conf(json!({})));
        assert_eq!(answer.result(), Value::Null, "{damaged}");
        let told = String::from_utf8_lossy(&answer.0.stderr).into_owned();
        assert!(told.contains("c1") && told.lines().count() == 1, "{told}");
        assert!(!bench.state("c1").exists(), "{damaged}");
        let calls = fs::read_to_string(bench.path("calls")).unwrap();
        assert_eq!(calls, "DEL--eth0\n", "only what it holds on the host");
        fs::remove_file(bench.path("calls")).unwrap();
    }
}

#[test]
fn runtime_config_and_options_reach_the_delegate() {
    let bench = Bench::new(&V4);
    bench.delegate("ptp", SCRIPT);
    let conf = bench.conf(json!({
        "cniVersion": "0.3.1",
        "delegate": {"type": "ptp", "hairpinMode": true},
        "ipam": {"dataDir": "/run/ipam"},
        "runtimeConfig": {"bandwidth": {"ingressRate": 1000}},
        "capabilities": {"bandwidth": true},
    }));
    bench.call("ADD", "c1", &conf).result();
    let told = json_in(&bench.path("conf.ADD"));
    assert_eq!(told["cniVersion"], "0.3.1");
    assert_eq!(told["hairpinMode"], true);
    assert_eq!(told["ipam"]["dataDir"], "/run/ipam");
    assert_eq!(told["runtimeConfig"], conf["runtimeConfig"]);
    assert_eq!(told.get("capabilities"), None);
    assert_eq!(told.get("isGateway"), None, "only a bridge has it");
}
