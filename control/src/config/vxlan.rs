//! Options of the vxlan backend.

use super::{BackendConfig, ConfigError, value};
use crate::wire::Vni;
use std::fmt::Display;

/// What `Backend` says when its type is `vxlan`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanOptions {
    /// VXLAN network identifier.
    pub vni: Vni,
    /// UDP port that every node listens on.
    pub port: u16,
    /// MTU of the outgoing packets in bytes; `None`: that of the external interface.
    pub mtu: Option<u32>,
    /// Whether received headers may carry a group policy (draft-smith-vxlan-group-policy).
    /// None is sent: the kernel takes it from a packet's mark, which a TUN does not hand over.
    pub gbp: bool,
    /// Whether peers on the same link get kernel routes instead of the tunnel.
    pub direct_routing: bool,
}

impl VxlanOptions {
    /// VNI used when the config names none.
    pub const DEFAULT_VNI: Vni = Vni::new(1).unwrap();

    /// Port used when the config names none: that of Linux, not the registered 4789.
    pub const DEFAULT_PORT: u16 = 8472;

    /// Bytes that VXLAN adds to each packet: IPv4 (20) or IPv6 (40), UDP (8), VXLAN (8) and
    /// the inner Ethernet header (14).
    pub const fn overhead(v6: bool) -> u32 {
        if v6 { 70 } else { 50 }
    }

    /// Smallest MTU of the outgoing packets: leaves 576 bytes inside, which every IPv4 host
    /// takes.
    pub const MTU_MIN: u32 = 576 + Self::overhead(false);

    /// Largest MTU of the outgoing packets: an IPv4 packet ends there.
    pub const MTU_MAX: u32 = 65_535;

    /// Read the options. `Learning` is refused: there is nothing for it to learn.
    pub fn parse(backend: &BackendConfig) -> Result<VxlanOptions, ConfigError> {
        let options = &backend.options;
        let flag = |key| Ok(value(options, key, "true or false")?.unwrap_or(false));
        if flag("Learning")? {
            let rule = "weft sends by leases alone, so there are no addresses to learn from packets; remove it or set it to false";
            return Err(ConfigError::invalid("Learning", true, rule));
        }
        let number = |key, default, min, max| -> Result<i64, ConfigError> {
            let number = value(options, key, "an integer")?.unwrap_or(default);
            if number != default && !(min..=max).contains(&number) {
                return Err(outside(key, number, min, max));
            }
            Ok(number)
        };
        // Zero stands for "not set" in flannel's Port and MTU.
        let port = number("Port", 0, 1, 65_535)?;
        let (mtu_min, mtu_max) = (VxlanOptions::MTU_MIN, VxlanOptions::MTU_MAX);
        let mtu = number("MTU", 0, i64::from(mtu_min), i64::from(mtu_max))?;
        let vni = match value::<i64>(options, "VNI", "an integer")? {
            None => VxlanOptions::DEFAULT_VNI,
            Some(number) => u32::try_from(number)
                .ok()
                .and_then(Vni::new)
                .ok_or_else(|| outside("VNI", number, 0, Vni::MAX))?,
        };
        Ok(VxlanOptions {
            vni,
            port: match port {
                0 => VxlanOptions::DEFAULT_PORT,
                port => port as u16,
            },
            mtu: (mtu != 0).then_some(mtu as u32),
            gbp: flag("GBP")?,
            direct_routing: flag("DirectRouting")?,
        })
    }
}

fn outside(key: &'static str, number: i64, min: i64, max: impl Display) -> ConfigError {
    let rule = format!("must be between {min} and {max}");
    ConfigError::invalid(key, number, rule)
}
