//! The builder of an emulator, and the handle of a running one.
//!
//! Invariant: when the handle is shut down or dropped, the listener closes and jobs that still
//! wait end without effect; nothing of the emulator outlives its handle but the requests that
//! are being served and the engine's current runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qchost_text::EMULATOR_TOKEN;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::engine::Engine;
use crate::engine::model::Model;
use crate::http::connection::CutHandle;
use crate::http::endpoints::{BASE, paths};
use crate::http::faults::{Fault, Faults};
use crate::http::request_log::{LoggedRequest, RequestLog};
use crate::http::router::{ServerState, router};
use crate::remote::server::RemoteServer;
use crate::remote::settings::Remote;
use crate::remote::tool_names;
use crate::services::cloud::Cloud;
use crate::services::resume::resume;
use crate::services::seed::{Seed, SeedError};
use crate::store::State;
use crate::store::disk::{self, DataError, Disk};
use crate::store::limits;
use crate::store::node::fleet;
use crate::store::settings::{Credentials, Settings};
use crate::store::timing::Timing;
use crate::text::digest_id;

/// Where the `lean` command line looks for the API under `QC_API=local`.
pub const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5612);

/// The user unless another one is set.
const DEFAULT_USER: u64 = 1;

/// How long [`Emulator::shutdown`] waits for requests that are being served.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an emulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Listening on the address failed.
    #[error(
        "the emulator cannot listen on {address}: {source}; choose another address or end the \
         process that uses it"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The data of an earlier emulator cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The seed cannot be used.
    #[error(transparent)]
    Seed(#[from] SeedError),
}

/// The settings of a new emulator.
#[derive(Debug)]
#[must_use]
pub struct Builder {
    address: SocketAddr,
    engine: Arc<dyn Engine>,
    settings: Settings,
    backtest_nodes: u32,
    live_nodes: u32,
    body_timeout: Duration,
    log_capacity: usize,
    keep: Option<PathBuf>,
    seed: Option<Seed>,
    remote: Option<Remote>,
}

/// Settings that are one value each.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $ty:ty => $($field:ident).+;)*) => {$(
        $(#[$doc])*
        pub fn $name(mut self, $name: $ty) -> Self {
            self.$($field).+ = $name;
            self
        }
    )*};
}

impl Builder {
    fn new(engine: Arc<dyn Engine>) -> Self {
        Self {
            address: DEFAULT_ADDRESS,
            engine,
            settings: Settings {
                credentials: Credentials {
                    user_id: DEFAULT_USER,
                    token: EMULATOR_TOKEN.to_owned(),
                },
                organization_id: organization_of(DEFAULT_USER),
                organization_name: "Emulator".to_owned(),
                credit: 10_000.0,
                timing: Timing::default(),
                object_store_quota: 50 << 20,
                derived_data: false,
                keyed_statistics: false,
            },
            body_timeout: limits::BODY_TIMEOUT,
            backtest_nodes: 4,
            live_nodes: 2,
            log_capacity: 10_000,
            keep: None,
            seed: None,
            remote: None,
        }
    }

    settings! {
        /// The address to listen on; [`DEFAULT_ADDRESS`] unless set. Port 0 lets the system choose. Use
        /// the loopback interface only: there is no transport encryption.
        address: SocketAddr => address;
        /// QuantConnect Credit in the account at the start; 10,000 unless set.
        credit: f64 => settings.credit;
        /// The durations of asynchronous work.
        timing: Timing => settings.timing;
        /// The number of backtests that run at a time; 4 unless set.
        backtest_nodes: u32 => backtest_nodes;
        /// The number of algorithms that run live at a time; 2 unless set.
        live_nodes: u32 => live_nodes;
        /// Size limit of the object store, in bytes; 50 MiB unless set.
        object_store_quota: usize => settings.object_store_quota;
        /// Whether the organisation has signed the agreement on derived data, without which the cloud refuses
        /// downloads of objects; unless set, it has not.
        derived_data: bool => settings.derived_data;
        /// Whether the statistics of an optimization's row are an object by position, as the cloud may send since the
        /// end of 2025; unless set, they are the array that the official MCP server wants.
        keyed_statistics: bool => settings.keyed_statistics;
        /// Time limit for receiving a request's body; 30 s unless set.
        body_timeout: Duration => body_timeout;
        /// The number of requests that the log keeps; 10,000 unless set.
        log_capacity: usize => log_capacity;
    }

