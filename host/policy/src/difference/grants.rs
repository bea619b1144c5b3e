//! Which operations some grants allow on more resources, or limit less, than others do.
//!
//! Invariant: each step errs towards wider. An operation that is missing in the result is allowed on no more resources
//! than before, needs at least the same approvals, and has limits that are no larger and no less shared.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use crate::engine::{Kind, by_name as action_by_name};
use crate::glob::Glob;
use crate::grantable::grantable;
use crate::manifest::{Approval, Grant, GrantLimits, HttpGrant, Manifest, ProjectScope};

use super::bounds::{at_most, glob_within, is_beside, is_same, project_within, scope_within};
use super::change::{Remembered, Retired, Successor};

/// Number of comparisons of globs and operations after which everything left counts as wider: tens of milliseconds.
const MAX_COMPARISONS: u64 = 200_000;

/// The names of all operations in grants.
pub(super) fn operations(grants: &[Grant]) -> BTreeSet<&str> {
    grants.iter().flat_map(covered).collect()
}

/// The operations that `now` allows on more than `former`, or limits less.
pub(super) fn wider(former: &[Grant], now: &[Grant]) -> BTreeSet<String> {
    let budget = ComparisonBudget(Cell::new(MAX_COMPARISONS));
    let (former, now) = (sides(former), sides(now));
    let mut wider = BTreeSet::new();
    for one in now.iter().filter(|one| !one.stands_in(&former)) {
        let mut uncovered = one.operations.clone();
        for other in former.iter() {
            if uncovered.is_empty() || budget.is_used_up() {
                break;
            }
            if budget.within(one, other) {
                uncovered.retain(|name| !other.operations.contains(name));
            }
        }
        wider.extend(uncovered.into_iter().map(str::to_owned));
    }
    for one in former.iter().filter(|one| !one.stands_in(&now)) {
        wider.extend(released(&budget, one, &now).into_iter().map(str::to_owned));
    }
    if budget.is_used_up() {
        let all = now.iter().flat_map(|one| &one.operations);
        wider.extend(all.map(|name| (*name).to_owned()));
    }
    wider
}

/// Maximum removed grants that are kept; beyond that a new grant continues every counter.
const MAX_RETIRED: usize = 256;

