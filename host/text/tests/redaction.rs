//! Nothing that was remembered leaves the process, in whatever form and however it is written.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::borrow::Cow;
use std::io::Write as _;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use proptest::collection::vec;
use proptest::prelude::*;
use qchost_text::Redactor;
use serde_json::{Value, json};

fn redactor<S: AsRef<str>>(secrets: &[S]) -> Redactor {
    let redactor = Redactor::default();
    for secret in secrets {
        redactor.remember(secret.as_ref().into());
    }
    redactor
}

#[test]
fn values_are_replaced_and_nothing_else() {
    let redactor = redactor(&["hunter2", "hunter2-and-more", "päss wörd/\"1\""]);
    for (given, clean) in [
        ("", ""),
        ("nothing here: hunter", "nothing here: hunter"),
        ("xhunter2-and-morey", "x[redacted]y"),
        ("hunter2hunter2", "[redacted]"),
        ("hunter2-and-more", "[redacted]"),
        ("hunter2-and-less", "[redacted]-and-less"),
        ("é päss wörd/\"1\" é", "é [redacted] é"),
    ] {
        assert_eq!(redactor.clean(given), clean);
    }
    assert!(matches!(redactor.clean("hunter"), Cow::Borrowed(_)));
    assert_eq!(format!("{redactor:?}"), "Redactor { .. }");
}

#[test]
fn what_another_one_knows_is_adopted_and_stays_known() {
    let (old, new) = (
        redactor(&["former-secret", "shared"]),
        redactor(&["shared", "hunter2"]),
    );
    let text = "former-secret shared hunter2";
    new.adopt(&old);
    new.adopt(&new.clone());
    assert_eq!(new.clean(text), "[redacted] [redacted] [redacted]");
    assert_eq!(old.clean(text), "[redacted] [redacted] hunter2");
    // What it read itself is forgotten later than what it took over.
    for number in 0..510 {
        new.remember(format!("another-{number:03}").into());
    }
    assert_eq!(new.clean(text), "former-secret [redacted] [redacted]");
}

#[test]
fn every_usual_form_of_a_value_is_replaced() {
    let secret = "p\u{e4}ss w\u{f6}rd/\"1\"\\\n\u{1}?";
    let redactor = redactor(&[secret]);
    let ascii = "p\\u00e4ss w\\u00F6rd/";
    assert!(
        !redactor.clean(ascii).contains("[redacted]"),
        "only a part of it"
    );
    for form in [
        serde_json::to_string(secret).unwrap(),
        "p\\u00e4ss w\\u00f6rd/\\\"1\\\"\\\\\\n\\u0001?".to_owned(),
        "p\\u00E4ss w\\u00F6rd\\/\\\"1\\\"\\\\\\n\\u0001?".to_owned(),
        "p%C3%A4ss%20w%C3%B6rd%2F%221%22%5C%0A%01%3F".to_owned(),
        "p%c3%a4ss+w%c3%b6rd%2f%221%22%5c%0a%01%3f".to_owned(),
        BASE64_STANDARD.encode(secret),
        BASE64_URL_SAFE_NO_PAD.encode(secret),
    ] {
        let clean = redactor.clean(&form);
        assert!(clean.contains("[redacted]"), "{form}");
        let rest = clean.replace("[redacted]", "");
        assert!(rest.trim_matches(['"', '=']).is_empty(), "{form}: {clean}");
    }
}

#[test]
fn a_value_within_base64_is_replaced() {
    let redactor = redactor(&["hunter2-and-more"]);
    for before in ["", "u", "us", "user:", "someone:"] {
        for after in ["", "!", " and"] {
            let text = BASE64_STANDARD.encode(format!("{before}hunter2-and-more{after}"));
            let clean = redactor.clean(&text).into_owned();
            assert!(clean.contains("[redacted]"), "{text}: {clean}");
            // What is left at its ends does not decode to more than a letter of it.
            let left: usize = clean.split("[redacted]").map(str::len).sum();
            assert!(
                left <= (before.len() + after.len()) * 4 / 3 + 8,
                "{text}: {clean}"
            );
        }
    }
}

#[test]
fn the_lines_of_a_key_are_replaced_one_by_one() {
    let key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAbc\nsecond-line-of-the-key\n-----END PRIVATE KEY-----";
    let redactor = redactor(&[key]);
    assert_eq!(
        redactor.clean("  second-line-of-the-key\n-----BEGIN PRIVATE KEY-----"),
        "  [redacted]\n-----BEGIN PRIVATE KEY-----"
    );
    assert_eq!(redactor.clean(key), "[redacted]");
}

#[test]
fn a_short_value_is_not_replaced() {
    assert_eq!(redactor(&["abc", ""]).clean("abc"), "abc");
    assert_eq!(redactor(&["abcd"]).clean("abcd"), "[redacted]");
    // A year of birth, or a pin.
    let text = "1984-05-01, 1984 and 123456";
    assert_eq!(redactor(&["1984", "123456"]).clean(text), text);
    assert_eq!(
        redactor(&["12345678"]).clean("no 12345678"),
        "no [redacted]"
    );
}

