use crate::lab::{Etcd, Mode, Proxy, manager, options, timing};
use crate::{FRESH, config, node, soon};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use weft_control::subnets::etcd::EtcdSubnets;
use weft_control::subnets::{LeaseEvent, SubnetError, SubnetManager, wait_for_config};
use weft_lab::etcd::own_address;
use weft_lab::log::Log;

#[tokio::test]
async fn etcd_that_is_down_at_start_is_waited_for() {
    let mut etcd = Etcd::start().await;
    etcd.put("config", "{}").await;
    etcd.stop();
    let subnets = etcd.subnets().await;
    let waiting = timeout(Duration::from_secs(1), subnets.network_config()).await;
    assert!(waiting.is_err(), "{waiting:?}");
    let (found, ()) = tokio::join!(soon("config", subnets.network_config()), etcd.resume());
    assert_eq!(found, Ok("{}".to_owned()));
}

#[tokio::test]
async fn an_outage_is_one_line_at_its_start_and_one_at_its_end() {
    let mut etcd = Etcd::start().await;
    let log = Log::start();
    let subnets = etcd.subnets().await;
    let own = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let (sender, mut events) = mpsc::channel(16);
    let margin = Duration::from_secs(86_399);
    tokio::select! {
        end = subnets.keep(own.clone(), margin) => panic!("{end}"),
        () = subnets.watch(&own, sender) => panic!("the watch ended"),
        () = async {
            soon("list", events.recv()).await;
            for _ in 0..2 {
                etcd.stop();
                sleep(Duration::from_secs(2)).await;
                etcd.resume().await;
                etcd.put("subnets/10.1.9.0-24", &node(2).to_json()).await;
                soon("put", events.recv()).await;
            }
        } => {}
    }
    let reason = "Connection refused (os error 111)";
    let down = format!(
        "WARN etcd unreachable: {}: {reason}; retrying",
        etcd.endpoint()
    );
    let up = "INFO etcd reachable again".to_owned();
    let lines = log.lines();
    // Not another reason in the middle of one: etcd may take connections before it answers.
    let counts = |line: &String| line.contains("reachable") && !line.contains("still");
    let lines = lines.into_iter().filter(counts);
    let lines: Vec<String> = lines.collect();
    // A machine that is slow at the moment may add an outage of its own: no answer in time.
    let refused = lines.iter().filter(|line| **line == down);
    assert_eq!(refused.count(), 2, "{lines:?}");
    for outage in lines.chunks(2) {
        assert!(outage[0].starts_with("WARN etcd unreachable"), "{lines:?}");
        assert_eq!(outage.get(1), Some(&up), "{lines:?}");
    }
}

#[tokio::test]
async fn each_reason_to_wait_for_a_config_is_one_line() {
    let etcd = Etcd::start().await;
    let log = Log::start();
    let subnets = etcd.subnets().await;
    let operator = async {
        sleep(Duration::from_millis(2500)).await;
        etcd.put("config", r#"{"Network":"10.9.0.0/30"}"#).await;
        sleep(Duration::from_millis(2500)).await;
        let text = r#"{"Network":"10.9.0.0/16","Backend":{"Type":"vxlan"}}"#;
        etcd.put("config", text).await;
    };
    tokio::join!(soon("config", wait_for_config(&subnets)), operator);
    let lines = log.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("WARN no network config in etcd: key "));
    assert_eq!(
        lines[1],
        "WARN network config: Network 10.9.0.0/30: too small: the prefix must be at most /28; \
         looking again each second"
    );
    assert_eq!(lines[2], "INFO network config found");
}

