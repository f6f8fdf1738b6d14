//! What cannot be done ends with a line and a status that say so.

use crate::bed::{DEVICE, WEFT, bed, ends_with};

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