#[test]
fn a_number_that_was_sent_is_replaced_as_a_whole_token() {
    let redactor = redactor(&["2024"]);
    for sent in ["1984", "123456", "123", "emulator"] {
        redactor.remember_sent(sent.into());
    }
    assert_eq!(
        redactor.clean(
            "born 1984-05-01 in 2024, not 19845 or 11984; pin=123456, 1234567, 123, emulator"
        ),
        "born [redacted]-05-01 in 2024, not 19845 or 11984; pin=[redacted], 1234567, 123, emulator"
    );
}

#[test]
fn a_value_of_a_few_letters_is_replaced_only_as_a_whole_token() {
    let redactor = redactor(&["hush"]);
    for (given, clean) in [
        ("hush", "[redacted]"),
        ("key=hush&more", "key=[redacted]&more"),
        ("user_hush, \"hush\"", "user_[redacted], \"[redacted]\""),
        ("hushed, push-hushes", "hushed, push-hushes"),
        // Behind an escape it is a token too.
        (
            r"a line\nhush and \u0020hush",
            r"a line\n[redacted] and \u0020[redacted]",
        ),
        ("a%20hush", "a%20[redacted]"),
        ("a%2520hush", "a%2520[redacted]"),
        (
            r"\x20hush, \x1bhush, \040hush",
            r"\x20[redacted], \x1b[redacted], \040[redacted]",
        ),
        ("0x20hush, 2520hush, 040hush", "0x20hush, 2520hush, 040hush"),
        // So it is behind a colour, however the escape character is written.
        (
            "\u{1b}[31mhush\u{1b}[0m, \u{1b}[mhush",
            "\u{1b}[31m[redacted]\u{1b}[0m, \u{1b}[m[redacted]",
        ),
        (r"\x1b[1;31mhush\x1b[0m", r"\x1b[1;31m[redacted]\x1b[0m"),
        (
            r"\u001b[38;5;9mhush, \u001B[mhush",
            r"\u001b[38;5;9m[redacted], \u001B[m[redacted]",
        ),
        (r"\u{1b}[31mhush", r"\u{1b}[31m[redacted]"),
        (r"\033[31mhush", r"\033[31m[redacted]"),
        (
            "[31mhush in  [31mhush [0m",
            "[31m[redacted] in  [31m[redacted] [0m",
        ),
        ("[mhush], a[3mhush, 31mhush", "[mhush], a[3mhush, 31mhush"),
    ] {
        assert_eq!(redactor.clean(given), clean);
    }
}

#[test]
fn the_emulators_documented_token_is_no_secret() {
    let redactor = redactor(&[qchost_text::EMULATOR_TOKEN, "hunter2-and-more"]);
    let text = "emulator:/Py/hunter2-and-more";
    assert_eq!(redactor.clean(text), "emulator:/Py/[redacted]");
}

#[test]
fn a_value_that_looks_like_the_replacement_is_replaced_by_something_else() {
    for secret in [
        "[redacted]",
        "redacted",
        "dacted]x",
        "wxyz[red",
        "a[redacted]b",
        "edacted]",
    ] {
        let redactor = redactor(&[secret, "hunter2"]);
        let text = format!("a{secret}b hunter2 [redacted] x{secret}{secret}");
        assert!(!redactor.clean(&text).contains(secret), "{secret}");
        assert!(!redactor.clean(&text).contains("hunter2"));
    }
}

#[test]
fn keys_and_strings_of_a_value_are_cleaned() {
    let redactor = redactor(&["hunter2", "12345678"]);
    let mut value = json!({
        "a": ["hunter2", {"hunter2": "x hunter2 y"}],
        "hunter2": 1,
        "[redacted]": 2,
        "n": 12345678,
        "b": true,
    });
    redactor.clean_value(&mut value);
    assert_eq!(
        value,
        json!({
            "a": ["[redacted]", {"[redacted]": "x [redacted] y"}],
            "[redacted]": 1,
            "[redacted]'": 2,
            "n": 12345678,
            "b": true,
        })
    );
}

#[test]
fn old_values_are_known_up_to_a_bound_and_those_in_use_beyond_it() {
    let redactor = redactor(&["value-in-use", "value-long-gone"]);
    for number in 0..520 {
        redactor.remember(format!("rotated-{number:04}").into());
        redactor.remember("value-in-use".into());
    }
    assert_eq!(
        redactor.clean("value-in-use value-long-gone rotated-0001 rotated-0519"),
        "[redacted] value-long-gone rotated-0001 [redacted]"
    );
    // And by their size.
    for number in 0..20 {
        redactor.remember(format!("{number:02}{}", "x".repeat(64 * 1024)).into());
    }
    assert_eq!(redactor.clean("rotated-0519"), "rotated-0519");
}

#[test]
fn clones_know_the_same_values() {
    let one = Redactor::default();
    let other = one.clone();
    one.remember("hunter2".into());
    assert_eq!(other.clean("hunter2"), "[redacted]");
}

