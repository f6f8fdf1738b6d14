//! Settings, address and state of the TAP of tunnel GSO.
//!
//! What weft writes to it is received by the kernel on this device and forwarded to the underlay
//! device. So it must forward, and a packet from an address of this node's own must not be taken
//! for forged.

use super::netlink::{Link, Netlink, NetlinkError};
use super::sysctl;
use std::io;
use std::net::Ipv4Addr;

/// Family, name and value of each setting, and whether the device is of no use without it. The
/// kernel takes the greater of `rp_filter` here and that of `all`.
const SETTINGS: [(&str, &str, &str, bool); 4] = [
    ("ipv4", "forwarding", "1", true),
    ("ipv4", "accept_local", "1", true),
    ("ipv4", "rp_filter", "0", true),
    // It is to stay silent.
    ("ipv6", "disable_ipv6", "1", false),
];

/// The address of every such device, of host scope, so that nobody takes it for a source or for an
/// address of the node: a loose `rp_filter` drops all that comes from a device without one.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 84, 65, 80);

/// Why a TAP cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TapSetupError {
    /// Its address or state.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A setting without which it is of no use.
    #[error("cannot set {setting} to {value}: {source}")]
    Setting {
        /// Name of the sysctl.
        setting: String,
        /// What it must be.
        value: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Give `link` its settings and its address, and bring it up.
pub async fn set_up(netlink: &Netlink, link: &Link) -> Result<(), TapSetupError> {
    restore(netlink, link).await?;
    Ok(bring_up(netlink, link).await?)
}

/// Bring `link` up.
pub async fn bring_up(netlink: &Netlink, link: &Link) -> Result<(), NetlinkError> {
    netlink.set_link_up_silently(link).await
}

/// Give `link` its settings and its address where it lacks them; whether it did.
///
/// Whoever applies the host's sysctls to each device that appears comes after [`set_up`], and
/// whoever manages addresses may flush those that are not his.
pub async fn restore(netlink: &Netlink, link: &Link) -> Result<bool, TapSetupError> {
    let changed = configure(&link.name)?;
    if netlink.has_ipv4(link).await? {
        return Ok(changed);
    }
    netlink.add_host_address(link, ADDRESS).await?;
    Ok(true)
}

/// See to the settings of `device`; whether any was another.
fn configure(device: &str) -> Result<bool, TapSetupError> {
    let mut changed = false;
    for (family, name, value, needed) in SETTINGS {
        match sysctl::ensure(family, device, name, value) {
            Ok(was_another) => changed |= was_another,
            Err(source) if needed => {
                let setting = format!("net.{family}.conf.{device}.{name}");
                return Err(TapSetupError::Setting {
                    setting,
                    value,
                    source,
                });
            }
            Err(_) => {}
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::super::netns;
    use super::*;
    use std::fs;

    fn setting(name: &str) -> String {
        let path = format!("/proc/sys/net/ipv4/conf/weft.1/{name}");
        fs::read_to_string(path).unwrap().trim().to_owned()
    }

    #[test]
    fn a_tap_has_its_settings_and_its_address_again_when_others_took_them() {
        netns::run(async |netlink| {
            netns::ip(&["tuntap", "add", "weft.1", "mode", "tap"]);
            let link = netlink.link("weft.1").await.unwrap().unwrap();
            set_up(&netlink, &link).await.unwrap();
            assert!(netlink.link("weft.1").await.unwrap().unwrap().up);
            assert!(!restore(&netlink, &link).await.unwrap(), "it has all");
            netns::ip(&["address", "flush", "dev", "weft.1"]);
            assert!(restore(&netlink, &link).await.unwrap());
            let listed = netns::ip(&["-details", "address", "show", "dev", "weft.1"]);
            for words in ["127.84.65.80/32 scope host", "NOARP", "UP"] {
                assert!(listed.contains(words), "{words}: {listed}");
            }
            fs::write("/proc/sys/net/ipv4/conf/weft.1/rp_filter", "1").unwrap();
            fs::write("/proc/sys/net/ipv4/conf/weft.1/accept_local", "0").unwrap();
            assert!(restore(&netlink, &link).await.unwrap());
            let settings = ["rp_filter", "accept_local", "forwarding"].map(setting);
            assert_eq!(settings, ["0", "1", "1"]);
        });
    }

    #[test]
    fn an_address_that_somebody_else_gave_it_will_do() {
        netns::run(async |netlink| {
            netns::ip(&["tuntap", "add", "weft.1", "mode", "tap"]);
            // Of another device, which must not count.
            netns::ip(&["link", "set", "lo", "up"]);
            let link = netlink.link("weft.1").await.unwrap().unwrap();
            assert!(!netlink.has_ipv4(&link).await.unwrap());
            netns::ip(&["address", "add", "192.0.2.1/32", "dev", "weft.1"]);
            assert!(netlink.has_ipv4(&link).await.unwrap());
            restore(&netlink, &link).await.unwrap();
            let listed = netns::ip(&["address", "show", "dev", "weft.1"]);
            assert!(!listed.contains("127.84.65.80"), "{listed}");
        });
    }

    #[test]
    fn a_setting_that_cannot_be_made_is_named() {
        let error = configure("weft.none").unwrap_err().to_string();
        assert!(
            error.contains("net.ipv4.conf.weft.none.forwarding"),
            "{error}"
        );
    }
}
