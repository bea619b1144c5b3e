//! Licensed data, and the ways out of the host.
//!
//! QuantConnect's terms forbid to take values of its datasets out of its cloud, by whatever route. The host cannot tell
//! such values from others in a log, a notebook or a chart, and a plugin may keep what it reads and send it much later.
//! So the rule is not about single calls but about what one manifest grants together: operations whose answers may hold
//! licensed data, as their catalog rows say, and a way out: requests to other hosts, messages to recipients, what
//! QuantConnect's agents are told, or a folder of the host's machine that the plugin may write to. Of a tool that the catalog
//! does not know both is assumed.
//!
//! Invariant: a manifest that grants both is refused unless it says `egress = "licensed"`, which in production an admin has
//! to approve. An argument that would keep an answer free of such data counts only if the grant itself admits no other.

use std::fmt;

use qchost_catalog::{
    Access, Licensed, OPERATIONS, Operation, STANDARD_CHARTS, Selector, by_name, by_tool,
};
use qchost_text::excerpt;

use crate::glob::Glob;
use crate::grantable::{DOWNLOAD, Pattern, RAW};
use crate::manifest::{Egress, FolderMode, Grant, Limits, Manifest};

/// The line of a manifest that lets licensed data out.
const LINE: &str = "egress = \"licensed\"";

/// Maximum characters of the line about what may leave.
const MAX_GAIN: usize = 500;

/// The ending of a notebook's name.
const NOTEBOOK: &str = ".ipynb";

/// What may take licensed data out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leak {
    /// What may hold it: "the grant `lab` covers `live/read-live-logs`".
    source: String,
    /// How to leave out what may hold it, if that is possible.
    narrower: Option<&'static str>,
    /// What may carry it out: "[[http]] `hooks`".
    way: String,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            narrower,
            way,
        } = self;
        write!(
            f,
            "{source}, whose answers may hold licensed data, and {way} can carry it out, which QuantConnect's terms forbid; take one \
             of them out"
        )?;
        if let Some(narrower) = narrower {
            write!(f, ", {narrower}")?;
        }
        write!(
            f,
            ", or, if your licences allow it, write above the first table of the manifest: {LINE}"
        )
    }
}

