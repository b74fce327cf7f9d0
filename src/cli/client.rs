//! The admin API's client. On the machine of the service it finds address and token in the data
//! folder; a token found there is never sent to another machine.

use std::{fs, net::IpAddr, time::Duration};

use anyhow::Context as _;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use url::Url;

use super::{Exit, Failure, Globals};
use crate::contract::Problem;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A dry run of a large replay counts for a while before it answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Rows of one page of a list.
const PAGE_ROWS: usize = 200;

pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<SecretString>,
    verbose: bool,
}

impl Client {
    pub fn find(globals: &Globals) -> anyhow::Result<Self> {
        let base = address(globals)?;
        let is_here = is_loopback(&base);
        let token = match &globals.token {
            Some(token) => Some(token.clone()),
            None if is_here => local_token(globals),
            None => None,
        };
        let builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT);
        let http = if is_here { builder.no_proxy() } else { builder }
            .build()
            .context("can't set up the HTTP client")?;
        Ok(Self {
            http,
            base,
            token,
            verbose: globals.verbose > 0,
        })
    }

    fn request(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        let url = self
            .base
            .join(path)
            .with_context(|| format!("{path:?} is no path"))?;
        if self.verbose {
            anstream::eprintln!("{method} {url}");
        }
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        })
    }

    /// The answer to a request, whatever its status.
    pub async fn answer(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        request.send().await.with_context(|| {
            format!(
                "no answer from hookonce at {}: is it running there? (--server names another)",
                self.base
            )
        })
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let response = accepted(self.answer(request.timeout(ANSWER_TIMEOUT)).await?).await?;
        response.json().await.with_context(|| {
            format!(
                "{} did not answer with what was asked for: is it hookonce's admin port?",
                self.base
            )
        })
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.json(self.request(Method::GET, path)?).await
    }

    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<T> {
        let request = self.request(Method::POST, path)?;
        self.json(if let Some(body) = body {
            request.json(body)
        } else {
            request
        })
        .await
    }

    /// Asks with those parameters that have a value.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
    ) -> anyhow::Result<T> {
        let given: Vec<_> = query.iter().filter(|(_, value)| value.is_some()).collect();
        self.json(self.request(Method::GET, path)?.query(&given))
            .await
    }

    /// A response whose body does not end, such as the tail.
    pub async fn stream(&self, path: &str) -> anyhow::Result<Response> {
        accepted(self.answer(self.request(Method::GET, path)?).await?).await
    }

    /// Whether the service says that it is ready; an error says why nobody answered.
    pub async fn is_ready(&self) -> anyhow::Result<bool> {
        let request = self
            .request(Method::GET, "/readyz")?
            .timeout(CONNECT_TIMEOUT);
        Ok(self.answer(request).await?.status().is_success())
    }

    /// Reads a list page by page, at most `limit` rows.
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
        limit: usize,
    ) -> anyhow::Result<Vec<T>> {
        let mut rows = Vec::new();
        let mut cursor: Option<String> = None;
        while rows.len() < limit {
            let page_rows = (limit - rows.len()).min(PAGE_ROWS).to_string();
            let given = query
                .iter()
                .filter_map(|(name, value)| value.as_deref().map(|value| (*name, value)));
            let paging = [
                ("limit", Some(page_rows.as_str())),
                ("cursor", cursor.as_deref()),
            ];
            let paging = paging
                .into_iter()
                .filter_map(|(name, value)| value.map(|value| (name, value)));
            let parameters: Vec<(&str, &str)> = given.chain(paging).collect();
            let page: Listed<T> = self
                .json(self.request(Method::GET, path)?.query(&parameters))
                .await?;
            rows.extend(page.items);
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        Ok(rows)
    }
}

/// A page of any list. Its cursor goes back as it came.
#[derive(Deserialize)]
struct Listed<T> {
    items: Vec<T>,
    next: Option<String>,
}

/// The response, or an error made of the problem that it carries.
async fn accepted(response: Response) -> anyhow::Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let problem: Option<Problem> = response.json().await.ok();
    let said = problem.map_or_else(
        || format!("the answer was {status}"),
        |problem| problem.detail.unwrap_or(problem.title),
    );
    let (exit, message) = match status {
        StatusCode::BAD_REQUEST => (Exit::Usage, said),
        StatusCode::NOT_FOUND => (Exit::NotFound, said),
        StatusCode::UNAUTHORIZED => (
            Exit::Failed,
            "the admin token is missing or wrong: give --token or set HOOKONCE_TOKEN".into(),
        ),
        _ => (Exit::Failed, said),
    };
    Err(Failure { exit, message }.into())
}

fn address(globals: &Globals) -> anyhow::Result<Url> {
    let text = match &globals.server {
        Some(server) => server.clone(),
        None => {
            let path = globals.data_dir.join("admin.address");
            fs::read_to_string(&path).with_context(|| {
                format!(
                    "no hookonce runs here ({} can't be read): start `hookonce dev` or `hookonce serve`, or name one with --server",
                    path.display()
                )
            })?
        }
    };
    parse_address(text.trim())
        .ok_or_else(|| Failure::usage(format!("--server: {text:?} is no http(s) URL")).into())
}

/// Reads a URL, or an address and port. An address that stands for all of a machine's becomes this
/// machine's own.
fn parse_address(text: &str) -> Option<Url> {
    let text = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let mut url = Url::parse(&text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())?;
    let host = url
        .host_str()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .parse::<IpAddr>();
    if let Ok(host) = host
        && host.is_unspecified()
    {
        url.set_host(Some(if host.is_ipv4() { "127.0.0.1" } else { "[::1]" }))
            .ok()?;
    }
    Some(url)
}

pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The token in the settings, else the one that the service made.
fn local_token(globals: &Globals) -> Option<SecretString> {
    let configured = super::config::load_readable(globals)
        .ok()
        .and_then(|loaded| loaded.settings.admin.token)
        .and_then(|token| token.read().ok());
    configured.or_else(|| {
        let token = fs::read_to_string(globals.data_dir.join("admin.token")).ok()?;
        Some(SecretString::from(token.trim().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_urls() {
        for (text, expected) in [
            ("127.0.0.1:8081", Some("http://127.0.0.1:8081/")),
            ("0.0.0.0:8081", Some("http://127.0.0.1:8081/")),
            ("[::]:8081", Some("http://[::1]:8081/")),
            ("https://hooks.example", Some("https://hooks.example/")),
            ("ftp://hooks.example", None),
            ("", None),
        ] {
            assert_eq!(
                parse_address(text).as_ref().map(Url::as_str),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn a_local_token_stays_on_this_machine() {
        for (text, expected) in [
            ("localhost:1", true),
            ("127.0.0.9:1", true),
            ("[::1]:1", true),
            ("10.0.0.1:1", false),
            ("localhost.x.example:1", false),
        ] {
            assert_eq!(
                parse_address(text).as_ref().map(is_loopback),
                Some(expected),
                "{text}"
            );
        }
    }
}
