//! The redirect that ends a login in the browser.
//!
//! Invariants: a redirect leads to this machine. One that does not begin with the address of its login, or names a
//! parameter twice, is refused before anything is read from it. A code is returned only from a redirect with the state of
//! its login and of the authorization server that was asked; it is in no error.

use reqwest::Url;
use secrecy::SecretString;

use super::flow::LoginError;
use crate::text::{Redactor, excerpt};

/// The path of the redirect.
const PATH: &str = "/callback";

/// Maximum bytes of a redirect.
const MAX_REDIRECT: usize = 16 * 1024;

/// Maximum characters of a refusal by the authorization server.
const MAX_REFUSAL: usize = 300;

/// What the authorization server answers through the browser.
#[derive(Debug)]
pub(super) struct Callback {
    pub(super) code: SecretString,
    pub(super) state: String,
    /// Which authorization server it comes from (RFC 9207), if it says so: the one that was asked.
    pub(super) issuer: Option<String>,
}

/// What the redirect of a login has in it.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    /// What it begins with, up to the question mark.
    pub(super) address: &'a str,
    pub(super) state: &'a str,
    /// The authorization server that was asked.
    pub(super) issuer: Option<&'a str>,
    /// Whether that server says that its redirects always name it.
    pub(super) names_issuer: bool,
}

/// The address that a login redirects to: always this machine, by number, so that no name service is asked.
#[must_use]
pub fn redirect_address(port: u16) -> String {
    format!("http://127.0.0.1:{port}{PATH}")
}

impl Callback {
    /// Reads the redirect of a login.
    ///
    /// # Errors
    ///
    /// [`LoginError::Redirect`] if it is not that of this login, or only a part of it; [`LoginError::Refused`] if the
    /// authorization server says no.
    pub(super) fn parse(text: &str, expected: &Expected<'_>) -> Result<Self, LoginError> {
        let wrong = |why: &str| {
            LoginError::Redirect(format!("that is not the redirect of this login: {why}"))
        };
        let address = expected.address;
        let text = text.trim();
        if text.len() > MAX_REDIRECT {
            return Err(wrong("it is too long"));
        }
        let query = text
            .strip_prefix(address)
            .and_then(|rest| rest.strip_prefix('?'))
            .ok_or_else(|| wrong(&format!("it does not begin with {address}?")))?;
        let url = Url::parse(text).map_err(|_| wrong("it is no address"))?;
        if query.contains('#') {
            return Err(wrong("it has a fragment"));
        }
        let [mut code, mut own, mut issuer, mut error, mut description]: [Option<String>; 5] =
            Default::default();
        for (key, value) in url.query_pairs() {
            let place = match key.as_ref() {
                "code" => &mut code,
                "state" => &mut own,
                "iss" => &mut issuer,
                "error" => &mut error,
                "error_description" => &mut description,
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return Err(wrong("it names a parameter twice"));
            }
        }
        match own {
            Some(own) if own == expected.state => {}
            Some(_) => return Err(wrong("its `state` belongs to another login, or is cut off")),
            None => return Err(wrong("it has no `state`")),
        }
        // Before a refusal is believed: that of another server says nothing about this login.
        match (&issuer, expected.issuer) {
            (Some(received), Some(asked)) if received != asked => {
                let redactor = Redactor::new(code.map(SecretString::from));
                return Err(wrong(&format!(
                    "it comes from another authorization server than the one that was asked, or is cut off: {} instead of \
                     {}; an attacker may mix them up, so nothing was sent to either",
                    redactor.line(received),
                    redactor.line(asked)
                )));
            }
            (Some(_), None) => {
                return Err(wrong(
                    "it names an authorization server, and there is none to compare it with",
                ));
            }
            (Some(_), Some(_)) | (None, _) => {}
        }
        if let Some(error) = error {
            let why = match description {
                Some(description) => format!("{error}: {description}"),
                None => error,
            };
            return Err(LoginError::Refused(format!(
                "the authorization server does not authorize the host: {}",
                excerpt(&why, MAX_REFUSAL)
            )));
        }
        let Some(code) = code.filter(|code| !code.is_empty()) else {
            return Err(wrong("it has no `code`"));
        };
        if issuer.is_none() && expected.names_issuer {
            return Err(wrong(
                "it has no `iss`, which would say which authorization server it comes from, and the one that was asked always \
                 says so",
            ));
        }
        Ok(Self {
            code: SecretString::from(code),
            state: expected.state.to_owned(),
            issuer,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    const ADDRESS: &str = "http://127.0.0.1:4000/callback";

    /// Of a login at `https://a.test`, which need not name itself.
    fn parse(text: &str) -> Result<Callback, LoginError> {
        parse_at(Some("https://a.test"), false, text)
    }

    fn parse_at(
        issuer: Option<&str>,
        names_issuer: bool,
        text: &str,
    ) -> Result<Callback, LoginError> {
        let expected = Expected {
            address: ADDRESS,
            state: "s1",
            issuer,
            names_issuer,
        };
        Callback::parse(text, &expected)
    }

    #[test]
    fn a_redirect_of_this_login_is_read() {
        let found = parse(
            " http://127.0.0.1:4000/callback?iss=https%3A%2F%2Fa.test&code=c%2B1&state=s1&x=1\n",
        );
        let found = found.unwrap();
        assert_eq!(found.code.expose_secret(), "c+1");
        assert_eq!(found.issuer.as_deref(), Some("https://a.test"));
        assert!(!format!("{found:?}").contains("c+1"));
    }

    #[test]
    fn a_redirect_of_another_login_or_to_another_place_is_refused() {
        for text in [
            "",
            "code=hush&state=s1",
            "http://127.0.0.1:4001/callback?code=hush&state=s1",
            "http://127.0.0.1:4000/other?code=hush&state=s1",
            "http://127.0.0.1:4000/callbacks?code=hush&state=s1",
            "https://127.0.0.1:4000/callback?code=hush&state=s1",
            "http://127.0.0.1:4000@evil.test/callback?code=hush&state=s1",
            "http://127.0.0.1:4000/callback?code=hush",
            "http://127.0.0.1:4000/callback?code=hush&state=s2",
            "http://127.0.0.1:4000/callback?state=s1",
            "http://127.0.0.1:4000/callback?code=&state=s1",
            "http://127.0.0.1:4000/callback?code=hush&code=hush2&state=s1",
            "http://127.0.0.1:4000/callback?code=hush&state=s1&state=s1",
            "http://127.0.0.1:4000/callback?code=hush&state=s1#x",
        ] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, LoginError::Redirect(_)), "{text}: {error}");
            assert!(!error.to_string().contains("hush"), "{text}: {error}");
        }
    }

