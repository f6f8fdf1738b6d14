#!/bin/bash
# Write the table of acceptance rows in docs/flannel-compatibility.md anew: for each row the tests
# whose names say that they are its. A test of row U18 has u18_ in its name.
set -eu
cd "$(dirname "$0")/.."

page=docs/flannel-compatibility.md
heading='## Acceptance rows'

# row | what it asks for | expression for names of its tests, or - if it has none and the text says why
rows() {
    cat <<'ROWS'
F1|vxlan: two nodes ping each other from the addresses of their subnets|(^|_)f1_|^pods_exchange_pings
F2|udp: the same|(^|_)f2_
F3|host-gw: the same|(^|_)f3_
F8|two daemons for each node, vxlan and host-gw|(^|_)f8_
F9|Kubernetes: `public-ip-overwrite`|(^|_)f9_
E1|Kubernetes: vxlan|(^|_)e1_
E4|Kubernetes: host-gw|(^|_)e4_
E6|Kubernetes: udp|(^|_)e6_
E12|Kubernetes: vxlan, both families|(^|_)e12_
E15|Kubernetes: host-gw, both families|(^|_)e15_
E17|Kubernetes: what is made again is reached again|(^|_)e17_
E18|Kubernetes: agents that start again one by one keep their subnets|(^|_)e18_
M1|mk-docker-opts without options|(^|_)m1_
M2|mk-docker-opts `-i`|(^|_)m2_
M3|mk-docker-opts `-c`|(^|_)m3_
M4|mk-docker-opts `-k`|(^|_)m4_
M5|mk-docker-opts `-m`|(^|_)m5_
C1|CNI: ADD and DEL, IPv4|(^|_)c1_
C2|CNI: two IPv4 networks|(^|_)c2_
C3|CNI: IPv6|(^|_)c3_
C4|CNI: both families|(^|_)c4_
C5|CNI: defaults of `subnetFile` and `dataDir`|(^|_)c5_
C6|CNI: loading `subnet.env`|(^|_)c6_
C7|CNI: a base `ipam`|(^|_)c7_
U1|no config key|(^|_)u1_
U2|the config verbatim|(^|_)u2_
U3|the bytes of a lease|(^|_)u3_
U4|the end of a lease is in the future|(^|_)u4_
U5|list, get, delete, watch|(^|_)u5_
U6|a watch below the compaction horizon|(^|_)u6_
U7|the same for the own lease|(^|_)u7_
U8|a deletion below the horizon|(^|_)u8_
U9|a blocked receiver|(^|_)u9_
U10|compaction and restart of etcd|(^|_)u10_
U11|acquire: range, reuse, previous subnet|(^|_)u11_
U12|another network|(^|_)u12_
U13|the watch never shows the own lease|(^|_)u13_
U14|a lease that expires|(^|_)u14_
U15|the watch on the own lease|(^|_)u15_
U16|renewal|(^|_)u16_
U17|defaults and overrides of the config|(^|_)u17_
U18|subnet keys|(^|_)u18_
U19|invalid CIDRs in `subnet.env`|(^|_)u19_
U20|annotation prefix|(^|_)u20_
U21|containment of networks|(^|_)u21_
U22|firewall rules|(^|_)u22_|^e(1|2|12|13)_
U23|choice of the interface|(^|_)u23_
U24|addresses of the device|(^|_)u24_
U25|MAC is local and unicast|(^|_)u25_
U26|host-gw routes|(^|_)u26_
U27|fuzzers|(^|_)u27_
8.5 TLS|real TLS to etcd|[rs]85_real_tls|[rs]85_tls
8.5 auth|users and passwords|[rs]85_auth
8.5 race|a lost race, thirty nodes at once|[rs]85_.*race_
8.5 expiry|the lease of a live node ends|[rs]85_lease_(expiry|end)_
8.5 outage|etcd is away, longer than leases live|[rs]85_.*outage|^traffic_outlives_an_outage
8.5 reservations|keys without an etcd lease|[rs]85_.*reserv|^a_reservation_
8.5 DirectRouting|routes to nodes of the same link|[rs]85_.*direct_?routing
8.5 MTU|MTU, path MTU, fragments|[rs]85_.*mtu|^jumbo_and_small|^with_df_on_outer|^tcp_recovers_from_a_narrow
8.5 options|`MTU`, `VNI`, `Port`, `GBP`|[rs]85_options_|^a_configured_mtu|^vxlan_options_
8.5 IPv6|IPv6 with etcd|[rs]85_.*ipv6|^dual_stack_|^ipv6_alone_
8.5 MAC|another MAC|[rs]85_.*mac(_|$)|^a_stated_mac
8.5 public IP|another address|[rs]85_.*public_ip
8.5 stale state|what went while the agent was down|[rs]85_.*stale|^a_node_that_comes_back
8.5 mixed|weft and kernel VXLAN, or a proxy like flannel's|[rs]85_.*(mixed|kernel)|^weft_and_(kernel_vxlan|a_proxy)
8.5 throughput|not a test, as clocks on shared machines decide nothing: `weft bench` measures ([performance](performance.md)), `make instructions` holds instructions per packet against what is recorded|-
8.5 signals|signals and exit statuses|[rs]85_.*(signal|exit|status|cannot_start)|^a_stop_before_the_node|^sigterm_and_sigint
8.5 health|`/healthz` and `/readyz`|[rs]85_.*(health|ready|service_manager)
ROWS
}

# file, name: every test function there is.
tests() {
    git grep -n -E '^ *(async )?fn [a-z0-9_]+\(' -- '*.rs' |
        sed -E 's/^([^:]+):[0-9]+: *(async )?fn ([a-z0-9_]+)\(.*/\1 \3/'
}

# The names that match, each file once, in the form `file`: `test`, `test`.
cell() {
    awk -v expression="$1" '
        $2 ~ expression {
            if (!($1 in names)) files[++n] = $1
            names[$1] = names[$1] (names[$1] == "" ? "" : ", ") "`" $2 "`"
        }
        END { for (i = 1; i <= n; i++) printf "%s`%s`: %s", (i > 1 ? "; " : ""), files[i], names[files[i]] }
    ' <<<"$all"
}

all=$(tests)
table=$(
    echo '| row | what | tests |'
    echo '|---|---|---|'
    rows | while IFS='|' read -r row what expression; do
        if [ "$expression" = - ]; then
            found=none
        else
            found=$(cell "$expression")
        fi
        echo "| $row | $what | ${found:-not yet} |"
    done
)
before=$(sed "/^$heading\$/,\$d" "$page")
{
    echo "$before"
    echo
    echo "$heading"
    echo
    echo 'The rows of flannel'"'"'s own tests, by the numbers under which they were collected. The table is written'
    echo 'by `scripts/acceptance-rows.sh`.'
    echo
    echo "$table"
} >"$page.new"
mv "$page.new" "$page"
