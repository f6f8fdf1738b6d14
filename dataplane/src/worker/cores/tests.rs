use super::*;

fn list(text: &str) -> CpuList {
    text.parse().unwrap()
}

fn first(count: usize) -> CpuList {
    (0..count).collect()
}

/// The cores of `workers` workers as a list, `none` where they are not pinned.
fn pinned(cpus: &Cpus, allowed: &CpuList, near: &CpuList, workers: usize) -> String {
    let cores = assign(cpus, allowed, near, workers).unwrap();
    assert_eq!(cores.len(), workers);
    let mut numbers: Vec<usize> = cores.iter().copied().flatten().collect();
    assert!(numbers.is_empty() || numbers.len() == workers, "{cores:?}");
    numbers.sort_unstable();
    match numbers[..] {
        [] => "none".to_owned(),
        _ => numbers.into_iter().collect::<CpuList>().to_string(),
    }
}

#[test]
fn auto_pins_where_each_has_a_core_and_as_many_are_left() {
    let auto = |cores, workers| pinned(&Cpus::Auto, &first(cores), &CpuList::default(), workers);
    for (cores, workers, expected) in [
        (0, 2, "none"),
        (1, 1, "none"),
        (2, 1, "none"),
        (2, 2, "none"),
        (3, 1, "2"),
        (4, 2, "2-3"),
        (4, 4, "none"),
        (7, 4, "none"),
        (8, 4, "4-7"),
        (64, 16, "48-63"),
        (64, 32, "32-63"),
        (63, 32, "none"),
    ] {
        assert_eq!(auto(cores, workers), expected, "{cores} cores, {workers}");
    }
    let none = pinned(&Cpus::None, &first(64), &CpuList::default(), 2);
    assert_eq!(none, "none");
}

#[test]
fn the_node_of_the_underlay_comes_first() {
    let near = list("0-3");
    let cores = |workers| assign(&Cpus::Auto, &first(8), &near, workers).unwrap();
    assert_eq!(cores(2), [Some(2), Some(3)]);
    assert_eq!(cores(4), [0, 1, 2, 3].map(Some));
    // What does not fit the node takes the last of the others.
    let near = list("0-1");
    let cores = assign(&Cpus::Auto, &first(8), &near, 4).unwrap();
    assert_eq!(cores, [0, 1, 6, 7].map(Some));
    let listed = Cpus::List(list("1,6-7"));
    let cores = assign(&listed, &first(8), &list("4-7"), 3).unwrap();
    assert_eq!(cores, [6, 7, 1].map(Some));
    // A node outside of the cpuset is of no use.
    let cores = assign(&Cpus::Auto, &list("0-7"), &list("8-15"), 2).unwrap();
    assert_eq!(cores, [6, 7].map(Some));
}

#[test]
fn a_list_always_pins_and_is_shared_where_it_is_short() {
    let one = Cpus::List(list("1"));
    let near = CpuList::default();
    assert_eq!(assign(&one, &first(2), &near, 2).unwrap(), [Some(1); 2]);
    let three = Cpus::List(list("0-2"));
    let cores = assign(&three, &first(4), &near, 4).unwrap();
    assert_eq!(cores, [0, 1, 2, 0].map(Some));
}

#[test]
fn a_list_of_what_is_not_there_is_refused_on_one_line() {
    let cpus = Cpus::List(list("1,8-9"));
    let error = assign(&cpus, &first(2), &CpuList::default(), 2).unwrap_err();
    let text = error.to_string();
    for part in ["8-9", "0-1", "cpuset"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains('\n'));
}

#[test]
fn values_are_auto_none_or_a_list() {
    assert_eq!("auto".parse(), Ok(Cpus::Auto));
    assert_eq!("none".parse(), Ok(Cpus::None));
    assert_eq!("0-3,8".parse(), Ok(Cpus::List(list("0-3,8"))));
    for text in ["", "on", "Auto", "all", "1-"] {
        assert_eq!(text.parse::<Cpus>(), Err(NoCpuList), "{text:?}");
    }
}

#[test]
fn a_list_has_as_many_queues_as_its_cores_can_serve() {
    for (text, queues) in [("3", 1), ("0-1", 1), ("0-3", 2), ("0-63", 8)] {
        assert_eq!(default_queues(&Cpus::List(list(text)), 64), queues);
    }
}

#[test]
fn devices_share_no_core_and_have_theirs_again_when_they_are_made_anew() {
    let cores = assign(&Cpus::Auto, &first(64), &CpuList::default(), 8).unwrap();
    let seats = Seats::new(&cores, 4);
    let (v4, v6) = (seats.take(), seats.take());
    assert_eq!(v4.pinned(), list("56-59"));
    assert_eq!(v6.pinned(), list("60-63"));
    assert_eq!(seats.take().pinned(), CpuList::default(), "one too many");
    drop(v4);
    assert_eq!(seats.take().pinned(), list("56-59"));
}

/// The table of docs/threads-and-memory.md that says what `auto` does.
#[test]
fn the_documentation_tells_what_auto_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/threads-and-memory.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [cores, queues, one, two] = cells[..] else {
            return None;
        };
        Some((cores.parse::<usize>().ok()?, queues, one, two))
    });
    let mut documented = Vec::new();
    for (cores, queues, one, two) in rows {
        let count = default_queues(&Cpus::Auto, cores);
        assert_eq!(queues, count.to_string(), "{cores} cores");
        for (devices, told) in [(1, one), (2, two)] {
            let workers = devices * count * 2;
            let cpus = pinned(&Cpus::Auto, &first(cores), &CpuList::default(), workers);
            assert_eq!(told, format!("{workers}, `cpus={cpus}`"), "{cores} cores");
        }
        documented.push(cores);
    }
    assert_eq!(documented, [2, 4, 8, 16, 64]);
}