    #[test]
    fn a_redirect_is_of_the_authorization_server_that_was_asked_and_names_it_where_it_always_does()
    {
        let whole = format!("{ADDRESS}?code=hush&state=s1&iss=https%3A%2F%2Fa.test");
        let (without, _) = whole.split_once("&iss=").unwrap();
        for (issuer, names_issuer, text) in [
            (Some("https://a.test"), true, whole.as_str()),
            (Some("https://a.test"), false, without),
            (None, false, without),
        ] {
            parse_at(issuer, names_issuer, text).unwrap();
        }
        for (issuer, names_issuer, text) in [
            (Some("https://b.test"), false, whole.as_str()),
            (Some("https://a.test/"), false, whole.as_str()),
            // Cut off in the middle.
            (Some("https://a.test"), true, whole.trim_end_matches("st")),
            (Some("https://a.test"), true, without),
            (None, false, whole.as_str()),
            (None, true, without),
        ] {
            let error = parse_at(issuer, names_issuer, text).unwrap_err();
            assert!(matches!(error, LoginError::Redirect(_)), "{text}: {error}");
            assert!(!error.to_string().contains("hush"), "{text}: {error}");
        }
        let odd = format!("{ADDRESS}?code=hush-code&state=s1&iss=https://b.test/hush-code%0a?x");
        let error = parse(&odd).unwrap_err().to_string();
        assert!(error.contains("https://b.test/"), "{error}");
        assert!(error.contains("instead of https://a.test"), "{error}");
        assert!(!error.contains("hush") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn a_refusal_is_told_from_a_wrong_redirect() {
        let refused = "error=access_denied&error_description=no%1b%5b31m";
        let error = parse(&format!(
            "http://127.0.0.1:4000/callback?state=s1&{refused}"
        ));
        let LoginError::Refused(why) = error.unwrap_err() else {
            panic!()
        };
        assert!(why.ends_with("access_denied: no [31m"), "{why}");
        // Anyone can make a browser open this.
        let forged = parse(&format!("http://127.0.0.1:4000/callback?{refused}"));
        assert!(matches!(forged, Err(LoginError::Redirect(_))));
        let other = "iss=https%3A%2F%2Fb.test&state=s1";
        let other = parse(&format!("http://127.0.0.1:4000/callback?{other}&{refused}"));
        assert!(matches!(other, Err(LoginError::Redirect(_))));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_its_code(
            text in r"(http://127\.0\.0\.1:4000/callback\?)?([a-z]{0,6}=hush[ -~]{0,9}&?){0,4}(&state=s1)?",
        ) {
            match parse_at(None, false, &text) {
                Ok(found) => prop_assert_eq!(found.state, "s1"),
                Err(LoginError::Redirect(why)) => prop_assert!(!why.contains("hush"), "{}", why),
                // The server's own words.
                Err(_) => {}
            }
        }
    }
}
