//! What cannot be done ends with a line and a status that say so.

use crate::bed::{DEVICE, WEFT, bed, ends_with};

/// An ethtool that shows all, and changes nothing.
const READ_ONLY: &str = "[ \"$1\" = -K ] || exec";

#[test]
fn apply_fails_where_every_knob_refuses_and_not_where_one_is_changed() {
    let Some(bed) = bed() else { return };
    let before = bed.values();
    let ethtool = format!("{READ_ONLY} {} \"$@\"\necho no >&2; exit 1", bed.ethtool());
    let path = bed.instead_of_ethtool(&ethtool);
    let apply = |more: &str| {
        let profile = bed.profile(&format!(
            "profile = \"small-host\"\nrfs = \"leave\"\n{more}"
        ));
        let words = [
            "apply",
            "--iface",
            DEVICE,
            "--profile",
            profile.to_str().unwrap(),
        ];
        bed.command(&words).env("PATH", &path).output().unwrap()
    };
    let text = ends_with(&apply("rps = \"leave\"\n"), 1);
    let refused = "weft tune: tune0 generic-receive-offload: left at off, not on: ";
    assert!(text.contains(refused), "{text}");
    assert_eq!(bed.values(), before);
    assert!(!bed.state().exists());

    let text = ends_with(&apply(""), 0);
    assert!(text.contains(refused), "{text}");
    assert!(
        text.contains("made: tune0 rx-0 rps_cpus: 0 -> none\n"),
        "{text}"
    );
    // What an earlier run has changed counts as well: the same words end the same way.
    ends_with(&apply(""), 0);
    ends_with(&bed.tune(&["rollback"]), 0);
    assert_eq!(bed.values(), before);
}

#[test]
fn a_profile_that_is_wrong_says_where_and_nothing_is_changed() {
    let Some(bed) = bed() else { return };
    let before = bed.values();
    let profile = bed.profile("rps = \"0-8000\"\n");
    let text = ends_with(&bed.apply(&profile), 1);
    let place = format!("weft tune: {}:1: rps: there is no CPU ", profile.display());
    assert!(
        text.starts_with(&place) && text.lines().count() == 1,
        "{text}"
    );
    let profile = bed.profile("\nrx-rng = 1\n");
    let text = ends_with(&bed.apply(&profile), 1);
    assert!(
        text.contains(":2: unknown key \"rx-rng\"; did you mean \"rx-ring\"?"),
        "{text}"
    );
    let profile = bed.profile("rx-ring = 512\n");
    let text = ends_with(&bed.apply(&profile), 1);
    assert!(
        text.contains(":1: rx-ring: there is no such knob"),
        "{text}"
    );
    let words = ["apply", "--iface", DEVICE, "--profile", "latencey"];
    let text = ends_with(&bed.tune(&words), 2);
    assert!(text.contains("did you mean \"latency\"?"), "{text}");
    let text = ends_with(&bed.tune(&["plan", "--iface", "tune7"]), 1);
    assert!(
        text.contains("there is no interface tune7; there are: "),
        "{text}"
    );
    let text = ends_with(&bed.tune(&["plan"]), 1);
    assert!(text.contains("there is no default route; name"), "{text}");
    let text = ends_with(&bed.tune(&["aply"]), 2);
    assert!(
        text.contains("did you mean 'apply'?") && text.lines().count() == 1,
        "{text}"
    );
    let none = bed.ns.command(WEFT).arg("tune").output().unwrap();
    assert_eq!(ends_with(&none, 2).lines().count(), 1);
    assert_eq!(bed.values(), before);
}