/// What may hold licensed data, and how to leave that out.
type Source = (String, Option<&'static str>);

impl Manifest {
    /// Why it may take licensed data out without saying that it may.
    pub(crate) fn leak(&self) -> Option<Leak> {
        if self.egress == Egress::Licensed {
            return None;
        }
        self.way_of_licensed_data()
    }

    /// What may hold licensed data, and what may carry it out, if it grants both.
    fn way_of_licensed_data(&self) -> Option<Leak> {
        // Few manifests have one, and it is found faster.
        let way = self.way_out()?;
        let (source, narrower) = self.licensed_source()?;
        Some(Leak {
            source,
            narrower,
            way,
        })
    }

    /// Whether licensed data may leave the host by it.
    pub(crate) fn lets_out(&self) -> bool {
        self.egress == Egress::Licensed && self.way_of_licensed_data().is_some()
    }

    /// A line if it lets licensed data out and a former manifest did not, or says so for the first time.
    #[must_use]
    pub fn lets_out_beyond(&self, former: Option<&Self>) -> Option<String> {
        if self.egress != Egress::Licensed {
            return None;
        }
        let says = former.is_some_and(|former| former.egress == Egress::Licensed);
        match self.way_of_licensed_data() {
            Some(_) if former.is_some_and(Self::lets_out) => None,
            Some(Leak { source, way, .. }) => {
                let line = format!(
                    "egress: {source}, whose answers may hold licensed data, and {way} can carry it out"
                );
                Some(excerpt(&line, MAX_GAIN))
            }
            None => (!says).then(|| "egress: licensed data may be sent out".to_owned()),
        }
    }

    /// Whether it grants what may answer licensed data, so that the plugin's state may hold some from then on.
    #[must_use]
    pub fn reads_licensed(&self) -> bool {
        self.licensed_source().is_some()
    }

    /// Why it may not be in force while the plugin's state may hold licensed data; `None` if it may.
    #[must_use]
    pub fn leak_of_state(&self) -> Option<String> {
        if self.egress == Egress::Licensed {
            return None;
        }
        let way = self.way_out()?;
        Some(format!(
            "an earlier manifest granted what may answer licensed data, so the plugin's state may hold some, and {way} can carry it \
             out, which QuantConnect's terms forbid; let the plugin delete all its keys while a manifest without a way out serves, \
             take out the way, or, if your licences allow it, write above the first table of the manifest: {LINE}"
        ))
    }

    fn licensed_source(&self) -> Option<Source> {
        self.grants.iter().find_map(|grant| {
            let (name, narrower) = licensed_in(grant)?;
            Some((
                format!("the grant `{}` covers `{name}`", grant.name),
                narrower,
            ))
        })
    }

    fn way_out(&self) -> Option<String> {
        let http = self.http.first();
        let http = http.map(|grant| format!("[[http]] `{}`", grant.name));
        let mut folders = self.folders.iter();
        let folder = folders.find(|grant| grant.mode == FolderMode::ReadWrite);
        let folder = folder.map(|grant| format!("[[folder]] `{}`", grant.name));
        http.or(folder).or_else(|| {
            self.grants.iter().find_map(|grant| {
                let unknown = unknown_tool(grant).map(|tool| format!("{RAW}/{tool}"));
                let name = unknown.or_else(|| {
                    let operation = covered(grant, Operation::sends).next()?;
                    Some(operation.name.to_owned())
                })?;
                Some(format!("the grant `{}` by `{name}`", grant.name))
            })
        })
    }

    /// The lines that it needs above its first table once it also grants these entries of `allow` lists, and requests if
    /// `http` is set; empty if it needs none. They can be pasted into a manifest without tables, and are a comment
    /// otherwise.
    pub(crate) fn egress_lines(&self, entries: &[&str], http: bool) -> String {
        if self.egress == Egress::Licensed {
            return String::new();
        }
        let named = |entry: &&&str| is_licensed(entry);
        let new = entries.iter().find(named);
        let source = new.map(|entry| format!("`{entry}` is granted"));
        let source = source.or_else(|| self.licensed_source().map(|(source, _)| source));
        let carries = entries
            .iter()
            .find(|entry| by_name(entry).map_or(names_unknown_tool(entry), Operation::sends));
        let way = match http {
            true => Some("requests to other hosts".to_owned()),
            false => carries.map(|entry| format!("`{entry}`")),
        };
        let (Some(source), Some(way)) = (source, way.or_else(|| self.way_out())) else {
            return String::new();
        };
        let why = format!(
            "# {source}, whose answers may hold licensed data, and {way} can carry it out. Leave out one of them, or keep this \
             line above the first table of the manifest if your licences allow it:\n"
        );
        let is_bare = self.grants.is_empty()
            && self.http.is_empty()
            && self.folders.is_empty()
            && self.config.is_empty()
            && self.limits == Limits::default();
        match is_bare {
            true => format!("{why}{LINE}\n"),
            false => format!("{why}# {LINE}\n"),
        }
    }

    /// The lines that it needs above its first table once it grants requests to other hosts; empty if it needs none.
    #[must_use]
    pub fn egress_lines_for_requests(&self) -> String {
        self.egress_lines(&[], true)
    }
}

/// What of a grant may hold licensed data: the name of an operation, a service or a tool.
fn licensed_in(grant: &Grant) -> Option<(String, Option<&'static str>)> {
    let objects = !grant.keys.is_empty() && !grant.organizations.is_empty();
    if objects && grant.allows(DOWNLOAD, Access::Read) {
        return Some((DOWNLOAD.to_owned(), None));
    }
    if let Some(tool) = unknown_tool(grant) {
        return Some((format!("{RAW}/{tool}"), None));
    }
    let licensed = |operation: &Operation| match operation.licensed {
        Licensed::No => false,
        Licensed::Always => true,
        Licensed::Notebooks => may_name_notebook(grant.files.as_deref()),
        Licensed::Charts => may_name_own_chart(grant.charts.as_deref()),
    };
    let operation = covered(grant, licensed).next()?;
    let narrower = match operation.licensed {
        Licensed::Notebooks => {
            Some("leave notebooks out of that grant by files = [\"*.py\", \"*.cs\"]")
        }
        Licensed::Charts => Some(
            "leave all but the standard charts out of that grant by charts = [\"Strategy Equity\", \"Drawdown\", \"Benchmark\"]",
        ),
        Licensed::No | Licensed::Always => None,
    };
    Some((operation.name.to_owned(), narrower))
}

/// A tool that a grant names and that the catalog does not know: nothing is known of its answers, nor of where it sends what
/// it is given.
fn unknown_tool(grant: &Grant) -> Option<&str> {
    let mut tools = grant.allow.iter().filter_map(Pattern::tool);
    tools.find(|tool| by_tool(tool).is_none())
}

/// Whether an entry of an `allow` list names such a tool.
fn names_unknown_tool(entry: &str) -> bool {
    let tool = entry.strip_prefix("raw/").filter(|tool| *tool != "*");
    tool.is_some_and(|tool| by_tool(tool).is_none())
}

/// The operations of a kind that a grant covers on something.
fn covered(
    grant: &Grant,
    is: impl Fn(&Operation) -> bool,
) -> impl Iterator<Item = &'static Operation> {
    let reaches = move |operation: &Operation| {
        operation.selectors.iter().all(|selector| match selector {
            Selector::Project(_) => !grant.projects.is_empty(),
            Selector::Organization(_) => !grant.organizations.is_empty(),
            Selector::ObjectKey(_) | Selector::DownloadKey(_) | Selector::DownloadJob(_) => {
                !grant.keys.is_empty()
            }
            Selector::Recipient(_) => !grant.recipients.is_empty(),
            _ => true,
        })
    };
    let operations = OPERATIONS.iter().filter(move |operation| is(operation));
    operations.filter(move |operation| {
        let reads = operation.audience.is_none() || !grant.recipients.is_empty();
        let is_for_all = operation.any_of.is_none_or(|what| grant.is_for_all(what));
        grant.allows(operation.name, operation.access) && reads && is_for_all && reaches(operation)
    })
}

