//! What a release consists of, made from binaries that are built: container images as OCI archives.
//!
//! ```text
//!   binaries, commit ── image ──► layers and configuration ── layout ──► one archive a program, all architectures in it
//!                                                               └────── registry ──► the same by its name and digest
//! ```
//!
//! Everything is a function of its arguments: the same binaries and the same commit give the same bytes, on any machine
//! and at any time. Never shipped.

pub mod architecture;
pub mod image;
pub mod layout;
pub mod registry;
pub mod tarball;
