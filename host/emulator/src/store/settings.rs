//! What the operator of the emulator decides.

use super::timing::Timing;

/// The one user of the emulator.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) user_id: u64,
    pub(crate) token: String,
}

// The token stays out of logs.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("user_id", &self.user_id)
            .finish_non_exhaustive()
    }
}

/// The account, and how the cloud behaves.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) credentials: Credentials,
    pub(crate) organization_id: String,
    pub(crate) organization_name: String,
    /// QuantConnect Credit at the start.
    pub(crate) credit: f64,
    pub(crate) timing: Timing,
    /// In bytes.
    pub(crate) object_store_quota: usize,
    /// Whether objects can be downloaded.
    pub(crate) derived_data: bool,
    /// Whether the statistics of an optimization's row are an object.
    pub(crate) keyed_statistics: bool,
}
