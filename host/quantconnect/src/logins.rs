//! The log-ins that a person may be doing at a provider, by the request that asked for them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// How long a person may take to log in; as in QuantConnect's own command line.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The URLs that were returned, by request, with the time of that.
#[derive(Debug, Default)]
pub(crate) struct Logins(Mutex<HashMap<String, (String, Instant)>>);

impl Logins {
    /// The URL that was returned for a request, while it is valid.
    pub(crate) fn url(&self, request: &str) -> Option<String> {
        self.valid().get(request).map(|(url, _)| url.clone())
    }

    pub(crate) fn begin(&self, request: String, url: String) {
        self.valid().insert(request, (url, Instant::now()));
    }

    pub(crate) fn end(&self, request: &str) {
        self.valid().remove(request);
    }

    fn valid(&self) -> MutexGuard<'_, HashMap<String, (String, Instant)>> {
        let mut logins = self.0.lock();
        logins.retain(|_, (_, begun)| begun.elapsed() < LOGIN_TIMEOUT);
        logins
    }
}