/// See [`super::successors`].
pub(super) fn successors(
    former: &Manifest,
    so_far: &Remembered,
    now: &Manifest,
    day: i64,
) -> (Vec<Successor>, Remembered) {
    let budget = ComparisonBudget(Cell::new(MAX_COMPARISONS));
    let (before, after) = (sides(&former.grants), sides(&now.grants));
    let (by_name_before, by_name_after) = (before.by_name(), after.by_name());
    let unchanged = |side: &Side<'_>, others: &BTreeMap<&str, &Side<'_>>| {
        let same = others.get(side.grant.name.as_str());
        same.is_some_and(|other| is_same(side.grant, other.grant))
    };
    let recent = so_far.retired.iter().filter(|one| one.day >= day);
    let mut remembered: Vec<Retired> = recent.cloned().collect();
    let remains = |name: &String| by_name_after.contains_key(name.as_str());
    let mut since: BTreeMap<String, i64> = so_far.since.clone();
    since.retain(|name, since| *since >= day && remains(name));
    let replaced = before.iter().filter(|one| !unchanged(one, &by_name_after));
    remembered.extend(replaced.map(|one| Retired {
        grant: one.grant.clone(),
        day,
        handed: Vec::new(),
    }));
    let too_many = remembered.len() > MAX_RETIRED;
    if too_many {
        remembered.drain(..remembered.len() - MAX_RETIRED);
    }
    let shapes: Vec<Grant> = remembered.iter().map(|one| one.grant.clone()).collect();
    let sources = sides(&shapes);
    let mut found = Vec::new();
    for one in after.iter() {
        let name = one.grant.name.as_str();
        let is_changed = !unchanged(one, &by_name_before);
        // A grant unchanged since before this day has counted all of it.
        let is_recent = is_changed || since.contains_key(name);
        if !is_recent {
            continue;
        }
        let own = by_name_before.get(name);
        let mut candidates = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let handed = remembered
                .get(index)
                .is_some_and(|it| it.handed.iter().any(|to| to == name));
            let same = source.grant.name == name;
            // A successor of the same name that existed all along has it already.
            if same || (handed && own.is_some()) || !budget.take(1) {
                continue;
            }
            if takes_over(
                &budget,
                one,
                source,
                by_name_after.get(source.grant.name.as_str()).copied(),
            ) {
                candidates.push(index);
            }
        }
        let names: BTreeSet<&str> = candidates
            .iter()
            .filter_map(|index| Some(remembered.get(*index)?.grant.name.as_str()))
            .collect();
        let (mut of, mut at_least) = (BTreeSet::new(), BTreeSet::new());
        for (source, retired) in candidates
            .iter()
            .filter_map(|index| Some((sources.all.get(*index)?, remembered.get(*index)?)))
        {
            // What this one has counted since it exists, a former one that covered all of it has counted as well.
            let counted = own.is_some() && !is_changed && budget.within(one, source);
            let contained = counted || retired.handed.iter().any(|to| names.contains(to.as_str()));
            let counters = if contained { &mut at_least } else { &mut of };
            counters.insert(retired.grant.name.clone());
        }
        at_least.retain(|name| !of.contains(name));
        if is_changed {
            since.insert(name.to_owned(), day);
        }
        for index in candidates {
            if let Some(retired) = remembered.get_mut(index) {
                retired.handed.push(name.to_owned());
            }
        }
        let of = (!too_many && !budget.is_used_up()).then(|| of.into_iter().collect::<Vec<_>>());
        if of.as_ref().is_none_or(|of| !of.is_empty()) || !at_least.is_empty() {
            found.push(Successor {
                name: name.to_owned(),
                adds: own.is_some(),
                of,
                at_least: at_least.into_iter().collect(),
            });
        }
    }
    // A grant that is in force again unchanged is not kept any more.
    remembered.retain(|it| {
        let again = by_name_after.get(it.grant.name.as_str());
        !again.is_some_and(|again| is_same(again.grant, &it.grant))
    });
    found.extend(http_successors(&former.http, &now.http));
    let remembered = Remembered {
        retired: remembered,
        since,
    };
    (found, remembered)
}

/// Whether a current grant allows calls that a former one has counted and whose counter does not continue. `current`:
/// the current grant under the former one's name.
fn takes_over(
    budget: &ComparisonBudget,
    one: &Side<'_>,
    source: &Side<'_>,
    current: Option<&Side<'_>>,
) -> bool {
    let common = budget.common(one, source);
    let counts_on = |current: &Side<'_>| {
        counts(one, current)
            && common.is_subset(&current.operations)
            && (budget.within(one, current) || budget.within(source, current))
    };
    !common.is_empty() && !current.is_some_and(counts_on)
}

fn http_successors(former: &[HttpGrant], now: &[HttpGrant]) -> Vec<Successor> {
    let mut found = Vec::new();
    for one in now.iter().filter(|one| !former.contains(one)) {
        let of = former.iter().filter(|source| {
            source.name != one.name && is_beside(source, one) && !now.contains(source)
        });
        let of: Vec<_> = of.map(|source| format!("http:{}", source.name)).collect();
        if !of.is_empty() {
            found.push(Successor {
                name: format!("http:{}", one.name),
                adds: former.iter().any(|other| other.name == one.name),
                of: Some(of),
                at_least: Vec::new(),
            });
        }
    }
    found
}

/// Whether the other grant's counters hold what this one's limits concern: only limited quantities are counted.
fn counts(one: &Side<'_>, other: &Side<'_>) -> bool {
    let (one, other) = (one.grant.limits, other.grant.limits);
    other.per_day.is_some() || (one.per_day.is_none() && other.cost_per_day.is_some())
}

