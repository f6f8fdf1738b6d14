//! Taking a lease.

use crate::lab::*;
use crate::{QUIET, soon};
use std::time::Duration;
use tokio::time::timeout;
use weft_control::config::NetworkConfig;
use weft_control::family::Family;
use weft_control::lease::{LeaseAttrs, Previous};
use weft_control::subnets::kube::{KubeOptions, KubeSubnets, NodeRef};
use weft_control::subnets::{SubnetError, SubnetManager};

#[tokio::test]
async fn a_node_gets_its_pod_cidr_and_is_annotated_as_by_flanneld() {
    let cluster = Cluster::new();
    cluster.add_bare(1);
    let subnets = cluster.subnets();
    let lease = cluster.acquire(&subnets, &attrs(1)).await.unwrap();
    assert_eq!((lease.key(), lease.expires), (key(1), None));
    let annotations = cluster.annotations(1);
    let wanted = [
        ("backend-data", r#"{"VNI":1,"VtepMAC":"0e:00:00:00:00:01"}"#),
        ("backend-type", "vxlan"),
        ("kube-subnet-manager", "true"),
        ("public-ip", "172.18.0.1"),
    ];
    let wanted = wanted.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(annotations, wanted.into());
    assert_eq!(cluster.api.requests("patch", "nodes/status"), 1);
    // What is right is not written again.
    cluster
        .acquire(&cluster.subnets(), &attrs(1))
        .await
        .unwrap();
    assert_eq!(cluster.api.requests("patch", "nodes/status"), 1);
}

#[tokio::test]
async fn backends_without_data_write_null() {
    for (attrs, kind) in [
        (
            LeaseAttrs::host_gw(Some([172, 18, 0, 1].into()), None),
            "host-gw",
        ),
        (LeaseAttrs::udp([172, 18, 0, 1].into()), ""),
    ] {
        let cluster = Cluster::new();
        cluster.add_bare(1);
        cluster.acquire(&cluster.subnets(), &attrs).await.unwrap();
        let annotations = cluster.annotations(1);
        assert_eq!(annotations["backend-data"], "null");
        assert_eq!(annotations["backend-type"], kind);
    }
}

#[tokio::test]
async fn the_pod_tells_its_node() {
    let cluster = Cluster::new();
    cluster.add_bare(1);
    let options = KubeOptions {
        node: NodeRef {
            name: None,
            pod: Some(("kube-flannel-ds-x".into(), "kube-flannel".into())),
        },
        ..cluster.options("")
    };
    let subnets = KubeSubnets::new(&options, timing()).unwrap();
    let attrs = attrs(1);
    let acquire = cluster.acquire(&subnets, &attrs);
    let pod = |node: Option<&str>| {
        let mut pod = serde_json::json!({"metadata": {
            "name": "kube-flannel-ds-x", "namespace": "kube-flannel"}, "spec": {}});
        if let Some(node) = node {
            pod["spec"]["nodeName"] = node.into();
        }
        cluster.api.put("pods", pod);
    };
    // Neither there nor on a node: waited for.
    let schedule = async {
        cluster
            .until("asked", |c| c.api.requests("get", "pods") > 1)
            .await;
        pod(None);
        let before = cluster.api.requests("get", "pods");
        cluster
            .until("asked again", |c| {
                c.api.requests("get", "pods") > before + 1
            })
            .await;
        pod(Some(&name(1)));
    };
    let (lease, ()) = tokio::join!(acquire, schedule);
    assert_eq!(lease.unwrap().key(), key(1));
}

#[tokio::test]
async fn a_node_and_its_pod_cidr_are_waited_for() {
    let cluster = Cluster::new();
    let subnets = cluster.subnets();
    let attrs = attrs(1);
    let acquire = cluster.acquire(&subnets, &attrs);
    let asked = |count: u64| {
        let before = cluster.api.requests("get", "nodes");
        let cluster = &cluster;
        async move {
            let enough = |c: &Cluster| c.api.requests("get", "nodes") > before + count;
            cluster.until("asked", enough).await;
        }
    };
    let cluster_ref = &cluster;
    let life = async {
        asked(2).await;
        let mut node = bare(1);
        let spec = node["spec"].as_object_mut().unwrap();
        spec.retain(|key, _| !key.starts_with("podCIDR"));
        cluster_ref.api.put_node(node.clone());
        asked(2).await;
        // Outside of Network, then inside.
        node["spec"]["podCIDR"] = "10.9.1.0/24".into();
        cluster_ref.api.put_node(node.clone());
        asked(2).await;
        assert_eq!(cluster_ref.annotations(1).len(), 0);
        node["spec"]["podCIDR"] = cidr(1).into();
        cluster_ref.api.put_node(node);
    };
    let (lease, ()) = tokio::join!(acquire, life);
    assert_eq!(lease.unwrap().key(), key(1));
}

#[tokio::test]
async fn f9_public_ip_overwrite_is_told_to_the_others() {
    let cluster = Cluster::new();
    cluster.add_bare(1);
    cluster.annotate(1, "public-ip-overwrite", Some("172.18.0.2"));
    let lease = cluster
        .acquire(&cluster.subnets(), &attrs(1))
        .await
        .unwrap();
    assert_eq!(cluster.annotations(1)["public-ip"], "172.18.0.2");
    // The node itself goes on with its own address.
    assert_eq!(lease.attrs, attrs(1));
}

#[tokio::test]
async fn node_public_ip_is_told_before_anything_is_chosen() {
    let cluster = Cluster::new();
    cluster.add_bare(1);
    let subnets = cluster.subnets();
    assert_eq!(soon(subnets.advertised()).await, Default::default());
    cluster.annotate(1, "node-public-ip", Some("172.18.0.9"));
    cluster.annotate(1, "node-public-ipv6", Some("no address"));
    let told = soon(subnets.advertised()).await;
    assert_eq!(told.of(Family::V4).unwrap().to_string(), "172.18.0.9");
    assert_eq!(told.of(Family::V6), &None);
    // Changed meanwhile: a lease for the other address is not to be had.
    let refused = cluster.acquire(&subnets, &attrs(1)).await.unwrap_err();
    assert!(
        matches!(refused, SubnetError::AddressChanged { .. }),
        "{refused}"
    );
    assert_eq!(cluster.annotations(1).len(), 2);
    cluster.acquire(&subnets, &attrs(9)).await.unwrap();
}

#[tokio::test]
async fn both_families_are_taken_and_told() {
    let cluster = Cluster::new();
    cluster.set_config(DUAL);
    let mut node = bare(1);
    node["spec"]["podCIDRs"] = serde_json::json!([cidr(1), "fd00:10:244:1::/64"]);
    cluster.api.put_node(node);
    let v6 = "2001:db8::1".parse().unwrap();
    let own = LeaseAttrs::vxlan(Some(([172, 18, 0, 1].into(), data(1))), Some((v6, data(2))));
    let lease = cluster.acquire(&cluster.subnets(), &own).await.unwrap();
    assert_eq!(lease.to_string(), "10.244.1.0/24 and fd00:10:244:1::/64");
    let annotations = cluster.annotations(1);
    assert_eq!(annotations["public-ipv6"], "2001:db8::1");
    assert!(annotations["backend-v6-data"].contains("0e:00:00:00:00:02"));
    assert_eq!(annotations.len(), 6);
}

#[tokio::test]
async fn another_config_meanwhile_is_seen() {
    let cluster = Cluster::new();
    cluster.add_bare(1);
    let subnets = cluster.subnets();
    let config = NetworkConfig::parse(CONFIG).unwrap();
    cluster.set_config(&CONFIG.replace("vxlan", "host-gw"));
    let previous = Previous::default();
    let outcome = soon(subnets.acquire(&config, &attrs(1), &previous)).await;
    assert_eq!(outcome, Err(SubnetError::ConfigChanged));
    // One that cannot be used, or is gone, is no other one.
    cluster.set_config("{");
    soon(subnets.acquire(&config, &attrs(1), &previous))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_missing_rule_keeps_the_node_waiting_until_it_is_there() {
    let cluster = Cluster::new();
    cluster.add_bare(1);
    cluster.api.forbid("patch", "nodes/status");
    let subnets = cluster.subnets();
    let attrs = attrs(1);
    let mut acquire = std::pin::pin!(cluster.acquire(&subnets, &attrs));
    assert!(timeout(QUIET, &mut acquire).await.is_err());
    cluster.api.permit("patch", "nodes/status");
    acquire.await.unwrap();
}

#[tokio::test]
async fn tokens_and_certificates_are_read_again() {
    let cluster = Cluster::new();
    cluster.add_bare(1);
    // With a certificate.
    let by_certificate = cluster.api.kubeconfig(weft_lab::kube::USER);
    std::fs::write(cluster.path("kubeconfig"), by_certificate).unwrap();
    let subnets = cluster.subnets();
    cluster.acquire(&subnets, &attrs(1)).await.unwrap();
    // With a token, which is worth nothing soon.
    let write = || {
        let text = cluster.api.kubeconfig_with_token(&cluster.api.token());
        std::fs::write(cluster.path("kubeconfig"), text).unwrap();
    };
    write();
    let subnets = cluster.subnets();
    cluster.acquire(&subnets, &attrs(1)).await.unwrap();
    cluster.api.rotate_token();
    let attrs = attrs(2);
    let mut acquire = std::pin::pin!(cluster.acquire(&subnets, &attrs));
    assert!(timeout(QUIET, &mut acquire).await.is_err());
    // A file that is broken for a moment changes nothing.
    std::fs::write(cluster.path("kubeconfig"), "{").unwrap();
    assert!(timeout(QUIET / 2, &mut acquire).await.is_err());
    write();
    acquire.await.unwrap();
    assert_eq!(cluster.annotations(1)["public-ip"], "172.18.0.2");
}

#[tokio::test]
async fn a_server_that_cannot_answer_now_is_asked_again() {
    use weft_lab::kube::Refusal;
    for refusal in [
        Refusal::Unavailable,
        Refusal::Internal,
        Refusal::TooManyRequests(1),
    ] {
        let cluster = Cluster::new();
        cluster.add_bare(1);
        cluster.api.refuse(3, refusal);
        let subnets = cluster.subnets();
        cluster.acquire(&subnets, &attrs(1)).await.unwrap();
        let health = subnets.health().unwrap();
        assert!(health.reachable && health.failures == 3, "{health:?}");
    }
    let cluster = Cluster::new();
    cluster.add_bare(1);
    cluster.api.delay(Duration::from_millis(300));
    cluster
        .acquire(&cluster.subnets(), &attrs(1))
        .await
        .unwrap();
}

#[tokio::test]
async fn known_is_what_the_annotations_say() {
    let cluster = Cluster::new();
    cluster.add_bare(1);
    let subnets = cluster.subnets();
    assert_eq!(soon(subnets.known(&attrs(1))).await, None);
    cluster.add(1);
    assert_eq!(soon(subnets.known(&attrs(1))).await, Some(attrs(1)));
}
