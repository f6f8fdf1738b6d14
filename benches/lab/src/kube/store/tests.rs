//! What is remembered, and for how long.

use super::*;
use std::convert::Infallible;

fn scope() -> Scope {
    Scope {
        kind: "nodes".to_owned(),
        namespace: None,
    }
}

fn put(store: &Store, name: &str, mark: u32) -> u64 {
    let value = json!({"metadata": {"name": name}, "mark": mark});
    let put = |_: Option<&Value>| Ok::<_, Infallible>(Write::Put(value));
    store
        .write(&Key::new("nodes", "", name), put)
        .unwrap()
        .version
}

fn delete(store: &Store, name: &str) {
    let delete = |_: Option<&Value>| Ok::<_, Infallible>(Write::Delete);
    store.write(&Key::new("nodes", "", name), delete).unwrap();
}

fn marks(store: &Store, at: u64) -> Vec<(String, u64)> {
    let objects = store.list(&scope(), Some(at)).unwrap().objects;
    let mark = |object: &Arc<Stored>| {
        (
            object.key.name.clone(),
            object.value()["mark"].as_u64().unwrap(),
        )
    };
    objects.iter().map(mark).collect()
}

#[test]
fn a_list_is_what_was_there_at_its_version() {
    let store = Store::new(HISTORY);
    put(&store, "a", 1);
    let at = put(&store, "b", 2);
    put(&store, "a", 3);
    put(&store, "c", 4);
    delete(&store, "b");
    let named = |name: &str, mark| (name.to_owned(), mark);
    assert_eq!(marks(&store, at), [named("a", 1), named("b", 2)]);
    assert_eq!(
        marks(&store, store.version()),
        [named("a", 3), named("c", 4)]
    );
}

#[test]
fn what_changes_nothing_is_no_change() {
    let store = Store::new(HISTORY);
    let first = put(&store, "a", 1);
    assert_eq!(put(&store, "a", 1), first);
    assert_eq!(put(&store, "a", 2), first + 1);
}

#[test]
fn the_history_has_an_end() {
    let store = Store::new(2);
    let versions: Vec<u64> = (0..4).map(|mark| put(&store, "a", mark)).collect();
    let known = |after| {
        store
            .changes(&scope(), after)
            .map(|(_, changes)| changes.len())
    };
    assert_eq!(known(versions[1]), Ok(2));
    assert_eq!(
        known(versions[0]),
        Err(Forgotten {
            oldest: versions[1]
        })
    );
    store.forget();
    assert_eq!(
        known(versions[2]),
        Err(Forgotten {
            oldest: versions[3]
        })
    );
    assert_eq!(known(versions[3]), Ok(0));
    assert!(store.list(&scope(), Some(versions[2])).is_err());
}
