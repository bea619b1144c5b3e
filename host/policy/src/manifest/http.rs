//! One `[[http]]`: a URL prefix that the plugin may send requests to.
//!
//! Invariant: a prefix ends at the end of a path segment, so that `/qc` covers `/qc/x` and not
//! `/qcx`; and it has no user, no query and no fragment, so that no part of it is silently ignored.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::grant::{GrantLimits, MAX_PATTERNS, rates};
use super::reader::{Fields, Item, Problem};

/// A permission to send requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpGrant {
    /// Its name, unique in the manifest, also among the grants.
    pub name: String,
    /// The URL prefix.
    pub url: Prefix,
    /// The methods, in upper case.
    pub methods: Vec<String>,
    /// Headers that the host adds: a text, or a table with the source of a secret (`{ env = "NAME"
    /// }`, `{ file = "path" }`, `{ vault = "mount/path#field" }`). Names are in lower case.
    pub headers: BTreeMap<String, Value>,
    /// Addresses that may be dialled although they are not public.
    pub addresses: Vec<IpAddr>,
    /// Its limits.
    pub limits: GrantLimits,
    /// Maximum bytes of a request body.
    pub request: u64,
    /// Maximum bytes of a response body.
    pub response: u64,
    /// Time limit of one request, from resolving the name to the last byte.
    pub timeout: Duration,
}

/// A URL prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prefix {
    /// `https` or `http`.
    pub scheme: String,
    /// The host, in lower case; an IPv6 address has its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path with its leading slash.
    pub path: String,
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        let usual = match self.scheme.as_str() {
            "http" => 80,
            _ => 443,
        };
        if self.port != usual {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

pub(crate) const KEYS: &[&str] = &[
    "name",
    "allow",
    "methods",
    "headers",
    "addresses",
    "limits",
    "request",
    "response",
    "timeout",
];

/// Methods that may be granted.
pub(crate) const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Headers that belong to the connection, which the host controls.
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl HttpGrant {
    pub(crate) fn read(fields: Fields<'_>) -> Result<Self, Problem> {
        fields.only(KEYS, &[])?;
        let allow = fields.need("allow", "\"https://hooks.example.com/qc/\"")?;
        let url = prefix(&allow)?;
        let name = match fields.get("name") {
            Some(item) => item.name()?.to_owned(),
            None => slug(&url),
        };
        let fields = fields.called(format!("http `{name}`"));
        let mut grant = Self {
            name,
            url,
            methods: ["GET", "HEAD", "POST"].map(str::to_owned).to_vec(),
            headers: BTreeMap::new(),
            addresses: Vec::new(),
            limits: GrantLimits::default(),
            request: 1 << 20,
            response: 4 << 20,
            timeout: Duration::from_secs(30),
        };
        fields.set("methods", &mut grant.methods, |item| {
            let entries = item.short_list("methods", MAX_PATTERNS)?;
            entries.iter().map(method).collect()
        })?;
        if let Some(item) = fields.get("headers") {
            for (name, value) in item.table()?.entries() {
                let name = header_name(name, &value)?;
                let setting = header_value(&value)?;
                if grant.headers.insert(name, setting).is_some() {
                    return Err(value.wrong("is there twice; letters differ only in their case"));
                }
            }
        }
        fields.set("addresses", &mut grant.addresses, |item| {
            let entries = item.short_list("addresses", MAX_PATTERNS)?;
            entries.iter().map(address).collect()
        })?;
        fields.set("limits", &mut grant.limits, |item| {
            rates(&item.table()?, &[])
        })?;
        fields.set("request", &mut grant.request, Item::size)?;
        fields.set("response", &mut grant.response, Item::size)?;
        fields.set("timeout", &mut grant.timeout, Item::duration)?;
        Ok(grant)
    }
}

fn method(item: &Item<'_>) -> Result<String, Problem> {
    let method = item.text()?;
    if METHODS.contains(&method) {
        return Ok(method.to_owned());
    }
    Err(item.wrong(&format!(
        "`{method}` is no method that can be granted: {}",
        METHODS.join(", ")
    )))
}

fn address(item: &Item<'_>) -> Result<IpAddr, Problem> {
    let text = item.text()?;
    let address = text.parse();
    address.map_err(|_| item.wrong(&format!("`{text}` is no address such as \"10.0.0.7\"")))
}

fn prefix(item: &Item<'_>) -> Result<Prefix, Problem> {
    let text = item.text()?;
    let wrong = |why: &str| {
        item.wrong(&format!(
            "`{text}` {why}; an address prefix looks like \"https://hooks.example.com/qc/\""
        ))
    };
    let url = Url::parse(text).map_err(|error| wrong(&format!("is no address: {error}")))?;
    let port = match url.scheme() {
        "https" | "http" => url.port_or_known_default(),
        _ => return Err(wrong("must begin with https:// or http://")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("must not hold a user or a password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("must not hold a query or a fragment"));
    }
    match (url.host_str(), port) {
        (Some(host), Some(port)) if !host.contains('*') => Ok(Prefix {
            scheme: url.scheme().to_owned(),
            host: host.to_owned(),
            port,
            path: url.path().to_owned(),
        }),
        _ => Err(wrong("must name one host")),
    }
}

/// A name derived from host and path: `hooks-example-com-qc`.
fn slug(url: &Prefix) -> String {
    let mut slug = String::new();
    for c in format!("{}{}", url.host, url.path).chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_lowercase() || c.is_ascii_digit() => slug.push(c),
            _ if slug.ends_with('-') || slug.is_empty() => {}
            _ => slug.push('-'),
        }
        if slug.len() == 64 {
            break;
        }
    }
    slug.trim_end_matches('-').to_owned()
}

fn header_name(name: &str, value: &Item<'_>) -> Result<String, Problem> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let lower = name.to_ascii_lowercase();
    if !(1..=256).contains(&name.len()) || !name.bytes().all(token) {
        return Err(value.wrong("is no name of a header"));
    }
    if RESERVED.contains(&lower.as_str()) {
        return Err(value.wrong("belongs to the connection, and is set by the host alone"));
    }
    Ok(lower)
}

fn header_value(value: &Item<'_>) -> Result<Value, Problem> {
    const SHAPE: &str = "must be a text, { env = \"NAME\" }, { file = \"path\" } or { vault = \"mount/path#field\" }";
    if let Some(text) = value.as_text() {
        return if text.chars().all(|c| c == '\t' || !c.is_control()) {
            Ok(Value::from(text))
        } else {
            Err(value.wrong("must not hold line breaks or other control characters"))
        };
    }
    if !value.is_table() {
        return Err(value.wrong(SHAPE));
    }
    let table = value.table()?;
    table.only(&["env", "file", "vault"], &[])?;
    let mut entries = table.entries();
    match (entries.next(), entries.next()) {
        (Some((_, source)), None) if source.as_text().is_some_and(|text| !text.is_empty()) => {
            value.json()
        }
        _ => Err(value.wrong(SHAPE)),
    }
}
