//! Values as people write them: "15s", "1MiB", a secret by value, variable or file.

use std::{borrow::Cow, fmt, net::IpAddr, path::PathBuf};

pub use hookonce_scheme::Period;
use hookonce_scheme::period::with_unit;
use ipnet::{IpNet, Ipv4Net};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use url::Url;

/// A number of bytes, written "64KiB" or "1MiB".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const SIZE_UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl ByteSize {
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bytes) = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
            .into_iter()
            .find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes))
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

impl std::str::FromStr for ByteSize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a size: write a number with its unit, such as \"64KiB\" or \"1MiB\""
            )
        };
        let (digits, bytes) = SIZE_UNITS
            .iter()
            .find_map(|(unit, bytes)| {
                text.strip_suffix(unit)
                    .map(|digits| (digits.trim(), *bytes))
            })
            .unwrap_or((text, 1));
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number.checked_mul(bytes).map(Self).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        with_unit(deserializer, "a size such as \"1MiB\"")?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "A number of bytes with its unit: \"64KiB\", \"1MiB\"", "examples": ["1MiB"] })
    }
}

/// A URL without its password, for lists and logs.
pub fn without_password(url: &str) -> Cow<'_, str> {
    match Url::parse(url) {
        Ok(mut parsed) if parsed.password().is_some() => {
            let _ = parsed.set_password(Some("***"));
            String::from(parsed).into()
        }
        _ => url.into(),
    }
}

/// A URL to the letter, as it may be signed; its password is shown nowhere.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct UrlText(String);

impl std::ops::Deref for UrlText {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for UrlText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        without_password(self).fmt(f)
    }
}

impl Serialize for UrlText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        without_password(self).serialize(serializer)
    }
}

/// Addresses, written "10.0.0.0/8" (CIDR, RFC 4632), "fd00::/8" or as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl std::str::FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let one = || text.parse::<IpAddr>().map(IpNet::from);
        let net = text.parse::<IpNet>().or_else(|_| one()).map_err(|_| {
            format!("{text:?} is neither an address nor a range of them: write \"10.1.2.3\", \"10.0.0.0/8\" or \"fd00::/8\"")
        })?;
        // An IPv4 address inside an IPv6 one counts as IPv4, however it is written.
        let mapped = match net {
            IpNet::V6(v6) if v6.prefix_len() >= 96 => v6
                .addr()
                .to_ipv4_mapped()
                .and_then(|v4| Ipv4Net::new(v4, v6.prefix_len() - 96).ok()),
            _ => None,
        };
        Ok(Self(mapped.map_or(net, IpNet::V4).trunc()))
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for Network {
    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "Addresses in CIDR, or one address", "examples": ["10.0.0.0/8", "fd00::/8"] })
    }
}

/// Where a secret is: its value, an environment variable, or a file. Debug and Serialize mask the
/// value.
#[derive(Clone)]
pub enum SecretRef {
    Value(SecretString),
    Env(String),
    File(PathBuf),
}

impl PartialEq for SecretRef {
    /// Whether both name the same secret. What a file or a variable holds now is not compared.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Value(one), Self::Value(other)) => one.expose_secret() == other.expose_secret(),
            (Self::Env(one), Self::Env(other)) => one == other,
            (Self::File(one), Self::File(other)) => one == other,
            _ => false,
        }
    }
}

impl SecretRef {
    /// Reads the secret. One line break at its end is dropped, because editors add it. Errors name
    /// the variable or file, never the value.
    pub fn read(&self) -> Result<SecretString, String> {
        self.read_with(&|name| std::env::var(name).ok())
    }

    /// Like `read`, with the environment given.
    pub fn read_with(
        &self,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<SecretString, String> {
        let secret = match self {
            Self::Value(secret) => secret.clone(),
            Self::Env(name) => lookup(name)
                .map(SecretString::from)
                .ok_or_else(|| format!("the environment variable {name} is not set"))?,
            Self::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("can't read {}: {error}", path.display()))?;
                let text = text.strip_suffix('\n').unwrap_or(&text);
                SecretString::from(text.strip_suffix('\r').unwrap_or(text))
            }
        };
        if secret.expose_secret().is_empty() {
            return Err(match self {
                Self::Value(_) => {
                    "the secret is empty: an empty secret would accept anybody".into()
                }
                Self::Env(name) => format!(
                    "the environment variable {name} is empty: an empty secret would accept anybody"
                ),
                Self::File(path) => format!(
                    "{} is empty: an empty secret would accept anybody",
                    path.display()
                ),
            });
        }
        Ok(secret)
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("***"),
            Self::Env(name) => write!(f, "{{ env = {name:?} }}"),
            Self::File(path) => write!(f, "{{ file = {path:?} }}"),
        }
    }
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
enum Written {
    Value(String),
    Env {
        #[schemars(description = "The environment variable that holds the secret")]
        env: String,
    },
    File {
        #[schemars(description = "The file that holds the secret")]
        file: PathBuf,
    },
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer) {
            Ok(Written::Value(value)) => Ok(Self::Value(value.into())),
            Ok(Written::Env { env }) => Ok(Self::Env(env)),
            Ok(Written::File { file }) => Ok(Self::File(file)),
            Err(_) => Err(D::Error::custom(
                "a secret is written \"…\", { env = \"NAME\" } or { file = \"/path\" }",
            )),
        }
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(_) => Written::Value("***".into()),
            Self::Env(env) => Written::Env { env: env.clone() },
            Self::File(file) => Written::File { file: file.clone() },
        }
        .serialize(serializer)
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Written::json_schema(generator)
    }
}
