//! The vxlan backend: a tunnel for each address family, `flannel.<VNI>` and
//! `flannel-v6.<VNI>`, with the same VNI and port.

use super::direct::Which;
use super::peers::PeerKind;
use super::tunnel::{self, Plan};
use super::{BackendError, Family, Host, Prepared, PreparedCarrier, mtu};
use crate::config::{NetworkConfig, VxlanOptions};
use crate::lease::{LeaseAttrs, VxlanData};
use weft_dataplane::wire::frame::Wire;

/// The `BackendType` of vxlan leases.
const BACKEND: &str = "vxlan";

/// Devices, ports and MACs for all families of the network.
pub(super) async fn prepare(host: Host, config: &NetworkConfig) -> Result<Prepared, BackendError> {
    let options = VxlanOptions::parse(&config.backend)?;
    let (v4, v6) = host.public_addresses();
    let mut carriers = Vec::new();
    let (mut data_v4, mut data_v6) = (None, None);
    let mut smallest = u32::MAX;
    for family in Family::of(config) {
        let plan = plan(&host, &options, family)?;
        smallest = smallest.min(plan.mtu);
        let tunnel = tunnel::Prepared::new(plan, &host).await?;
        let data = VxlanData {
            vni: options.vni,
            vtep_mac: tunnel.mac(),
        };
        match family {
            Family::V4 => data_v4 = v4.map(|addr| (addr, data)),
            Family::V6 => data_v6 = v6.map(|addr| (addr, data)),
        }
        carriers.push(PreparedCarrier {
            peers: PeerKind {
                family,
                backend: BACKEND,
                has_mac: true,
            },
            tunnel: Some(tunnel),
            direct: match options.direct_routing {
                true => Which::OnLink,
                false => Which::None,
            },
        });
    }
    Ok(Prepared {
        attrs: LeaseAttrs::vxlan(data_v4, data_v6),
        // Pods have one MTU for both families, so it must fit the longer outer headers.
        mtu: smallest,
        carriers,
        host,
    })
}

fn plan(host: &Host, options: &VxlanOptions, family: Family) -> Result<Plan, BackendError> {
    let (name, v6) = match family {
        Family::V4 => ("flannel", false),
        Family::V6 => ("flannel-v6", true),
    };
    let overhead = VxlanOptions::overhead(v6);
    Ok(Plan {
        device: format!("{name}.{}", options.vni),
        wire: Wire::Vxlan,
        vni: options.vni,
        gbp: options.gbp,
        local: host.local(family)?,
        port: options.port,
        mtu: mtu::of_device(&host.underlay, family, options.mtu, overhead)?,
    })
}
