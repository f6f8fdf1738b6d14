//! Nodes as the API has them, for the tests of all parts.

/// The node with this number: `10.244.<number>.0/24` behind `192.0.2.<number>`, annotated as
/// flanneld does for vxlan.
pub(super) fn node_json(number: u8) -> String {
    let spec = format!(r#""podCIDR":"10.244.{number}.0/24","podCIDRs":["10.244.{number}.0/24"]"#);
    node_with(number, &spec, &[])
}

/// The same with another `spec`, and annotations that replace or follow the usual ones. Values are
/// as in JSON texts.
pub(super) fn node_with(number: u8, spec: &str, annotations: &[(&str, &str)]) -> String {
    let data = format!(r#"{{\"VNI\":1,\"VtepMAC\":\"0e:00:00:00:00:{number:02x}\"}}"#);
    let public = format!("192.0.2.{number}");
    let usual = [
        ("backend-data", &*data),
        ("backend-type", "vxlan"),
        ("kube-subnet-manager", "true"),
        ("public-ip", &public),
    ];
    let is_replaced = |name: &str| annotations.iter().any(|(other, _)| *other == name);
    let kept = usual.iter().filter(|(name, _)| !is_replaced(name));
    let pairs: Vec<String> = kept
        .chain(annotations)
        .map(|(name, value)| format!(r#""flannel.alpha.coreos.com/{name}":"{value}""#))
        .collect();
    format!(
        r#"{{"kind":"Node","apiVersion":"v1","metadata":{{"name":"node-{number}","uid":"u-{number}","resourceVersion":"{}","labels":{{"kubernetes.io/arch":"amd64","kubernetes.io/os":"linux"}},"annotations":{{"node.alpha.kubernetes.io/ttl":"0",{}}}}},"spec":{{{spec},"taints":[{{"key":"x","effect":"NoSchedule"}}]}},"status":{{"conditions":[{{"type":"Ready","status":"True","lastHeartbeatTime":"2026-12-01T10:00:00Z"}}],"images":[{{"names":["a@sha256:0","a:1"],"sizeBytes":7}}]}}}}"#,
        1000 + u32::from(number),
        pairs.join(",")
    )
}
