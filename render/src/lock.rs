//! Locks of the standard library, without their poison.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex. What is kept under one is whole between two statements, so a panic elsewhere leaves it whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
