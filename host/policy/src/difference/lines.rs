//! The changes of a manifest in words, one line each.
//!
//! Values that may be secrets (headers, `[config]`) are named but never shown.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

use qchost_text::excerpt;

use super::bounds::{
    at_most, glob_within, is_beside, is_same, prefix_within, project_within, scope_within,
};
use super::change::{Change, ChangeKind};
use crate::glob::Glob;
use crate::grantable::{Pattern, grantable};
use crate::manifest::{
    Alias, Approval, Egress, FolderGrant, Grant, GrantLimits, HttpGrant, Limits, Manifest,
};
use crate::usd::Usd;

/// The line of a manifest that lets licensed data out.
const EGRESS: &str = "egress: licensed data may be sent out";

/// Maximum entries of a list shown in a line.
const MAX_ENTRIES: usize = 12;
/// Maximum characters of an entry shown in a line.
const MAX_ENTRY: usize = 120;
/// Maximum characters of a line.
const MAX_LINE: usize = 1000;
/// Maximum removed grants for which renamed grants are looked for.
const MAX_RENAMED: usize = 64;
/// Number of comparisons of list entries after which a list is only reported as changed.
const MAX_COMPARISONS: usize = 200_000;

/// The changes between two manifests, in the order of the file.
pub(super) fn changes(former: Option<&Manifest>, now: Option<&Manifest>) -> Vec<Change> {
    let mut lines = Lines {
        changes: Vec::new(),
        left: MAX_COMPARISONS,
    };
    match (former, now) {
        (None, None) => {}
        (None, Some(now)) => lines.appears(now),
        (Some(former), None) => lines.add_removed(former),
        (Some(former), Some(now)) if former.plugin != now.plugin => {
            lines.add_removed(former);
            lines.appears(now);
        }
        (Some(former), Some(now)) => lines.changes(former, now),
    }
    lines.changes
}

/// The entries of a list in one line.
pub(super) fn list(entries: &[impl Display]) -> String {
    let mut shown: Vec<_> = entries.iter().take(MAX_ENTRIES).map(entry).collect();
    if let Some(more) = entries
        .len()
        .checked_sub(MAX_ENTRIES)
        .filter(|more| *more > 0)
    {
        shown.push(format!("{more} more"));
    }
    shown.join(", ")
}

/// An untrusted text, escaped so that it can neither end the line nor act on a terminal.
pub(super) fn entry(text: &impl Display) -> String {
    let text = text.to_string();
    let mut shown: String = text
        .chars()
        .take(MAX_ENTRY)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(MAX_ENTRY).is_some() {
        shown.push('…');
    }
    shown
}

struct Lines {
    changes: Vec<Change>,
    /// Remaining comparisons.
    left: usize,
}

impl Lines {
    fn push(&mut self, kind: ChangeKind, line: String) {
        let line = excerpt(&line, MAX_LINE);
        self.changes.push(Change { kind, line });
    }

    fn appears(&mut self, manifest: &Manifest) {
        self.push(ChangeKind::Added, of_plugin(manifest));
        if manifest.egress == Egress::Licensed {
            self.push(ChangeKind::Added, EGRESS.to_owned());
        }
        for grant in &manifest.grants {
            self.push(ChangeKind::Added, whole(grant));
        }
        for grant in &manifest.http {
            self.push(ChangeKind::Added, http_line(grant));
        }
        for grant in &manifest.folders {
            self.push(ChangeKind::Added, folder_line(grant));
        }
    }

    fn add_removed(&mut self, manifest: &Manifest) {
        self.push(ChangeKind::TakenAway, of_plugin(manifest));
    }

