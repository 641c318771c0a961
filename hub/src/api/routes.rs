//! Every route once: its path, the role that it needs, and what goes in and out. The router and the OpenAPI
//! description are both made from this table.

use std::sync::Arc;

use axum::routing::{MethodRouter, delete, get, post};
use flotilla_api::{self as api, Page, Role};
use http::Method;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::auth::Bound;
use super::{
    admin, adopt, changes, clusters, enrolment, events, fleet, join_tokens, list, openapi, pipelines,
    secret_uses, secrets, sources, suspend, system, units,
};
use crate::state::Hub;

/// A type's name and schema, and those that it refers to.
pub(super) type Schemas = Vec<(String, RefOr<Schema>)>;

/// A body of JSON.
pub(super) struct Json {
    pub(super) name: String,
    pub(super) schemas: fn(&mut Schemas),
}

fn json<T: ToSchema>() -> Option<Json> {
    fn all<T: ToSchema>(schemas: &mut Schemas) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
    Some(Json { name: T::name().into_owned(), schemas: all::<T> })
}

/// A part of a list. The derived name of a generic type leaves its argument out, and would stand for all lists.
fn page<T: ToSchema>() -> Option<Json> {
    fn all<T: ToSchema>(schemas: &mut Schemas) {
        schemas.push((format!("{}Page", T::name()), Page::<T>::schema()));
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
    Some(Json { name: format!("{}Page", T::name()), schemas: all::<T> })
}

/// One method of one path.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// `None`: without a token.
    pub(super) role: Option<Role>,
    /// How it keeps to the token's scope.
    pub(super) bound: Bound,
    pub(super) summary: &'static str,
    /// Parameters of the query.
    pub(super) query: &'static [&'static str],
    pub(super) request: Option<Json>,
    /// `None`: not JSON.
    pub(super) response: Option<Json>,
    pub(super) handler: MethodRouter<Arc<Hub>>,
}

