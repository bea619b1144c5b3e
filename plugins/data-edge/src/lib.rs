//! data-edge: keeps versioned data sets in the Object Store, and carries strategies across environments.
//!
//! What is read (`formats`, `archive`, `table`, `time`, `series`), what is found in it (`quality`, `calendar`) and what is said
//! of it (`manifest`) is plain data. `version` puts it into a `store`, whose twin in memory ends runs at every step in the
//! tests. One file an action, or for a few that belong together: `upload`, `lineage`, `collect`, `promote`, `strategy`.

use qchost_sdk::prelude::*;

mod archive;
mod calendar;
mod collect;
mod difference;
mod formats;
mod input;
mod lineage;
mod manifest;
mod names;
mod promote;
mod quality;
mod series;
mod store;
mod strategy;
mod table;
mod time;
mod upload;
mod version;

/// Keeps versioned data sets in the Object Store, and carries strategies from one project to another.
#[agent(name = "data-edge", config = input::Settings)]
mod agent {
    use super::*;

    /// Check rows before they are uploaded: duplicates, order, gaps, hours of the market, outliers, splits.
    ///
    /// Takes CSV, JSON, rows, or files of a granted folder, also LEAN's zipped ones. Each finding lists the first rows
    /// concerned. Nothing is sent.
    #[action(read_only, idempotent)]
    fn check(input: upload::Check) -> Result<upload::Checked, Failure> {
        upload::check(&input)
    }

    /// Put rows into the Object Store as a version of a data set.
    ///
    /// The rows are checked, written as CSV in parts of 4 MiB, and described by a manifest with hash, columns, times,
    /// source and parents, which is written last. The same rows are the same version. An upload that was cut off goes on
    /// when it is made again, and sends only what is missing.
    #[action(idempotent)]
    fn upload(input: upload::Upload) -> Result<upload::Uploaded, Failure> {
        upload::upload(&input)
    }

    /// List data sets with their versions.
    #[action(read_only, idempotent)]
    fn list(input: lineage::List) -> Result<lineage::Listed, Failure> {
        lineage::list(input)
    }

    /// Show a version: its manifest, the strategies that use it, what was made from it, and objects that are missing.
    #[action(read_only, idempotent)]
    fn show(input: lineage::Show) -> Result<lineage::Shown, Failure> {
        lineage::show(input)
    }

    /// Compare two versions: columns, and the days or months whose rows differ.
    #[action(read_only, idempotent)]
    fn diff(input: lineage::Diff) -> Result<lineage::Compared, Failure> {
        lineage::diff(input)
    }

    /// Note that the present source of a project uses a version, so that the version stays.
    #[action(name = "use", idempotent)]
    fn use_version(input: lineage::UseInput) -> Result<lineage::Use, Failure> {
        lineage::use_version(input)
    }

    /// Delete versions that are old and that nothing needs, and what interrupted uploads left. Unless `dry-run` is false, it
    /// only says which.
    #[action(destructive, idempotent)]
    fn collect(input: collect::Collect) -> Result<collect::Collected, Failure> {
        collect::collect(&input)
    }

    /// Put a version under another prefix of the same account, such as from `data-edge` to `data-edge-live`.
    ///
    /// The rows are given once more and compared, or downloaded where QuantConnect lets the account do that.
    #[action(idempotent)]
    fn promote(input: promote::Promote) -> Result<promote::Promoted, Failure> {
        promote::promote(&input)
    }

    /// Give a project the files of another one, in one step.
    ///
    /// With `plan-only`, it says what would change, with differences. What was changed in the target since it was last
    /// promoted to is a conflict, and nothing is replaced until `discard` gives it up. Notebooks take no part.
    #[action(name = "promote-strategy", destructive, idempotent)]
    fn promote_strategy(input: strategy::PromoteStrategy) -> Result<strategy::Outcome, Failure> {
        strategy::promote(&input)
    }

    /// Give a project the files of an earlier version that `promote-strategy` replaced.
    #[action(destructive)]
    fn rollback(input: strategy::Rollback) -> Result<strategy::Outcome, Failure> {
        strategy::rollback(&input)
    }
}
