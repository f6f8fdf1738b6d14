//! Which tables, with which chains, the wanted rules make.

use super::programs::Programs;
use super::table::{Purpose, RuleTable, Tool};
use super::{FirewallSpec, Flavour, iptables, nftables, rules};
use crate::family::Family;
use crate::lease::NodeNetwork;
use tracing::debug;

/// The tables of a flavour; nothing is written yet.
pub(super) async fn wanted(
    programs: &Programs,
    flavour: Flavour,
    spec: &FirewallSpec,
) -> Vec<RuleTable> {
    match flavour {
        Flavour::Iptables => iptables_tables(programs, spec).await,
        Flavour::Nftables => nftables_tables(programs, spec).await,
    }
}

async fn iptables_tables(programs: &Programs, spec: &FirewallSpec) -> Vec<RuleTable> {
    let mut tables = Vec::new();
    for (family, program) in programs.iptables.iter() {
        let own = spec.networks.of(family);
        let Some(own) = own.filter(|_| spec.masquerade || spec.forward) else {
            continue;
        };
        // The rules wait for a missing program; all of today's versions are modern.
        let (modern, by_chain) = match iptables::Version::of(program).await {
            Ok(version) => {
                debug!("{}", version.text);
                (version.modern, version.nft)
            }
            Err(_) => (true, false),
        };
        let table = |name, purpose, chains| {
            let tool = Tool::Iptables(iptables::IptablesTable {
                program: program.clone(),
                name,
                waits: modern,
                by_chain,
            });
            RuleTable::new(tool, chains, purpose)
        };
        if spec.masquerade {
            let random_fully = spec.random_fully && modern;
            let rules = rules::masquerade(&own, Flavour::Iptables, random_fully);
            let chain = iptables::masquerade_chain(&rules);
            tables.push(table("nat", Purpose::Masquerade, vec![chain]));
        }
        if spec.forward {
            let mut chains = vec![iptables::forward_chain(own.network)];
            let tap = spec.tap.as_deref().filter(|_| family == Family::V4);
            chains.extend(tap.map(iptables::tap_chain));
            tables.push(table("filter", Purpose::Forward, chains));
        }
    }
    tables
}

async fn nftables_tables(programs: &Programs, spec: &FirewallSpec) -> Vec<RuleTable> {
    let nft = &programs.nft;
    let random_fully =
        spec.masquerade && spec.random_fully && nftables::knows_fully_random(nft).await;
    let table = |(family, own): (Family, &Option<NodeNetwork>)| {
        let mut chains = Vec::new();
        let mut purpose = Purpose::Nothing;
        if let Some(own) = own {
            if spec.forward {
                purpose = Purpose::Forward;
                chains.push(nftables::forward_chain(own.network));
            }
            if spec.masquerade {
                purpose = Purpose::Masquerade;
                let rules = rules::masquerade(own, Flavour::Nftables, random_fully);
                chains.insert(0, nftables::masquerade_chain(&rules));
            }
        }
        let tool = Tool::Nftables(nftables::NftablesTable::new(nft, family));
        RuleTable::new(tool, chains, purpose)
    };
    spec.networks.iter().map(table).collect()
}
