//! The vxlan backend: a tunnel for each address family, `flannel.<VNI>` and
//! `flannel-v6.<VNI>`, with the same VNI and port.

use super::carrier::{Carriers, PreparedCarrier, local_address};
use super::direct::RoutedPeers;
use super::error::BackendError;
use super::host::Host;
use super::mtu;
use super::peers::PeerKind;
use super::tunnel::{
    BackendOptions, Inheritance, PreparedTunnel, SharedDataplane, TunnelSpec, Wire,
};
use crate::config::{ConfigError, NetworkConfig, VxlanOptions};
use crate::family::Family;
use crate::lease::LeaseAttrs;
use crate::wire::Vni;

/// The `BackendType` of vxlan leases.
const BACKEND: &str = "vxlan";

/// Longest name that the kernel takes (`IFNAMSIZ` less the NUL).
const NAME_MAX: usize = 15;

/// Devices, ports and MACs for all families of the network.
pub(super) async fn prepare(
    host: &Host,
    options: &BackendOptions,
    config: &NetworkConfig,
    inheritance: &mut Option<Inheritance>,
) -> Result<Carriers, BackendError> {
    let vxlan = VxlanOptions::parse(&config.backend)?;
    let mut carriers = Vec::new();
    let mut specs = Vec::new();
    for family in config.families() {
        specs.push((family, spec(host, &vxlan, family)?));
    }
    // Pods have one MTU for both families, so it must fit the longer outer headers.
    let pod_mtu = specs.iter().map(|(_, spec)| spec.mtu).min();
    let pod_mtu = pod_mtu.unwrap_or(u32::MAX);
    let dataplane = SharedDataplane::new(host, &options.workers, specs.len())?;
    for (family, spec) in specs {
        let spec = TunnelSpec { pod_mtu, ..spec };
        let shared = (dataplane.clone(), inheritance.as_mut());
        let tunnel = PreparedTunnel::new(spec, host, options, shared).await?;
        carriers.push(PreparedCarrier {
            peers: PeerKind {
                family,
                backend: BACKEND,
                has_mac: true,
            },
            tunnel: Some(tunnel),
            direct: match vxlan.direct_routing {
                true => RoutedPeers::OnLink,
                false => RoutedPeers::None,
            },
        });
    }
    Ok(Carriers {
        attrs: attrs(host, &carriers),
        mtu: pod_mtu,
        list: carriers,
    })
}

/// What the lease tells the peers of these tunnels.
pub(super) fn attrs(host: &Host, carriers: &[PreparedCarrier]) -> LeaseAttrs {
    let data = |family| {
        let carrier = carriers.iter().find(|c| c.peers.family == family)?;
        carrier.tunnel.as_ref()?.vxlan_data()
    };
    let (v4, v6) = host.underlay.public.typed();
    LeaseAttrs::vxlan(v4.zip(data(Family::V4)), v6.zip(data(Family::V6)))
}

fn spec(host: &Host, vxlan: &VxlanOptions, family: Family) -> Result<TunnelSpec, BackendError> {
    let overhead = VxlanOptions::overhead(family == Family::V6);
    let mtu = mtu::of_device(&host.underlay, family, vxlan.mtu, overhead)?;
    Ok(TunnelSpec {
        device: device(vxlan.vni, family)?,
        wire: Wire::Vxlan,
        vni: vxlan.vni,
        gbp: vxlan.gbp,
        local: local_address(host, family)?,
        port: vxlan.port,
        mtu,
        pod_mtu: mtu,
        metric: None,
    })
}

/// The device's name, which peers never see, but operators and flanneld do.
fn device(vni: Vni, family: Family) -> Result<String, ConfigError> {
    let name = match family {
        Family::V4 => "flannel",
        Family::V6 => "flannel-v6",
    };
    let device = format!("{name}.{vni}");
    if device.len() > NAME_MAX {
        let rule = format!(
            "the device would be called {device}, and names have {NAME_MAX} characters at most: must not be more than 9999999, or 9999 where the network has IPv6"
        );
        return Err(ConfigError::invalid("VNI", vni, rule));
    }
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vxlan_options_give_devices_names_that_fit_the_kernel() {
        for (family, largest, name) in [
            (Family::V4, 9_999_999, "flannel.9999999"),
            (Family::V6, 9_999, "flannel-v6.9999"),
        ] {
            let device = |vni| device(Vni::new(vni).unwrap(), family);
            assert_eq!(device(largest), Ok(name.to_owned()));
            let error = device(largest + 1).unwrap_err().to_string();
            for words in ["VNI", &(largest + 1).to_string(), "9999999", "9999 "] {
                assert!(error.contains(words), "{error}");
            }
        }
    }
}