/// A grant with the operations that it covers.
struct Side<'a> {
    grant: &'a Grant,
    operations: BTreeSet<&'a str>,
}

impl Side<'_> {
    /// Whether an equal grant is among these, under any name.
    fn stands_in(&self, others: &Sides<'_>) -> bool {
        let same = others.by_shape.get(&shape(self.grant));
        same.is_some_and(|positions| {
            let mut others = positions.iter().filter_map(|index| others.all.get(*index));
            others.any(|other| is_same(self.grant, other.grant))
        })
    }
}

/// The grants of a manifest.
struct Sides<'a> {
    all: Vec<Side<'a>>,
    by_shape: BTreeMap<String, Vec<usize>>,
}

impl<'a> Sides<'a> {
    fn iter(&self) -> std::slice::Iter<'_, Side<'a>> {
        self.all.iter()
    }

    fn by_name(&self) -> BTreeMap<&str, &Side<'a>> {
        self.iter()
            .map(|side| (side.grant.name.as_str(), side))
            .collect()
    }
}

fn sides(grants: &[Grant]) -> Sides<'_> {
    let mut by_shape = BTreeMap::<String, Vec<usize>>::new();
    let mut all = Vec::with_capacity(grants.len());
    for (index, grant) in grants.iter().enumerate() {
        by_shape.entry(shape(grant)).or_default().push(index);
        all.push(Side {
            grant,
            operations: covered(grant).collect(),
        });
    }
    Sides { all, by_shape }
}

/// Equal for grants that differ in their names only.
fn shape(grant: &Grant) -> String {
    format!("{:?} {:?} {:?}", grant.allow, grant.projects, grant.limits)
}

fn covered(grant: &Grant) -> impl Iterator<Item = &str> {
    let known = grantable().filter(|(name, access)| grant.allows(name, *access));
    let tools = grant.allow.iter().map(|pattern| pattern.as_str());
    let tools = tools.filter(|entry| entry.starts_with("raw/") && *entry != "raw/*");
    known.map(|(name, _)| name).chain(tools)
}

/// The operations that a former grant limited or required approval for, and that are no longer under that obligation.
fn released<'a>(
    budget: &ComparisonBudget,
    former: &Side<'a>,
    now: &Sides<'a>,
) -> BTreeSet<&'a str> {
    let mut released = BTreeSet::new();
    let had_approval = former.grant.approval > Approval::None;
    let limits: Vec<Limit> = LIMITS
        .into_iter()
        .filter(|limit| limit(&former.grant.limits).is_some())
        .collect();
    if !had_approval && limits.is_empty() {
        return released;
    }
    // What is allowed now and may have been allowed under this grant's obligations.
    let mut touched: Vec<(&Side<'a>, BTreeSet<&'a str>)> = Vec::new();
    for one in now.iter() {
        // An incomplete result does not matter: everything counts as wider then.
        if !budget.take(1) {
            return released;
        }
        let common = budget.common(one, former);
        if !common.is_empty() {
            touched.push((one, common));
        }
    }
    // Whether a current grant applies to all calls that both others cover.
    let holds = |current: &Side<'_>, one: &Side<'_>| {
        budget.within(one, current) || budget.within(former, current)
    };
    if had_approval {
        let stricter: Vec<_> = now
            .iter()
            .filter(|current| current.grant.approval >= former.grant.approval)
            .collect();
        for (one, common) in &touched {
            let mut left = common.clone();
            for current in &stricter {
                if holds(current, one) {
                    left.retain(|name| !current.operations.contains(name));
                }
            }
            released.extend(left);
        }
    }
    for limit in limits {
        let former_limit = limit(&former.grant.limits);
        // A single counter for all of it: two counters of the same limit would allow twice as much.
        let still_limited = touched.is_empty()
            || now.iter().any(|current| {
                let smaller = limit(&current.grant.limits)
                    .is_some_and(|now| former_limit.is_some_and(|former| now <= former));
                smaller
                    && touched.iter().all(|(one, common)| {
                        common.is_subset(&current.operations) && holds(current, one)
                    })
            });
        if !still_limited {
            released.extend(
                touched
                    .iter()
                    .flat_map(|(_, common)| common.iter().copied()),
            );
        }
    }
    released
}