    fn changes(&mut self, former: &Manifest, now: &Manifest) {
        // Lists every field, so that a new one has to be considered here.
        let Manifest {
            plugin: _,
            component,
            digest,
            account,
            egress,
            grants,
            limits,
            config,
            http,
            folders,
            aliases,
            path: _,
            origin: _,
        } = now;
        if *account != former.account {
            // Everything is now allowed on other projects and with other money.
            self.push(
                ChangeKind::Widened,
                format!("account: from `{}` to `{account}`", former.account),
            );
        }
        if *component != former.component {
            self.push(
                ChangeKind::Changed,
                format!("component: now {}", entry(&component.display())),
            );
        }
        match (&former.digest, digest) {
            (one, other) if one == other => {}
            (Some(_), None) => self.push(
                ChangeKind::Widened,
                "digest: not pinned any more".to_owned(),
            ),
            (_, Some(digest)) => self.push(ChangeKind::Changed, format!("digest: now {digest}")),
            (None, None) => {}
        }
        match (former.egress, *egress) {
            (Egress::None, Egress::Licensed) => self.push(ChangeKind::Widened, EGRESS.to_owned()),
            (Egress::Licensed, Egress::None) => self.push(
                ChangeKind::TakenAway,
                "egress: licensed data may not be sent out any more".to_owned(),
            ),
            (Egress::None, Egress::None) | (Egress::Licensed, Egress::Licensed) => {}
        }
        self.grants(&former.grants, grants);
        self.limits(former.limits, *limits);
        for key in former.config.keys().chain(
            config
                .keys()
                .filter(|key| !former.config.contains_key(*key)),
        ) {
            match (former.config.get(key), config.get(key)) {
                (one, other) if one == other => {}
                (_, Some(_)) => self.push(
                    ChangeKind::Changed,
                    format!("config: `{}` has another value", entry(key)),
                ),
                (_, None) => self.push(
                    ChangeKind::Changed,
                    format!("config: `{}` is gone", entry(key)),
                ),
            }
        }
        self.http(&former.http, http);
        self.folders(&former.folders, folders);
        self.aliases(&former.aliases, aliases);
    }

    fn grants(&mut self, former: &[Grant], now: &[Grant]) {
        let mut gone: BTreeMap<&str, &Grant> = former
            .iter()
            .map(|grant| (grant.name.as_str(), grant))
            .collect();
        let mut new = Vec::new();
        for grant in now {
            match gone.remove(grant.name.as_str()) {
                Some(former) => self.grant(former, grant),
                None => new.push(grant),
            }
        }
        for grant in new {
            let is_few = gone.len() <= MAX_RENAMED;
            let same = gone.values().find(|other| is_few && is_same(other, grant));
            match same.map(|other| other.name.as_str()) {
                Some(name) => {
                    gone.remove(name);
                    self.push(
                        ChangeKind::Changed,
                        format!("grant `{}`: was called `{name}`", grant.name),
                    );
                }
                None => self.push(ChangeKind::Added, whole(grant)),
            }
        }
        for grant in former
            .iter()
            .filter(|grant| gone.contains_key(grant.name.as_str()))
        {
            self.push(ChangeKind::TakenAway, whole(grant));
        }
    }

    fn grant(&mut self, former: &Grant, now: &Grant) {
        let mut about = GrantLines {
            lines: self,
            what: format!("grant `{}`", now.name),
        };
        about.list("allow", &former.allow, &now.allow, pattern_within);
        about.list("projects", &former.projects, &now.projects, project_within);
        for ((key, former), (_, now)) in former.scopes().into_iter().zip(now.scopes()) {
            about.list(key, former, now, scope_within(key));
        }
        about.condition("files", former.files.as_deref(), now.files.as_deref());
        about.condition("charts", former.charts.as_deref(), now.charts.as_deref());
        about.condition("nodes", former.nodes.as_deref(), now.nodes.as_deref());
        about.bound("max-cost", former.max_cost, now.max_cost);
        about.bound("max-parameters", former.max_parameters, now.max_parameters);
        about.grant_limits(former.limits, now.limits);
        if former.approval != now.approval {
            let (from, to) = (approval(former.approval), approval(now.approval));
            about.push(
                ChangeKind::wider_if(now.approval < former.approval),
                format!("approval from {from} to {to}"),
            );
        }
    }

