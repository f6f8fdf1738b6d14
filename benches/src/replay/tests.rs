use super::*;
use weft_dataplane::offload::coalesce::Trust;

fn batch(specs: &[Spec]) -> (Encap, Vec<TunRead>) {
    let reads: Vec<_> = specs.iter().map(Spec::build).collect();
    let (encap, rest) = Encap::new(&reads);
    assert!(rest.is_empty());
    (encap, reads)
}

fn no_drops(counters: &[(String, u64)]) {
    assert!(
        counters.iter().all(|(name, _)| !name.starts_with("drop_")),
        "{counters:?}"
    );
}

#[test]
fn what_goes_in_comes_out_each_time_it_is_replayed() {
    let usual = Spec::tcp_super();
    let udp = Spec {
        gso_size: 1300,
        payload: 20 * 1300,
        ..Spec::udp(0)
    };
    for spec in [usual, Spec::tcp_super_v6(), udp, Spec { v6: true, ..udp }] {
        let (mut encap, reads) = batch(&[spec]);
        for _ in 0..2 {
            encap.rewind();
            encap.run();
        }
        no_drops(&encap.counters());
        let mut decap = Decap::new(encap.arrivals());
        let mut written = Vec::new();
        for _ in 0..2 {
            decap.rewind();
            decap.run();
            written = decap.written();
        }
        no_drops(&decap.counters());
        assert_eq!(written, [reads[0].ip.clone()], "{spec:?}");
    }
}

#[test]
fn a_batch_ends_where_an_engine_would_end_it() {
    let reads = vec![Spec::tcp_super().build(); 6];
    let batches: Vec<_> = Encap::batches(&reads).iter().map(Encap::packets).collect();
    assert_eq!(batches, [4, 2]);
    let reads = vec![Spec::udp(64).build(); 65];
    let batches: Vec<_> = Encap::batches(&reads).iter().map(Encap::packets).collect();
    assert_eq!(batches, [64, 1]);
}

#[test]
fn frames_coalesce_only_as_far_as_they_are_trusted() {
    let (mut encap, _) = batch(&[Spec::tcp_super()]);
    encap.run();
    let mut frames: Vec<_> = encap.arrivals().iter().flat_map(Arrival::frames).collect();
    assert_eq!(frames.len(), 47);
    if let Some(last) = frames[3].payload.last_mut() {
        *last ^= 1;
    }
    let writes = [Trust::Vouched, Trust::Unknown].map(|trust| {
        let mut coalesce = Coalesce::new(&frames, trust);
        coalesce.run();
        coalesce.writes()
    });
    assert_eq!(writes, [1, 3]);
}
