//! Sizes and durations in a manifest: `"64MiB"`, `"5s"`.

use std::time::Duration;

/// Bytes, from 1 to 4 GiB.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let unit = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => {
            return Err(format!(
                "`{text}` is not a size such as \"64MiB\" (B, KiB, MiB, GiB)"
            ));
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|bytes| (1..=4 << 30).contains(bytes))
        .ok_or_else(|| format!("`{text}` is not between 1B and 4GiB"))
}

/// A time, from 1 ms to 24 h.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let unit: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => {
            return Err(format!(
                "`{text}` is not a time such as \"5s\" (ms, s, m, h)"
            ));
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|ms| (1..=24 * 3_600_000).contains(ms))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is not between 1ms and 24h"))
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    (number, unit.trim())
}
