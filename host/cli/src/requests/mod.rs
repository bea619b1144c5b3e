//! What people can ask of a host: one file a subject, with its request types, their answers, and what carries them out.
//!
//! Requests and answers have one serde form. It crosses the control socket, and `--json` prints the answers in it. What a
//! plugin or a tool takes and returns is data of others, and stays JSON.
//!
//! Invariant: everything that depends on the kind of a request is in its [`Rules`] and its [`Handler`]; the list below is
//! the only one.

mod accounts;
mod approvals;
mod audit;
mod audit_files;
mod backup;
mod call;
mod explain;
mod files;
mod grants;
mod halts;
mod host;
mod invoke;
mod plugin_logs;
mod plugins;
mod rules;

use std::sync::Arc;

use anyhow::Result;
use qchost_gate::AdminDetail;
use qchost_policy::Person;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use accounts::{
    AccountLoggedOut, AccountRow, AccountStatus, AuthorizationRow, BeginLogin, EndpointRow,
    FinishLogin, ListLiveProfiles, LogOut, Redirect, account_detail,
};
pub use approvals::{
    ApprovalRow, Approve, ListApprovals, PermitRow, Refuse, Revoke, ShowApproval, StandingRequest,
};
pub use audit::{
    AuditHead, AuditQuery, ExportAudit, ExportFormat, Head, Matches, OnLine, Query, ReadAudit,
    Reconcile, Source, TailAudit, Verified, VerifyAudit, WhyCall,
};
pub use backup::{Backup, BackupMade};
pub use call::Call;
pub use explain::Explain;
pub use files::{FileRow, ListFiles, Reload};
pub use grants::Grants;
pub use halts::{Halt, HaltRow, Halted, ListHalts, Resume, Resumed, listed, scope_words, shown};
pub use host::{AskHost, HostStatus};
pub use invoke::Invoke;
pub use plugin_logs::PluginLogs;
pub use plugins::{ListPlugins, PluginRow, Status, aliases};
pub use rules::{Class, Handler, Rules};

use crate::config::Config;
use crate::host::{Host, denied};
use crate::reports::Reports;

macro_rules! requests {
    ($($kind:ident($request:ty)),+ $(,)?) => {
        /// A request of a client.
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(tag = "verb", rename_all = "kebab-case")]
        pub enum Request {
            $($kind($request)),+
        }

        /// The kind of a request, which is all that its first line says of it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum RequestKind {
            $($kind,)+
            /// A call of a tool that makes an account safer.
            Reduce,
        }

        impl RequestKind {
            /// The rules of requests of this kind.
            pub fn rules(self) -> Rules {
                match self {
                    $(Self::$kind => <$request as Handler>::RULES,)+
                    Self::Reduce => call::REDUCING,
                }
            }
        }

        impl Request {
            /// The kind of the request.
            pub fn kind(&self) -> RequestKind {
                match self {
                    Self::Call(call) if call.reduces() => RequestKind::Reduce,
                    $(Self::$kind(_) => RequestKind::$kind,)+
                }
            }

            /// The plugin or account it concerns.
            pub fn about(&self) -> Option<&str> {
                match self {
                    $(Self::$kind(request) => request.about(),)+
                }
            }

            /// Prepares a host that was opened for this request only.
            pub async fn prepare(&self, host: &Arc<Host>, config: &Config) -> Result<()> {
                match self {
                    $(Self::$kind(request) => request.prepare(host, config).await,)+
                }
            }

            /// Carries it out; returns the answer as it crosses the socket, without secrets. The caller has checked that
            /// the person may make it.
            pub async fn handle(self, host: &Host, person: &Person, reports: &Reports) -> Result<Value> {
                match self {
                    $(Self::$kind(request) => answer(host, &request.handle(host, person, reports).await?),)+
                }
            }
        }

        $(impl From<$request> for Request {
            fn from(request: $request) -> Self {
                Self::$kind(request)
            }
        })+
    };
}

requests! {
    Host(AskHost),
    Invoke(Invoke),
    Call(Call),
    Plugins(ListPlugins),
    PluginLogs(PluginLogs),
    Files(ListFiles),
    Grants(Grants),
    Explain(Explain),
    Approvals(ListApprovals),
    Approval(ShowApproval),
    Approve(Approve),
    Refuse(Refuse),
    Revoke(Revoke),
    Halt(Halt),
    Resume(Resume),
    Halts(ListHalts),
    AuditHead(AuditHead),
    VerifyAudit(VerifyAudit),
    QueryAudit(AuditQuery),
    WhyCall(WhyCall),
    TailAudit(TailAudit),
    ExportAudit(ExportAudit),
    Reconcile(Reconcile),
    Reload(Reload),
    Backup(Backup),
    Accounts(AccountStatus),
    LiveProfiles(ListLiveProfiles),
    BeginLogin(BeginLogin),
    FinishLogin(FinishLogin),
    LogOut(LogOut),
}

/// An answer as it leaves the host: with no secret that the host has read.
pub fn answer(host: &Host, answer: &impl Serialize) -> Result<Value> {
    let mut value = serde_json::to_value(answer)?;
    host.redactor().clean_value(&mut value);
    Ok(value)
}

impl Request {
    /// Carries it out in this process, if the person may make it.
    pub async fn handle_here(
        self,
        host: &Host,
        person: &Person,
        reports: &Reports,
    ) -> Result<Value> {
        let (right, about) = (self.kind().rules().right, self.about());
        let decision = host.current().people.decide(person, right, about);
        if !decision.allowed {
            let reason = decision
                .denial
                .map(|denial| denial.reason)
                .unwrap_or_default();
            let detail = AdminDetail::Denied {
                about: about.map(str::to_owned),
                reason: reason.clone(),
            };
            host.gate.note_denial(person, Some(right), detail).await?;
            return Err(denied(right, &reason, &host.data));
        }
        self.handle(host, person, reports).await
    }
}