    fn limits(&mut self, former: Limits, now: Limits) {
        let mut about = GrantLines {
            lines: self,
            what: "limits".to_owned(),
        };
        let Limits {
            memory,
            cpu,
            wall,
            concurrency,
            output,
        } = now;
        about.bound_as("memory", Some(former.memory), Some(memory), size);
        about.bound_as("cpu", Some(former.cpu), Some(cpu), time);
        about.bound_as("wall", Some(former.wall), Some(wall), time);
        about.bound("concurrency", Some(former.concurrency), Some(concurrency));
        about.bound_as("output", Some(former.output), Some(output), size);
    }

    fn http(&mut self, former: &[HttpGrant], now: &[HttpGrant]) {
        for grant in now {
            match former.iter().find(|other| other.name == grant.name) {
                Some(former) => {
                    let mut others = now.iter().filter(|other| other.name != grant.name);
                    let limited =
                        others.any(|other| is_beside(other, former) && limits(former, other));
                    self.one_http(former, grant, limited);
                }
                None => self.push(ChangeKind::Added, http_line(grant)),
            }
        }
        for grant in former
            .iter()
            .filter(|grant| !now.iter().any(|other| other.name == grant.name))
        {
            // The limits of all matching grants apply, so a removed one may have limited another.
            let limited = now
                .iter()
                .any(|other| is_beside(other, grant) && limits(grant, other));
            let line = format!("no longer: {}", http_line(grant));
            self.push(ChangeKind::wider_if(limited), line);
        }
    }

    fn folders(&mut self, former: &[FolderGrant], now: &[FolderGrant]) {
        for grant in now {
            match former.iter().find(|other| other.name == grant.name) {
                Some(former) => self.folder(former, grant),
                None => self.push(ChangeKind::Added, folder_line(grant)),
            }
        }
        for grant in former
            .iter()
            .filter(|grant| !now.iter().any(|other| other.name == grant.name))
        {
            let line = format!("no longer: {}", folder_line(grant));
            self.push(ChangeKind::TakenAway, line);
        }
    }

    /// An alias allows nothing that its plugin's action does not.
    fn aliases(&mut self, former: &[Alias], now: &[Alias]) {
        for alias in now.iter().filter(|alias| !former.contains(alias)) {
            let Alias { name, action } = alias;
            let line = format!("alias `{name}`: is another name of `{action}`");
            self.push(ChangeKind::Changed, line);
        }
        for Alias { name, .. } in former {
            if !now.iter().any(|alias| alias.name == *name) {
                self.push(ChangeKind::Changed, format!("alias `{name}`: is gone"));
            }
        }
    }

    fn folder(&mut self, former: &FolderGrant, now: &FolderGrant) {
        let mut about = GrantLines {
            lines: self,
            what: format!("folder `{}`", now.name),
        };
        let FolderGrant {
            name: _,
            path,
            mode,
            max_bytes,
            max_files,
        } = now;
        if *path != former.path {
            let (from, to) = (former.path.display(), path.display());
            about.push(
                ChangeKind::Widened,
                format!("path from {} to {}", entry(&from), entry(&to)),
            );
        }
        about.bound("mode", Some(former.mode), Some(*mode));
        about.bound_as("max-bytes", Some(former.max_bytes), Some(*max_bytes), size);
        about.bound("max-files", Some(former.max_files), Some(*max_files));
    }

