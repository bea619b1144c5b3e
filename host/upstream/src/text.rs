//! Untrusted text in errors and log lines.
//!
//! Invariants: text returned here is bounded, on one line, without the secrets that the connection
//! knows, and no URL in it has its query (the query of a download URL is its key).

use secrecy::SecretString;

/// Maximum characters of an unexpected answer that an error quotes.
pub(crate) const MAX_EXCERPT: usize = 300;

/// Maximum characters of one error of the cloud.
const MAX_ERROR: usize = 2_000;

/// Maximum errors of one answer.
const MAX_ERRORS: usize = 32;

/// Redacts the secrets of one connection, or of one call, from all output.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redactor(qchost_text::Redactor);

impl Redactor {
    /// Redacts each of these that is long enough to be a secret.
    pub(crate) fn new(secrets: impl IntoIterator<Item = SecretString>) -> Self {
        let redactor = qchost_text::Redactor::default();
        for secret in secrets {
            redactor.remember(secret);
        }
        Self(redactor)
    }

    /// Redacts what another redactor knows, now and later.
    pub(crate) fn sharing(redactor: qchost_text::Redactor) -> Self {
        Self(redactor)
    }

    /// One bounded line without secrets.
    pub(crate) fn line(&self, text: &str) -> String {
        excerpt(&self.0.clean(text), MAX_EXCERPT)
    }

    /// The errors of an answer in the cloud's words, each and all of them bounded.
    pub(crate) fn words(&self, errors: Vec<String>) -> Vec<String> {
        errors
            .into_iter()
            .take(MAX_ERRORS)
            .map(|error| excerpt(&self.0.clean(&error), MAX_ERROR))
            .collect()
    }

    /// The redactor of one call, which knows the values that the call sends too, also if they are short numbers.
    pub(crate) fn with_sent(&self, sent: Vec<SecretString>) -> Self {
        if sent.is_empty() {
            return self.clone();
        }
        let redactor = qchost_text::Redactor::default();
        redactor.adopt(&self.0);
        for secret in sent {
            redactor.remember_sent(secret);
        }
        Self(redactor)
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
        assert!(!format!("{redactor:?}").contains("abcd"));
    }

    #[test]
    fn a_short_number_is_taken_out_only_of_the_answers_to_the_call_that_sent_it() {
        let connection = redactor(&["hush", "12345"]);
        let call = connection.with_sent(vec!["1984".into(), "123456".into()]);
        let text = "hush: year 1984, not 2024 or 19840; pin 123456, user 12345";
        assert_eq!(
            connection.line(text),
            "[redacted]: year 1984, not 2024 or 19840; pin 123456, user 12345"
        );
        let clean = "[redacted]: year [redacted], not 2024 or 19840; pin [redacted], user 12345";
        assert_eq!(call.line(text), clean);
        assert_eq!(call.words(vec![text.to_owned()]), [clean]);
    }

    #[test]
    fn a_secret_is_gone_before_the_text_is_cut() {
        let redactor = redactor(&[]).with_sent(vec![SecretString::from("hunter2-and-more")]);
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
