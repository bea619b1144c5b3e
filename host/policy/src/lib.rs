//! What a plugin may do: the manifest and the guardrails, compiled to Cedar, and the decision.
//!
//! A [`Manifest`] is what an operator wrote for one plugin, [`Guardrails`] apply to all of them.
//! Together they form an [`Authority`], which decides about [`Facts`]: one resource that a call
//! touches, and its context. [`People`] uses the same engine for people.
//!
//! Invariant: nothing is allowed by default. A call is allowed when a grant covers it, and denied
//! when a guardrail forbids it or cannot be evaluated, whatever grants there are.
//!
//! A manifest is parsed, compiled, and decides. A denial comes with the lines that would allow the call:
//!
//! ```
//! use std::path::{Path, PathBuf};
//! use std::sync::Arc;
//!
//! use qchost_catalog::Access;
//! use qchost_policy::{Authority, Facts, Guardrails, Manifest, Project, Resource};
//!
//! let text = r#"
//! plugin    = "lab"
//! component = "lab.wasm"
//! account   = "research"
//!
//! [[grant]]
//! name     = "lab-backtests"
//! allow    = ["backtests/*"]
//! projects = ["Lab/*"]
//! "#;
//! let manifest = Arc::new(Manifest::parse(text, Path::new("lab.toml"))?);
//!
//! let create_backtest_in = |authority: &Authority, name: &str| {
//!     let project = Project { id: Some(7), name: name.to_owned(), created: false };
//!     let facts = Facts::of(Resource::Project(project));
//!     authority.decide("sha256:…", "backtests/create-backtest", Access::Write, &facts)
//! };
//!
//! let authority = Authority::new(Arc::clone(&manifest), &Guardrails::none())?;
//! let decision = create_backtest_in(&authority, "Lab/momentum");
//! assert!(decision.allowed);
//! assert_eq!(decision.grants, [0]);
//!
//! let denial = create_backtest_in(&authority, "Production").denial.ok_or("allowed")?;
//! assert_eq!(denial.nearest_grant.as_deref(), Some("lab-backtests"));
//! assert!(denial.remedy.ok_or("no remedy")?.contains(r#"projects = ["Production"]"#));
//!
//! // A guardrail forbids whatever is granted.
//! let rule = r#"@id("no-momentum") forbid (principal, action, resource is Project) when { resource.name like "*momentum" };"#;
//! let guardrails = Guardrails::read(&[(PathBuf::from("lab.cedar"), rule.to_owned())])?;
//! let authority = Authority::new(manifest, &guardrails)?;
//! assert_eq!(create_backtest_in(&authority, "Lab/momentum").guardrails, ["no-momentum"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod authority;
mod denial;
mod difference;
mod egress;
mod engine;
mod facts;
mod glob;
mod grantable;
mod guardrails;
mod imports;
mod manifest;
mod people;
mod policy_test;
mod roles;
mod text_file;
mod usd;

pub use authority::{Authority, Decision};
pub use denial::Denial;
pub use difference::{Change, ChangeKind, Difference, Remembered, Retired, Successor, successors};
pub use engine::{PolicyError, cedar_schema};
pub use facts::{Brokerage, Context, Evidence, Facts, Project, Resource};
pub use glob::{Glob, MAX_GLOB};
pub use grantable::{
    DOWNLOAD, EVIDENCE, HTTP, Pattern, PatternError, RAW, WORKFLOW, grantable, is_tool_name,
    nearest, nearest_operation,
};
pub use guardrails::{Coverage, Guardrails};
pub use imports::{ImportedInterface, ImportsDenied, WHOLE_CONTRACT, granting, is_whole_contract};
pub use manifest::{
    Alias, Approval, Egress, FolderGrant, FolderMode, Grant, GrantLimits, HttpGrant, Limits,
    MAX_GRANTS, MAX_PATTERNS, Manifest, ManifestError, Prefix, ProjectScope, is_name,
    manifest_schema,
};
pub use people::{People, Person};
pub use policy_test::{CaseResult, PolicyTestError, run_policy_tests};
pub use roles::{Right, Role};
pub use text_file::{Origin, read_owned_text, read_text};
pub use usd::{Dollars, Usd};
