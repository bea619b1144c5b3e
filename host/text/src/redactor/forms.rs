//! The forms in which a secret may occur in a text: itself, escaped for JSON, percent-encoded, in
//! base64, and the lines of a multi-line secret.

use std::sync::Arc;
use std::{iter, mem};

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

/// Minimum length in bytes of a secret that is redacted. A shorter one is part of too many innocent words.
pub const MIN_SECRET: usize = 4;

/// Characters that a URL leaves unchanged (RFC 3986, section 2.3, "unreserved").
const UNRESERVED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Minimum length in characters of a base64 fragment that is searched for. A shorter one would
/// occur in unrelated texts.
const MIN_PIECE: usize = 8;

/// Minimum length in bytes of a single line of a multi-line secret that is searched for.
const MIN_LINE: usize = 16;

/// One form of a secret.
pub(super) type Form = Arc<Zeroizing<Vec<u8>>>;

/// Every form of a secret without duplicates, itself first.
pub(super) fn forms(secret: &str) -> Vec<Form> {
    let itself = Zeroizing::new(secret.to_owned());
    // A log writes a multi-line key as several lines. The first and the last line of such a key are
    // not secret.
    let lines = secret
        .lines()
        .filter(|line| {
            line.len() >= MIN_LINE && line.len() < secret.len() && !line.starts_with("-----")
        })
        .map(|line| Zeroizing::new(line.to_owned()));
    let mut forms: Vec<Form> = Vec::new();
    for mut form in iter::once(itself)
        .chain(escaped(secret))
        .chain(percent_encoded(secret))
        .chain(base64(secret.as_bytes()))
        .chain(lines)
    {
        let known = forms
            .iter()
            .any(|known| known.as_slice() == form.as_bytes());
        if !known && form.len() >= MIN_SECRET {
            let bytes = mem::take(&mut *form).into_bytes();
            forms.push(Arc::new(Zeroizing::new(bytes)));
        }
    }
    forms
}

/// As in JSON strings: with the required escapes, with slashes escaped too, and all in ASCII; each
/// with both spellings of its hexadecimal digits.
fn escaped(secret: &str) -> Vec<Zeroizing<String>> {
    let mut forms = Vec::new();
    for slash in ["/", "\\/"] {
        for (ascii, upper) in [(false, false), (false, true), (true, false), (true, true)] {
            // The maximum length, so that it does not grow and leave a copy in memory.
            let mut form = Zeroizing::new(String::with_capacity(secret.len() * 6));
            for c in secret.chars() {
                match c {
                    '"' => form.push_str("\\\""),
                    '\\' => form.push_str("\\\\"),
                    '/' => form.push_str(slash),
                    '\n' => form.push_str("\\n"),
                    '\r' => form.push_str("\\r"),
                    '\t' => form.push_str("\\t"),
                    '\u{8}' => form.push_str("\\b"),
                    '\u{c}' => form.push_str("\\f"),
                    c if c < ' ' || (ascii && !c.is_ascii()) => {
                        for unit in c.encode_utf16(&mut [0; 2]) {
                            form.push_str(&if upper {
                                format!("\\u{unit:04X}")
                            } else {
                                format!("\\u{unit:04x}")
                            });
                        }
                    }
                    c => form.push(c),
                }
            }
            forms.push(form);
        }
    }
    forms
}

/// As in a URL and a form, with both spellings of the hexadecimal digits.
fn percent_encoded(secret: &str) -> Vec<Zeroizing<String>> {
    let mut forms = Vec::new();
    for (set, space) in [
        (&UNRESERVED, "%20"),
        (&UNRESERVED, "+"),
        (NON_ALPHANUMERIC, "%20"),
    ] {
        let mut upper = Zeroizing::new(String::with_capacity(secret.len() * 3));
        let mut lower = Zeroizing::new(String::with_capacity(secret.len() * 3));
        for piece in utf8_percent_encode(secret, set) {
            let piece = if piece == "%20" { space } else { piece };
            upper.push_str(piece);
            if piece.starts_with('%') {
                lower.push_str(&piece.to_ascii_lowercase());
            } else {
                lower.push_str(piece);
            }
        }
        forms.extend([upper, lower]);
    }
    forms
}

/// As in base64: by itself, and within a longer text such as `user:secret`. In the latter case
/// there are three encodings, and the characters at both ends depend on the neighbours.
fn base64(secret: &[u8]) -> Vec<Zeroizing<String>> {
    let mut forms = Vec::new();
    for alphabet in [&STANDARD, &URL_SAFE] {
        let engine = GeneralPurpose::new(alphabet, NO_PAD);
        forms.push(Zeroizing::new(engine.encode(secret)));
        for before in 0_usize..3 {
            let mut padded = Zeroizing::new(Vec::with_capacity(before + secret.len()));
            padded.resize(before, 0);
            padded.extend_from_slice(secret);
            let whole = Zeroizing::new(engine.encode(&*padded));
            let (first, last) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
            if let Some(piece) = whole
                .get(first..last)
                .filter(|piece| piece.len() >= MIN_PIECE)
            {
                forms.push(Zeroizing::new(piece.to_owned()));
            }
        }
    }
    forms
}
