use super::super::Flavour;
use super::*;
use crate::lease::NodeNetwork;

fn chains() -> Vec<Chain> {
    let own = NodeNetwork {
        network: "10.42.0.0/16".parse().unwrap(),
        subnet: "10.42.1.0/24".parse().unwrap(),
    };
    let rules = rules::masquerade(&own, Flavour::Nftables, true);
    vec![masquerade_chain(&rules), forward_chain(own.network)]
}

const LISTING: &str = "\
table ip flannel-ipv4 { # handle 7
	comment \"rules for flannel-ipv4\"
	chain postrtg { # handle 1
		comment \"chain to manage traffic masquerading by flannel\"
		type nat hook postrouting priority srcnat; policy accept;
		meta mark 0x00004000 return # handle 3
		ip saddr 10.42.1.0/24 ip daddr 10.42.0.0/16 return # handle 4
		ip saddr 10.42.0.0/16 ip daddr 10.42.1.0/24 return # handle 5
		ip saddr != 10.42.1.0/24 ip daddr 10.42.0.0/16 return # handle 6
		ip saddr 10.42.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random # handle 8
		ip saddr != 10.42.0.0/16 ip daddr 10.42.0.0/16 masquerade fully-random # handle 9
	}

	chain forward { # handle 2
		comment \"chain to accept flannel traffic\"
		type filter hook forward priority filter; policy accept;
		ip saddr 10.42.0.0/16 accept # handle 10
		ip daddr 10.42.0.0/16 accept # handle 11
	}
}
";

fn listed(text: &str) -> Vec<Listed> {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let chains = chains();
    chains.iter().map(|c| parse(&lines, c.name)).collect()
}

#[test]
fn a_listing_is_read() {
    let listed = listed(LISTING);
    let handles = |listed: &Listed| listed.rules.iter().map(|r| r.handle).collect::<Vec<_>>();
    assert_eq!(handles(&listed[0]), [3, 4, 5, 6, 8, 9]);
    assert_eq!(handles(&listed[1]), [10, 11]);
    for (chain, listed) in chains().iter().zip(&listed) {
        assert_eq!(chain.fault(listed), None);
    }
}

#[test]
fn a_chain_that_is_not_listed_is_missing() {
    let listed = listed(&LISTING.replace("chain forward", "chain forwarded"));
    let fault = chains()[1].fault(&listed[1]).unwrap();
    assert_eq!(fault.to_string(), "chain forward is missing");
}

#[test]
fn a_repair_deletes_by_handle_and_spares_others() {
    let foreign = "ip saddr 10.43.0.0/16 accept # handle 12\n\t}\n}";
    let text = LISTING.replace("\t}\n}", foreign);
    let script = NftablesTable::new("nft", Family::V4).script(&chains(), &listed(&text), false);
    let deleted = |line: &&str| line.starts_with("delete rule");
    let deleted: Vec<&str> = script.lines().filter(deleted).collect();
    assert_eq!(deleted.len(), 7, "the mark's stays");
    assert_eq!(deleted[6], "delete rule ip flannel-ipv4 forward handle 11");
    assert!(!script.contains("flush"), "{script}");
    let fresh = NftablesTable::new("nft", Family::V4).script(&chains(), &listed(&text), true);
    assert_eq!(fresh.matches("flush chain ip flannel-ipv4 ").count(), 2);
    assert!(!fresh.contains("delete"), "{fresh}");
}
