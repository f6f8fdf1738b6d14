//! Which version and variant of iptables a program is.

use crate::host::firewall::error::FirewallError;
use crate::host::firewall::process::run;

/// The first version whose MASQUERADE knows `--random-fully` and whose restore waits for
/// the lock.
const MODERN: [u32; 3] = [1, 6, 2];

/// What a program says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// As printed, such as `iptables v1.8.9 (nf_tables)`.
    pub(crate) text: String,
    pub(crate) modern: bool,
    /// The variant for nf_tables.
    pub(crate) nft: bool,
}

impl Version {
    pub(crate) async fn of(program: &str) -> Result<Version, FirewallError> {
        let lines = run(program, &["--version"], "", |_| true).await?;
        Ok(Version::parse(&lines.concat()))
    }

    pub(super) fn parse(text: &str) -> Version {
        let number = text.split(" v").nth(1).unwrap_or_default();
        let number = number.split([' ', '-']).next().unwrap_or_default();
        let mut parts = number.split('.').map(|part| part.parse().unwrap_or(0));
        let parts = [(); 3].map(|()| parts.next().unwrap_or(0));
        Version {
            text: text.to_owned(),
            modern: parts >= MODERN,
            nft: text.ends_with("(nf_tables)"),
        }
    }
}

/// Those of `programs` that are there and another variant than the ones `in_use`.
///
/// All of them call themselves `iptables` or `ip6tables`, with a version and the variant.
pub(crate) async fn other_variants(
    in_use: impl IntoIterator<Item = &String>,
    programs: &[String],
) -> Vec<String> {
    let mut seen = Vec::new();
    for program in in_use {
        seen.extend(Version::of(program).await.ok());
    }
    let mut others = Vec::new();
    for program in programs {
        match Version::of(program).await {
            Ok(version) if !seen.contains(&version) => {
                seen.push(version);
                others.push(program.clone());
            }
            _ => {}
        }
    }
    others
}