/// What comes out if these pieces are written.
fn written(redactor: &Redactor, pieces: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = redactor.writer(&mut out);
    for piece in pieces {
        writer.write_all(piece.as_ref()).unwrap();
        writer.flush().unwrap();
    }
    drop(writer);
    out
}

#[test]
fn lines_are_passed_on_as_they_become_complete() {
    let redactor = redactor(&["hunter2"]);
    let mut out = Vec::new();
    let mut writer = redactor.writer(&mut out);
    writer.write_all(b"one hun").unwrap();
    writer.write_all(b"ter2\ntwo").unwrap();
    // A value that becomes known while its line is being written is caught as well.
    writer.write_all(b" secret-of-late").unwrap();
    redactor.remember("secret-of-late".into());
    writer.write_all(b" \n").unwrap();
    writer.write_all(b"three").unwrap();
    drop(writer);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "one [redacted]\ntwo [redacted] \nthree"
    );
}

#[test]
fn a_line_without_end_is_bounded_and_hides_nothing() {
    let redactor = redactor(&["hunter2-and-more"]);
    struct Largest(usize);
    impl std::io::Write for Largest {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.max(bytes.len());
            assert!(!bytes.windows(7).any(|window| window == b"hunter2"));
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut largest = Largest(0);
    let text = "hunter2-and-more".repeat(100_000);
    let mut writer = redactor.writer(&mut largest);
    for piece in text.as_bytes().chunks(1013) {
        writer.write_all(piece).unwrap();
    }
    drop(writer);
    assert!((1..=200_000).contains(&largest.0), "{}", largest.0);
}

#[test]
fn bytes_that_are_no_text_are_passed_on() {
    let redactor = redactor(&["hunter2"]);
    assert_eq!(
        written(&redactor, &[b"\xff\xfehunter2\xff\n\x80"]),
        b"\xff\xfe[redacted]\xff\n\x80"
    );
}

/// Texts of few letters, so that secrets overlap with each other, with themselves and with what
/// replaces them.
fn small() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[ab\\[\\]\n\"é%]{4,12}").unwrap()
}

/// Whether a secret is replaced within a word too.
fn is_long(secret: &str) -> bool {
    secret.len() >= 8 && secret != qchost_text::EMULATOR_TOKEN
}

/// A text in which secrets stand, next to and within each other's parts.
fn texts(secrets: &[String]) -> impl Strategy<Value = String> + use<> {
    let secrets = secrets.to_vec();
    let forms: Vec<String> = secrets
        .iter()
        .flat_map(|secret| {
            [
                secret.clone(),
                serde_json::to_string(secret).unwrap(),
                BASE64_STANDARD.encode(secret),
            ]
        })
        .collect();
    let piece = prop_oneof![
        proptest::sample::select(forms),
        "[ab\\[\\]\n\"é%]{0,6}",
        any::<String>(),
        Just("[redacted]".to_owned()),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_value_survives(
        (secrets, text) in vec(prop_oneof![small(), any::<String>()], 1..4)
            .prop_flat_map(|secrets| (Just(secrets.clone()), texts(&secrets))),
    ) {
        let redactor = redactor(&secrets);
        let clean = redactor.clean(&text);
        // A shorter one may be a part of a word.
        for secret in secrets.iter().filter(|secret| is_long(secret)) {
            prop_assert!(!clean.contains(secret.as_str()), "{:?} in {:?}", secret, clean);
            if !text.contains(secret.as_str()) {
                continue;
            }
            let mut value = json!({ text.as_str(): [text.as_str()] });
            redactor.clean_value(&mut value);
            let Value::Object(fields) = value else { unreachable!() };
            for (key, items) in fields {
                prop_assert!(!key.contains(secret.as_str()));
                prop_assert!(!items[0].as_str().unwrap().contains(secret.as_str()));
            }
        }
        // And what is clean stays as it is.
        prop_assert_eq!(redactor.clean(&clean), clean.as_ref());
    }

    #[test]
    fn no_value_survives_split_writes(
        (secrets, text) in vec(small(), 1..4)
            .prop_flat_map(|secrets| (Just(secrets.clone()), texts(&secrets))),
        sizes in vec(1_usize..9, 1..20),
    ) {
        let redactor = redactor(&secrets);
        let mut pieces = Vec::new();
        let mut rest = text.as_bytes();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, more) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = more;
        }
        let out = String::from_utf8(written(&redactor, &pieces)).unwrap();
        for secret in secrets.iter().filter(|secret| is_long(secret)) {
            prop_assert!(!out.contains(secret.as_str()), "{:?} in {:?} of {:?}", secret, out, text);
        }
    }

    #[test]
    fn a_text_without_values_stays_as_it_is(text in "[a-z \n]{0,80}", size in 1_usize..20) {
        let redactor = redactor(&["HUNTER2", "PASS\nWORD"]);
        prop_assert!(matches!(redactor.clean(&text), Cow::Borrowed(_)));
        let pieces: Vec<_> = text.as_bytes().chunks(size).collect();
        prop_assert_eq!(written(&redactor, &pieces), text.into_bytes());
    }
}
