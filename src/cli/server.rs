//! A running server, as the command line asks it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, bail};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The time in which a server must answer, unless the request says otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The URL of a server, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl(String);

impl ServerUrl {
    /// The server that listens at an address.
    pub(crate) fn from_address(address: SocketAddr) -> Self {
        Self(format!("http://{address}"))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the server is on this machine, where no proxy can reach it.
    fn is_local(&self) -> bool {
        let url = Url::parse(&self.0).ok();
        url.as_ref().and_then(Url::host_str).is_some_and(|host| {
            let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
            address.map_or(host == "localhost" || host.ends_with(".localhost"), |address| {
                address.to_canonical().is_loopback()
            })
        })
    }

    /// The URL of a path, which begins with a slash.
    pub(crate) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let has_scheme = text.contains("://");
        let text = text.trim_end_matches('/');
        if !has_scheme {
            return Err(format!(
                "it has no scheme; use http://{text} on this machine, or https://{text}"
            ));
        }
        let url = Url::parse(text).map_err(|error| format!("it is not a URL ({error})"))?;
        match url.scheme() {
            "http" | "https" if url.query().is_none() && url.fragment().is_none() => {
                Ok(Self(text.to_owned()))
            }
            "http" | "https" => Err("leave out what follows the path".to_owned()),
            scheme => Err(format!("{scheme} is not a scheme of a shop; use http or https")),
        }
    }
}

/// Asks a server.
pub(crate) struct ServerClient {
    pub(crate) server: ServerUrl,
    http: reqwest::Client,
}

impl ServerClient {
    pub(crate) fn new(server: ServerUrl) -> anyhow::Result<Self> {
        let http = build_client(&server, REQUEST_TIMEOUT)?;
        Ok(Self { server, http })
    }

    /// A request that has yet to be sent. The path begins with a slash.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.server.join(path))
    }

    /// Sends a request. Any response but 2xx is an error that says what the server said.
    pub(crate) async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = self.send_unchecked(request).await?;
        self.check(response).await
    }

    /// Any response but 2xx is an error.
    pub(crate) async fn check(&self, response: Response) -> anyhow::Result<Response> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        bail!("{}", describe_refusal(&self.server, status, &text))
    }

    /// Sends a request, and returns any response.
    pub(crate) async fn send_unchecked(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        request
            .send()
            .await
            .map_err(|error| anyhow::anyhow!("{}", describe_failure(&self.server, &error)))
    }

    /// Sends a request and reads the JSON of its response.
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> anyhow::Result<T> {
        let response = self.send(request).await?;
        response.json().await.with_context(|| {
            format!("{} did not answer as a shop does; is the URL that of a shop?", self.server)
        })
    }
}

/// Builds the client for requests to a server, which answers each within `timeout`.
pub(crate) fn build_client(
    server: &ServerUrl,
    timeout: Duration,
) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(timeout);
    if server.is_local() { builder.no_proxy().build() } else { builder.build() }
}

/// Why there is no response. The URL is the server's, without what its path reveals.
pub(crate) fn describe_failure(server: &ServerUrl, error: &reqwest::Error) -> String {
    let mut reason = if error.is_connect() {
        format!("failed to connect to {server}")
    } else {
        format!("lost the connection to {server}")
    };
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        reason.push_str(&format!(": {error}"));
        cause = error.source();
    }
    reason
}

/// What a server said to a request that it refused.
pub(crate) fn describe_refusal(server: &ServerUrl, status: StatusCode, body: &str) -> String {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let detail = problem.get("detail").and_then(Value::as_str);
    let detail = detail.unwrap_or("the response has no details");
    let mut reason = format!("{server} responded with {status}: {detail}");
    let errors = problem.get("errors").and_then(Value::as_array).into_iter().flatten();
    for message in errors.filter_map(|error| error.get("message").and_then(Value::as_str)) {
        if !reason.contains(message) {
            reason.push_str(&format!(" {message}."));
        }
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_needs_a_scheme() {
        for (text, parsed) in [
            ("http://127.0.0.1:8080", Ok("http://127.0.0.1:8080")),
            ("https://shop.example/api-of-mine//", Ok("https://shop.example/api-of-mine")),
            ("localhost:8080", Err("use http://localhost:8080 on this machine")),
            ("shop.example", Err("or https://shop.example")),
            ("/api", Err("it has no scheme")),
            ("ftp://shop.example", Err("ftp is not a scheme of a shop")),
            ("http://", Err("it is not a URL")),
            ("http://shop.example/?q=1", Err("leave out what follows the path")),
        ] {
            let found = text.parse::<ServerUrl>();
            match (&found, parsed) {
                (Ok(found), Ok(expected)) => assert_eq!(found.as_str(), expected),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                _ => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn server_on_this_machine_is_known_by_its_host() {
        for (text, is_local) in [
            ("http://127.0.0.1:8080", true),
            ("http://127.7.7.7", true),
            ("http://[::1]:8080", true),
            ("http://[::ffff:127.0.0.1]", true),
            ("https://LOCALHOST/shop", true),
            ("http://shop.localhost:8080", true),
            ("http://localhost.example", false),
            ("http://10.0.0.1:8080", false),
            ("https://127.0.0.1.example", false),
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().is_local(), is_local, "{text}");
        }
    }

    #[test]
    fn refusal_says_what_each_field_lacks() {
        let server: ServerUrl = "http://shop".parse().unwrap();
        let body = r#"{"detail": "Wrong.", "errors": [{"message": "password is too short"}]}"#;
        let said = describe_refusal(&server, StatusCode::UNPROCESSABLE_ENTITY, body);
        assert!(said.ends_with("Wrong. password is too short."), "{said}");
    }
}
