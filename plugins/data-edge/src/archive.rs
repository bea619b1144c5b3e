//! The one file of a zip archive, as LEAN keeps its data. Only its content goes on from here: QuantConnect's terms
//! forbid agents to upload archives.
//!
//! Invariant: no more than [`MAX_BYTES`] are ever inflated, whatever the archive says of itself.

use std::io::{Cursor, Read as _};

use zip::ZipArchive;

use crate::table::{Invalid, MAX_BYTES};

/// Maximum entries of an archive.
const MAX_ENTRIES: usize = 100;
/// An entry that inflates to more than this many times its size is refused. Deflate reaches 1032; bars of a market, 10 to
/// 30.
const MAX_RATIO: u64 = 200;
/// Smaller entries may have any ratio, in bytes.
const SMALL: u64 = 1 << 20;

/// Whether these are the bytes of a zip archive.
pub(crate) fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06")
}

/// The name and the content of the only file in an archive. `name` is that of the archive.
pub(crate) fn only_file(name: &str, bytes: &[u8]) -> Result<(String, Vec<u8>), Invalid> {
    let wrong = |why: &str| Invalid::new(format!("{name}: {why}"));
    let read = |error: zip::result::ZipError| {
        Invalid::new(format!(
            "{name} is not a zip archive that can be read: {error}"
        ))
    };
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(read)?;
    if archive.len() > MAX_ENTRIES {
        return Err(wrong("the archive has more than 100 entries"));
    }
    let mut found = None;
    for at in 0..archive.len() {
        let entry = archive.by_index_raw(at).map_err(read)?;
        if !entry.is_dir() && found.replace(at).is_some() {
            return Err(wrong(
                "the archive has several files; one that holds exactly one is taken",
            ));
        }
    }
    let at = found.ok_or_else(|| wrong("the archive has no file"))?;
    let mut entry = archive.by_index(at).map_err(read)?;
    let inside = entry.name().map_err(read)?.into_owned();
    if entry.enclosed_name().is_none() || inside.chars().any(char::is_control) {
        return Err(wrong(
            "the archive's entry has a name that leads out of a folder",
        ));
    }
    let packed = entry.compressed_size();
    let bound = packed.saturating_mul(MAX_RATIO).max(SMALL);
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).min(bound);
    let mut content = Vec::new();
    entry
        .by_ref()
        .take(most.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(|error| wrong(&format!("\"{inside}\" cannot be unpacked: {error}")))?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > most {
        return Err(wrong(&format!(
            "\"{inside}\" has more than {} MiB, or more than {MAX_RATIO} times its packed size",
            MAX_BYTES >> 20
        )));
    }
    if is_archive(&content) {
        return Err(wrong("the archive holds another archive"));
    }
    Ok((inside, content))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use zip::CompressionMethod;
    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    pub(crate) fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        for (name, content) in files {
            archive.start_file(*name, options).unwrap();
            archive.write_all(content).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    #[test]
    fn the_one_file_is_taken_out() {
        let bytes = packed(&[("20131007_spy_minute_trade.csv", b"1,2\n")]);
        assert!(is_archive(&bytes));
        let (name, content) = only_file("a.zip", &bytes).unwrap();
        assert_eq!(name, "20131007_spy_minute_trade.csv");
        assert_eq!(content, b"1,2\n");
    }

    #[test]
    fn an_archive_of_another_form_is_refused_by_its_name() {
        let inner = packed(&[("a", b"1")]);
        for (bytes, why) in [
            (packed(&[]), "no file"),
            (packed(&[("a", b"1"), ("b", b"2")]), "several files"),
            (packed(&[("../a", b"1")]), "leads out"),
            (packed(&[("a.zip", &inner)]), "another archive"),
            (b"PK\x03\x04rubbish".to_vec(), "not a zip archive"),
        ] {
            let refused = only_file("x.zip", &bytes).unwrap_err();
            assert!(
                refused.0.starts_with("x.zip") && refused.0.contains(why),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_bomb_is_not_inflated() {
        let bytes = packed(&[("a.csv", &vec![b'0'; 8 << 20])]);
        assert!(bytes.len() < 20_000);
        let refused = only_file("bomb.zip", &bytes).unwrap_err();
        assert!(refused.0.contains("200 times"), "{refused}");
    }

    proptest::proptest! {
        #[test]
        fn no_damage_of_an_archive_breaks_the_reader(at in 0_usize..200, byte: u8, cut in 0_usize..200) {
            let mut bytes = packed(&[("a.csv", b"time,close\n2024-01-02,1\n2024-01-03,2\n")]);
            if let Some(it) = bytes.get_mut(at) {
                *it = byte;
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            let _ = only_file("a.zip", &bytes);
        }
    }
}
