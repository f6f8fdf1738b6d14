//! Listing some routes of many: the kernel leaves the others out, which costs a hundredth of
//! what it takes to look at each of them here.

use super::connection::Netlink;
use super::error::{NetlinkError, failed};
use super::message::route_from;
use super::types::Route;
use futures::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use rustix::io::Errno;
use std::pin::pin;

/// Which routes of the main table are of interest: those of which all that is given is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteFilter {
    /// Index of the outgoing interface.
    pub index: Option<u32>,
    /// Who made it.
    pub protocol: Option<u8>,
    /// Whether what it leads to is dropped.
    pub blackhole: Option<bool>,
}

impl RouteFilter {
    fn takes(&self, route: &Route) -> bool {
        self.index.is_none_or(|index| route.index == Some(index))
            && self.protocol.is_none_or(|by| route.protocol == by)
            && self.blackhole.is_none_or(|drops| route.blackhole == drops)
    }

    fn request(&self, family: AddressFamily) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        if let Some(protocol) = self.protocol {
            message.header.protocol = protocol.into();
        }
        match self.blackhole {
            Some(true) => message.header.kind = RouteType::BlackHole,
            Some(false) => message.header.kind = RouteType::Unicast,
            None => {}
        }
        message.attributes = self.index.map(RouteAttribute::Oif).into_iter().collect();
        message
    }
}

impl Netlink {
    /// Routes of the main table that `filter` takes, IPv4 before IPv6, each in the kernel's order
    /// of preference.
    pub async fn routes_like(&self, filter: RouteFilter) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let request = self.strict.route().get(filter.request(family));
            let mut listing = pin!(request.execute());
            loop {
                let next = listing.try_next().await;
                #[cfg(test)]
                self.listed
                    .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                match next {
                    // A kernel without IPv6 answers with what it has, and one that knows no
                    // filters with everything.
                    Ok(Some(message)) if message.header.address_family == family => {
                        routes.extend(route_from(&message).filter(|route| filter.takes(route)));
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) if is_no_table(&error) => break,
                    Err(error) => return Err(failed("list the routes", error)),
                }
            }
        }
        Ok(routes)
    }
}

/// Whether there has never been a route of the family, nor a table for it.
fn is_no_table(error: &rtnetlink::Error) -> bool {
    match error {
        rtnetlink::Error::NetlinkError(message) => {
            Errno::from_io_error(&message.to_io()) == Some(Errno::NOENT)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netlink::{PROTOCOL_BOOT, PROTOCOL_WEFT};
    use crate::host::netns;

    #[test]
    fn a_filter_takes_what_the_whole_listing_has_of_it() {
        netns::run(async |netlink| {
            assert_eq!(netlink.routes().await.unwrap(), [], "no table at all");
            let eth0 = netns::link(&netlink, "eth0").await;
            netns::ip(&["address", "add", "192.0.2.1/24", "dev", "eth0"]);
            netns::ip(&[
                "-6",
                "address",
                "add",
                "2001:db8::1/64",
                "dev",
                "eth0",
                "nodad",
            ]);
            netns::ip(&["link", "set", "eth0", "up"]);
            netns::ip(&["link", "set", "lo", "up"]);
            for route in [
                "10.5.9.0/24 via 192.0.2.9 proto 119",
                "10.5.10.0/24 via 192.0.2.9",
                "10.5.11.0/24 dev lo",
                "fd00:5:9::/64 via 2001:db8::9 proto 119",
                "fd00:5:10::/64 via 2001:db8::9",
                "10.5.12.0/24 via 192.0.2.9 table 77",
                "blackhole 10.5.13.0/24 proto 119",
                "blackhole fd00:5:13::/64",
            ] {
                let words = ["route", "add"].into_iter().chain(route.split(' '));
                netns::ip(&words.collect::<Vec<_>>());
            }
            let all = netlink.routes().await.unwrap();
            let index = Some(eth0.index);
            for (filter, least) in [
                (
                    RouteFilter {
                        index,
                        ..RouteFilter::default()
                    },
                    6,
                ),
                (
                    RouteFilter {
                        protocol: Some(PROTOCOL_WEFT),
                        ..RouteFilter::default()
                    },
                    3,
                ),
                (
                    RouteFilter {
                        blackhole: Some(true),
                        ..RouteFilter::default()
                    },
                    2,
                ),
                (
                    RouteFilter {
                        blackhole: Some(false),
                        ..RouteFilter::default()
                    },
                    7,
                ),
                (
                    RouteFilter {
                        index,
                        protocol: Some(PROTOCOL_BOOT),
                        blackhole: None,
                    },
                    2,
                ),
            ] {
                let expected: Vec<Route> =
                    all.iter().filter(|r| filter.takes(r)).cloned().collect();
                assert!(expected.len() >= least, "{filter:?}: {expected:?}");
                assert_eq!(
                    netlink.routes_like(filter).await.unwrap(),
                    expected,
                    "{filter:?}"
                );
            }
        });
    }

    #[test]
    fn the_kernel_leaves_out_what_is_not_asked_for() {
        netns::run(async |netlink| {
            netns::link(&netlink, "eth0").await;
            netns::ip(&["link", "set", "eth0", "up"]);
            netns::ip(&["route", "add", "10.5.9.0/24", "dev", "eth0", "proto", "119"]);
            netns::ip(&["route", "add", "10.5.10.0/24", "dev", "eth0"]);
            let filter = RouteFilter {
                protocol: Some(PROTOCOL_WEFT),
                ..RouteFilter::default()
            };
            let request = netlink
                .strict
                .route()
                .get(filter.request(AddressFamily::Inet));
            let messages: Vec<_> = request.execute().try_collect().await.unwrap();
            assert_eq!(messages.len(), 1, "{messages:?}");
        });
    }
}
