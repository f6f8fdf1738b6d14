//! The other plugin's configuration.

use crate::error::{Code, Error};
use crate::netconf::{NetConf, Object};
use crate::subnet_env::SubnetEnv;
use ipnet::IpNet;
use serde_json::{Value, json};

/// The plugin that attaches pods unless `delegate.type` names another.
const BRIDGE: &str = "bridge";

/// The delegate's configuration by the `subnet.env` of today.
pub(crate) fn for_today(conf: &NetConf) -> Result<Object, Error> {
    let env = SubnetEnv::load(&conf.subnet_file)?;
    delegate_conf(conf, &env)
}

/// A configuration as a plugin reads it.
pub(crate) fn text(conf: &Object) -> Vec<u8> {
    // A map of JSON values always serialises.
    serde_json::to_vec(conf).unwrap_or_default()
}

/// The configuration that `conf` and `env` make for the delegate. Rendered by
/// [`serde_json::to_vec`] it reads as Go's `json.Marshal` writes a map: keys sorted, no
/// blanks.
pub fn delegate_conf(conf: &NetConf, env: &SubnetEnv) -> Result<Object, Error> {
    let mut delegate = conf.delegate.clone();
    for key in ["name", "ipam"] {
        if delegate.contains_key(key) {
            return Err(invalid(format!(
                "'delegate' must not have '{key}': the plugin sets it"
            )));
        }
    }
    let kind = delegate.entry("type").or_insert_with(|| BRIDGE.into());
    let kind = delegate_type(kind)?.to_owned();
    if let Some(arguments) = &conf.runtime_config {
        delegate.insert("runtimeConfig".into(), arguments.clone().into());
    }
    delegate.insert("name".into(), conf.name.clone().into());
    if !conf.cni_version.is_empty() {
        delegate.insert("cniVersion".into(), conf.cni_version.clone().into());
    }
    // Somebody has to masquerade: the delegate where the agent does not.
    let mut default = |key: &str, value: Value| {
        delegate.entry(key).or_insert(value);
    };
    default("ipMasq", (!env.ip_masq).into());
    default("mtu", env.mtu.into());
    if kind == BRIDGE {
        default("isGateway", true.into());
    }
    delegate.insert("ipam".into(), ipam(conf, env)?.into());
    Ok(delegate)
}

/// `type` of a delegate's configuration: the name of a plugin other than this one.
pub(crate) fn delegate_type(kind: &Value) -> Result<&str, Error> {
    match kind.as_str() {
        // It would call itself until the machine is full.
        Some("flannel") => Err(invalid("'delegate.type' must not be flannel itself".into())),
        Some(kind) => Ok(kind),
        None => Err(invalid(
            "'delegate' must have a (string) 'type', if any".into(),
        )),
    }
}

/// The base `ipam` with the node's subnets as ranges and routes to all networks.
fn ipam(conf: &NetConf, env: &SubnetEnv) -> Result<Object, Error> {
    let mut ipam = conf.ipam.clone();
    ipam.entry("type").or_insert_with(|| "host-local".into());
    let v4 = env.subnet.map(IpNet::V4);
    let v6 = env.ipv6_subnet.map(IpNet::V6);
    let ranges = v4.into_iter().chain(v6);
    let ranges: Vec<_> = ranges
        .map(|subnet| json!([{ "subnet": subnet.to_string() }]))
        .collect();
    ipam.insert("ranges".into(), ranges.into());

    let mut routes = base_routes(ipam.remove("routes"))?;
    let v4 = env.networks.iter().copied().map(IpNet::V4);
    let v6 = env.ipv6_networks.iter().copied().map(IpNet::V6);
    routes.extend(v4.chain(v6).map(|net| json!({ "dst": net.to_string() })));
    ipam.insert("routes".into(), routes.into());
    Ok(ipam)
}

fn base_routes(routes: Option<Value>) -> Result<Vec<Value>, Error> {
    let bad = |value: &Value| {
        invalid(format!(
            "'ipam.routes' must list objects with a 'dst' like 10.0.0.0/8; there is {value}"
        ))
    };
    let routes = match routes {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(routes)) => routes,
        Some(other) => return Err(bad(&other)),
    };
    for route in &routes {
        let dst = route.get("dst").and_then(Value::as_str);
        if dst.is_none_or(|dst| dst.parse::<IpNet>().is_err()) {
            return Err(bad(route));
        }
    }
    Ok(routes)
}

