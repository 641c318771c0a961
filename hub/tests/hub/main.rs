//! A hub in this process, with agents and people who come over real TLS.

mod agents;
mod journal;
mod many_nodes;
mod monitoring;
mod people;
mod ports;
mod process;
mod rotation;
mod scopes;
mod secret_uses;
mod support;
