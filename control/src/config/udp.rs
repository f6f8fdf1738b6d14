//! Options of the udp backend.

use super::{ConfigError, NetworkConfig, value};

/// What `Backend` says when its type is `udp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    /// UDP port that every node listens on: leases do not tell it.
    pub port: u16,
}

impl UdpOptions {
    /// Port used when the config names none.
    pub const DEFAULT_PORT: u16 = 8285;

    /// Bytes that each packet grows by: IPv4 (20) and UDP (8).
    pub const OVERHEAD: u32 = 28;

    /// Read the options. A network with IPv6 is refused: nothing in a datagram tells which of
    /// the two it holds, and flannel's proxies take all for IPv4.
    pub fn parse(config: &NetworkConfig) -> Result<UdpOptions, ConfigError> {
        if config.ranges.v6.is_some() {
            let rule =
                "the udp backend carries IPv4 alone; set it to false, or the Backend Type to vxlan";
            return Err(ConfigError::invalid("EnableIPv6", true, rule));
        }
        let port: i64 = value(&config.backend.options, "Port", "an integer")?.unwrap_or(0);
        let port = match port {
            0 => UdpOptions::DEFAULT_PORT,
            port => u16::try_from(port)
                .map_err(|_| ConfigError::invalid("Port", port, "must be between 1 and 65535"))?,
        };
        Ok(UdpOptions { port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Result<UdpOptions, String> {
        let config = NetworkConfig::parse(text).map_err(|e| e.to_string())?;
        UdpOptions::parse(&config).map_err(|e| e.to_string())
    }

    #[test]
    fn the_port_is_8285_unless_the_config_says_otherwise() {
        let port = |backend: &str| {
            let text = format!(r#"{{"Network":"10.5.0.0/16","Backend":{backend}}}"#);
            options(&text).map(|options| options.port)
        };
        assert_eq!(port(r#"{"Type":"udp"}"#), Ok(8285));
        assert_eq!(port(r#"{"Type":"udp","Port":0}"#), Ok(8285));
        assert_eq!(port(r#"{"type":"UDP","port":9000}"#), Ok(9000));
        for bad in ["-1", "65536", "\"8285\"", "1.5"] {
            let error = port(&format!(r#"{{"Type":"udp","Port":{bad}}}"#)).unwrap_err();
            assert!(error.starts_with("network config: Port "), "{error}");
        }
        let error = options(r#"{"Network":"10.5.0.0/16"}"#);
        assert_eq!(error.map(|options| options.port), Ok(8285));
    }

    #[test]
    fn networks_with_ipv6_are_refused_in_one_line() {
        for text in [
            r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48"}"#,
            r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48"}"#,
        ] {
            let error = options(text).unwrap_err();
            assert_eq!(
                error,
                "network config: EnableIPv6 true: the udp backend carries IPv4 alone; set it to false, or the Backend Type to vxlan"
            );
        }
    }
}
