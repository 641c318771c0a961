//! What a release consists of, made from binaries that are built: container images as OCI archives, Debian packages, archives.
//!
//! ```text
//!   binaries, commit ── image ──► layers and configuration ── layout ──► one archive a program, all architectures in it
//!                                                               └────── registry ──► the same by its name and digest
//!   binaries, commit ── deb ──► a package for each program and architecture
//!   all of that, deploy/ ── bundle ──► every file of a release, with checksums and their signature
//! ```
//!
//! Everything is a function of its arguments: the same binaries and the same commit give the same bytes, on any machine
//! and at any time. Never shipped.

pub mod architecture;
pub mod bundle;
pub mod deb;
pub mod image;
pub mod layout;
pub mod registry;
pub mod tarball;