/// Whether an entry of an `allow` list that is a name in full may cover licensed data, however it is narrowed.
fn is_licensed(entry: &str) -> bool {
    match by_name(entry) {
        Some(operation) => operation.licensed != Licensed::No,
        None => entry == DOWNLOAD || names_unknown_tool(entry),
    }
}

/// Whether a file that these patterns cover may be a notebook; without patterns all files are covered.
fn may_name_notebook(files: Option<&[Glob]>) -> bool {
    let Some(files) = files else {
        return true;
    };
    files.iter().any(|glob| {
        // What comes after the last star is how each name ends.
        let pattern = glob.as_str().to_ascii_lowercase();
        let ending = pattern.rsplit('*').next().unwrap_or_default();
        ending.ends_with(NOTEBOOK) || NOTEBOOK.ends_with(ending)
    })
}

/// Whether these patterns cover a chart that the algorithm makes; without patterns all charts are covered.
fn may_name_own_chart(charts: Option<&[Glob]>) -> bool {
    let standard = |glob: &Glob| glob.names_in_full() && STANDARD_CHARTS.contains(&glob.as_str());
    charts.is_none_or(|charts| !charts.iter().all(standard))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"a\"\n";
    const LOGS: &str =
        "[[grant]]\nname = \"logs\"\nallow = [\"live/read-live-logs\"]\nprojects = [\"Lab/*\"]\n";
    const HOOKS: &str = "[[http]]\nname = \"hooks\"\nallow = \"https://hooks.example.com/\"\n";
    const FOLDER: &str = "[[folder]]\nname = \"out\"\npath = \"/srv/out\"\nmode = \"read-write\"\n";
    const ISSUE: &str = "[[grant]]\nname = \"issues\"\nallow = [\"data-issues/create-data-issue\"]\nrecipients = [\"public\"]\n";
    const MAIL: &str = "[[grant]]\nname = \"mail\"\nallow = [\"notifications/send-email-notification\"]\nrecipients = [\"ops@example.com\"]\n";

    fn parse(text: &str) -> Result<Manifest, String> {
        Manifest::parse(text, Path::new("lab.toml")).map_err(|error| error.to_string())
    }

    fn grant(allow: &str, more: &str) -> String {
        format!("[[grant]]\nname = \"g\"\nallow = [{allow}]\n{more}\n")
    }

    #[test]
    fn what_may_hold_licensed_data_and_what_may_carry_it_out_are_granted_together_only_by_name() {
        for way in [HOOKS, MAIL, ISSUE, FOLDER] {
            let refused = parse(&format!("{HEAD}{LOGS}{way}")).unwrap_err();
            for part in [
                "lab.toml:1: egress: ",
                "grant `logs`",
                "live/read-live-logs",
                LINE,
            ] {
                assert!(refused.contains(part), "{part}: {refused}");
            }
            // Its twins: the line that the message names, and either alone.
            let licensed = parse(&format!("{HEAD}{LINE}\n{LOGS}{way}")).unwrap();
            assert_eq!(licensed.egress, Egress::Licensed);
            parse(&format!("{HEAD}{way}")).unwrap();
        }
        assert_eq!(
            parse(&format!("{HEAD}{LOGS}")).unwrap().egress,
            Egress::None
        );
        // A folder for reading takes nothing out.
        let reading = FOLDER.replace("read-write", "read");
        parse(&format!("{HEAD}{LOGS}{reading}")).unwrap();
        let other = parse(&format!("{HEAD}egress = \"all\"\n")).unwrap_err();
        assert!(
            other.contains("egress: `all` is not \"licensed\""),
            "{other}"
        );
    }

    #[test]
    fn an_unknown_tool_may_answer_licensed_data_and_carry_it_out() {
        let tool = grant("\"raw/tool_of_tomorrow\"", "");
        for grants in [
            tool.clone(),
            format!("{LOGS}{tool}"),
            format!("{tool}{HOOKS}"),
        ] {
            let refused = parse(&format!("{HEAD}{grants}")).unwrap_err();
            for part in ["lab.toml:1: egress: ", "raw/tool_of_tomorrow", LINE] {
                assert!(refused.contains(part), "{part}: {refused}");
            }
            parse(&format!("{HEAD}{LINE}\n{grants}")).unwrap();
        }
        // Its twins: a tool of the catalog is its operation, and a star names no tool.
        for known in [
            "\"raw/read_live_logs\"",
            "\"raw/send_email_notification\"",
            "\"raw/*\"",
        ] {
            parse(&format!(
                "{HEAD}{LOGS}{}",
                grant(known, "recipients = [\"*\"]").replace("\"g\"", "\"h\"")
            ))
            .unwrap();
        }
        // The lines that a denial of such a call proposes load.
        let bare = parse(HEAD).unwrap();
        let lines = bare.egress_lines(&["raw/tool_of_tomorrow"], false);
        parse(&format!("{HEAD}{lines}{tool}")).unwrap_or_else(|error| panic!("{error}\n{lines}"));
        assert_eq!(bare.egress_lines(&["raw/*"], false), "");
    }

    #[test]
    fn what_lets_licensed_data_out_and_did_not_before_is_named() {
        let manifest = |text: &str| parse(&format!("{HEAD}{text}")).unwrap();
        let (out, said) = (
            manifest(&format!("{LINE}\n{LOGS}{HOOKS}")),
            manifest(&format!("{LINE}\n{LOGS}")),
        );
        let (logs, hooks) = (manifest(LOGS), manifest(HOOKS));
        for former in [None, Some(&logs), Some(&hooks), Some(&said)] {
            let line = out.lets_out_beyond(former).unwrap();
            assert!(
                line.contains("live/read-live-logs") && line.contains("[[http]] `hooks`"),
                "{line}"
            );
        }
        assert!(said.lets_out_beyond(Some(&logs)).is_some());
        for (now, former) in [(&out, &out), (&said, &out), (&said, &said), (&logs, &out)] {
            assert_eq!(now.lets_out_beyond(Some(former)), None);
        }
        // Without an approval, what it reads stays and the ways out are closed.
        for way in [HOOKS, MAIL, ISSUE, FOLDER] {
            let without = manifest(&format!("{LINE}\n{LOGS}{way}")).without_guarded();
            assert_eq!((without.egress, without.leak()), (Egress::None, None));
            assert!(without.licensed_source().is_some() && without.way_out().is_none());
        }
    }

    #[test]
    fn each_label_counts_and_statistics_and_orders_do_not() {
        let everywhere = "projects = [\"*\"]\norganizations = [\"*\"]\nkeys = [\"*\"]";
        for (allow, refused) in [
            ("\"live/read-live-logs\"", true),
            ("\"live/read-live-chart\"", true),
            ("\"backtests/*\"", true),
            ("\"files/read-file\"", true),
            ("\"object-store/download\"", true),
            ("\"object-store/read-object-store-file-job-id\"", true),
            ("\"research/jupyter-read-cell\"", true),
            ("\"research/jupyter-execute-notebook\"", true),
            ("\"raw/tool_of_tomorrow\"", true),
            ("\"agent-deployments/*\"", true),
            (
                "\"backtests/read-backtest\", \"backtests/read-backtest-orders\"",
                false,
            ),
            (
                "\"live/read-live-portfolio\", \"live/stop-live-algorithm\"",
                false,
            ),
            ("\"optimizations/*\", \"projects/*\", \"compile/*\"", false),
            ("\"object-store/list-object-store-files\"", false),
            ("\"raw/*\"", false),
        ] {
            let text = format!("{HEAD}{}{HOOKS}", grant(allow, everywhere));
            let parsed = parse(&text);
            assert_eq!(parsed.is_err(), refused, "{allow}: {parsed:?}");
        }
    }

    #[test]
    fn what_an_agent_of_quantconnect_s_is_told_leaves_the_account() {
        let everywhere = "organizations = [\"*\"]";
        for steers in [
            "agents/create-agent",
            "agents/update-agent",
            "agent-tasks/create-agent-task",
            "agent-deployments/create-agent-deployment",
            "agent-deployments/prompt-agent-deployment",
        ] {
            let named = grant(&format!("\"{steers}\""), everywhere);
            let refused = parse(&format!("{HEAD}{LOGS}{named}")).unwrap_err();
            assert!(
                refused.contains(steers) && refused.contains(LINE),
                "{refused}"
            );
            let licensed = parse(&format!("{HEAD}{LINE}\n{LOGS}{named}")).unwrap();
            let without = licensed.without_guarded();
            assert!(
                without.licensed_source().is_some() && without.way_out().is_none(),
                "{steers}"
            );
            // Its twin is for no organisation.
            let nowhere = grant(&format!("\"{steers}\""), "");
            parse(&format!("{HEAD}{LOGS}{nowhere}")).unwrap();
        }
        let read = grant("\"agents/*\", \"agent-tasks/*\"", everywhere);
        parse(&format!("{HEAD}{LOGS}{read}")).unwrap();
    }

    #[test]
    fn a_grant_on_nothing_takes_nothing_out() {
        let logs = grant("\"live/read-live-logs\"", "");
        parse(&format!("{HEAD}{logs}{HOOKS}")).unwrap();
        let unaddressed = MAIL.replace("recipients = [\"ops@example.com\"]\n", "");
        parse(&format!("{HEAD}{LOGS}{unaddressed}")).unwrap();
        let unread = ISSUE.replace("recipients = [\"public\"]\n", "");
        parse(&format!("{HEAD}{LOGS}{unread}")).unwrap();
    }

    #[test]
    fn files_that_are_no_notebooks_are_free_if_the_grant_has_no_others() {
        for (files, refused) in [
            ("", true),
            ("files = [\"*\"]", true),
            ("files = [\"*.py\", \"research*\"]", true),
            ("files = [\"research.ipynb\"]", true),
            ("files = [\"*.IPYNB\"]", true),
            ("files = [\"*b\"]", true),
            ("files = [\"*.py\", \"*.cs\"]", false),
            ("files = [\"main.py\"]", false),
            ("files = []", false),
        ] {
            let more = format!("projects = [\"Lab/*\"]\n{files}");
            let text = format!("{HEAD}{}{HOOKS}", grant("\"files/*\"", &more));
            let parsed = parse(&text);
            assert_eq!(parsed.is_err(), refused, "{files}: {parsed:?}");
            if let Err(error) = parsed {
                assert!(error.contains("files = [\"*.py\", \"*.cs\"]"), "{error}");
            }
        }
    }

    #[test]
    fn standard_charts_are_free_if_the_grant_has_no_others() {
        for (charts, refused) in [
            ("", true),
            ("charts = [\"*\"]", true),
            ("charts = [\"Strategy Equity*\"]", true),
            ("charts = [\"Strategy Equity\", \"Prices\"]", true),
            (
                "charts = [\"Strategy Equity\", \"Drawdown\", \"Benchmark\"]",
                false,
            ),
            ("charts = []", false),
        ] {
            let more = format!("projects = [\"Lab/*\"]\n{charts}");
            for allow in [
                "\"live/read-live-chart\"",
                "\"backtests/read-backtest-chart\"",
            ] {
                let text = format!("{HEAD}{}{HOOKS}", grant(allow, &more));
                let parsed = parse(&text);
                assert_eq!(parsed.is_err(), refused, "{charts}: {parsed:?}");
                if let Err(error) = parsed {
                    assert!(error.contains("charts = [\"Strategy Equity\","), "{error}");
                }
            }
        }
    }

    #[test]
    fn the_lines_that_are_missing_are_said_where_they_can_be_written() {
        let bare = parse(HEAD).unwrap();
        let lines = bare.egress_lines(&["live/read-live-logs"], true);
        let pasted = format!("{HEAD}{lines}{LOGS}{HOOKS}");
        parse(&pasted).unwrap_or_else(|error| panic!("{error}\n{pasted}"));
        // With tables before it, the line would be in one of them.
        let logs = parse(&format!("{HEAD}{LOGS}")).unwrap();
        let lines = logs.egress_lines_for_requests();
        assert!(lines.lines().all(|line| line.starts_with('#')), "{lines}");
        assert!(
            lines.contains(LINE) && lines.contains("grant `logs`"),
            "{lines}"
        );
        let licensed = parse(&format!("{HEAD}{LINE}\n{LOGS}")).unwrap();
        assert_eq!(licensed.egress_lines_for_requests(), "");
        assert_eq!(bare.egress_lines_for_requests(), "");
        assert_eq!(bare.egress_lines(&["backtests/read-backtest"], true), "");
    }

    proptest! {
        /// If no pattern may name a notebook, none matches one.
        #[test]
        fn no_notebook_is_overlooked(pattern in "[a.*ipynbIPYNB]{1,10}", stem in "[a.ipynb]{0,6}") {
            let globs: Vec<Glob> = Glob::parse(&pattern).into_iter().collect();
            let name = format!("{stem}.ipynb");
            if !may_name_notebook(Some(&globs)) {
                prop_assert!(!globs.iter().any(|glob| glob.matches(&name)), "{pattern} matches {name}");
            }
        }
    }
}
