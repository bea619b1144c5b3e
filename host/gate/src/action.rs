//! The words by which records say what was done: administrative actions and steps of approvals.
//!
//! Invariant: no record of this version has another word, since what writes records takes these types.

use qchost_policy::Right;
use strum::{IntoStaticStr, VariantArray};

/// An administrative action, or what the host notices by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum AdminAction {
    /// The host reads its files again.
    Reload,
    /// Database, audit and key are copied.
    Backup,
    /// An unknown user was denied something, or denials are recorded by their number.
    Denied,
    /// Settings whose change was recorded did not come into force.
    #[strum(serialize = "settings not changed")]
    SettingsNotChanged,
    /// The emulator of an account begins afresh.
    #[strum(serialize = "emulator reset")]
    EmulatorReset,
    /// It did not after all.
    #[strum(serialize = "emulator reset (not done)")]
    EmulatorNotReset,
    /// The people of the configuration come into force without an approval.
    #[strum(serialize = "recover people")]
    RecoverPeople,
    /// A login to the server of an account begins.
    AccountLogin,
    /// A person is logged in.
    AccountLoggedIn,
    /// A login failed.
    AccountLoginFailed,
    /// A login ends.
    AccountLogout,
    /// The first endpoint of an account is not as it was remembered: it may be another user's.
    AccountIdentityChanged,
    /// An authorization is about to end.
    AccountAuthorizationExpiring,
    /// An authorization ended.
    AccountAuthorizationEnded,
}

impl AdminAction {
    /// Its word in records.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// A step of an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum ApprovalStep {
    Approve,
    Refuse,
    Revoke,
    Permit,
    Request,
    Close,
    #[strum(serialize = "not decided")]
    NotDecided,
}

impl ApprovalStep {
    /// Its word in records.
    pub(crate) fn word(self) -> &'static str {
        self.into()
    }
}

/// The word of a denial: with the right that a person lacks, or of a user who is no person of the host.
#[must_use]
pub fn denial(right: Option<Right>) -> String {
    match right {
        Some(right) => format!("{} (denied)", right.word()),
        None => AdminAction::Denied.word().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_names_the_right_that_is_missing() {
        assert_eq!(denial(Some(Right::Halt)), "halt (denied)");
        assert_eq!(denial(None), "denied");
    }
}
