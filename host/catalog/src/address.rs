//! Classes of addresses: which are this machine's, and which are of the public internet.
//!
//! The owner of a DNS zone controls its names, so a name that is allowed says nothing about where a request ends up: it may
//! resolve to the host itself, to a machine next to it, or to a cloud's metadata service with credentials. Addresses that
//! are not globally reachable have a special purpose, according to IANA's registries:
//!
//! - <https://www.iana.org/assignments/iana-ipv4-special-registry>
//! - <https://www.iana.org/assignments/iana-ipv6-special-registry>
//! - <https://www.iana.org/assignments/ipv6-address-space> (only `2000::/3` is global unicast)
//!
//! Invariant: an address that embeds an IPv4 address cannot be used to evade the rule for that one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// IPv4 ranges outside of the public internet, and their purpose.
const V4: [(Ipv4Net, &str); 17] = [
    (v4([0, 0, 0, 0], 8), "unspecified"),
    (v4([10, 0, 0, 0], 8), "private"),
    (v4([100, 64, 0, 0], 10), "behind a carrier's translation"),
    (v4([127, 0, 0, 0], 8), "loopback"),
    // Not in the registry: Azure's platform service, reachable inside of its machines only.
    (v4([168, 63, 129, 16], 32), "a cloud's metadata service"),
    (v4([169, 254, 169, 254], 32), "a cloud's metadata service"),
    (v4([169, 254, 0, 0], 16), "link-local"),
    (v4([172, 16, 0, 0], 12), "private"),
    (v4([192, 0, 0, 0], 24), "for protocols"),
    (v4([192, 0, 2, 0], 24), "for documentation"),
    (v4([192, 88, 99, 0], 24), "a relay to another address"),
    (v4([192, 168, 0, 0], 16), "private"),
    (v4([198, 18, 0, 0], 15), "for benchmarks"),
    (v4([198, 51, 100, 0], 24), "for documentation"),
    (v4([203, 0, 113, 0], 24), "for documentation"),
    (v4([224, 0, 0, 0], 4), "multicast"),
    (v4([240, 0, 0, 0], 4), "reserved or broadcast"),
];

/// IPv6 ranges with a special purpose. Other addresses are checked against [`GLOBAL`].
const V6: [(Ipv6Net, &str); 14] = [
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "unspecified"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback"),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), "IPv4-mapped"),
    (v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), "IPv4-translated"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "IPv4-compatible"),
    (
        v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
        "a translation to a local IPv4 address",
    ),
    (
        v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32),
        "a tunnel to an IPv4 address (Teredo)",
    ),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "for protocols"),
    (
        v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
        "for documentation",
    ),
    (
        v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
        "a tunnel to an IPv4 address (6to4)",
    ),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "for documentation"),
    (
        v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
        "private (unique local)",
    ),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
];

/// Global unicast.
const GLOBAL: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
/// The well-known prefix of NAT64 (RFC 6052), by which a network without IPv4 reaches IPv4 hosts:
/// as public as the IPv4 address in its last four bytes.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

const fn v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

/// Whether the host of a URL is this machine, whatever its resolver says: `localhost` or a loopback address.
///
/// ```
/// use qchost_catalog::is_loopback_host;
///
/// assert!(is_loopback_host("localhost") && is_loopback_host("[::1]"));
/// assert!(!is_loopback_host("localhost.example.com"));
/// ```
#[must_use]
pub fn is_loopback_host(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// What an address is for that is not of the public internet; `None` if it is.
#[must_use]
pub fn special_purpose(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => special_purpose_v4(address),
        IpAddr::V6(address) => special_purpose_v6(address),
    }
}

fn special_purpose_v4(address: Ipv4Addr) -> Option<&'static str> {
    V4.iter()
        .find(|(net, _)| net.contains(&address))
        .map(|(_, what)| *what)
}