    /// Listens on the loopback interface, at a port that the system chooses.
    pub fn any_port(self) -> Self {
        self.address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// What compiles and runs algorithms; the documented model unless set.
    pub fn engine(mut self, engine: impl Engine) -> Self {
        self.engine = Arc::new(engine);
        self
    }

    /// The one user and the API token; user 1 and `emulator` unless set. The id of the organisation follows from that of
    /// the user, unless [`Builder::organization`] sets it.
    pub fn credentials(mut self, user_id: u64, token: impl Into<String>) -> Self {
        let former = organization_of(self.settings.credentials.user_id);
        if self.settings.organization_id == former {
            self.settings.organization_id = organization_of(user_id);
        }
        self.settings.credentials = Credentials {
            user_id,
            token: token.into(),
        };
        self
    }

    /// The one organisation; unless set, its id is one that no other user's has. QuantConnect's ids are 32 hexadecimal
    /// digits, and some clients insist on it.
    pub fn organization(mut self, id: impl Into<String>, name: impl Into<String>) -> Self {
        self.settings.organization_id = id.into();
        self.settings.organization_name = name.into();
        self
    }

    /// The file in which the state is kept from one emulator to the next; made if it is missing. Without it, an
    /// emulator begins afresh and leaves nothing.
    pub fn keep(mut self, path: impl Into<PathBuf>) -> Self {
        self.keep = Some(path.into());
        self
    }

    /// What it begins with, if it begins afresh.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Serves the remote MCP server with its authorisation server as well, at [`Emulator::remote_url`]. It is built
    /// from public descriptions.
    pub fn remote(mut self, remote: Remote) -> Self {
        self.remote = Some(remote);
        self
    }

    /// Starts serving on the current Tokio runtime. With a kept state, work that would be over by now is carried out
    /// before, for a few seconds at most.
    ///
    /// # Errors
    /// [`StartError::Bind`] when the address is taken or not this machine's, [`StartError::Data`] when the kept state
    /// is in use, newer or damaged, [`StartError::Seed`] when the seed breaks a limit.
    pub async fn start(self) -> Result<Emulator, StartError> {
        let bind = |source| StartError::Bind {
            address: self.address,
            source,
        };
        let listener = TcpListener::bind(self.address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let nodes = fleet(self.backtest_nodes, self.live_nodes);
        let origin = format!("http://{address}");
        let base_url = format!("{origin}{BASE}");
        if let Some(seed) = &self.seed {
            // Before a file is made: what finds one there, even an empty one, takes it for seeded.
            let mut scratch = State::new(Vec::new());
            seed.sow(&mut scratch, self.settings.object_store_quota)?;
        }
        let (mut disk, mut state) = match self.keep {
            Some(path) => {
                let (disk, state) = blocking(move || Disk::open(&path, nodes)).await?;
                (Some(disk), state)
            }
            None => (None, State::new(nodes)),
        };
        if disk.as_ref().is_none_or(Disk::is_new)
            && let Some(seed) = &self.seed
        {
            seed.sow(&mut state, self.settings.object_store_quota)?;
        }
        if let Some(disk) = &mut disk {
            disk.store(&state)?;
        }
        let cloud = Arc::new(Cloud::new(
            self.engine,
            self.settings,
            base_url,
            state,
            disk,
        ));
        resume(&cloud).await;
        tracing::info!(base_url = cloud.base_url, "the emulator listens");
        let remote = self.remote;
        let remote = remote.map(|it| RemoteServer::new(&cloud, &origin, BASE, it));
        let state = Arc::new(ServerState {
            cloud,
            remote,
            faults: Faults::default(),
            log: RequestLog::new(self.log_capacity),
            body_timeout: self.body_timeout,
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let routes = router(Arc::clone(&state)).into_make_service_with_connect_info::<CutHandle>();
        let server = axum::serve(listener, routes).with_graceful_shutdown(async move {
            // The sender is only ever dropped, by `shutdown` or with the handle.
            let _ = stopped.await;
        });
        let task = tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the emulator stopped serving");
            }
        });
        Ok(Emulator {
            address,
            state,
            stop,
            task,
        })
    }
}

/// The id of a user's organisation. Clients tell the emulators of two users apart by it.
fn organization_of(user_id: u64) -> String {
    match user_id {
        DEFAULT_USER => digest_id("organization"),
        other => digest_id(&format!("organization of {other}")),
    }
}

/// Does what blocks on a thread for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DataError> + Send + 'static,
) -> Result<T, DataError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(DataError::Unusable {
            path: PathBuf::new(),
            reason: error.to_string(),
        })
    })
}

