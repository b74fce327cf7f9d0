//! Where requests go and what signs them: the source of the running service, its provider's scheme
//! as that source sets it, and its secret, found as the service finds it. No secret comes over the
//! API but one that a handshake brought, which takes the admin scope; nothing there signs for others.

use std::{net::SocketAddr, sync::Arc};

use hookonce_scheme::{Scheme, Verifier};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::SecretString;
use url::Url;

use super::arguments::Arguments;
use crate::{
    cli::{
        Failure, Globals,
        client::{Client, is_loopback},
        config,
    },
    contract::LearntSecret,
    node::data_dir::{DataDir, Running},
    settings::{Loaded, Settings, Source},
};

const HOOKS: &str = "/hooks/";

pub struct Target {
    /// Of the service, as its path names it.
    pub source: String,
    pub scheme: Arc<Scheme>,
    pub secret: SecretString,
    /// Where the secret was found, for whoever wonders why it is the wrong one.
    pub secret_from: String,
    /// What is posted to.
    pub url: Url,
    /// What the provider would call, which some sign.
    pub signed_url: Url,
    /// Whether that is this machine.
    pub is_here: bool,
    /// The admin API, if it is found; it need not answer.
    pub client: Option<Client>,
}

/// What is known of the service before anything is asked of it.
struct Known {
    /// With the settings' file of the service, if none was named.
    globals: Globals,
    running: Option<Running>,
    loaded: Option<Loaded>,
    /// Why the settings can't be read.
    unread: Option<String>,
}

impl Target {
    pub async fn find(globals: &Globals, arguments: &Arguments) -> anyhow::Result<Self> {
        let known = Known::find(globals)?;
        let catalog = config::catalog_of(known.settings())?;
        let given = &arguments.provider;
        let url = arguments.to.as_deref().map(parsed).transpose()?;
        let source = known.source(arguments, url.as_ref(), &|name| {
            catalog.get(name).map(|scheme| scheme.name.clone())
        })?;
        let configured = known
            .settings()
            .and_then(|settings| settings.sources.get(&source));
        let provider = match configured {
            // The name of a source stands for its provider.
            Some(configured) if catalog.get(given).is_none() => &configured.provider,
            _ => given,
        };
        let scheme = catalog
            .get(provider)
            .ok_or_else(|| Failure::not_found(catalog.not_known(given)))?;
        let client = Client::find(&known.globals).ok();
        let (secret, secret_from) = match &arguments.secret {
            Some(secret) => (secret.clone(), "--secret or HOOKONCE_SECRET".to_owned()),
            None => known.secret(&source, client.as_ref()).await?,
        };
        let scheme = match configured {
            // Settings that are wrong are not in force: a secret that was given is enough.
            Some(configured) => match of_source(&catalog, &source, configured, &secret) {
                Err(_) if arguments.secret.is_some() => Arc::clone(scheme),
                of_source => of_source?,
            },
            None => Arc::clone(scheme),
        };
        let url = match url {
            Some(url) => url,
            None => known.url(&source)?,
        };
        let signed_url = known.signed_url(configured, &url)?;
        Ok(Self {
            is_here: is_loopback(&url),
            source,
            scheme,
            secret,
            secret_from,
            signed_url,
            url,
            client,
        })
    }
}

fn parsed(to: &str) -> anyhow::Result<Url> {
    let url = Url::parse(to)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| Failure::usage(format!("--to: {to:?} is no http(s) URL")).into())
}

/// The scheme as the source sets it: another header, say.
fn of_source(
    catalog: &hookonce_scheme::Catalog,
    name: &str,
    source: &Source,
    secret: &SecretString,
) -> anyhow::Result<Arc<Scheme>> {
    let verifier = Verifier::new(catalog, &source.spec(), std::slice::from_ref(secret));
    let verifier = verifier.map_err(|errors| {
        let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the source {name:?}: {}", said.join("; "))
    })?;
    Ok(verifier.shared_scheme())
}

impl Known {
    fn find(globals: &Globals) -> anyhow::Result<Self> {
        let running = DataDir::new(globals.data_dir.clone()).running();
        let mut globals = globals.clone();
        let is_named = globals.config.is_some();
        if let Some(running) = &running
            && !is_named
        {
            globals.config.clone_from(&running.settings);
        }
        let (loaded, unread) = match config::load_readable(&globals) {
            Ok(loaded) => (Some(loaded), None),
            // A file that was named must be right.
            Err(problems) if is_named => return Err(problems.into()),
            Err(problems) => (None, Some(problems.to_string())),
        };
        Ok(Self {
            globals,
            running,
            loaded,
            unread,
        })
    }

    fn settings(&self) -> Option<&Settings> {
        self.loaded.as_ref().map(|loaded| &loaded.settings)
    }

    /// The source that is meant: the one that was named, by --source or in the URL; else that of
    /// the provider's name, or the only one of the provider.
    fn source(
        &self,
        arguments: &Arguments,
        url: Option<&Url>,
        canonical: &dyn Fn(&str) -> Option<String>,
    ) -> anyhow::Result<String> {
        let given = &arguments.provider;
        let sources = self.settings().map(|settings| &settings.sources);
        if let Some(name) = &arguments.source {
            return Ok(name.clone());
        }
        if let Some(name) = url.and_then(|url| url.path().strip_prefix(HOOKS)) {
            return Ok(name.to_owned());
        }
        let Some(sources) = sources.filter(|sources| !sources.contains_key(given)) else {
            return Ok(given.clone());
        };
        let provider = canonical(given);
        let of_provider: Vec<&String> = sources
            .iter()
            .filter(|(_, source)| provider.is_some() && canonical(&source.provider) == provider)
            .map(|(name, _)| name)
            .collect();
        match of_provider.as_slice() {
            [] => Ok(given.clone()),
            [only] => Ok((*only).clone()),
            several => {
                let names: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
                Err(Failure::usage(format!(
                    "several sources have the provider {given}: name one with --source ({})",
                    names.join(", ")
                ))
                .into())
            }
        }
    }

