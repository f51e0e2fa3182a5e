//! stub
use std::sync::{Arc, Mutex};
pub struct HttpState {
    pub metrics: crate::metrics::Metrics,
    pub lanes: Arc<Mutex<Vec<Arc<crate::lane::status::LaneStatus>>>>,
    pub programme: Arc<crate::programme::Programme>,
    pub store: Arc<Mutex<Option<Box<dyn crate::store::Store + Send>>>>,
    pub open_store: Arc<dyn Fn() -> Result<Box<dyn crate::store::Store + Send>, crate::store::StoreError> + Send + Sync>,
    pub buckets: crate::types::Buckets,
}
pub async fn serve(_l: tokio::net::TcpListener, _s: HttpState, f: impl Future<Output = ()>) -> std::io::Result<()> { f.await; Ok(()) }