#[tokio::test]
async fn a_malformed_key_or_value_is_named_in_the_log() {
    let etcd = Etcd::start().await;
    let log = Log::start();
    etcd.put("subnets/junk", "x").await;
    etcd.put("subnets/10.1.9.0-24", r#"{"PublicIP":"nowhere"}"#)
        .await;
    let subnets = etcd.subnets().await;
    let own = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let (sender, mut events) = mpsc::channel(16);
    tokio::select! {
        () = subnets.watch(&own, sender) => panic!("the watch ended"),
        _ = soon("list", events.recv()) => {}
    }
    let lines = log.lines();
    let key = "WARN ignoring etcd key \"/coreos.com/network/subnets/junk\": it names no subnet";
    let value = "WARN ignoring the value of lease 10.1.9.0-24 in etcd: \
                 PublicIP \"nowhere\" is not an IPv4 address";
    assert!(lines.iter().any(|line| line == key), "{lines:?}");
    assert!(lines.iter().any(|line| line == value), "{lines:?}");
}

#[tokio::test]
async fn acquire_waits_for_etcd() {
    let mut etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    etcd.stop();
    let (config, attrs) = (config(), node(1));
    let late = async {
        sleep(Duration::from_secs(1)).await;
        etcd.resume().await;
    };
    let acquire = soon("lease", subnets.acquire(&config, &attrs, &FRESH));
    let (lease, ()) = tokio::join!(acquire, late);
    assert_eq!(
        etcd.leases().await,
        [(lease.unwrap().key().to_string(), attrs.to_json())]
    );
}

#[tokio::test]
async fn u10_watch_and_lease_survive_compaction_and_restart() {
    let mut etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let own = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let (sender, mut events) = mpsc::channel(16);
    let keep = subnets.keep(own.clone(), Duration::from_secs(3600));
    tokio::select! {
        end = keep => panic!("{end}"),
        () = subnets.watch(&own, sender) => panic!("the watch ended"),
        () = async {
            assert_eq!(soon("list", events.recv()).await, Some(LeaseEvent::Snapshot(vec![])));
            etcd.put("elsewhere", "x").await;
            etcd.compact().await;
            etcd.stop();
            sleep(Duration::from_secs(2)).await;
            etcd.resume().await;
            let peer = etcd.subnets().await.acquire(&config(), &node(2), &FRESH).await.unwrap();
            // As a change, or in a new list where the compaction fell between.
            let key = match soon("peer", events.recv()).await {
                Some(LeaseEvent::Put(lease)) => lease.key(),
                Some(LeaseEvent::Snapshot(leases)) => leases[0].key(),
                other => panic!("{other:?}"),
            };
            assert_eq!(key, peer.key());
        } => {}
    }
}

#[tokio::test]
async fn an_etcd_replaced_by_an_empty_one_is_noticed() {
    let mut etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let own = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    subnets.acquire(&config(), &node(2), &FRESH).await.unwrap();
    for n in 0..20 {
        etcd.put("elsewhere", &n.to_string()).await;
    }
    let (sender, mut events) = mpsc::channel(16);
    tokio::select! {
        () = subnets.watch(&own, sender) => panic!("the watch ended"),
        () = async {
            let list = soon("list", events.recv()).await;
            assert!(matches!(&list, Some(LeaseEvent::Snapshot(one)) if one.len() == 1), "{list:?}");
            etcd.replace().await;
            assert_eq!(soon("list", events.recv()).await, Some(LeaseEvent::Snapshot(vec![])));
        } => {}
    }
}

#[tokio::test]
async fn dead_endpoints_are_passed_over() {
    let etcd = Etcd::start().await;
    etcd.put("config", "{}").await;
    // One port where nobody listens, one where nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let refusing = format!("{}:1", own_address());
    let subnets = manager(&[refusing, silent, etcd.endpoint()], timing()).await;
    let found = soon("config", subnets.network_config()).await;
    assert_eq!(found, Ok("{}".to_owned()));
}

#[tokio::test]
async fn another_endpoint_takes_over() {
    let etcd = Etcd::start().await;
    let (one, two) = (Proxy::to(&etcd).await, Proxy::to(&etcd).await);
    let subnets = manager(&[one.endpoint(), two.endpoint()], timing()).await;
    let own = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let (sender, mut events) = mpsc::channel(16);
    tokio::select! {
        () = subnets.watch(&own, sender) => panic!("the watch ended"),
        () = async {
            soon("list", events.recv()).await;
            one.set(Mode::Cut);
            let other = etcd.subnets().await;
            let peer = other.acquire(&config(), &node(2), &FRESH).await.unwrap();
            let put = soon("put", events.recv()).await;
            assert!(matches!(&put, Some(LeaseEvent::Put(_))), "{put:?}");
            one.set(Mode::Pass);
            two.set(Mode::Hang);
            etcd.delete(&format!("subnets/{}", peer.key())).await;
            let delete = soon("delete", events.recv()).await;
            assert!(matches!(&delete, Some(LeaseEvent::Delete(_))), "{delete:?}");
        } => {}
    }
}

#[tokio::test]
async fn endpoints_that_cannot_be_are_refused_at_once() {
    for endpoints in [&[][..], &["http://a b".to_owned()]] {
        let error = EtcdSubnets::new(&options(endpoints), timing()).err();
        let Some(SubnetError::Settings(message)) = error else {
            panic!("{error:?}");
        };
        assert!(!message.contains('\n'), "{message}");
    }
}
