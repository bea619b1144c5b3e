//! Untrusted text in errors and log lines.
//!
//! Invariants: text returned here is bounded, on one line, without the secrets that the connection
//! knows, and no URL in it has its query (the query of a download URL is its key).

use qchost_text::is_redacted;
use secrecy::{ExposeSecret as _, SecretString};

/// Maximum characters of an unexpected answer that an error quotes.
pub(crate) const MAX_EXCERPT: usize = 300;

/// Maximum characters of one error of the cloud.
const MAX_ERROR: usize = 2_000;

/// Maximum errors of one answer.
const MAX_ERRORS: usize = 32;

/// The secrets of one connection, to be redacted from all output.
#[derive(Clone, Default)]
pub(crate) struct Redactor {
    secrets: Vec<SecretString>,
    redactor: qchost_text::Redactor,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} secrets)", self.secrets.len())
    }
}

impl Redactor {
    /// Redacts each of these that is long enough to be a secret.
    pub(crate) fn new(secrets: impl IntoIterator<Item = SecretString>) -> Self {
        let secrets: Vec<_> = secrets
            .into_iter()
            .filter(|secret| is_redacted(secret.expose_secret()))
            .collect();
        let redactor = qchost_text::Redactor::default();
        for secret in &secrets {
            redactor.remember(secret.clone());
        }
        Self { secrets, redactor }
    }

    /// One bounded line without secrets.
    pub(crate) fn line(&self, text: &str) -> String {
        excerpt(&self.redactor.clean(text), MAX_EXCERPT)
    }

    /// The errors of an answer in the cloud's words, each and all of them bounded.
    pub(crate) fn words(&self, errors: Vec<String>) -> Vec<String> {
        errors
            .into_iter()
            .take(MAX_ERRORS)
            .map(|error| excerpt(&self.redactor.clean(&error), MAX_ERROR))
            .collect()
    }

    /// The same, with more secrets.
    pub(crate) fn with(&self, more: Vec<SecretString>) -> Self {
        if more.is_empty() {
            return self.clone();
        }
        Self::new(self.secrets.iter().cloned().chain(more))
    }
}

/// At most `limit` characters on one line, with URLs stripped of user, query and fragment.
pub(crate) fn excerpt(text: &str, limit: usize) -> String {
    // Four times the limit is enough to fill it, whatever is stripped from a URL.
    let start = qchost_text::excerpt(text.trim(), limit.saturating_mul(4));
    qchost_text::one_line(&without_queries(&start), limit)
}

fn without_queries(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`'))
            .unwrap_or(after.len());
        let (url, tail) = after.split_at_checked(end).unwrap_or((after, ""));
        let address = url.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = match address.split_once('/') {
            Some((authority, path)) => (authority, Some(path)),
            None => (address, None),
        };
        let host = authority.rsplit('@').next().unwrap_or_default();
        out.push_str(before);
        out.push_str("://");
        out.push_str(host);
        if let Some(path) = path {
            out.push('/');
            out.push_str(path);
        }
        if address.len() < url.len() {
            out.push_str("?…");
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        Redactor::new(secrets.iter().map(|secret| SecretString::from(*secret)))
    }

    #[test]
    fn secrets_are_taken_out_the_longest_first() {
        let redactor = redactor(&["abcd", "Bearer abcd", "", "123"]);
        assert_eq!(
            redactor.line("x abcd y Bearer abcd 1234"),
            "x [redacted] y [redacted] 1234"
        );
        assert_eq!(format!("{redactor:?}"), "Redactor(2 secrets)");
    }

    #[test]
    fn a_secret_is_gone_before_the_text_is_cut() {
        let redactor = redactor(&[]).with(vec![SecretString::from("hunter2-and-more")]);
        let at_the_limit = format!("{}hunter2-and-more", "x".repeat(MAX_EXCERPT - 7));
        for shown in [
            redactor.line(&at_the_limit),
            redactor.words(vec![at_the_limit]).concat(),
        ] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn urls_lose_what_may_be_a_key() {
        for (given, shown) in [
            (
                "see https://x.test/a/b?sig=1&e=2 now",
                "see https://x.test/a/b?… now",
            ),
            ("'https://u:p@x.test/a#frag'", "'https://x.test/a?…'"),
            ("http://x.test", "http://x.test"),
            ("a://b://c?d", "a://b://c?…"),
            ("https://x.test?k=v", "https://x.test?…"),
        ] {
            assert_eq!(excerpt(given, 300), shown);
        }
    }

    #[test]
    fn control_characters_and_length_are_tamed() {
        assert_eq!(excerpt("a\nb\u{1b}[31m\u{0}", 300), "a b [31m ");
        let long = excerpt(&"é".repeat(5_000), 300);
        assert_eq!(long.chars().count(), 301);
        let errors = Redactor::default().words(vec!["x".repeat(9_000); 100]);
        assert_eq!(errors.len(), 32);
        assert!(errors.iter().all(|error| error.chars().count() == 2_001));
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_bounded_line(text in any::<String>(), limit in 0_usize..400) {
            let short = excerpt(&text, limit);
            prop_assert!(short.chars().count() <= limit + 1);
            prop_assert!(!short.chars().any(char::is_control));
        }

        #[test]
        fn a_query_never_survives(host in "[a-z.]{1,20}", path in "[a-z/]{0,20}", query in "[A-Z0-9]{8,30}") {
            let shown = excerpt(&format!("got https://{host}/{path}?sig={query} back"), 300);
            prop_assert!(!shown.contains(&query), "{}", shown);
        }
    }
}