pub(super) fn routes() -> Vec<Route> {
    let route = |method: Method, path, role, summary, handler| Route {
        method,
        path,
        role,
        bound: Bound::Handler,
        summary,
        query: &[],
        request: None,
        response: None,
        handler,
    };
    let read = |path, summary, response: Option<Json>, handler| Route {
        response,
        ..route(Method::GET, path, Some(Role::View), summary, handler)
    };
    let write = |path, role, summary, request: Option<Json>, response: Option<Json>, handler| Route {
        request,
        response,
        ..route(Method::POST, path, Some(role), summary, handler)
    };
    let open = |path, summary, handler| route(Method::GET, path, None, summary, handler);
    let done = json::<api::Done>;
    vec![
        open("/healthz", "Whether the process serves", get(system::healthz)),
        open("/readyz", "Whether the hub knows its fleet", get(system::readyz)),
        open("/openapi.json", "This description", get(openapi::serve)),
        Route {
            role: Some(Role::View),
            bound: Bound::Fleet,
            ..open("/metrics", "Metrics for Prometheus", get(system::metrics))
        },
        read("/api/v1/whoami", "Who asks", json::<api::WhoAmI>(), get(admin::who_am_i)),
        read("/api/v1/status", "The fleet at a glance", json::<api::Status>(), get(fleet::status)),
        read("/api/v1/watch", "Notices of changes, as server-sent events", None, get(fleet::watch)),
        Route {
            bound: Bound::Fleet,
            ..read(
                "/api/v1/changes",
                "What the newest commit takes away, and what of it waits for an approval",
                page::<api::ChangeFinding>(),
                get(changes::list),
            )
        },
        Route {
            bound: Bound::Fleet,
            ..write(
                "/api/v1/changes/{digest}/approve",
                Role::Approve,
                "Approve the removal of exactly the units and objects that a change was held for",
                None,
                done(),
                post(changes::approve),
            )
        },
        Route {
            bound: Bound::Fleet,
            ..read(
                "/api/v1/pipelines",
                "Pipelines: where each stage stands, and why clusters do not run the newest",
                page::<api::Pipeline>(),
                get(pipelines::list),
            )
        },
        Route {
            bound: Bound::Fleet,
            ..write(
                "/api/v1/pipelines/{pipeline}/rollout",
                Role::Operate,
                "Hold, release, roll back, veto, promote past the queue, pause, resume, retry or abort",
                json::<api::RolloutRequest>(),
                done(),
                post(pipelines::operate),
            )
        },
        Route {
            bound: Bound::Fleet,
            ..write(
                "/api/v1/pipelines/{pipeline}/approval",
                Role::Approve,
                "Approve what a stage asks, take that back, or let a candidate past a stage or a window",
                json::<api::RolloutRequest>(),
                done(),
                post(pipelines::approve),
            )
        },
        Route {
            bound: Bound::Fleet,
            ..write(
                "/api/v1/pipelines/{pipeline}/forget",
                Role::Admin,
                "Let the clusters of a pipeline that the fleet repo no longer defines run the newest",
                None,
                done(),
                post(pipelines::forget),
            )
        },
        read("/api/v1/sources", "Sources", page::<api::Source>(), get(sources::list)),
        Route {
            query: events::LIST,
            ..read(
                "/api/v1/events",
                "Events: the newest first, or with a cursor what came after it, the oldest first",
                json::<api::EventPage>(),
                get(events::list),
            )
        },
        Route {
            query: events::STREAM,
            ..read(
                "/api/v1/events/watch",
                "Events as they happen, as server-sent events; `Last-Event-ID` or `cursor` says from where on",
                None,
                get(events::stream),
            )
        },
        Route {
            query: list::UNITS,
            ..read("/api/v1/units", "Units of all clusters", page::<api::Unit>(), get(units::list))
        },
        Route {
            query: list::CLUSTERS,
            ..read("/api/v1/clusters", "Clusters", page::<api::Cluster>(), get(clusters::list))
        },
        read("/api/v1/clusters/{cluster}", "One cluster", json::<api::Cluster>(), get(clusters::get)),
        read("/api/v1/clusters/{cluster}/units/{unit}", "One unit", json::<api::Unit>(), get(units::get)),
        read(
            "/api/v1/clusters/{cluster}/tree",
            "Units with their objects",
            json::<api::Tree>(),
            get(clusters::tree),
        ),
        read(
            "/api/v1/clusters/{cluster}/manifests",
            "What the cluster should run, without the values of Secrets",
            json::<api::Manifests>(),
            get(clusters::manifests),
        ),
        read(
            "/api/v1/clusters/{cluster}/history",
            "The states that the cluster was sent, the newest last",
            page::<api::HistoryEntry>(),
            get(clusters::history),
        ),
        Route {
            query: &["kind", "namespace", "name"],
            ..read(
                "/api/v1/clusters/{cluster}/definitions",
                "The Flux objects that the cluster's units define",
                page::<api::Definition>(),
                get(sources::definitions),
            )
        },
        write(
            "/api/v1/sources/reconcile",
            Role::Operate,
            "Fetch a source now",
            json::<api::ReconcileSource>(),
            json::<api::ReconciledSource>(),
            post(sources::reconcile),
        ),
        write(
            "/api/v1/reconcile",
            Role::Operate,
            "Read the fleet repo now",
            json::<api::Reconcile>(),
            json::<api::Reconciled>(),
            post(fleet::reconcile),
        ),
        write(
            "/api/v1/clusters/{cluster}/hide-secrets",
            Role::Operate,
            "Secrets with digests in place of values, to compare with the manifests",
            json::<api::HideSecrets>(),
            json::<api::HiddenSecrets>(),
            post(clusters::hide_secrets),
        ),
        write(
            "/api/v1/clusters/{cluster}/suspend",
            Role::Operate,
            "Suspend a cluster or a unit",
            json::<api::Suspend>(),
            done(),
            post(suspend::suspend),
        ),
        write(
            "/api/v1/clusters/{cluster}/resume",
            Role::Operate,
            "Resume a cluster or a unit",
            json::<api::Resume>(),
            done(),
            post(suspend::resume),
        ),
        write(
            "/api/v1/clusters/{cluster}/approve",
            Role::Approve,
            "Approve the deletion of what a guard kept",
            json::<api::Approve>(),
            done(),
            post(suspend::approve),
        ),
        write(
            "/api/v1/join-tokens",
            Role::Admin,
            "Make a token with which one agent, or many nodes of a group, may join",
            json::<api::NewJoinToken>(),
            json::<api::JoinToken>(),
            post(join_tokens::make),
        ),
        Route {
            role: Some(Role::Admin),
            ..read(
                "/api/v1/join-tokens",
                "The join tokens that are valid, without their secrets",
                page::<api::OpenJoinToken>(),
                get(join_tokens::list),
            )
        },
        Route {
            method: Method::DELETE,
            ..write(
                "/api/v1/join-tokens/{digest}",
                Role::Admin,
                "End a join token at once",
                None,
                done(),
                delete(join_tokens::revoke),
            )
        },
        Route {
            bound: Bound::Cluster,
            ..write(
                "/api/v1/clusters/{cluster}/revoke",
                Role::Admin,
                "Cut an agent off",
                None,
                done(),
                post(enrolment::revoke),
            )
        },
        Route {
            bound: Bound::Cluster,
            ..write(
                "/api/v1/clusters/{cluster}/prune",
                Role::Admin,
                "Delete everything that the agent manages",
                json::<api::Prune>(),
                done(),
                post(enrolment::prune),
            )
        },
        Route {
            bound: Bound::Cluster,
            ..write(
                "/api/v1/clusters/{cluster}/adopt",
                Role::Admin,
                "Take over what another tool runs in a cluster, or give it back",
                json::<api::Adopt>(),
                json::<api::Adoption>(),
                post(adopt::adopt),
            )
        },
        Route {
            method: Method::DELETE,
            bound: Bound::Cluster,
            ..write(
                "/api/v1/clusters/{cluster}",
                Role::Admin,
                "Delete a cluster at the hub: its agent ends its work, its objects stay",
                None,
                done(),
                delete(enrolment::delete),
            )
        },
        Route {
            bound: Bound::Fleet,
            role: Some(Role::Admin),
            ..read("/api/v1/tokens", "API tokens", page::<api::Token>(), get(admin::tokens))
        },
        Route {
            role: Some(Role::Admin),
            ..read(
                "/api/v1/secrets",
                "Secrets of sources, without what they hold",
                page::<api::SecretInfo>(),
                get(secrets::list),
            )
        },
        Route {
            query: secret_uses::QUERY,
            ..read(
                "/api/v1/secret-uses/{name}",
                "Which units and clusters use a Secret, or make it",
                page::<api::SecretUse>(),
                get(secret_uses::list),
            )
        },
        write(
            "/api/v1/secrets",
            Role::Admin,
            "Keep a secret for sources",
            json::<api::NewSecret>(),
            done(),
            post(secrets::put),
        ),
        Route {
            method: Method::DELETE,
            ..write(
                "/api/v1/secrets/{scope}/{namespace}/{name}",
                Role::Admin,
                "Remove a secret",
                None,
                done(),
                delete(secrets::remove),
            )
        },
        Route {
            bound: Bound::Fleet,
            ..write(
                "/api/v1/tokens",
                Role::Admin,
                "Make an API token",
                json::<api::NewToken>(),
                json::<api::MadeToken>(),
                post(admin::create_token),
            )
        },
        Route {
            method: Method::DELETE,
            bound: Bound::Fleet,
            ..write(
                "/api/v1/tokens/{name}",
                Role::Admin,
                "Revoke an API token",
                None,
                done(),
                delete(admin::revoke_token),
            )
        },
        Route {
            role: Some(Role::Admin),
            bound: Bound::Fleet,
            query: &["limit", "after"],
            ..read(
                "/api/v1/audit",
                "Who changed what, the newest first",
                page::<api::AuditEntry>(),
                get(admin::audit),
            )
        },
        Route {
            role: Some(Role::Admin),
            bound: Bound::Fleet,
            ..read("/api/v1/backup", "A backup, for `flotilla-hub restore`", None, get(admin::backup))
        },
        Route {
            role: Some(Role::Admin),
            bound: Bound::Fleet,
            ..read("/api/v1/ca", "The hub's CAs", json::<api::CaStatus>(), get(admin::ca))
        },
        Route {
            bound: Bound::Fleet,
            ..write(
                "/api/v1/ca/rotate",
                Role::Admin,
                "Begin to replace the CA",
                None,
                json::<api::CaStatus>(),
                post(admin::rotate_ca),
            )
        },
        Route {
            bound: Bound::Fleet,
            ..write(
                "/api/v1/ca/finish",
                Role::Admin,
                "Drop the old CA",
                json::<api::FinishRotation>(),
                json::<api::CaStatus>(),
                post(admin::finish_ca),
            )
        },
    ]
}
