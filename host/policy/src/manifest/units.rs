//! Sizes and durations in a manifest: `"64MiB"`, `"5s"`.

use std::time::Duration;

/// Bytes, from 1 to 4 GiB.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let units = [
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
    ];
    let example = "a size such as \"64MiB\" (B, KiB, MiB, GiB)";
    quantity(text, &units, example, 4 << 30, "1B and 4GiB")
}

/// A time, from 1 ms to 24 h.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let example = "a time such as \"5s\" (ms, s, m, h)";
    quantity(text, &units, example, 24 * 3_600_000, "1ms and 24h").map(Duration::from_millis)
}

/// A whole number of one of the units, from 1 to `max`, which `bounds` writes.
fn quantity(
    text: &str,
    units: &[(&str, u64)],
    example: &str,
    max: u64,
    bounds: &str,
) -> Result<u64, String> {
    let (number, unit) = split(text);
    let unit = units.iter().find(|(name, _)| *name == unit);
    let (_, factor) = unit.ok_or_else(|| format!("`{text}` is not {example}"))?;
    let amount = number.parse::<u64>().ok();
    amount
        .and_then(|number| number.checked_mul(*factor))
        .filter(|amount| (1..=max).contains(amount))
        .ok_or_else(|| format!("`{text}` is not between {bounds}"))
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    (number, unit.trim())
}
