//! The routing table with 65,536 subnets, each with a peer of its own.
//!
//! `cargo bench -p weft-benches --bench route`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ipnet::IpNet;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use weft_dataplane::publish::Publisher;
use weft_dataplane::route::admit;
use weft_dataplane::route::table::{NewPeer, Overlay, Route, Table};
use weft_dataplane::wire::ethernet::MacAddr;
use weft_dataplane::wire::vxlan::Vni;

const SUBNETS: u32 = 65_536;

/// Destinations of one iteration.
const LOOKUPS: usize = 4_096;

/// 10.0.0.0/8 in /24 and fd00::/48 in /64.
fn overlay() -> Overlay {
    Overlay {
        vni: Vni::MAX,
        local_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        network_v4: "10.0.0.0/8".parse().ok(),
        subnet_len_v4: 24,
        network_v6: "fd00::/48".parse().ok(),
        subnet_len_v6: 64,
        ..Overlay::default()
    }
}

fn subnet_v4(i: u32) -> Ipv4Addr {
    Ipv4Addr::from(10 << 24 | i << 8)
}

fn subnet_v6(i: u32) -> Ipv6Addr {
    Ipv6Addr::from(0xfd00 << 112 | u128::from(i) << 64)
}

fn peer(i: u32) -> NewPeer {
    let [a, b, c, d] = i.to_be_bytes();
    NewPeer {
        addr: SocketAddr::from((Ipv4Addr::new(172, 16 | b, c, d), 8472)),
        mac: MacAddr([2, 1, a, b, c, d]),
    }
}

fn route(subnet: impl Into<IpAddr>, len: u8, i: u32) -> Route {
    Route {
        prefix: IpNet::new_assert(subnet.into(), len),
        peer: peer(i),
    }
}

/// Both subnets of every `step`-th peer.
fn routes(step: usize) -> Vec<Route> {
    let peers = (0..SUBNETS).step_by(step);
    peers
        .flat_map(|i| [route(subnet_v4(i), 24, i), route(subnet_v6(i), 64, i)])
        .collect()
}

fn routes_v4() -> Vec<Route> {
    (0..SUBNETS).map(|i| route(subnet_v4(i), 24, i)).collect()
}

fn table(routes: &[Route]) -> Table {
    match Table::build(overlay(), routes) {
        Ok(table) => table,
        Err(error) => panic!("{error}"),
    }
}

/// Numbers below 2^32 in no order (xorshift64*), the same in every run.
fn numbers() -> impl Iterator<Item = u32> {
    std::iter::successors(Some(0x9e37_79b9_7f4a_7c15_u64), |&x| {
        let x = x ^ (x >> 12);
        let x = x ^ (x << 25);
        Some(x ^ (x >> 27))
    })
    .map(|x| (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32)
}

fn shuffled(mut routes: Vec<Route>) -> Vec<Route> {
    for (i, n) in (1..routes.len()).zip(numbers()) {
        routes.swap(i, n as usize % (i + 1));
    }
    routes
}

fn lookup(c: &mut Criterion) {
    let full = table(&routes(1));
    let half = table(&routes(2));
    let map = |f: fn(u32) -> u32| -> Vec<_> {
        let bits = numbers().take(LOOKUPS).map(f);
        bits.map(Ipv4Addr::from).collect()
    };
    let few = map(|n| 10 << 24 | n & 0xfff);
    let random = map(|n| 10 << 24 | n & 0xff_ffff);
    let unleased = map(|n| 10 << 24 | n & 0xff_ffff | 0x100);
    let outside = map(|n| 11 << 24 | n & 0xff_ffff);
    let mut group = c.benchmark_group("lookup");
    group.throughput(Throughput::Elements(LOOKUPS as u64));
    for (name, table, addresses) in [
        ("v4 hit, few subnets", &full, &few),
        ("v4 hit, all subnets", &full, &random),
        ("v4 miss, no lease", &half, &unleased),
        ("v4 miss, outside", &full, &outside),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                for &address in addresses {
                    black_box(table.lookup_v4(address));
                }
            });
        });
    }
    let random_v6: Vec<_> = numbers()
        .take(LOOKUPS)
        .map(|n| subnet_v6(n >> 16))
        .collect();
    group.bench_function("v6 hit, all subnets", |b| {
        b.iter(|| {
            for &address in &random_v6 {
                black_box(full.lookup_v6(address));
            }
        });
    });
    group.bench_function("v4 hit, all subnets, with its peer", |b| {
        b.iter(|| {
            for &address in &random {
                if let Some(id) = full.lookup_v4(address) {
                    black_box(full.peer(id).addr.port());
                }
            }
        });
    });
    group.finish();
}

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("build");
    group.sample_size(20);
    for (name, routes) in [
        ("65536 v4, in order", routes_v4()),
        ("65536 v4, shuffled", shuffled(routes_v4())),
        ("65536 v4 and v6, shuffled", shuffled(routes(1))),
    ] {
        group.bench_function(name, |b| b.iter_with_large_drop(|| table(&routes)));
    }
    group.finish();
}

fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish");
    let publisher = Publisher::new(Table::empty(overlay()));
    group.bench_function("without readers", |b| {
        b.iter(|| publisher.publish(Table::empty(overlay())));
    });
    let mut reader = publisher.subscribe().into_reader();
    group.bench_function("refresh", |b| b.iter(|| reader.refresh()));
    group.bench_function("wait", |b| b.iter(|| reader.wait(|| black_box(()))));
    drop(reader);

    let stop = Arc::new(AtomicBool::new(false));
    let worker = thread::spawn({
        let (subscription, stop) = (publisher.subscribe(), stop.clone());
        move || {
            let mut reader = subscription.into_reader();
            while !stop.load(Ordering::Relaxed) {
                black_box(reader.table().lookup_v4(Ipv4Addr::LOCALHOST));
                reader.refresh();
            }
        }
    });
    group.bench_function("with a busy reader", |b| {
        b.iter(|| publisher.publish(Table::empty(overlay())));
    });
    stop.store(true, Ordering::Relaxed);
    assert!(worker.join().is_ok());
    group.finish();
}

fn admission(c: &mut Criterion) {
    let table = table(&routes(1));
    let mut frame = peer(7).mac.0.to_vec();
    frame.splice(0..0, [8, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 1]);
    frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(subnet_v4(7).octets());
    frame.extend([0; 12]);
    let outer = peer(7).addr.ip();
    let Ok(sender) = admit::sender(&table, outer) else {
        panic!("{outer} is not admitted");
    };
    assert!(sender.frame(&table, &frame).is_ok());
    let mut group = c.benchmark_group("admit");
    group.bench_function("sender", |b| {
        b.iter(|| admit::sender(&table, black_box(outer)));
    });
    group.bench_function("frame", |b| {
        b.iter(|| sender.frame(&table, black_box(&frame)));
    });
    group.finish();
}

criterion_group!(benches, lookup, build, publish, admission);
criterion_main!(benches);
