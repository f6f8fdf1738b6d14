use crate::lab::{Etcd, Mode, PREFIX, Proxy, manager, timing};
use crate::{FRESH, config, node, previously, soon};
use futures::future::join_all;
use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};
use weft_control::config::NetworkConfig;
use weft_control::family::Family;
use weft_control::lease::LeaseAttrs;
use weft_control::subnets::{SubnetError, SubnetManager, wait_for_config};
use weft_lab::log::Log;

#[tokio::test]
async fn u1_no_config_key_is_an_error() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let error = subnets.network_config().await.unwrap_err();
    assert!(matches!(error, SubnetError::NoConfig { .. }), "{error:?}");
    let message = error.to_string();
    let begin = format!("no network config in etcd: key {PREFIX}/config not found");
    assert!(message.starts_with(&begin), "{message}");
    // The command that it shows does what it says.
    let (_, command) = message.split_once("store one with: ").unwrap();
    let shell = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(shell.status.success(), "{shell:?}");
    let stored = subnets.network_config().await.unwrap();
    assert!(NetworkConfig::parse(&stored).is_ok(), "{stored}");
}

#[tokio::test]
async fn u2_the_config_is_returned_verbatim() {
    let etcd = Etcd::start().await;
    let text = "{ \"Network\" : \"10.1.0.0/16\" , \"x\":1}\n";
    etcd.put("config", text).await;
    let found = etcd.subnets().await.network_config().await;
    assert_eq!(found, Ok(text.to_owned()));
}

#[tokio::test]
async fn a_missing_or_invalid_config_is_waited_for() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let operator = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        etcd.put("config", "{").await;
        tokio::time::sleep(Duration::from_millis(1200)).await;
        etcd.put("config", r#"{"Network":"10.9.0.0/16"}"#).await;
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let text = r#"{"Network":"10.9.0.0/16","Backend":{"Type":"vxlan"}}"#;
        etcd.put("config", text).await;
    };
    let (config, ()) = tokio::join!(soon("config", wait_for_config(&subnets)), operator);
    let network = Some("10.9.0.0/16".parse().unwrap());
    assert_eq!(config.network(Family::V4), network);
}

