//! Signatures with a public key that ring checks: ECDSA on P-256 and RSA (PKCS #1 v1.5), both over
//! SHA-256. Ed25519 is in `key`.

use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED,
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
        RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
        RsaKeyPair, RsaParameters, UnparsedPublicKey,
    },
};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use crate::spec::Algorithm;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ELLIPTIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// Bytes of the longest signature: RSA with a key of 8192 bits.
pub(crate) const SIGNATURE_BYTES_MAX: usize = 1024;
/// JWS writes two numbers of 32 bytes. DER is longer, except for one signature in 2^60.
const FIXED_BYTES: usize = 64;

/// A key to check with, as ring takes it.
pub(crate) enum PublicKey {
    EcdsaP256(Vec<u8>),
    Rsa(Vec<u8>),
}

impl PublicKey {
    /// Reads the DER of a public key (SubjectPublicKeyInfo) or of a private one (PKCS #8), whose
    /// public half is taken.
    pub(crate) fn new(algorithm: Algorithm, der: &[u8]) -> Result<Self, String> {
        let (key, kind) = match algorithm {
            Algorithm::EcdsaP256Sha256 => (p256_of(der).map(Self::EcdsaP256), "P-256 key"),
            _ => (rsa_of(der).map(Self::Rsa), "RSA key of 2048 to 8192 bits"),
        };
        key.ok_or_else(|| format!("is no public {kind} in PEM, or its base64"))
    }

    /// Whether the signature is right. One of ECDSA may be DER or two numbers of 32 bytes.
    pub(crate) fn is_right(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::EcdsaP256(key) if signature.len() == FIXED_BYTES => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key)
                    .verify(message, signature)
                    .is_ok()
            }
            Self::EcdsaP256(key) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
                .verify(message, signature)
                .is_ok(),
            Self::Rsa(_) => self.is_right_rsa(Algorithm::RsaSha256, message, signature),
        }
    }

    /// Like `is_right`, for RSA over this algorithm's hash.
    pub(crate) fn is_right_rsa(
        &self,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let Self::Rsa(key) = self else { return false };
        UnparsedPublicKey::new(rsa(algorithm), key)
            .verify(message, signature)
            .is_ok()
    }
}

/// PKCS #1 v1.5 over this algorithm's hash.
pub(crate) fn rsa(algorithm: Algorithm) -> &'static RsaParameters {
    if algorithm == Algorithm::RsaSha1 {
        &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY
    } else {
        &RSA_PKCS1_2048_8192_SHA256
    }
}

fn p256_of(der: &[u8]) -> Option<Vec<u8>> {
    if let Ok(private) =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &SystemRandom::new())
    {
        return Some(private.public_key().as_ref().to_vec());
    }
    let info = SubjectPublicKeyInfoRef::try_from(der).ok()?;
    let point = info.subject_public_key.as_bytes()?;
    let curve = info.algorithm.parameters_oid().ok()?;
    // ring takes an uncompressed point alone.
    (info.algorithm.oid == ELLIPTIC && curve == P256 && point.len() == 65 && point[0] == 4)
        .then(|| point.to_vec())
}

fn rsa_of(der: &[u8]) -> Option<Vec<u8>> {
    if let Ok(private) = RsaKeyPair::from_pkcs8(der) {
        return Some(private.public_key().as_ref().to_vec());
    }
    let info = SubjectPublicKeyInfoRef::try_from(der).ok()?;
    let key = info.subject_public_key.as_bytes()?;
    // A shorter key has fewer than 2048 bits. ring checks the rest when the key is used.
    (info.algorithm.oid == RSA && key.len() >= 256).then(|| key.to_vec())
}

/// Signs with a private key (PKCS #8).
pub(crate) fn sign(
    algorithm: Algorithm,
    der: &[u8],
    message: &[u8],
    fixed: bool,
) -> Result<Vec<u8>, String> {
    let random = SystemRandom::new();
    let unsigned = |_| "can't be signed with".to_owned();
    if algorithm == Algorithm::RsaSha256 {
        let key = RsaKeyPair::from_pkcs8(der)
            .map_err(|_| "is no private RSA key in PKCS #8, which signing takes")?;
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
            .map_err(unsigned)?;
        return Ok(signature);
    }
    let kind: &EcdsaSigningAlgorithm = if fixed {
        &ECDSA_P256_SHA256_FIXED_SIGNING
    } else {
        &ECDSA_P256_SHA256_ASN1_SIGNING
    };
    let key = EcdsaKeyPair::from_pkcs8(kind, der, &random)
        .map_err(|_| "is no private P-256 key in PKCS #8, which signing takes")?;
    key.sign(&random, message)
        .map(|signature| signature.as_ref().to_vec())
        .map_err(unsigned)
}

/// A fresh private key (PKCS #8). None for RSA, because ring makes no RSA keys.
pub(crate) fn generate(algorithm: Algorithm) -> Option<Vec<u8>> {
    if algorithm != Algorithm::EcdsaP256Sha256 {
        return None;
    }
    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
        .ok()
        .map(|key| key.as_ref().to_vec())
}
