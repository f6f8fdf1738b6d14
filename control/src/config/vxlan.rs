//! Options of the vxlan backend.

use super::{BackendConfig, ConfigError, value};

/// Bytes that VXLAN over IPv4 adds to each packet.
const OVERHEAD: u32 = 50;

/// The smallest MTU that IPv4 allows on a device (RFC 791).
const MTU_MIN: u32 = 68;

/// What `Backend` says when its type is `vxlan`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanOptions {
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// UDP port that every node listens on.
    pub port: u16,
    /// MTU of the outgoing packets in bytes; `None`: that of the external interface.
    pub mtu: Option<u32>,
}

impl VxlanOptions {
    /// Port used when the config names none: that of Linux, not the registered 4789.
    pub const DEFAULT_PORT: u16 = 8472;

    /// Read the options; those not there yet are refused by name.
    pub fn parse(backend: &BackendConfig) -> Result<VxlanOptions, ConfigError> {
        let options = &backend.options;
        for key in ["GBP", "Learning", "DirectRouting"] {
            if value(options, key, "true or false")?.unwrap_or(false) {
                return Err(ConfigError::Unsupported {
                    key,
                    value: "true".into(),
                    remedy: "set it to false".into(),
                });
            }
        }
        let number = |key, default, min, max| -> Result<i64, ConfigError> {
            let number = value(options, key, "an integer")?.unwrap_or(default);
            if number != default && !(min..=max).contains(&number) {
                let rule = format!("must be between {min} and {max}");
                return Err(ConfigError::invalid(key, number, rule));
            }
            Ok(number)
        };
        // Zero stands for "not set" in flannel's Port and MTU.
        let port = number("Port", 0, 1, 65_535)?;
        let mtu = number("MTU", 0, i64::from(MTU_MIN + OVERHEAD), 65_535)?;
        Ok(VxlanOptions {
            vni: number("VNI", 1, 0, (1 << 24) - 1)? as u32,
            port: match port {
                0 => VxlanOptions::DEFAULT_PORT,
                port => port as u16,
            },
            mtu: (mtu != 0).then_some(mtu as u32),
        })
    }
}