fn special_purpose_v6(address: Ipv6Addr) -> Option<&'static str> {
    if NAT64.contains(&address) {
        let [.., a, b, c, d] = address.octets();
        return special_purpose_v4(Ipv4Addr::new(a, b, c, d));
    }
    V6.iter()
        .find(|(net, _)| net.contains(&address))
        .map(|(_, what)| *what)
        .or_else(|| (!GLOBAL.contains(&address)).then_some("not global unicast"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_the_public_internet_has_a_purpose() {
        for (text, word) in [
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("10.0.0.1", "private"),
            ("10.255.255.255", "private"),
            ("100.64.0.1", "carrier"),
            ("100.100.100.200", "carrier"),
            ("100.127.255.255", "carrier"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("168.63.129.16", "metadata"),
            ("169.254.0.1", "link-local"),
            ("169.254.169.254", "metadata"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.192", "protocols"),
            ("192.0.2.1", "documentation"),
            ("192.88.99.1", "relay"),
            ("192.168.1.1", "private"),
            ("198.18.0.1", "benchmarks"),
            ("198.19.255.255", "benchmarks"),
            ("198.51.100.7", "documentation"),
            ("203.0.113.7", "documentation"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "IPv4-mapped"),
            ("::ffff:8.8.8.8", "IPv4-mapped"),
            ("::ffff:0:10.0.0.1", "IPv4-translated"),
            ("::10.0.0.1", "IPv4-compatible"),
            ("64:ff9b::127.0.0.1", "loopback"),
            ("64:ff9b::169.254.169.254", "metadata"),
            ("64:ff9b:1::8.8.8.8", "local IPv4"),
            ("100::1", "not global"),
            ("2001::1", "Teredo"),
            ("2001:10::1", "protocols"),
            ("2001:db8::1", "documentation"),
            ("2002:7f00:1::", "6to4"),
            ("2002:808:808::1", "6to4"),
            ("3fff::1", "documentation"),
            ("5f00::1", "not global"),
            ("fc00::1", "unique local"),
            ("fd00:ec2::254", "unique local"),
            ("fd20:ce::254", "unique local"),
            ("fe80::1", "link-local"),
            ("fec0::1", "not global"),
            ("ff02::1", "multicast"),
        ] {
            let address: IpAddr = text.parse().unwrap();
            let why = special_purpose(address).unwrap_or("allowed");
            assert!(why.contains(word), "{text}: {why}");
        }
    }

    #[test]
    fn the_public_internet_has_none() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "198.17.255.255",
            "223.255.255.255",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00:1450::1",
            "3ffe::1",
            "64:ff9b::8.8.8.8",
        ] {
            assert_eq!(special_purpose(text.parse().unwrap()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_form_of_an_ipv4_address_reaches_more_than_it_does(bits: u32, prefix: u64) {
            let plain = Ipv4Addr::from_bits(bits);
            let wide = u128::from(bits);
            let inside = |high: u128| special_purpose(Ipv6Addr::from_bits(high | wide).into());
            prop_assert!(inside(0xffff_u128 << 32).is_some());
            prop_assert!(inside(0xffff_u128 << 48).is_some());
            prop_assert!(inside(0).is_some());
            prop_assert_eq!(inside(0x0064_ff9b_u128 << 96), special_purpose(plain.into()));
            prop_assert!(inside(0x0064_ff9b_0001_u128 << 80).is_some());
            let six_to_four = (0x2002_u128 << 112) | (wide << 80) | u128::from(prefix);
            prop_assert!(special_purpose(Ipv6Addr::from_bits(six_to_four).into()).is_some());
            let teredo = (0x2001_0000_u128 << 96) | (u128::from(prefix) << 32) | (wide ^ 0xffff_ffff);
            prop_assert!(special_purpose(Ipv6Addr::from_bits(teredo).into()).is_some());
        }

        #[test]
        fn what_the_standard_library_knows_to_be_local_has_a_purpose(four: u32, six: u128) {
            let address = Ipv4Addr::from_bits(four);
            let local = address.is_loopback() || address.is_private() || address.is_link_local()
                || address.is_broadcast() || address.is_documentation() || address.is_multicast()
                || address.is_unspecified();
            prop_assert!(!local || special_purpose(address.into()).is_some());

            let address = Ipv6Addr::from_bits(six);
            let local = address.is_loopback() || address.is_unspecified() || address.is_multicast()
                || address.is_unique_local() || address.is_unicast_link_local()
                || address.to_ipv4().is_some();
            prop_assert!(!local || special_purpose(address.into()).is_some());
        }
    }
}
