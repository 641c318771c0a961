//! JSON types of the HTTP API under `/api/v1`: what the CLI, the console and scripts see.
