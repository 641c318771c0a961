//! Work that blocks a thread, such as a disk that stalls, away from the threads that everything else shares.

/// Runs `work` on a thread that may block. A panic in it is one here. Where this is dropped the work still ends.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and this with it.
            Err(_) => std::future::pending().await,
        },
    }
}