/// An emulator that runs. Dropping the handle stops it.
pub struct Emulator {
    address: SocketAddr,
    state: Arc<ServerState>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for Emulator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Emulator")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Emulator {
    /// The settings of a new emulator, with the documented model as its engine.
    pub fn builder() -> Builder {
        Builder::new(Arc::new(Model))
    }

    /// The address of the API without a slash at its end, such as
    /// `http://127.0.0.1:5612/api/v2`.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.state.cloud.base_url
    }

    /// The address of the remote MCP server, such as `http://127.0.0.1:5612/api/v2/mcp`; `None` without
    /// [`Builder::remote`].
    #[must_use]
    pub fn remote_url(&self) -> Option<&str> {
        self.state.remote.as_ref().map(RemoteServer::url)
    }

    /// The names of the remote MCP server's tools.
    pub fn remote_tools() -> impl Iterator<Item = &'static str> {
        tool_names()
    }

    /// Ends all access tokens of the remote MCP server, as if their lifetime were over. Refresh tokens stay.
    pub fn expire_remote_tokens(&self) {
        if let Some(remote) = &self.state.remote {
            remote.expire_tokens();
        }
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The id of the one user.
    #[must_use]
    pub fn user_id(&self) -> u64 {
        self.state.cloud.settings.credentials.user_id
    }

    /// The API token of the one user.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.state.cloud.settings.credentials.token
    }

    /// The id of the one organisation.
    #[must_use]
    pub fn organization_id(&self) -> &str {
        &self.state.cloud.settings.organization_id
    }

    /// Forgets what is kept in a file, which is made if it is missing, and keeps a seed instead. Only the counters
    /// stay, so that no id is given again. A file that is damaged, or of a newer version, is replaced. Blocks.
    ///
    /// # Errors
    /// [`StartError::Data`] when an emulator uses the file, or it cannot be written; [`StartError::Seed`] when the seed
    /// breaks a limit. Then nothing was changed.
    pub fn reset(path: &Path, seed: &Seed) -> Result<(), StartError> {
        let quota = Self::builder().settings.object_store_quota;
        // Before anything is forgotten.
        seed.sow(&mut State::new(Vec::new()), quota)?;
        let (mut disk, mut state) = disk::reset(path)?;
        seed.sow(&mut state, quota)?;
        Ok(disk.store(&state)?)
    }

    /// Checks that a file with kept data can be used, if it is there, and returns whether an emulator has begun to keep
    /// anything in it. Nothing in it is changed. Blocks.
    ///
    /// # Errors
    /// When it is in use, newer or damaged, a link, or another user's.
    pub fn check(path: &Path) -> Result<bool, DataError> {
        disk::check(path)
    }

    /// Every path that is served, such as `/projects/read`.
    pub fn endpoints() -> impl Iterator<Item = &'static str> {
        paths()
    }

    /// The logged requests, the oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.state.log.entries()
    }

    /// Those to one endpoint, such as `/backtests/create`.
    #[must_use]
    pub fn requests_to(&self, path: &str) -> Vec<LoggedRequest> {
        let mut requests = self.requests();
        requests.retain(|request| request.path == path);
        requests
    }

    /// Empties the request log.
    pub fn clear_requests(&self) {
        self.state.log.clear();
    }

    /// Replaces the faults; an empty list disables all. Counting starts over.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.state.faults.set(faults);
    }

    /// Closes the listener, waits a few seconds for requests that are being served, and stops.
    pub async fn shutdown(self) {
        let Self {
            state,
            stop,
            mut task,
            ..
        } = self;
        drop(stop);
        let ended = tokio::time::timeout(DRAIN_TIMEOUT, &mut task).await;
        if ended.is_err() {
            task.abort();
        }
        // A request or a run that goes on has no effect on what the next emulator finds.
        state.cloud.close();
    }
}
