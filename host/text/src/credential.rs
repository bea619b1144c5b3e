//! Whether a value of a file that others read too looks like a secret.
//!
//! It is a guess, made to refuse a value before it is kept anywhere. Redaction of values that are known to be secrets is
//! [`Redactor`](crate::Redactor)'s.
//!
//! Invariant: an answer does not hold the value, and takes time in proportion to it.

/// Minimum length of a text that is taken for a secret since it looks random.
const MIN_RANDOM: usize = 32;
/// Minimum number of different digits of such a text if it is hexadecimal.
const MIN_HEX_DIGITS: u32 = 8;
/// Minimum characters of a token after its prefix.
const MIN_TOKEN: usize = 16;

/// The words that the names of secrets end with.
const NAMES: [&[&str]; 17] = [
    &["password"],
    &["passwd"],
    &["pwd"],
    &["passphrase"],
    &["secret"],
    &["secrets"],
    &["token"],
    &["apikey"],
    &["api", "key"],
    &["private", "key"],
    &["secret", "key"],
    &["access", "key"],
    &["signing", "key"],
    &["authorization"],
    &["credential"],
    &["credentials"],
    &["bearer"],
];

/// What well-known tokens begin with. At least [`MIN_TOKEN`] of their characters follow.
const PREFIXES: [&str; 24] = [
    "sk-proj-",
    "sk-ant-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxa-",
    "xoxb-",
    "xoxp-",
    "xoxr-",
    "xoxs-",
    "xapp-",
    "AIza",
    "ya29.",
    "hvs.",
    "hvb.",
    "npm_",
    "pypi-AgE",
];

/// The words by which a key says that its value names something rather than opens it.
const IDENTIFIERS: [&str; 15] = [
    "backtest",
    "checksum",
    "commit",
    "compile",
    "deployment",
    "digest",
    "fingerprint",
    "guid",
    "hash",
    "id",
    "ids",
    "optimization",
    "organization",
    "sha256",
    "uuid",
];

/// Whether a key is named like a secret: `password`, `slack-token`, `apiKey`.
#[must_use]
pub fn is_named_like_secret(key: &str) -> bool {
    let words = words(key);
    let ends_with = |name: &[&str]| {
        let tail = words.len().checked_sub(name.len());
        tail.and_then(|at| words.get(at..))
            .is_some_and(|tail| tail.iter().eq(name))
    };
    NAMES.into_iter().any(ends_with)
}

/// Why a text under a key is taken for a secret by its looks, if it is: the end of a sentence that begins with the key.
#[must_use]
pub fn looks_like_secret(key: &str, text: &str) -> Option<&'static str> {
    if text.contains("-----BEGIN ") && text.contains("PRIVATE KEY") {
        return Some("looks like a private key");
    }
    let text = text.trim();
    if is_authorization(text) {
        return Some("looks like an Authorization header");
    }
    if is_token(text) {
        return Some("begins like an access token");
    }
    if holds_password(text) {
        return Some("is an address with a password");
    }
    let names = words(key);
    let is_identifier = |word: &String| IDENTIFIERS.contains(&word.as_str());
    (is_random(text) && !names.iter().any(is_identifier)).then_some(
        "looks like a random key; if it only names something, let the key end in `id`, `hash` or `digest`",
    )
}

/// The words of a key in lower case: `api-key`, `api_key` and `apiKey` have the same.
fn words(key: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in key.chars() {
        let starts = !c.is_alphanumeric() || (c.is_uppercase() && after_lower);
        if starts && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        after_lower = c.is_lowercase() || c.is_numeric();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// `Bearer …` and `Basic …`, also with the header's name before it.
fn is_authorization(text: &str) -> bool {
    let value = match text.split_once(':') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("authorization") => {
            return !value.trim().is_empty();
        }
        _ => text,
    };
    let Some((scheme, credentials)) = value.split_once(' ') else {
        return false;
    };
    let credentials = credentials.trim();
    let is_one = !credentials.is_empty() && credentials.bytes().all(is_token_byte);
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => is_one,
        // "Basic" is a word of English too.
        "basic" => is_one && credentials.len() >= MIN_TOKEN,
        _ => false,
    }
}