    /// `limited`: another grant remains that covers some of what the former one covered.
    fn one_http(&mut self, former: &HttpGrant, now: &HttpGrant, limited: bool) {
        let mut about = GrantLines {
            lines: self,
            what: format!("http `{}`", now.name),
        };
        let HttpGrant {
            name: _,
            url,
            methods,
            headers,
            addresses,
            limits,
            request,
            response,
            timeout,
        } = now;
        if *url != former.url {
            about.push(
                ChangeKind::wider_if(!prefix_within(url, &former.url)),
                format!("allow from {} to {}", entry(&former.url), entry(url)),
            );
        }
        about.list("methods", &former.methods, methods, |one, other| {
            one == other
        });
        let smaller = *url != former.url || *methods != former.methods;
        if smaller && limited {
            about.push(
                ChangeKind::Widened,
                "does not limit any more what another one allows".to_owned(),
            );
        }
        about.list(
            "addresses",
            &former.addresses,
            addresses,
            |one: &IpAddr, other| one == other,
        );
        for name in former.headers.keys().chain(
            headers
                .keys()
                .filter(|name| !former.headers.contains_key(*name)),
        ) {
            match (former.headers.get(name), headers.get(name)) {
                (one, other) if one == other => {}
                (None, Some(_)) => about.push(
                    ChangeKind::Widened,
                    format!("headers gain `{}`", entry(name)),
                ),
                (_, Some(_)) => about.push(
                    ChangeKind::Widened,
                    format!("header `{}` has another value", entry(name)),
                ),
                (_, None) => about.push(
                    ChangeKind::TakenAway,
                    format!("headers lose `{}`", entry(name)),
                ),
            }
        }
        about.grant_limits(former.limits, *limits);
        about.bound_as("request", Some(former.request), Some(*request), size);
        about.bound_as("response", Some(former.response), Some(*response), size);
        about.bound_as("timeout", Some(former.timeout), Some(*timeout), time);
    }
}

/// The lines about one grant or table.
struct GrantLines<'a> {
    lines: &'a mut Lines,
    what: String,
}

impl GrantLines<'_> {
    fn push(&mut self, kind: ChangeKind, line: String) {
        let line = format!("{}: {line}", self.what);
        self.lines.push(kind, line);
    }

    /// The gains and losses of a list, ignoring entries that another one covers as well.
    fn list<T: Display + PartialEq>(
        &mut self,
        key: &str,
        former: &[T],
        now: &[T],
        within: impl Fn(&T, &T) -> bool,
    ) {
        if former == now {
            return;
        }
        let count = former.len().saturating_mul(now.len());
        self.lines.left = self.lines.left.saturating_sub(count);
        if self.lines.left == 0 {
            let line = format!(
                "{key} changed: {} entries, were {}; too many to compare",
                now.len(),
                former.len()
            );
            return self.push(ChangeKind::Widened, line);
        }
        let beyond = |these: &[T], those: &[T]| -> (Vec<String>, Vec<String>) {
            let new: Vec<&T> = these.iter().filter(|one| !those.contains(one)).collect();
            let (inside, outside): (Vec<&T>, Vec<&T>) = new
                .into_iter()
                .partition(|one| those.iter().any(|other| within(one, other)));
            (
                inside.iter().map(ToString::to_string).collect(),
                outside.iter().map(ToString::to_string).collect(),
            )
        };
        let (same, gained) = beyond(now, former);
        let (covered, lost) = beyond(former, now);
        if !gained.is_empty() {
            self.push(ChangeKind::Widened, format!("{key} gain {}", list(&gained)));
        }
        if !lost.is_empty() {
            self.push(ChangeKind::TakenAway, format!("{key} lose {}", list(&lost)));
        }
        if !same.is_empty() {
            self.push(
                ChangeKind::Changed,
                format!("{key} name {}, covered before", list(&same)),
            );
        }
        if !covered.is_empty() && (gained.is_empty() || !lost.is_empty()) {
            self.push(
                ChangeKind::Changed,
                format!(
                    "{key} do not name {} any more, covered still",
                    list(&covered)
                ),
            );
        }
    }

    fn condition(&mut self, key: &str, former: Option<&[Glob]>, now: Option<&[Glob]>) {
        match (former, now) {
            (None, None) => {}
            (Some(former), Some(now)) => self.list(key, former, now, glob_within),
            (Some(former), None) => self.push(
                ChangeKind::Widened,
                format!("{key} any; were {}", list(former)),
            ),
            (None, Some(now)) => {
                self.push(ChangeKind::TakenAway, format!("{key} only {}", list(now)))
            }
        }
    }

    fn bound<T: Ord + Copy + Display>(&mut self, key: &str, former: Option<T>, now: Option<T>) {
        self.bound_as(key, former, now, |bound| bound.to_string());
    }

    fn bound_as<T: Ord + Copy>(
        &mut self,
        key: &str,
        former: Option<T>,
        now: Option<T>,
        word: impl Fn(T) -> String,
    ) {
        if former == now {
            return;
        }
        let [from, to] = [former, now].map(|bound| bound.map_or("none".to_owned(), &word));
        self.push(
            ChangeKind::wider_if(!at_most(now, former)),
            format!("{key} from {from} to {to}"),
        );
    }

    fn grant_limits(&mut self, former: GrantLimits, now: GrantLimits) {
        for ((key, former), (_, now)) in former.counts().into_iter().zip(now.counts()) {
            self.bound(key, former, now);
        }
        self.bound("cost-per-day", former.cost_per_day, now.cost_per_day);
    }
}

