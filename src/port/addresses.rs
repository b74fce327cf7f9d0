//! Senders, told apart by their addresses.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use quick_cache::sync::Cache;

/// The part of an address that one host or customer has: of IPv6 a /64.
pub fn guest(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

/// How many addresses are counted at a time. One that is pushed out has its whole quota again.
const GUESTS_MAX: usize = 10_000;

/// Bounds how many requests a second one address may send.
pub struct Rates {
    quota: Quota,
    of_guest: Cache<IpAddr, Arc<DefaultDirectRateLimiter>>,
}

impl Rates {
    /// None if `per_second` is 0, which means no bound.
    pub fn new(per_second: u32) -> Option<Self> {
        let quota = Quota::per_second(NonZeroU32::new(per_second)?);
        Some(Self {
            quota,
            of_guest: Cache::new(GUESTS_MAX),
        })
    }

    pub fn allows(&self, address: IpAddr) -> bool {
        let rate = self.of_guest.get_or_insert_with(&guest(address), || {
            Ok::<_, Infallible>(Arc::new(RateLimiter::direct(self.quota)))
        });
        rate.is_ok_and(|rate| rate.check().is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_quota_and_no_other_pays_for_it() {
        let rates = Rates::new(2).unwrap();
        let ask = |address: &str| rates.allows(address.parse().unwrap());
        assert_eq!(
            ["::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"].map(ask),
            [true, true, false]
        );
        assert_eq!(
            [
                "2001:db8::1",
                "2001:db8::2",
                "2001:db8::3",
                "2001:db8:0:1::1"
            ]
            .map(ask),
            [true, true, false, true]
        );
        assert!(Rates::new(0).is_none());
    }
}
