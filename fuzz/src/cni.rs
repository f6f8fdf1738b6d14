//! What container runtimes write for the CNI plugin.

use weft_cni::netconf::Object;
use weft_cni::{Error, NetConf, SubnetEnv, render};

/// What the agent writes on a node with both families.
const ENV: &str = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.72.1/24\n\
                   FLANNEL_IPV6_NETWORK=fd00:5::/48\nFLANNEL_IPV6_SUBNET=fd00:5:0:1::1/64\n\
                   FLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";

/// Read `data` as the network configuration, and what stands behind a zero byte, if there is
/// one, as `subnet.env`; make the delegate's configuration of them.
pub fn netconf(data: &[u8]) {
    let (conf, env) = match data.iter().position(|&byte| byte == 0) {
        Some(at) => (&data[..at], String::from_utf8_lossy(&data[at + 1..])),
        None => (data, ENV.into()),
    };
    let conf = match NetConf::parse(conf) {
        Ok(conf) => conf,
        Err(error) => return check_error(&error),
    };
    if let Err(error) = conf.version() {
        check_error(&error);
    }
    let Ok(env) = SubnetEnv::parse(&env) else {
        return;
    };
    match render::delegate_conf(&conf, &env) {
        Ok(delegate) => check_delegate(&conf, &delegate),
        Err(error) => check_error(&error),
    }
}

/// The name is the network's, the address plan is there, and what is written can be read.
fn check_delegate(conf: &NetConf, delegate: &Object) {
    assert_eq!(delegate.get("name"), Some(&conf.name.as_str().into()));
    assert!(delegate.get("type").is_some_and(|kind| kind.is_string()));
    assert!(
        delegate
            .get("ipam")
            .is_some_and(|ipam| ipam["ranges"].is_array())
    );
    let text = serde_json::to_string(delegate).unwrap_or_default();
    let again: Option<Object> = serde_json::from_str(&text).ok();
    assert_eq!(again.as_ref(), Some(delegate));
}

/// Runtimes get one JSON object on one line, with a code and a reason.
fn check_error(error: &Error) {
    let text = error.to_json();
    assert_eq!(text.lines().count(), 1, "{text:?}");
    let answer: Option<Error> = serde_json::from_str(&text).ok();
    assert!(answer.is_some_and(|answer| answer.code != 0 && !answer.msg.is_empty()));
}
