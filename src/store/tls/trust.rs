//! Whether a certificate that rustls can't check is trusted: it is one of the trusted ones, or
//! signed by one. Names are not looked at, as with `sslmode=verify-ca`.

use rustls::{
    CertificateError,
    pki_types::{CertificateDer, UnixTime},
};
use x509_parser::{
    prelude::{FromDer as _, X509Certificate, X509Version},
    time::ASN1Time,
};

pub fn check(
    certificate: &CertificateDer<'_>,
    trusted: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), CertificateError> {
    let read = |der| {
        X509Certificate::from_der(der)
            .map(|(_, read)| read)
            .map_err(|_| CertificateError::BadEncoding)
    };
    let own = read(certificate)?;
    let now = i64::try_from(now.as_secs())
        .ok()
        .and_then(|now| ASN1Time::from_timestamp(now).ok())
        .ok_or(CertificateError::BadEncoding)?;
    is_in_time(&own, now)?;
    if trusted.contains(certificate) {
        return Ok(());
    }
    let issuers = trusted
        .iter()
        .filter_map(|issuer| read(issuer).ok())
        .filter(|issuer| may_sign(issuer));
    let signed_by = |issuer: &X509Certificate<'_>| {
        issuer.subject().as_raw() == own.issuer().as_raw()
            && own.verify_signature(Some(issuer.public_key())).is_ok()
    };
    let issuer = issuers
        .into_iter()
        .find(signed_by)
        .ok_or(CertificateError::UnknownIssuer)?;
    is_in_time(&issuer, now)
}

fn is_in_time(certificate: &X509Certificate<'_>, now: ASN1Time) -> Result<(), CertificateError> {
    let validity = certificate.validity();
    match (now < validity.not_before, now > validity.not_after) {
        (true, _) => Err(CertificateError::NotValidYet),
        (_, true) => Err(CertificateError::Expired),
        _ => Ok(()),
    }
}

/// A certificate of version 1 can't say that it is an authority's, so being trusted is enough.
fn may_sign(issuer: &X509Certificate<'_>) -> bool {
    let signs_certificates = issuer
        .key_usage()
        .is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()));
    issuer.version() == X509Version::V1 || (issuer.is_ca() && signs_certificates)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose,
    };
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    fn fixture(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    fn issuer(change: impl FnOnce(&mut CertificateParams)) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn one_of_version_1_is_believed_where_it_or_its_signer_is_trusted() {
        let (own, root) = (
            fixture(include_str!("../../../tests/keys/x509-v1.pem")),
            fixture(include_str!("../../../tests/keys/x509-v1-root.pem")),
        );
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
        let other = issuer(|_| {}).der().clone();
        assert_eq!(check(&own, &[other.clone(), root.clone()], now), Ok(()));
        assert_eq!(check(&own, std::slice::from_ref(&own), now), Ok(()));
        assert_eq!(check(&own, &[], now), Err(CertificateError::UnknownIssuer));
        assert_eq!(
            check(&own, &[other], now),
            Err(CertificateError::UnknownIssuer)
        );
        let much_later = UnixTime::since_unix_epoch(Duration::from_secs(9_000_000_000));
        assert_eq!(
            check(&own, &[root], much_later),
            Err(CertificateError::Expired)
        );
        // Changes a byte of the signature, and one of what is signed.
        for at in [own.len() - 1, own.len() / 4] {
            let mut changed = own.to_vec();
            changed[at] ^= 1;
            let root = fixture(include_str!("../../../tests/keys/x509-v1-root.pem"));
            assert!(check(&changed.into(), &[root], now).is_err(), "{at}");
        }
    }

    #[test]
    fn who_may_not_sign_and_who_has_the_name_alone_are_not_believed() {
        let now = UnixTime::now();
        let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let signed = |by: &CertifiedIssuer<'static, KeyPair>| {
            leaf.signed_by(&key, by).unwrap().der().clone()
        };
        let good = issuer(|_| {});
        assert_eq!(check(&signed(&good), &[good.der().clone()], now), Ok(()));
        let same_name = issuer(|_| {});
        assert_eq!(
            check(&signed(&good), &[same_name.der().clone()], now),
            Err(CertificateError::UnknownIssuer)
        );
        let no_authority = issuer(|params| params.is_ca = IsCa::NoCa);
        assert_eq!(
            check(&signed(&no_authority), &[no_authority.der().clone()], now),
            Err(CertificateError::UnknownIssuer)
        );
        let other_use = issuer(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
        assert_eq!(
            check(&signed(&other_use), &[other_use.der().clone()], now),
            Err(CertificateError::UnknownIssuer)
        );
        let over = issuer(|params| params.not_after = rcgen::date_time_ymd(2001, 2, 3));
        assert_eq!(
            check(&signed(&over), &[over.der().clone()], now),
            Err(CertificateError::Expired)
        );
    }
}
