//! What container runtimes go by.

use super::facts::{Case, Failure, Fine, Warning};
use crate::doctor::facts::Conflist;

pub(super) const CASES: &[Case] = &[
    (
        "subnet-env",
        |f| f.host.subnet_env = None,
        Failure,
        "cannot be read",
        "df /run",
    ),
    (
        "subnet-env",
        |f| {
            f.host
                .subnet_env
                .as_mut()
                .unwrap()
                .insert("FLANNEL_SUBNET".to_owned(), "10.5.9.1/24".to_owned());
        },
        Failure,
        "10.5.9.1/24, and the lease 10.5.1.0/24",
        "10 s",
    ),
    (
        "subnet-env",
        |f| {
            f.host
                .subnet_env
                .as_mut()
                .unwrap()
                .insert("FLANNEL_MTU".to_owned(), "1500".to_owned());
        },
        Failure,
        "MTU 1500",
        "10 s",
    ),
    (
        "conflist",
        |f| f.host.conflists.clear(),
        Fine,
        "no CNI here",
        "",
    ),
    (
        "conflist",
        |f| f.host.conflists[0].plugins = Err("line 3: expected `,`".to_owned()),
        Failure,
        "line 3",
        "10-flannel.conflist",
    ),
    (
        "conflist",
        |f| f.host.cni_plugin = false,
        Failure,
        "/opt/cni/bin",
        "make install",
    ),
    (
        "conflist",
        |f| f.host.conflists[0].mtu = Some(1500),
        Failure,
        "gives pods the MTU 1500",
        "delegate.mtu",
    ),
    (
        "conflist",
        |f| {
            f.host.conflists.insert(
                0,
                Conflist {
                    path: "/etc/cni/net.d/05-x.conf".to_owned(),
                    plugins: Ok(vec!["bridge".to_owned()]),
                    mtu: None,
                },
            )
        },
        Warning,
        "takes /etc/cni/net.d/05-x.conf",
        "mv ",
    ),
    (
        "bridge",
        |f| f.host.links[2].mtu = 1500,
        Failure,
        "MTU of cni0 is 1500",
        "ip link set dev cni0 mtu 1450",
    ),
    (
        "bridge",
        |f| f.host.links[2].addresses = vec![[10, 5, 9, 1].into()],
        Failure,
        "another subnet",
        "lose their network",
    ),
    (
        "bridge",
        |f| {
            f.host.links.remove(2);
        },
        Fine,
        "none yet",
        "",
    ),
];