fn of_plugin(manifest: &Manifest) -> String {
    let Manifest {
        plugin, account, ..
    } = manifest;
    format!("plugin `{plugin}` on account `{account}`")
}

/// A grant in one line.
fn whole(grant: &Grant) -> String {
    let mut parts = vec![format!("allow {}", list(&grant.allow))];
    let mut part = |key: &str, shown: Option<String>| {
        parts.extend(shown.map(|shown| format!("{key} {shown}")))
    };
    if !grant.projects.is_empty() {
        part("projects", Some(list(&grant.projects)));
    }
    for (key, globs) in grant.scopes() {
        part(key, (!globs.is_empty()).then(|| list(globs)));
    }
    part("files only", grant.files.as_deref().map(list));
    part("charts only", grant.charts.as_deref().map(list));
    part("nodes only", grant.nodes.as_deref().map(list));
    part("max-cost", grant.max_cost.as_ref().map(Usd::to_string));
    let counts = [("max-parameters", grant.max_parameters)];
    for (key, count) in counts.into_iter().chain(grant.limits.counts()) {
        part(key, count.map(|count| count.to_string()));
    }
    let cost = grant.limits.cost_per_day;
    part("cost-per-day", cost.as_ref().map(Usd::to_string));
    part("approval", Some(approval(grant.approval).to_owned()));
    format!("grant `{}`: {}", grant.name, parts.join("; "))
}

fn http_line(grant: &HttpGrant) -> String {
    let part = |key: &str, shown: &[String]| match shown {
        [] => String::new(),
        shown => format!("; {key} {}", list(shown)),
    };
    let headers = part(
        "headers",
        &grant.headers.keys().cloned().collect::<Vec<_>>(),
    );
    let addresses = grant.addresses.iter().map(IpAddr::to_string);
    let addresses = part("addresses", &addresses.collect::<Vec<_>>());
    format!(
        "http `{}`: {} {}{headers}{addresses}",
        grant.name,
        list(&grant.methods),
        entry(&grant.url)
    )
}

/// A folder in one line.
pub(super) fn folder_line(grant: &FolderGrant) -> String {
    format!(
        "folder `{}`: {} of {}; max-bytes {}; max-files {}",
        grant.name,
        grant.mode,
        entry(&grant.path.display()),
        size(grant.max_bytes),
        grant.max_files
    )
}

fn approval(approval: Approval) -> &'static str {
    match approval {
        Approval::None => "none",
        Approval::Operator => "operator",
    }
}

/// Whether the one entry covers no operation that the other does not.
fn pattern_within(one: &Pattern, other: &Pattern) -> bool {
    if one.as_str().starts_with("raw/") || other.as_str().starts_with("raw/") {
        return one == other;
    }
    let mut named = grantable().filter(|(name, access)| one.covers(name, *access));
    named.all(|(name, access)| other.covers(name, access))
}

/// Whether the one limits a request that both cover in a way that the other does not.
fn limits(one: &HttpGrant, other: &HttpGrant) -> bool {
    one.limits != GrantLimits::default()
        || one.request < other.request
        || one.response < other.response
        || one.timeout < other.timeout
}

fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
        bytes if bytes % (1 << 10) == 0 => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    }
}

fn time(time: Duration) -> String {
    format!("{time:?}")
}
