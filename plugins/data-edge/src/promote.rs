//! `promote`: a version under another prefix of the same account.
//!
//! The bytes come from the caller, or from the Object Store where the account may download objects. To another account, a
//! version goes by `upload` there, from a folder, with the `version` that it has to be.

use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::input::{Data, Settings};
use crate::manifest::{self, About, Label, Manifest, PART_BYTES};
use crate::names;
use crate::quality::Quality;
use crate::series::Shape;
use crate::store::{Host, Store};
use crate::time;
use crate::upload;
use crate::version;

/// What to promote.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Promote {
    /// Name of the data set.
    set: String,
    /// Name of the version; the newest complete one if not given.
    #[serde(default)]
    version: Option<String>,
    /// Prefix of its keys; that of the settings if not given.
    #[serde(default)]
    prefix: Option<String>,
    /// Prefix under which it is to be as well, such as `data-edge-live`.
    to: String,
    /// The rows, once more. Without them, the parts are downloaded, which QuantConnect lets few accounts do.
    #[serde(default)]
    data: Option<Data>,
    /// What the columns are.
    #[serde(default)]
    shape: Shape,
}

/// What was promoted.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Promoted {
    /// Whether it was there before.
    unchanged: bool,
    /// Parts that were sent now.
    sent: u64,
    /// Parts that were there from an interrupted run.
    kept: u64,
    /// What is known of it under the new prefix.
    manifest: Manifest,
}

/// Runs `promote`.
pub(crate) fn promote(input: &Promote) -> Result<Promoted, Failure> {
    let settings: Settings = config::load()?;
    let prefix = settings.prefix(input.prefix.clone())?;
    names::set(&input.set)?;
    names::prefix(&input.to)?;
    let mut host = Host::open(settings.organization)?;
    run(&mut host, &prefix, input, PART_BYTES)
}

fn run(
    store: &mut dyn Store,
    prefix: &str,
    input: &Promote,
    part_bytes: usize,
) -> Result<Promoted, Failure> {
    if input.to == prefix {
        return Err(Failure::invalid_input(
            "`to` is the prefix that the version is under already",
        ));
    }
    let original = version::find(store, prefix, &input.set, input.version.as_deref())?;
    let mut promoted = Manifest {
        prefix: input.to.clone(),
        created: time::instant(store.now()),
        promoted_from: Some(original.place()),
        ..original.clone()
    };
    let put = if let Some(data) = &input.data {
        let shape = Shape {
            zone: Some(original.zone),
            ..input.shape.clone()
        };
        let series = data.read(&shape)?;
        let nothing = Quality {
            interval: None,
            findings: Vec::new(),
        };
        let (given, cuts) = manifest::describe(&series, &About::default(), &nothing, part_bytes);
        if given.sha256 != original.sha256 {
            return Err(Failure::invalid_input(format!(
                "the rows that were given are not those of {}: nothing was sent",
                original.place()
            )));
        }
        promoted.parts = given.parts;
        version::put(
            store,
            promoted,
            &mut |_, at| Ok(series.csv(cuts.get(at).cloned().unwrap_or_default())),
            &mut upload::report,
        )
    } else {
        if original.label == Label::Licensed {
            return Err(Failure::invalid_input(
                "this is licensed data, which is not downloaded: give the rows once more, as `data`",
            ));
        }
        let from = original.clone();
        let mut part = move |store: &mut dyn Store, at: usize| {
            let part = from.parts.get(at).map(|part| from.key(&part.name));
            let key = part.unwrap_or_default();
            store.download(&key).map_err(|error| {
                Failure::failed(format!(
                    "the rows have to be given as `data`, since {key} cannot be downloaded: {error}"
                ))
            })
        };
        version::put(store, promoted, &mut part, &mut upload::report)
    };
    let (manifest, sent) = put?;
    Ok(Promoted {
        unchanged: sent.was_there,
        sent: sent.sent,
        kept: sent.kept,
        manifest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Memory;
    use crate::upload::tests::{uploaded, version_of};
    use crate::version::tests::csv;

    fn promoted(store: &mut Memory, more: serde_json::Value) -> Result<Promoted, Failure> {
        let mut input = serde_json::json!({ "set": "spy", "to": "live" });
        let members = more.as_object().unwrap().clone();
        input.as_object_mut().unwrap().extend(members);
        run(
            store,
            "data-edge",
            &serde_json::from_value(input).unwrap(),
            60,
        )
    }

    #[test]
    fn a_version_is_promoted_by_its_rows_and_by_no_others() {
        let mut store = Memory::default();
        let version = version_of(&mut store, &[1, 2, 3, 4]);
        let other = serde_json::json!({ "data": { "text": csv(&[9]) } });
        assert!(promoted(&mut store, other).is_err());
        let same = serde_json::json!({ "data": { "text": csv(&[1, 2, 3, 4]) } });
        let done = promoted(&mut store, same.clone()).unwrap();
        assert_eq!(
            done.manifest.promoted_from,
            Some(format!("data-edge/spy/{version}"))
        );
        assert_eq!(done.manifest.version, version);
        let part =
            |prefix: &str| store.objects[&format!("{prefix}/spy/{version}/part-0000.csv")].clone();
        assert_eq!(part("live"), part("data-edge"));
        assert!(promoted(&mut store, same).unwrap().unchanged);
    }

    #[test]
    fn without_rows_it_is_promoted_only_where_objects_can_be_downloaded() {
        let mut store = Memory::default();
        version_of(&mut store, &[1, 2, 3, 4]);
        let refused = promoted(&mut store, serde_json::json!({})).unwrap_err();
        assert!(
            refused.to_string().contains("have to be given as `data`"),
            "{refused}"
        );
        assert!(!store.objects.keys().any(|key| key.starts_with("live/")));
        store.is_readable = true;
        assert!(promoted(&mut store, serde_json::json!({})).unwrap().sent > 1);
        // An object that is not what its manifest says goes nowhere.
        let version = version_of(&mut store, &[5, 6]);
        store.objects.insert(
            format!("data-edge/spy/{version}/part-0000.csv"),
            b"x".to_vec(),
        );
        let broken = promoted(&mut store, serde_json::json!({ "version": version })).unwrap_err();
        assert!(
            broken.to_string().contains("is not what its manifest says"),
            "{broken}"
        );
    }

    #[test]
    fn licensed_data_is_not_downloaded() {
        let mut store = Memory {
            is_readable: true,
            ..Memory::default()
        };
        uploaded(
            &mut store,
            &csv(&[1]),
            serde_json::json!({ "label": "licensed" }),
        )
        .unwrap();
        let refused = promoted(&mut store, serde_json::json!({})).unwrap_err();
        assert!(refused.to_string().contains("licensed"), "{refused}");
        let given = serde_json::json!({ "data": { "text": csv(&[1]) } });
        assert!(promoted(&mut store, given).is_ok());
    }
}
