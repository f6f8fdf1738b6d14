//! The MTU of a tunnel device.

use crate::family::Family;
use crate::host::iface::Underlay;

/// Longest packet in bytes.
const PACKET_MAX: u32 = 65_535;

/// An MTU that leaves the device none to use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{device} as MTU of the {family} tunnel ({origin} minus {overhead} for the tunnel's headers) is not between {min} and {max}; set Backend.MTU in the network config, or choose another interface with -iface"
)]
pub struct MtuError {
    device: i64,
    family: Family,
    origin: String,
    overhead: u32,
    min: u32,
    max: u32,
}

/// Smallest MTU of a tunnel device. Every IPv4 host takes packets of 576 bytes (RFC 1122
/// section 3.3.2), and below 1280 there is no IPv6 (RFC 8200 section 5); a network whose
/// packets cannot reach it breaks in ways that are hard to find.
fn device_min(family: Family) -> u32 {
    match family {
        Family::V4 => 576,
        Family::V6 => 1280,
    }
}

/// The device's MTU in bytes: `configured` (`Backend.MTU`, that of the outer packets) or the
/// underlay's, less `overhead`.
pub(super) fn of_device(
    underlay: &Underlay,
    family: Family,
    configured: Option<u32>,
    overhead: u32,
) -> Result<u32, MtuError> {
    let outer = configured.unwrap_or(underlay.mtu);
    let device = outer.saturating_sub(overhead);
    let (min, max) = (device_min(family), PACKET_MAX - overhead);
    if !(min..=max).contains(&device) {
        let origin = match configured {
            Some(mtu) => format!("Backend.MTU {mtu}"),
            None => format!("MTU {} of {}", underlay.mtu, underlay.name),
        };
        return Err(MtuError {
            device: i64::from(outer) - i64::from(overhead),
            family,
            origin,
            overhead,
            min,
            max,
        });
    }
    if outer > underlay.mtu {
        tracing::warn!(
            code = "W0413",
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
    use crate::config::VxlanOptions;
    use crate::family::PerFamily;

    fn of(family: Family, underlay: u32, configured: Option<u32>) -> Result<u32, String> {
        let underlay = Underlay {
            name: "eth0".to_owned(),
            index: 2,
            mtu: underlay,
            local: PerFamily::default(),
            public: PerFamily::default(),
            by_default_route: false,
        };
        let overhead = VxlanOptions::overhead(family == Family::V6);
        of_device(&underlay, family, configured, overhead).map_err(|error| error.to_string())
    }

    #[test]
    fn the_overhead_comes_off() {
        assert_eq!(of(Family::V4, 1500, None), Ok(1450));
        assert_eq!(of(Family::V6, 1500, None), Ok(1430));
        assert_eq!(of(Family::V4, 9000, None), Ok(8950));
        assert_eq!(of(Family::V4, 1500, Some(1400)), Ok(1350));
        assert_eq!(of(Family::V6, 1500, Some(1400)), Ok(1330));
        assert_eq!(
            of(Family::V4, 1500, Some(9000)),
            Ok(8950),
            "as flannel, with a warning"
        );
        assert_eq!(of(Family::V4, 626, None), Ok(576));
        assert_eq!(of(Family::V6, 1350, None), Ok(1280));
        assert_eq!(of(Family::V4, 65_535, None), Ok(65_485));
    }

    #[test]
    fn whatever_the_config_may_say_is_usable() {
        for mtu in [VxlanOptions::MTU_MIN, VxlanOptions::MTU_MAX] {
            assert_eq!(of(Family::V4, 1500, Some(mtu)), Ok(mtu - 50));
        }
    }

    #[test]
    fn unusable_ones_are_refused_with_their_origin() {
        let error = of(Family::V4, 625, None).unwrap_err();
        assert!(
            error.starts_with("575 ") && error.contains("MTU 625 of eth0"),
            "{error}"
        );
        assert!(
            of(Family::V4, 65_536, None)
                .unwrap_err()
                .starts_with("65486 ")
        );
        let error = of(Family::V6, 1300, None).unwrap_err();
        assert!(
            error.starts_with("1230 ") && error.contains("IPv6"),
            "{error}"
        );
        let error = of(Family::V4, 1500, Some(20)).unwrap_err();
        assert!(
            error.starts_with("-30 ") && error.contains("Backend.MTU 20"),
            "{error}"
        );
    }
}