/// One of a grant's limits, as a number.
type Limit = fn(&GrantLimits) -> Option<u64>;

const LIMITS: [Limit; 5] = [
    |limits| limits.concurrent.map(u64::from),
    |limits| limits.per_second.map(u64::from),
    |limits| limits.per_minute.map(u64::from),
    |limits| limits.per_day.map(u64::from),
    |limits| limits.cost_per_day.map(|cost| cost.0),
];

/// Whether an operation is decided by its project only, so that grants for other projects concern other calls.
fn acts_on_projects_only(name: &str) -> bool {
    action_by_name(name).is_some_and(|(_, action)| action.kinds == [Kind::Project])
}

/// A budget of comparisons.
struct ComparisonBudget(Cell<u64>);

impl ComparisonBudget {
    /// Whether `count` more comparisons may be made.
    fn take(&self, count: usize) -> bool {
        let left = self
            .0
            .get()
            .saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        self.0.set(left);
        left > 0
    }

    fn is_used_up(&self) -> bool {
        self.0.get() == 0
    }

    /// Whether the other grant covers everything that the one covers of an operation.
    fn within(&self, one: &Side<'_>, other: &Side<'_>) -> bool {
        let (a, b) = (one.grant, other.grant);
        if !self.take(1) {
            return false;
        }
        self.all(&a.projects, &b.projects, project_within)
            && a.scopes()
                .into_iter()
                .zip(b.scopes())
                .all(|((key, a), (_, b))| self.all(a, b, scope_within(key)))
            && self.condition(a.files.as_deref(), b.files.as_deref())
            && self.condition(a.charts.as_deref(), b.charts.as_deref())
            && self.condition(a.nodes.as_deref(), b.nodes.as_deref())
            && at_most(a.max_cost, b.max_cost)
            && at_most(a.max_parameters, b.max_parameters)
    }

    fn all<T>(&self, one: &[T], other: &[T], within: impl Fn(&T, &T) -> bool) -> bool {
        self.take(one.len().saturating_mul(other.len()))
            && one.iter().all(|a| other.iter().any(|b| within(a, b)))
    }

    fn condition(&self, one: Option<&[Glob]>, other: Option<&[Glob]>) -> bool {
        match (one, other) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(one), Some(other)) => self.all(one, other, glob_within),
        }
    }

    /// The operations that calls covered by both grants can be of.
    fn common<'a>(&self, one: &Side<'a>, other: &Side<'_>) -> BTreeSet<&'a str> {
        let disjoint = self.are_disjoint(one.grant, other.grant);
        let common = one.operations.iter().copied();
        let common = common.filter(|name| other.operations.contains(name));
        common
            .filter(|name| !(disjoint && acts_on_projects_only(name)))
            .collect()
    }

    /// Whether no project is in the scope of both.
    fn are_disjoint(&self, one: &Grant, other: &Grant) -> bool {
        self.take(one.projects.len().saturating_mul(other.projects.len()))
            && one
                .projects
                .iter()
                .all(|a| other.projects.iter().all(|b| disjoint_projects(a, b)))
    }
}

fn disjoint_projects(one: &ProjectScope, other: &ProjectScope) -> bool {
    match (one, other) {
        (ProjectScope::Id(one), ProjectScope::Id(other)) => one != other,
        (ProjectScope::Name(one), ProjectScope::Name(other)) => {
            let (a, b) = (literal_prefix(one.as_str()), literal_prefix(other.as_str()));
            !a.starts_with(b) && !b.starts_with(a)
        }
        _ => false,
    }
}

/// The literal prefix of every text that a glob covers.
fn literal_prefix(glob: &str) -> &str {
    glob.split('*').next().unwrap_or_default()
}
