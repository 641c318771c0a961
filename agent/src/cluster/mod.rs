//! The cluster: requests to its API server, what it serves, and what was seen of our objects.
