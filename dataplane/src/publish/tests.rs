use super::*;
use crate::route::table::tests::{overlay, peer};
use crate::route::table::{PeerId, Route};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const SUBNETS: u16 = 64;

/// All subnets belong to one peer, whose MAC and port carry `number`.
fn numbered(number: u16) -> Table {
    let mut node = peer(1, 1);
    node.addr.set_port(number);
    node.mac.0[4..].copy_from_slice(&number.to_be_bytes());
    let routes: Vec<_> = (0..SUBNETS)
        .map(|i| Route {
            prefix: format!("10.{}.{}.0/24", i >> 8, i & 255).parse().unwrap(),
            peer: node,
        })
        .collect();
    Table::build(overlay(), &routes).unwrap()
}

fn number_of(table: &Table) -> u16 {
    let port = table.peers()[0].addr.port();
    for i in 0..SUBNETS {
        let dst = Ipv4Addr::new(10, (i >> 8) as u8, i as u8, 9);
        assert_eq!(table.lookup_v4(dst), Some(PeerId(0)));
        let peer = table.peer(PeerId(0));
        assert_eq!(peer.mac.0[4..], port.to_be_bytes());
        assert_eq!(peer.header_v4.as_bytes()[8..14], peer.mac.0);
    }
    port
}

#[test]
fn a_batch_sees_one_table() {
    let publisher = Publisher::new(Table::empty(overlay()));
    let mut reader = publisher.subscribe().into_reader();
    publisher.publish(numbered(7));
    assert!(reader.table().peers().is_empty());
    reader.refresh();
    assert_eq!(number_of(reader.table()), 7);
    assert_eq!(reader.wait(|| publisher.publish(numbered(8))), 0);
    assert_eq!(number_of(reader.table()), 8);
}

#[test]
fn workers_read_whole_tables_while_others_are_published() {
    const TABLES: u16 = 2_000;
    let publisher = Publisher::new(numbered(1));
    let done = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let (subscription, done) = (publisher.subscribe(), done.clone());
            thread::spawn(move || {
                let mut reader = subscription.into_reader();
                let mut newest = 0;
                while !done.load(Ordering::Acquire) {
                    let number = number_of(reader.table());
                    assert!(number >= newest);
                    newest = number;
                    reader.refresh();
                }
                reader.wait(thread::yield_now);
                number_of(reader.table())
            })
        })
        .collect();
    for number in 2..=TABLES {
        publisher.publish(numbered(number));
    }
    done.store(true, Ordering::Release);
    for worker in workers {
        assert_eq!(worker.join().unwrap(), TABLES);
    }
    assert_eq!(publisher.reclaim(), 0);
}
