//! `upload` and `check`: rows are read, checked, and put into the Object Store as a version.

use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::input::{Data, Settings};
use crate::manifest::{self, About, Difference, Label, Manifest, PART_BYTES};
use crate::names;
use crate::quality::{self, Expectations, Kind, Quality};
use crate::series::Shape;
use crate::store::{Host, Store};
use crate::time;
use crate::version::{self, Stage};

/// Maximum parents of a version.
const MAX_PARENTS: usize = 16;
/// Maximum bytes of what is said about the source.
const MAX_SOURCE: usize = 2 << 10;

/// Rows to look at.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Check {
    /// The rows.
    data: Data,
    /// What the columns are.
    #[serde(default)]
    shape: Shape,
    /// What is expected of the rows.
    #[serde(default)]
    expect: Expectations,
    /// Whose data it is: of licensed data, no value is in the report.
    #[serde(default)]
    label: Label,
}

/// What was found.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Checked {
    /// Number of rows.
    rows: u64,
    /// Columns.
    columns: Vec<String>,
    /// Whether `upload` would take it as it is.
    accepted: bool,
    /// What is wrong with it.
    quality: Quality,
}

/// Runs `check`.
pub(crate) fn check(input: &Check) -> Result<Checked, Failure> {
    let series = input.data.read(&input.shape)?;
    let quality = quality::check(&series, &input.expect, input.label == Label::Licensed);
    Ok(Checked {
        rows: manifest::count(series.rows()),
        columns: series.table.columns().to_vec(),
        accepted: !quality.findings.iter().any(|it| it.error),
        quality,
    })
}

/// A version to put into the Object Store.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Upload {
    /// Name of the data set: letters, digits, `-` and `_`.
    set: String,
    /// Prefix of its keys; that of the settings if not given.
    #[serde(default)]
    prefix: Option<String>,
    /// The rows.
    data: Data,
    /// What the columns are.
    #[serde(default)]
    shape: Shape,
    /// What is expected of the rows.
    #[serde(default)]
    expect: Expectations,
    /// Kinds of errors that are accepted in these rows.
    #[serde(default)]
    accept: Vec<Kind>,
    /// Where the data is from, in your words.
    #[schemars(length(min = 1))]
    source: String,
    /// Whose data it is. Of licensed data, no value is in any answer, and nothing is downloaded.
    #[serde(default)]
    label: Label,
    /// Versions of the data set that it was made from; the newest one if not given.
    #[serde(default)]
    parents: Option<Vec<String>>,
    /// The version that it has to be, such as one that was uploaded to another account; refused if it is another one.
    #[serde(default)]
    version: Option<String>,
    /// Only say what would be uploaded.
    #[serde(default)]
    dry_run: bool,
}

/// What was uploaded.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Uploaded {
    /// Whether the version is complete in the Object Store now.
    complete: bool,
    /// Whether it was before; its manifest is kept then.
    unchanged: bool,
    /// Parts that were sent now.
    sent: u64,
    /// Parts that were there from an interrupted upload.
    kept: u64,
    /// What is known of the version.
    manifest: Manifest,
    /// What differs from the first of its parents.
    difference: Option<Difference>,
    /// What is odd about it.
    quality: Quality,
}

/// Runs `upload`.
pub(crate) fn upload(input: &Upload) -> Result<Uploaded, Failure> {
    let settings: Settings = config::load()?;
    let prefix = settings.prefix(input.prefix.clone())?;
    names::set(&input.set)?;
    if input.source.trim().is_empty() || input.source.len() > MAX_SOURCE {
        return Err(Failure::invalid_input(
            "`source` is empty, or has more than 2 KiB",
        ));
    }
    progress::report(0.0, "reading the data");
    let mut host = Host::open(settings.organization)?;
    run(&mut host, input, prefix, PART_BYTES)
}

