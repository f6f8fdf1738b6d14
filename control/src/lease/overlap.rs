//! Which of many subnets lie inside others.

use ipnet::IpNet;

/// Pairs of subnets of which the second lies inside the first, or is the same and comes later:
/// each with the closest one around it, by what it stands for.
pub(crate) fn enclosed<T: Copy>(mut subnets: Vec<(IpNet, T)>) -> Vec<(T, T)> {
    // By first address, the longer ranges first: what encloses a subnet comes before it.
    subnets.sort_by_key(|(net, _)| (net.network(), net.prefix_len()));
    let mut enclosing: Vec<(IpNet, T)> = Vec::new();
    let mut pairs = Vec::new();
    for (net, what) in subnets {
        while enclosing
            .pop_if(|(outer, _)| !outer.contains(&net))
            .is_some()
        {}
        if let Some(&(_, outer)) = enclosing.last() {
            pairs.push((outer, what));
        }
        enclosing.push((net, what));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subnet_has_the_closest_one_around_it() {
        let subnets = [
            "10.5.1.128/25",
            "10.5.0.0/16",
            "fd00::/48",
            "10.5.1.0/24",
            "10.6.0.0/16",
            "fd00:0:0:1::/64",
            "10.5.2.0/24",
            "10.5.2.0/24",
        ];
        let subnets = subnets.iter().enumerate();
        let subnets = subnets.map(|(i, net)| (net.parse().unwrap(), i));
        let pairs = enclosed(subnets.collect());
        assert_eq!(pairs, [(1, 3), (3, 0), (1, 6), (6, 7), (2, 5)]);
    }
}
