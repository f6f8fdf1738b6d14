//! The MTU of the tunnel device.

use crate::config::VxlanOptions;
use crate::host::iface::Underlay;

const OVERHEAD: u32 = VxlanOptions::OVERHEAD;
const DEVICE_MTU_MIN: u32 = VxlanOptions::DEVICE_MTU_MIN;
const DEVICE_MTU_MAX: u32 = VxlanOptions::MTU_MAX - OVERHEAD;

/// An MTU that leaves the device none to use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{device} as MTU of the tunnel device ({origin} minus {OVERHEAD} for VXLAN) is not between {DEVICE_MTU_MIN} and {DEVICE_MTU_MAX}; set Backend.MTU in the network config"
)]
pub struct MtuError {
    device: i64,
    origin: String,
}

/// The device's MTU in bytes: `configured` (`Backend.MTU`, that of the outer packets) or the
/// underlay's, less what VXLAN adds. The config's has been checked when it was read; the
/// underlay's may be anything.
pub(super) fn of_device(underlay: &Underlay, configured: Option<u32>) -> Result<u32, MtuError> {
    let outer = configured.unwrap_or(underlay.mtu);
    let device = outer.saturating_sub(OVERHEAD);
    if !(DEVICE_MTU_MIN..=DEVICE_MTU_MAX).contains(&device) {
        let origin = match configured {
            Some(mtu) => format!("Backend.MTU {mtu}"),
            None => format!("MTU {} of {}", underlay.mtu, underlay.name),
        };
        let device = i64::from(outer) - i64::from(OVERHEAD);
        return Err(MtuError { device, origin });
    }
    if outer > underlay.mtu {
        tracing::warn!(
            "Backend.MTU {outer} is more than the MTU {} of {}: full-sized packets will be fragmented",
            underlay.mtu,
            underlay.name
        );
    }
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(underlay: u32, configured: Option<u32>) -> Result<u32, String> {
        let underlay = Underlay {
            name: "eth0".to_owned(),
            index: 2,
            addr: [192, 0, 2, 1].into(),
            mtu: underlay,
        };
        of_device(&underlay, configured).map_err(|error| error.to_string())
    }

    #[test]
    fn the_overhead_comes_off() {
        assert_eq!(of(1500, None), Ok(1450));
        assert_eq!(of(9000, None), Ok(8950));
        assert_eq!(of(1500, Some(1400)), Ok(1350));
        assert_eq!(of(1500, Some(9000)), Ok(8950), "as flannel, with a warning");
        assert_eq!(of(626, None), Ok(576));
        assert_eq!(of(65_535, None), Ok(65_485));
    }

    #[test]
    fn whatever_the_config_may_say_is_usable() {
        for mtu in [VxlanOptions::MTU_MIN, VxlanOptions::MTU_MAX] {
            assert_eq!(of(1500, Some(mtu)), Ok(mtu - 50));
        }
    }

    #[test]
    fn unusable_ones_are_refused_with_their_origin() {
        let error = of(625, None).unwrap_err();
        assert!(
            error.starts_with("575 ") && error.contains("MTU 625 of eth0"),
            "{error}"
        );
        assert!(of(65_536, None).unwrap_err().starts_with("65486 "));
        let error = of(1500, Some(20)).unwrap_err();
        assert!(
            error.starts_with("-30 ") && error.contains("Backend.MTU 20"),
            "{error}"
        );
    }
}