fn run(
    store: &mut dyn Store,
    input: &Upload,
    prefix: String,
    part_bytes: usize,
) -> Result<Uploaded, Failure> {
    let series = input.data.read(&input.shape)?;
    let quality = quality::check(&series, &input.expect, input.label == Label::Licensed);
    refuse(&quality, &input.accept)?;
    let mut about = About {
        prefix,
        set: input.set.clone(),
        created: time::instant(store.now()),
        source: input.source.trim().to_owned(),
        label: input.label,
        parents: Vec::new(),
    };
    let (mut described, cuts) = manifest::describe(&series, &about, &quality, part_bytes);
    if let Some(expected) = &input.version
        && *expected != described.version
    {
        return Err(Failure::invalid_input(format!(
            "these rows are the version {}, and not {expected}: nothing was sent",
            described.version
        )));
    }
    let parents = parents(store, &about, &described.version, input.parents.as_deref())?;
    about.parents = parents.iter().map(|it| it.version.clone()).collect();
    described.parents.clone_from(&about.parents);
    let difference = |manifest: &Manifest| {
        let parent = parents.iter().find(|it| it.version != manifest.version);
        parent.map(|parent| manifest::difference(parent, manifest))
    };
    if input.dry_run {
        return Ok(Uploaded {
            complete: false,
            unchanged: false,
            sent: 0,
            kept: 0,
            difference: difference(&described),
            manifest: described,
            quality,
        });
    }
    let (manifest, sent) = version::put(
        store,
        described,
        &mut |_, at| Ok(series.csv(cuts.get(at).cloned().unwrap_or_default())),
        &mut |at, total| report(at, total),
    )?;
    Ok(Uploaded {
        complete: true,
        unchanged: sent.was_there,
        sent: sent.sent,
        kept: sent.kept,
        difference: difference(&manifest),
        manifest,
        quality,
    })
}

/// Says how many parts were sent.
pub(crate) fn report(at: usize, total: usize) {
    // Without a host, as in tests, there is no one to say it to.
    if cfg!(target_arch = "wasm32") {
        let number = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
        progress::steps(number(at), number(total), &format!("part {at} of {total}"));
    }
}

/// Refuses rows with errors that are not accepted.
fn refuse(quality: &Quality, accept: &[Kind]) -> Result<(), Failure> {
    let mut errors = quality.findings.iter();
    let Some(error) = errors.find(|it| it.error && !accept.contains(&it.kind)) else {
        return Ok(());
    };
    let rows: Vec<String> = error
        .rows
        .iter()
        .take(3)
        .map(|it| format!("row {} ({}): {}", it.row, it.time, it.what))
        .collect();
    let kind = serde_json::to_string(&error.kind)?;
    Err(Failure::invalid_input(format!(
        "the rows have {} findings of the kind {kind}: {}. Nothing was sent; mend them, or name the kind in `accept`. `check` lists \
         all of them",
        error.count,
        rows.join("; ")
    )))
}