#[tokio::test]
async fn u3_u4_a_lease_is_written_as_flannel_writes_it() {
    let etcd = Etcd::start().await;
    let one = NetworkConfig::parse(
        r#"{"Network":"10.1.0.0/16","SubnetMin":"10.1.5.0","SubnetMax":"10.1.5.0"}"#,
    )
    .unwrap();
    let attrs = LeaseAttrs::parse(r#"{"PublicIP":"1.2.3.4"}"#).unwrap();
    let lease = etcd
        .subnets()
        .await
        .acquire(&one, &attrs, &FRESH)
        .await
        .unwrap();
    assert_eq!(
        etcd.leases().await,
        [(
            "10.1.5.0-24".to_owned(),
            r#"{"PublicIP":"1.2.3.4","PublicIPv6":null}"#.to_owned()
        )]
    );
    let left = lease.expires.unwrap() - Instant::now();
    assert!(left > Duration::from_secs(86_000), "{left:?}");
    assert!(etcd.ttl("subnets/10.1.5.0-24").await.unwrap() > 86_000);
}

#[tokio::test]
async fn u11_acquire_stays_in_range_and_comes_back_to_the_same_lease() {
    let etcd = Etcd::start().await;
    let config = config();
    let first = etcd
        .subnets()
        .await
        .acquire(&config, &node(1), &FRESH)
        .await
        .unwrap();
    let subnet = first.subnet.unwrap();
    assert_eq!(subnet.prefix_len(), 24);
    let range = config.ranges.v4.unwrap();
    let range = range.min..=range.max;
    let addr = std::net::IpAddr::V4(subnet.addr());
    assert!(range.contains(&addr), "{subnet}");
    // Another process, other attributes, another wish: the address decides.
    let mut again = node(1);
    again.backend_data = node(7).backend_data;
    let mut wishes = ["10.1.5.0/24", "10.1.6.0/24"].map(previously).into_iter();
    let wish = wishes.find(|wish| wish.subnet != first.subnet).unwrap();
    let second = etcd
        .subnets()
        .await
        .acquire(&config, &again, &wish)
        .await
        .unwrap();
    assert_eq!(second.subnet, first.subnet);
    assert!(second.revision > first.revision);
    assert_eq!(
        etcd.leases().await,
        [(first.key().to_string(), again.to_json())]
    );
}

#[tokio::test]
async fn u11_the_previous_subnet_is_honoured_if_it_fits_and_is_free() {
    let etcd = Etcd::start().await;
    let (config, subnets) = (config(), etcd.subnets().await);
    let wish = previously("10.1.7.0/24");
    let lease = subnets.acquire(&config, &node(1), &wish).await.unwrap();
    assert_eq!(lease.subnet, wish.subnet);
    // Taken by node 1.
    let lease = subnets.acquire(&config, &node(2), &wish).await.unwrap();
    assert_ne!(lease.subnet, wish.subnet);
    // Outside of the range, and of another length.
    for (n, wish) in [(3, "10.1.9.0/24"), (4, "10.1.5.0/25")] {
        let wish = previously(wish);
        let lease = subnets.acquire(&config, &node(n), &wish).await.unwrap();
        assert_ne!(lease.subnet, wish.subnet);
    }
}

#[tokio::test]
async fn u12_another_network_means_another_subnet_and_no_trace_of_the_old_one() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let changed = NetworkConfig::parse(r#"{"Network":"10.2.0.0/16"}"#).unwrap();
    let new = subnets
        .acquire(&changed, &node(1), &previously("10.1.5.0/24"))
        .await
        .unwrap();
    let network = changed.network(Family::V4).unwrap();
    assert!(network.contains(&new.subnet(Family::V4).unwrap()));
    assert_eq!(
        etcd.leases().await,
        [(new.key().to_string(), node(1).to_json())]
    );
}

#[tokio::test]
async fn s85_a_lease_that_lost_its_ipv6_half_keeps_the_subnet() {
    let etcd = Etcd::start().await;
    etcd.put("subnets/10.1.6.0-24&fd00:0:0:6::-64", &node(1).to_json())
        .await;
    let lease = etcd
        .subnets()
        .await
        .acquire(&config(), &node(1), &FRESH)
        .await
        .unwrap();
    assert_eq!(lease.subnet, Some("10.1.6.0/24".parse().unwrap()));
    assert_eq!(
        etcd.leases().await,
        [("10.1.6.0-24".to_owned(), node(1).to_json())]
    );
}

#[tokio::test]
async fn s85_after_a_lost_create_race_two_nodes_have_one_of_two_subnets_each() {
    let etcd = Etcd::start().await;
    let two = NetworkConfig::parse(
        r#"{"Network":"10.1.0.0/16","SubnetMin":"10.1.5.0","SubnetMax":"10.1.6.0"}"#,
    )
    .unwrap();
    let (a, b) = (etcd.subnets().await, etcd.subnets().await);
    for round in 0..20 {
        let (first, second) = (node(1), node(2));
        let (a, b) = tokio::join!(
            a.acquire(&two, &first, &FRESH),
            b.acquire(&two, &second, &FRESH)
        );
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_ne!(a.subnet, b.subnet, "round {round}");
        etcd.delete(&format!("subnets/{}", a.key())).await;
        etcd.delete(&format!("subnets/{}", b.key())).await;
    }
}

#[tokio::test]
async fn the_loser_of_the_last_subnet_is_told_so() {
    let etcd = Etcd::start().await;
    let one = NetworkConfig::parse(
        r#"{"Network":"10.1.0.0/16","SubnetMin":"10.1.5.0","SubnetMax":"10.1.5.0"}"#,
    )
    .unwrap();
    let (a, b) = (etcd.subnets().await, etcd.subnets().await);
    let (first, second) = (node(1), node(2));
    let outcome = tokio::join!(
        a.acquire(&one, &first, &FRESH),
        b.acquire(&one, &second, &FRESH)
    );
    let (winner, loser) = match outcome {
        (Ok(winner), Err(loser)) | (Err(loser), Ok(winner)) => (winner, loser),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        etcd.leases().await,
        [("10.1.5.0-24".to_owned(), winner.attrs.to_json())]
    );
    assert_eq!(
        loser.to_string(),
        "out of subnets: every subnet of length 24 between 10.1.5.0 and 10.1.5.0 is leased; \
         enlarge Network or delete leases of nodes that are gone"
    );
}

#[tokio::test]
async fn malformed_keys_are_ignored_and_malformed_values_keep_their_subnet_taken() {
    let etcd = Etcd::start().await;
    for key in [
        "10.1.5.0",
        "10.1.6.0-24hi",
        "junk",
        "10.1.7.1-24",
        "x/10.1.8.0-24",
    ] {
        etcd.put(&format!("subnets/{key}"), &node(9).to_json())
            .await;
    }
    for (subnet, value) in [("10.1.5.0-24", "junk"), ("10.1.6.0-24", "{}")] {
        etcd.put(&format!("subnets/{subnet}"), value).await;
    }
    let subnets = etcd.subnets().await;
    let mut got = BTreeSet::new();
    for n in [1, 2] {
        got.insert(
            subnets
                .acquire(&config(), &node(n), &FRESH)
                .await
                .unwrap()
                .subnet,
        );
    }
    let expected = ["10.1.7.0/24", "10.1.8.0/24"].map(|net| Some(net.parse().unwrap()));
    assert_eq!(got, BTreeSet::from(expected));
    let error = subnets
        .acquire(&config(), &node(3), &FRESH)
        .await
        .unwrap_err();
    assert!(matches!(error, SubnetError::OutOfSubnets { .. }), "{error}");
    assert_eq!(
        etcd.get("subnets/10.1.5.0-24").await,
        Some("junk".to_owned())
    );
}

#[tokio::test]
async fn unused_grants_are_given_back() {
    let etcd = Etcd::start().await;
    let two = NetworkConfig::parse(
        r#"{"Network":"10.1.0.0/16","SubnetMin":"10.1.5.0","SubnetMax":"10.1.12.0"}"#,
    )
    .unwrap();
    let managers = [
        etcd.subnets().await,
        etcd.subnets().await,
        etcd.subnets().await,
    ];
    let attrs: Vec<LeaseAttrs> = (1..=8).map(node).collect();
    let tries = attrs
        .iter()
        .enumerate()
        .map(|(n, attrs)| managers[n % 3].acquire(&two, attrs, &FRESH));
    for lease in join_all(tries).await {
        lease.unwrap();
    }
    let leases = etcd.client().await.leases().await.unwrap();
    assert_eq!(leases.leases().len(), 8);
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_no_lost_race() {
    let etcd = Etcd::start().await;
    let proxy = Proxy::to(&etcd).await;
    let subnets = manager(&[proxy.endpoint()], timing()).await;
    let log = Log::start();
    // The first time the key is new, the second time it is used again.
    for _ in 0..2 {
        proxy.set(Mode::LoseWrite);
        let (config, attrs) = (config(), node(1));
        let lease = subnets.acquire(&config, &attrs, &FRESH);
        let lease = soon("lease", lease).await.unwrap();
        assert_eq!(proxy.mode(), Mode::Pass, "no answer was lost");
        let name = lease.key().to_string();
        assert_eq!(
            etcd.leases().await,
            [(name.clone(), node(1).to_json())],
            "the key did not survive"
        );
        let path = format!("{PREFIX}/subnets/{name}");
        let stored = etcd.client().await.get(path, None).await.unwrap();
        assert_eq!(stored.kvs()[0].mod_revision(), lease.revision);
        assert!(etcd.ttl(&format!("subnets/{name}")).await.unwrap() > 86_000);
    }
    let lines = log.lines();
    assert!(
        !lines.iter().any(|line| line.contains("faster")),
        "{lines:?}"
    );
}