    /// The secret of a source, and where it was found.
    async fn secret(
        &self,
        source: &str,
        client: Option<&Client>,
    ) -> anyhow::Result<(SecretString, String)> {
        let configured = self
            .settings()
            .and_then(|settings| settings.sources.get(source));
        let mut unreadable = Vec::new();
        for secret in configured
            .into_iter()
            .flat_map(|source| source.secret.iter().chain(&source.secrets))
        {
            match secret.read() {
                Ok(secret) => return Ok((secret, self.place(source))),
                Err(error) => unreadable.push(error),
            }
        }
        if unreadable.is_empty() && self.unread.is_none() {
            let data_dir = DataDir::new(self.globals.data_dir.clone());
            if let Some(secret) = data_dir.dev_secrets()?.get(source) {
                let from = format!("what dev made, in {}", data_dir.path().display());
                return Ok((SecretString::from(secret.as_str()), from));
            }
        }
        if configured.is_some_and(|source| source.learn_secret)
            && let Some(client) = client
        {
            let name = utf8_percent_encode(source, NON_ALPHANUMERIC);
            let path = format!("/api/v1/sources/{name}/secret");
            let learnt: LearntSecret = client.get(&path).await?;
            return Ok((learnt.secret.into(), "a handshake brought it".into()));
        }
        Err(Failure::not_found(self.without_secret(source, &unreadable)).into())
    }

    /// Where the settings have the source's secret.
    fn place(&self, source: &str) -> String {
        let key = format!("sources.{source}");
        let origin = self.loaded.as_ref().map(|loaded| loaded.origin_of(&key));
        format!("{key} ({})", origin.unwrap_or_default())
    }

    /// What is missing, if no secret was found.
    fn without_secret(&self, source: &str, unreadable: &[String]) -> String {
        let give = "give --secret or set HOOKONCE_SECRET";
        if let Some(error) = unreadable.first() {
            return format!(
                "the secret of the source {source:?} can't be read here, as {} says where it is: {error}. The service has it, and gives it to nobody: {give}",
                self.place(source)
            );
        }
        if let Some(unread) = &self.unread {
            return format!(
                "there is no secret for the source {source:?}: the settings can't be read here ({unread}): {give}, or name the file with --config"
            );
        }
        let file = self.loaded.as_ref().and_then(|loaded| loaded.file.as_ref());
        let settings = file.map_or_else(
            || "the settings (no file was found)".to_owned(),
            |file| file.display().to_string(),
        );
        let sources = self.settings().map(|settings| settings.sources.keys());
        let names: Vec<&str> = sources.into_iter().flatten().map(String::as_str).collect();
        let names = match names.as_slice() {
            [] => String::new(),
            names => format!(", whose sources are {}", names.join(", ")),
        };
        format!(
            "there is no secret for the source {source:?} in {settings}{names}: {give}, or start `hookonce dev`"
        )
    }

    /// The URL of the source at the service that runs here.
    fn url(&self, source: &str) -> anyhow::Result<Url> {
        let Some(running) = &self.running else {
            let folder = self.globals.data_dir.display();
            let other = match &self.globals.server {
                Some(server) => format!("the public port of {server} is not known"),
                None => format!("no hookonce runs with the data folder {folder}"),
            };
            return Err(Failure::usage(format!(
                "{other}: start `hookonce dev` or `hookonce serve`, name the folder with --data-dir, or say where to with --to http://HOST:PORT/hooks/{source}"
            ))
            .into());
        };
        let name = utf8_percent_encode(source, NON_ALPHANUMERIC)
            .to_string()
            .replace("%2D", "-")
            .replace("%5F", "_");
        Ok(Url::parse(&format!(
            "http://{}{HOOKS}{name}",
            here(running.public)
        ))?)
    }

    /// What the provider would call: the source's own URL, or the public one with this path.
    fn signed_url(&self, source: Option<&Source>, url: &Url) -> anyhow::Result<Url> {
        let own = source
            .and_then(|source| source.url.as_deref())
            .map(str::to_owned);
        let public = || {
            let base = self.settings()?.ingress.public_url.as_deref()?;
            Some(format!(
                "{}{}",
                base.trim_end_matches('/'),
                &url[url::Position::BeforePath..]
            ))
        };
        match own.or_else(|| source.and_then(|_| public())) {
            Some(text) => Ok(Url::parse(&text)?),
            None => Ok(url.clone()),
        }
    }
}

/// An address that stands for all of a machine's becomes this machine's own.
fn here(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    let own: std::net::IpAddr = match address.is_ipv4() {
        true => std::net::Ipv4Addr::LOCALHOST.into(),
        false => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(own, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_all_is_this_machine() {
        for (address, expected) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            let address = here(address.parse().unwrap());
            assert_eq!(address.to_string(), expected);
        }
    }
}
