//! Names of algorithms, of the texts of digests, and of what is signed of a packed body.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is signed of a body that comes gzipped (RFC 1952).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Gzip {
    /// The compressed bytes.
    AsSent,
    /// What they unpack to.
    Unpacked,
}

/// How a signature is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// HMAC (RFC 2104) over SHA-1.
    #[serde(rename = "hmac-sha1")]
    HmacSha1,
    /// HMAC over SHA-256.
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// HMAC over SHA-384.
    #[serde(rename = "hmac-sha384")]
    HmacSha384,
    /// HMAC over SHA-512.
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
    /// A plain hash of the content, which must name `{secret}`.
    #[serde(rename = "sha1")]
    Sha1,
    /// The same with SHA-256.
    #[serde(rename = "sha256")]
    Sha256,
    /// The same with Keccak as it was before SHA-3 (FIPS 202), as Ethereum has it.
    #[serde(rename = "keccak-256")]
    Keccak256,
    /// The secret itself is sent.
    Token,
    /// RFC 8032; the secret is the public key, and weak keys are refused.
    Ed25519,
    /// The secret is the public key (PEM, or its base64); signatures are DER, or two numbers of 32
    /// bytes.
    #[serde(rename = "ecdsa-p256-sha256")]
    EcdsaP256Sha256,
    /// PKCS #1 v1.5 (RFC 8017, section 8.2) over SHA-256, with a key of 2048 bits at least; the
    /// secret is the public key (PEM, or its base64).
    #[serde(rename = "rsa-sha256")]
    RsaSha256,
    /// The same over SHA-1; for keys that are fetched alone.
    #[serde(rename = "rsa-sha1")]
    RsaSha1,
}

impl Algorithm {
    /// Whether what checks it is no secret.
    pub fn is_public(self) -> bool {
        matches!(
            self,
            Self::Ed25519 | Self::EcdsaP256Sha256 | Self::RsaSha256 | Self::RsaSha1
        )
    }
}

/// How a digest is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Either case.
    Hex,
    /// RFC 4648, section 4: the standard alphabet, padded or not.
    Base64,
    /// RFC 4648, section 5: the URL-safe alphabet, padded or not.
    Base64url,
    /// As it is. For tokens.
    Plain,
    /// As in an Authorization header: what `Basic` holds in base64, what stands after `Bearer`, or
    /// anything else as it is. For tokens.
    Credentials,
}
