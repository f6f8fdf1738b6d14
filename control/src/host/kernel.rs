//! What is known of kernel versions, where no probe can tell.

use std::fs;

/// A version of Linux: major, minor and patch level.
type Version = (u32, u32, u32);

/// Versions that corrupt UDP GSO sends whose segments are all of one length, on some devices:
/// headers and checksums of the frames are wrong, and the other node drops them. It cannot be
/// seen from this node. (Since b10b446 in 7.0-rc1; the last repair is in 7.1.5.)
const CORRUPTING: std::ops::RangeInclusive<Version> = (7, 0, 0)..=(7, 1, 4);

/// The release of the running kernel, if it is one that corrupts UDP GSO sends.
pub fn corrupts_udp_gso() -> Option<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let release = release.trim();
    let version = parse(release)?;
    CORRUPTING.contains(&version).then(|| release.to_owned())
}

/// The version in a release such as `7.1.4-arch1-1`.
fn parse(release: &str) -> Option<Version> {
    let end = release.find(|c: char| c != '.' && !c.is_ascii_digit());
    let mut numbers = release[..end.unwrap_or(release.len())].split('.');
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?, next().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_releases() {
        for (release, version) in [
            ("6.18.0", Some((6, 18, 0))),
            ("7.1.4-arch1-1", Some((7, 1, 4))),
            ("7.0.0-27-generic", Some((7, 0, 0))),
            ("7.0.14-pve", Some((7, 0, 14))),
            ("7.1.0-rc6+", Some((7, 1, 0))),
            ("7.1", Some((7, 1, 0))),
            ("7.1-custom", Some((7, 1, 0))),
            ("4.19.0.1-board", Some((4, 19, 0))),
            ("7", None),
            ("7.", None),
            (".7.1", None),
            ("", None),
            ("linux", None),
            ("99999999999.1.2", None),
            ("７.1.2", None),
        ] {
            assert_eq!(parse(release), version, "{release:?}");
        }
    }

    #[test]
    fn which_versions_corrupt() {
        for (version, corrupts) in [
            ((6, 19, 9), false),
            ((7, 0, 0), true),
            ((7, 0, 14), true),
            ((7, 1, 4), true),
            ((7, 1, 5), false),
            ((7, 2, 0), false),
        ] {
            assert_eq!(CORRUPTING.contains(&version), corrupts, "{version:?}");
        }
    }
}