/// The versions that it was made from: those named, or the newest one.
fn parents(
    store: &mut dyn Store,
    about: &About,
    version: &str,
    given: Option<&[String]>,
) -> Result<Vec<Manifest>, Failure> {
    let (prefix, set) = (&about.prefix, &about.set);
    let Some(given) = given else {
        let (records, _) = version::records(store, prefix, set)?;
        let mut complete = records
            .into_iter()
            .filter(|it| it.stage == Stage::Complete && it.manifest.version != version);
        return Ok(complete.next().map(|it| it.manifest).into_iter().collect());
    };
    if given.len() > MAX_PARENTS {
        return Err(Failure::invalid_input("a version has at most 16 parents"));
    }
    let mut found = Vec::new();
    for parent in given {
        if parent == version {
            return Err(Failure::invalid_input("a version is not its own parent"));
        }
        found.push(version::find(store, prefix, set, Some(parent))?);
    }
    Ok(found)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::tests::Memory;
    use crate::version::tests::csv;

    pub(crate) fn upload_of(text: &str, more: serde_json::Value) -> Upload {
        let mut input =
            serde_json::json!({ "set": "spy", "data": { "text": text }, "source": "test" });
        let members = more.as_object().unwrap().clone();
        input.as_object_mut().unwrap().extend(members);
        serde_json::from_value(input).unwrap()
    }

    pub(crate) fn uploaded(
        store: &mut Memory,
        text: &str,
        more: serde_json::Value,
    ) -> Result<Uploaded, Failure> {
        run(store, &upload_of(text, more), "data-edge".into(), 60)
    }

    pub(crate) fn version_of(store: &mut Memory, values: &[u32]) -> String {
        let made = uploaded(store, &csv(values), serde_json::json!({})).unwrap();
        made.manifest.version
    }

    #[test]
    fn a_second_version_names_the_first_and_what_differs() {
        let mut store = Memory::default();
        let first = version_of(&mut store, &[1, 2]);
        let second = uploaded(&mut store, &csv(&[1, 3]), serde_json::json!({})).unwrap();
        assert_eq!(second.manifest.parents, std::slice::from_ref(&first));
        let difference = second.difference.unwrap();
        assert_eq!(
            difference.periods.keys().collect::<Vec<_>>(),
            ["1970-01-02"]
        );
        // The same rows once more change nothing, not even the parents.
        let again = uploaded(&mut store, &csv(&[1, 2]), serde_json::json!({})).unwrap();
        assert!(again.unchanged && again.manifest.parents.is_empty());
        let none = uploaded(&mut store, &csv(&[7]), serde_json::json!({ "parents": [] })).unwrap();
        assert!(none.manifest.parents.is_empty());
        let unknown = serde_json::json!({ "parents": ["0".repeat(32)] });
        assert!(uploaded(&mut store, &csv(&[8]), unknown).is_err());
    }

    #[test]
    fn rows_with_errors_are_refused_unless_they_are_accepted() {
        let text = "time,x\n2024-01-02,1\n2024-01-02,2\n";
        let mut store = Memory::default();
        let refused = uploaded(&mut store, text, serde_json::json!({})).unwrap_err();
        assert!(
            refused.to_string().contains("\"duplicate\": row 2"),
            "{refused}"
        );
        assert!(store.objects.is_empty() && store.state.is_empty());
        let made = uploaded(
            &mut store,
            text,
            serde_json::json!({ "accept": ["duplicate"] }),
        )
        .unwrap();
        assert_eq!(made.manifest.findings.get(&Kind::Duplicate), Some(&1));
    }

    #[test]
    fn a_dry_run_and_another_version_than_expected_send_nothing() {
        let mut store = Memory::default();
        let dry = uploaded(
            &mut store,
            &csv(&[1]),
            serde_json::json!({ "dry-run": true }),
        )
        .unwrap();
        let other = serde_json::json!({ "version": "0".repeat(32) });
        assert!(uploaded(&mut store, &csv(&[1]), other).is_err());
        assert!(store.objects.is_empty() && store.state.is_empty());
        let expected = serde_json::json!({ "version": dry.manifest.version });
        assert!(uploaded(&mut store, &csv(&[1]), expected).unwrap().complete);
    }

    proptest! {
        #[test]
        fn what_was_uploaded_is_what_is_found_and_differs_only_from_others(
            one in prop::collection::vec(0_u32..5, 1..10),
            other in prop::collection::vec(0_u32..5, 1..10),
        ) {
            let mut store = Memory::default();
            let (a, b) = (version_of(&mut store, &one), version_of(&mut store, &other));
            let mut find = |version: &str| version::find(&mut store, "data-edge", "spy", Some(version)).unwrap();
            let difference = manifest::difference(&find(&a), &find(&b));
            let back = manifest::difference(&find(&b), &find(&a));
            prop_assert_eq!(difference.same, one == other);
            prop_assert_eq!(difference.rows, -back.rows);
            let differ = (0..one.len().max(other.len())).filter(|day| one.get(*day) != other.get(*day));
            prop_assert_eq!(difference.periods.len(), differ.count());
            prop_assert!(difference.periods.keys().eq(back.periods.keys()));
        }
    }
}
