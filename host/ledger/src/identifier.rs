//! Identifiers that people can read and type, and that cannot be guessed.

use crate::error::LedgerError;

/// Crockford's base 32, without characters that look alike. Its length divides 256, so each is equally likely.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// `kind`, a dash, and ten characters from the system's source of randomness.
pub(crate) fn new(kind: &str) -> Result<String, LedgerError> {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes)?;
    let characters = bytes
        .iter()
        .filter_map(|byte| ALPHABET.get(usize::from(byte % 32)))
        .map(|character| char::from(*character));
    Ok(format!("{kind}-{}", characters.collect::<String>()))
}
