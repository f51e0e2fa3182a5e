//! What the answers are made from, shared by all requests.

use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::Problem;
use super::access::Gate;
use super::redemptions::Desk;
use crate::config::{Http, Redemptions};
use crate::explain::{ExplainError, Explainer, Explanation, Question};
use crate::lane::status::LaneStatus;
use crate::log::{LogError, Sender};
use crate::metrics::Metrics;
use crate::programme::current::Current;
use crate::programme::{Programme, Versions};
use crate::store::{Store, StoreError};
use crate::types::Buckets;

/// How long a request waits for the store, its turn included.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a request to explain an event may read Kafka, its turn included.
const EXPLAINED_WITHIN: Duration = Duration::from_secs(10);

/// How long it may take beyond that to end what it is at.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// How long a probe's answer holds. So probes cost the store one write a second, however many ask.
const PROBE_HOLDS: Duration = Duration::from_secs(1);

/// What the answers are made from. A clone is another handle on the same.
#[derive(Clone)]
pub struct HttpState {
    shared: Arc<Shared>,
}

struct Shared {
    metrics: Metrics,
    programme: Arc<Current>,
    buckets: Buckets,
    lanes: RwLock<Lanes>,
    /// One connection, one question at a time: a slow store holds up one blocking thread and not all.
    store: Arc<Mutex<Box<dyn Store + Send>>>,
    probed: Mutex<Option<(Instant, Result<(), String>)>>,
    /// With connections of its own, one question at a time, so that it never holds up the lanes or who asks for
    /// an account.
    explainer: OnceLock<Arc<Mutex<Explainer>>>,
    gate: Arc<Gate>,
    desk: OnceLock<Desk>,
}

/// How far the worker is.
#[derive(Clone, Debug)]
pub(super) enum Lanes {
    /// It has no lanes yet, because of this.
    Starting(String),
    /// It has these.
    Running(Vec<Arc<LaneStatus>>),
}

impl fmt::Debug for HttpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpState").finish_non_exhaustive()
    }
}

impl HttpState {
    /// The state of a worker that has no lanes yet. The store is a connection of its own.
    pub fn new(
        metrics: Metrics,
        programme: Arc<Current>,
        buckets: Buckets,
        store: Box<dyn Store + Send>,
        settings: &Http,
    ) -> Self {
        let shared = Shared {
            metrics,
            programme,
            buckets,
            lanes: RwLock::new(Lanes::Starting("the worker starts".to_owned())),
            store: Arc::new(Mutex::new(store)),
            probed: Mutex::new(None),
            explainer: OnceLock::new(),
            gate: Arc::new(Gate::new(settings)),
            desk: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Says what the worker waits for before it can start its lanes, for /readyz.
    pub fn waits_for(&self, why: impl Into<String>) {
        self.set(Lanes::Starting(why.into()));
    }

    /// The lanes have begun.
    pub fn set_lanes(&self, lanes: Vec<Arc<LaneStatus>>) {
        self.set(Lanes::Running(lanes));
    }

    /// Has events explained from now on. The first one stays.
    pub fn explain_with(&self, explainer: Explainer) {
        self.shared.explainer.get_or_init(|| Arc::new(Mutex::new(explainer)));
    }

    /// Takes requests for redemptions from now on, and puts them on the topic of the settings; records of more bytes
    /// would not be read there. The first sender stays.
    pub fn redeem_with(&self, sender: Box<dyn Sender>, settings: &Redemptions, max_record_bytes: usize) {
        let Redemptions { topic, wait } = settings;
        self.shared.desk.get_or_init(|| Desk { sender, topic: topic.clone(), wait: *wait, max_record_bytes });
    }

    pub(super) fn desk(&self) -> Result<&Desk, Problem> {
        let none = "no redemptions are taken here: `http.redemptions.topic` is not set";
        self.shared.desk.get().ok_or_else(|| Problem::not_implemented(none))
    }

    /// Explains an event, off the async threads.
    ///
    /// # Errors
    /// `Log` with `Retriable` where it takes too long, also because others ask; else what the explainer says.
    pub(super) async fn explain(&self, question: Question) -> Result<Explanation, ExplainError> {
        let later = |why: &str| ExplainError::Log(LogError::Retriable(why.to_owned()));
        let Some(explainer) = self.shared.explainer.get().cloned() else {
            return Err(later("events are not explained here yet"));
        };
        let deadline = Instant::now() + EXPLAINED_WITHIN;
        let Ok(mut explainer) = timeout(EXPLAINED_WITHIN / 2, explainer.lock_owned()).await else {
            return Err(later("another event is being explained"));
        };
        let answer = tokio::task::spawn_blocking(move || explainer.explain(&question, deadline.into_std()));
        match timeout(deadline - Instant::now() + ENDS_WITHIN, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(failed)) => {
                Err(ExplainError::Log(LogError::Broken(format!("explaining failed: {failed}"))))
            }
            Err(_) => Err(later("no answer in time")),
        }
    }

    fn set(&self, lanes: Lanes) {
        *self.shared.lanes.write().unwrap_or_else(PoisonError::into_inner) = lanes;
    }

    pub(super) fn lanes(&self) -> Lanes {
        self.shared.lanes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    /// The gate for another thread.
    pub(super) fn gate_handle(&self) -> Arc<Gate> {
        self.shared.gate.clone()
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// The version of the programme that is in effect at this time.
    pub(super) fn programme_at(&self, time: Timestamp) -> Arc<Programme> {
        self.shared.programme.get().at(time).clone()
    }

    /// All versions of the programme.
    pub(super) fn versions(&self) -> Arc<Versions> {
        self.shared.programme.get()
    }

    pub(super) fn buckets(&self) -> Buckets {
        self.shared.buckets
    }

    /// Asks the store, off the async threads.
    ///
    /// # Errors
    /// `Away` where it does not answer within [`PATIENCE`]; else what `ask` says.
    pub(super) async fn ask_store<T, E>(
        &self,
        ask: impl FnOnce(&mut dyn Store) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let store = self.shared.store.clone();
        let answer = async move {
            let mut store = store.lock_owned().await;
            tokio::task::spawn_blocking(move || ask(store.as_mut())).await
        };
        match timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(failed)) => Err(StoreError::Broken(format!("asking the store failed: {failed}")).into()),
            Err(_) => Err(StoreError::Away(format!("no answer within {} s", PATIENCE.as_secs())).into()),
        }
    }

    /// Keeps the store from answering for as long as it is held.
    #[cfg(test)]
    pub(super) async fn hold_store(&self) -> impl Sized + use<> {
        self.shared.store.clone().lock_owned().await
    }

    /// Whether the store can be written to now, or could within the last second.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn probe_store(&self) -> Result<(), String> {
        // Held while the store is asked, so that who comes meanwhile shares the answer.
        let mut probed = self.shared.probed.lock().await;
        if let Some((when, result)) = &*probed
            && when.elapsed() < PROBE_HOLDS
        {
            return result.clone();
        }
        let result = self.ask_store(|store| store.probe()).await.map_err(|error| error.to_string());
        *probed = Some((Instant::now(), result.clone()));
        result
    }
}