fn is_token(text: &str) -> bool {
    let is_whole = |rest: &str| rest.len() >= MIN_TOKEN && rest.bytes().all(is_token_byte);
    if PREFIXES
        .iter()
        .any(|prefix| text.strip_prefix(prefix).is_some_and(is_whole))
    {
        return true;
    }
    // Words may follow these as well.
    let is_amazon = |rest: &str| {
        rest.len() == MIN_TOKEN
            && rest.bytes().any(|it| it.is_ascii_digit())
            && (rest.bytes()).all(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
    };
    if ["AKIA", "ASIA"]
        .iter()
        .any(|prefix| text.strip_prefix(prefix).is_some_and(is_amazon))
    {
        return true;
    }
    let unmarked = text.strip_prefix("sk-");
    if unmarked.is_some_and(|rest| {
        rest.len() >= MIN_TOKEN && rest.bytes().all(|it| it.is_ascii_alphanumeric())
    }) {
        return true;
    }
    // A JSON Web Token: three parts, of which two are JSON.
    let mut parts = text.split('.');
    let is_json = |part: Option<&str>| part.is_some_and(|part| part.starts_with("eyJ"));
    is_json(parts.next()) && is_json(parts.next()) && parts.count() == 1
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.~+/=_".contains(&byte)
}

/// `https://user:password@host`.
fn holds_password(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    user.and_then(|user| user.split_once(':'))
        .is_some_and(|(_, password)| !password.is_empty())
}

/// Whether a text is long, without spaces, and changes between digits and letters of either case as often as a random one.
fn is_random(text: &str) -> bool {
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=_-".contains(&byte);
    if text.len() < MIN_RANDOM || !text.bytes().all(alphabet) {
        return false;
    }
    let hex = text.strip_prefix("0x").unwrap_or(text);
    if hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let seen = hex.chars().filter_map(|c| c.to_digit(16));
        let seen = seen.fold(0_u16, |seen, digit| seen | (1 << digit));
        return seen.count_ones() >= MIN_HEX_DIGITS;
    }
    let classes: Vec<_> = text.bytes().map(class).collect();
    let (mut pairs, mut changes) = (0_usize, 0_usize);
    for pair in classes.windows(2) {
        if let [Some(one), Some(other)] = pair {
            pairs += 1;
            changes += usize::from(one != other);
        }
    }
    // Of words in camel case a quarter, of random characters more than a half.
    changes * 3 >= pairs.max(1)
}

/// The class of a letter or a digit.
fn class(byte: u8) -> Option<u8> {
    match byte {
        b'a'..=b'z' => Some(0),
        b'A'..=b'Z' => Some(1),
        b'0'..=b'9' => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_named_like_secrets_are_told_from_those_that_only_sound_so() {
        for (secret, allowed) in [
            ("password", "password-length"),
            ("db_password", "passwords-file"),
            ("token", "max-tokens"),
            ("slackToken", "tokenizer"),
            ("SLACK_TOKEN", "token-limit"),
            ("api-key", "key"),
            ("apiKey", "api"),
            ("API_KEY", "api-keyboard"),
            ("client-secret", "secretary"),
            ("secrets", "secret-name"),
            ("private-key", "private"),
            ("aws.access-key", "access-keyed"),
            ("Authorization", "authorization-url"),
            ("passphrase", "phrase"),
            ("credentials", "credentials-path"),
        ] {
            assert!(is_named_like_secret(secret), "{secret}");
            assert!(!is_named_like_secret(allowed), "{allowed}");
        }
        assert!(!is_named_like_secret(""));
    }

    #[test]
    fn values_that_look_like_secrets_are_told_from_their_harmless_twins() {
        let base64 = "kJ8vQ2pL0xTzR5nW7mYbC3dF9gHsA1eU";
        let hex = "9f86d081884c7d659a2feaa0c55ad015";
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N";
        for (secret, key, allowed) in [
            (
                "-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----",
                "text",
                "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----",
            ),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----",
                "text",
                "how to make a PRIVATE KEY",
            ),
            ("Bearer abc", "text", "bearer of bad news"),
            ("Authorization: x", "text", "authorization"),
            ("Basic dXNlcjpwYXNzd29yZA==", "text", "Basic momentum"),
            ("ghp_0123456789abcdefghij", "text", "ghp_short"),
            ("glpat-0123456789abcdefghij", "text", "glpat"),
            ("xoxb-123456789012-abcdef", "text", "xoxb-1"),
            ("AKIAIOSFODNN7EXAMPLE", "text", "ASIA-Pacific-momentum"),
            (
                "sk-0123456789abcdefghij",
                "text",
                "sk-learn-experiment-2024-v1",
            ),
            (jwt, "text", "eyJhbGciOiJIUzI1NiJ9.py"),
            (
                "https://user:word@example.com/",
                "text",
                "https://user@example.com/a:b@c",
            ),
            (base64, "text", "Lab/Strategies/Momentum-long-only-2024"),
            (base64, "text", "a-very-long-name-of-a-project-in-the-lab"),
            (base64, "text", "BTCUSD/ETHUSD/SOLUSD/ADAUSD/DOTUSD"),
            (base64, "text", "kJ8vQ2pL0xTzR5nW7mYbC3dF9gHsA1e"),
            (base64, "text", "a text of many words, such as 2024 and SPY"),
            (hex, "text", "00000000000000000000000000000000"),
            (hex, "organization", hex),
            (hex, "backtest-id", hex),
            (hex, "source_digest", hex),
            (base64, "modelHash", base64),
        ] {
            assert!(looks_like_secret("text", secret).is_some(), "{secret}");
            assert_eq!(looks_like_secret(key, allowed), None, "{key} {allowed}");
        }
        // A name excuses a random text, and nothing that says what it is.
        for secret in [jwt, "Bearer abc", "ghp_0123456789abcdefghij"] {
            assert!(looks_like_secret("id", secret).is_some(), "{secret}");
        }
        assert_eq!(looks_like_secret("text", ""), None);
    }
}
