//! CHECK: let the delegate compare a container with what ADD made of it.

use crate::error::Error;
use crate::invocation::Invocation;
use crate::netconf::NetConf;
use crate::state::Attachment;
use crate::{delegate, render};
use serde_json::Value;
use std::net::IpAddr;

/// Run the delegate's CHECK with the configuration that attached the container, or today's
/// where none is kept. `prevResult` is in the version of today's.
pub(crate) fn check(call: &Invocation, conf: &NetConf) -> Result<(), Error> {
    let kept = Attachment::of(call, conf).load(&conf.data_dir)?;
    let mut rendered = match kept.and_then(|kept| kept.conf()) {
        Some(rendered) => rendered,
        None => render::for_today(conf)?,
    };
    rendered.insert("cniVersion".into(), conf.cni_version.clone().into());
    if let Some(result) = &conf.prev_result {
        rendered.insert("prevResult".into(), with_gateways(result.clone()));
    }
    let kind = render::delegate_type(&rendered["type"])?;
    delegate::run(kind, &call.path, &[], &render::text(&rendered)).map(drop)
}

/// A result whose routes all name their gateway. Where one does not, ADD takes the first
/// gateway of its family for it; but Debian's `bridge` looks for a route without any.
fn with_gateways(mut result: Value) -> Value {
    let ips = result.get("ips").and_then(Value::as_array);
    let gateways: Vec<IpAddr> = ips
        .into_iter()
        .flatten()
        .filter_map(|ip| ip.get("gateway")?.as_str()?.parse().ok())
        .collect();
    let routes = result.get_mut("routes").and_then(Value::as_array_mut);
    let routes = routes
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut);
    for route in routes.filter(|route| !route.contains_key("gw")) {
        let dst = route.get("dst").and_then(Value::as_str).unwrap_or_default();
        let ipv6 = dst.contains(':');
        if let Some(gateway) = gateways.iter().find(|gateway| gateway.is_ipv6() == ipv6) {
            route.insert("gw".into(), gateway.to_string().into());
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn routes_get_the_gateway_of_their_family() {
        let ips = json!([
            {"address": "10.1.0.9/24", "gateway": "10.1.0.1"},
            {"address": "10.2.0.9/24", "gateway": "10.2.0.1"},
            {"address": "fc00::9/64", "gateway": "fc00::1"},
        ]);
        let routes = json!([
            {"dst": "10.0.0.0/8"},
            {"dst": "0.0.0.0/0", "gw": "10.1.0.7"},
            {"dst": "fc00::/48"},
        ]);
        let result = with_gateways(json!({"ips": ips, "routes": routes}));
        let gateways = result["routes"].as_array().unwrap().iter();
        let gateways: Vec<_> = gateways.map(|route| route["gw"].clone()).collect();
        assert_eq!(gateways, ["10.1.0.1", "10.1.0.7", "fc00::1"]);
        for odd in [
            json!(null),
            json!({"routes": [{"dst": "10.0.0.0/8"}, 1, {}], "ips": [{}, 1]}),
            json!({"routes": {}, "ips": {}}),
        ] {
            assert_eq!(with_gateways(odd.clone()), odd);
        }
    }
}
