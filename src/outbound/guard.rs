//! Which addresses may be connected to. Whoever holds a token may name a URL, and without a guard
//! could reach everything that this machine reaches. Each address is judged in the form in which it
//! would be dialled. Names are not judged.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// Who named the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// The node's own settings: an internal handler is private by nature.
    Settings,
    /// A caller of the API.
    Caller,
}

/// The settings in `[egress]`, beyond the rules that always hold. `deny` is stronger than `allow`.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub allow: Vec<IpNet>,
    pub deny: Vec<IpNet>,
}

/// An address that is not connected to, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {why}")]
pub struct Blocked {
    pub address: IpAddr,
    pub why: &'static str,
}

#[derive(Clone, Debug)]
pub struct Guard {
    rules: Rules,
    named_by: NamedBy,
}

impl Guard {
    pub fn new(named_by: NamedBy, rules: Rules) -> Self {
        Self { rules, named_by }
    }

    pub fn named_by(&self) -> NamedBy {
        self.named_by
    }

    pub fn check(&self, address: IpAddr) -> Result<(), Blocked> {
        let reached = address.to_canonical();
        let within =
            |nets: &[IpNet], address: IpAddr| nets.iter().any(|net| net.contains(&address));
        let carried = carried(reached).map(IpAddr::V4);
        let blocked = |why| Err(Blocked { address, why });
        if [Some(reached), carried]
            .into_iter()
            .flatten()
            .any(|address| within(&self.rules.deny, address))
        {
            return blocked("in egress.deny");
        }
        if within(&self.rules.allow, reached) {
            return Ok(());
        }
        if [Some(reached), carried]
            .into_iter()
            .flatten()
            .any(is_metadata)
        {
            return blocked(
                "where clouds keep a machine's own credentials: name it in egress.allow if it is meant",
            );
        }
        match self.named_by {
            NamedBy::Caller if !is_public(reached) => blocked(
                "not a public address: name it in egress.allow, or make it a destination in the settings",
            ),
            _ => Ok(()),
        }
    }
}

/// Whether the address is a cloud's metadata service: link-local, where nearly all have it, or one
/// of the others (Alibaba, Azure's WireServer, Oracle; AWS and Google over IPv6).
fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_link_local()
                || [
                    Ipv4Addr::new(100, 100, 100, 200),
                    Ipv4Addr::new(168, 63, 129, 16),
                    Ipv4Addr::new(192, 0, 0, 192),
                ]
                .contains(&v4)
        }
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local()
                || matches!(v6.segments(), [0xfd00, 0x0ec2, ..] | [0xfd20, 0x00ce, ..])
        }
    }
}

/// Whether anybody on the Internet may have this address. All others are in IANA's special-purpose
/// registries (RFC 6890 and its updates), also those that carry another address (6to4, Teredo,
/// NAT64). Of IPv6 only 2000::/3 is assigned.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let special = v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_documentation()
                || a == 0
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 192 && b == 88 && c == 99)
                || (a == 198 && (18..20).contains(&b))
                || a >= 240;
            !special
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            let special = (a == 0x2001 && (b < 0x0200 || b == 0x0db8))
                || a == 0x2002
                || (a == 0x3fff && b < 0x1000);
            a & 0xe000 == 0x2000 && !special
        }
    }
}

/// The IPv4 address inside an IPv6 one: compatible (RFC 4291), NAT64 (RFC 6052, RFC 8215), 6to4
/// (RFC 3056). A mapped address already became the IPv4 address.
fn carried(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let pair = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, _, _, _, _, high, low]
        | [0x2002, high, low, ..] => pair(high, low),
        _ => None,
    }
}