fn invalid(msg: String) -> Error {
    Error::new(Code::InvalidConfig, msg)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\n";
    const TWO: &str = "FLANNEL_NETWORK=10.1.0.0/16,192.168.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\n";
    const V6: &str = "FLANNEL_IPV6_NETWORK=fc00::/48\nFLANNEL_IPV6_SUBNET=fc00::1/64\n";

    fn env(lines: &str) -> SubnetEnv {
        SubnetEnv::parse(&format!("{lines}FLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n")).unwrap()
    }

    fn rendered(conf: Value, env: &SubnetEnv) -> String {
        let conf = NetConf::parse(conf.to_string().as_bytes()).unwrap();
        serde_json::to_string(&delegate_conf(&conf, env).unwrap()).unwrap()
    }

    fn refused(conf: Value) -> String {
        let conf = NetConf::parse(conf.to_string().as_bytes()).unwrap();
        let error = delegate_conf(&conf, &env(V4)).unwrap_err();
        assert_eq!(error.code, Code::InvalidConfig as u32);
        error.msg
    }

    #[test]
    fn the_text_is_what_gos_marshal_writes() {
        let conf = json!({"name": "cbr0", "type": "flannel", "cniVersion": "0.3.1",
            "delegate": {"isDefaultGateway": true, "hairpinMode": true}});
        assert_eq!(
            rendered(conf, &env(V4)),
            r#"{"cniVersion":"0.3.1","hairpinMode":true,"ipMasq":false,"ipam":{"ranges":[[{"subnet":"10.1.17.0/24"}]],"routes":[{"dst":"10.1.0.0/16"}],"type":"host-local"},"isDefaultGateway":true,"isGateway":true,"mtu":1472,"name":"cbr0","type":"bridge"}"#
        );
    }

    #[test]
    fn what_the_delegate_sets_stays() {
        let conf = json!({"name": "n", "runtimeConfig": {"ips": ["10.1.17.9/24"]},
            "delegate": {"type": "bridge", "ipMasq": true, "mtu": 1400, "isGateway": false,
                         "runtimeConfig": {"ips": []}, "bridge": "cni7"}});
        let text = rendered(conf, &env(V4));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["ipMasq"], true);
        assert_eq!(value["mtu"], 1400);
        assert_eq!(value["isGateway"], false);
        assert_eq!(value["bridge"], "cni7");
        assert_eq!(value["runtimeConfig"], json!({"ips": ["10.1.17.9/24"]}));
        assert_eq!(value.get("cniVersion"), None);
        assert_eq!(value.get("hairpinMode"), None, "no default of the plugin");
    }

    #[test]
    fn only_a_bridge_is_a_gateway_by_default() {
        let text = rendered(json!({"name": "n", "delegate": {"type": "ptp"}}), &env(V4));
        assert!(!text.contains("isGateway"), "{text}");
        let mut plain = env(V4);
        plain.ip_masq = false;
        let text = rendered(json!({"name": "n"}), &plain);
        assert!(text.contains(r#""ipMasq":true"#), "{text}");
    }

    #[test]
    fn c7_a_base_ipam_is_passed_on_with_routes_appended() {
        let base = [
            json!({"dst": "10.96.0.0/12"}),
            json!({"dst": "192.168.244.0/24", "gw": "10.1.17.20"}),
        ];
        let v4 = json!([{"subnet": "10.1.17.0/24"}]);
        let v6 = json!([{"subnet": "fc00::/64"}]);
        let dual = format!("{V4}{V6}");
        for (file, nets, ranges) in [
            (V4, vec!["10.1.0.0/16"], json!([v4])),
            (TWO, vec!["10.1.0.0/16", "192.168.0.0/16"], json!([v4])),
            (V6, vec!["fc00::/48"], json!([v6])),
            (&dual, vec!["10.1.0.0/16", "fc00::/48"], json!([v4, v6])),
        ] {
            for kind in [Some("my-ipam"), None] {
                let mut ipam = json!({"unknown-param": "unknown-value", "routes": base});
                if let Some(kind) = kind {
                    ipam["type"] = kind.into();
                }
                let conf = json!({"name": "n", "ipam": ipam});
                let text = rendered(conf, &env(file));
                let value: Value = serde_json::from_str(&text).unwrap();
                let appended = nets.iter().map(|net| json!({"dst": net}));
                let routes: Vec<_> = base.iter().cloned().chain(appended).collect();
                let expected = json!({"type": kind.unwrap_or("host-local"), "routes": routes,
                    "ranges": ranges, "unknown-param": "unknown-value"});
                assert_eq!(value["ipam"], expected, "{file} {kind:?}");
            }
        }
    }

    #[test]
    fn what_the_plugin_sets_itself_is_refused() {
        for key in ["name", "ipam"] {
            let error = refused(json!({"name": "n", "delegate": {key: {}}}));
            assert!(error.contains(&format!("'{key}'")), "{error}");
        }
        for kind in [json!(1), json!(null), json!("flannel")] {
            let error = refused(json!({"name": "n", "delegate": {"type": kind}}));
            assert!(error.contains("type"), "{error}");
        }
        for routes in [
            json!({}),
            json!([1]),
            json!([{"gw": "1.2.3.4"}]),
            json!([{"dst": "x"}]),
        ] {
            let error = refused(json!({"name": "n", "ipam": {"routes": routes}}));
            assert!(error.contains("ipam.routes"), "{error}");
        }
    }
}
