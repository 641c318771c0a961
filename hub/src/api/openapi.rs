//! The OpenAPI description, made from the table of routes.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::response::IntoResponse;
use flotilla_api::ErrorBody;
use http::{Method, header};
use utoipa::ToSchema;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::ComponentsBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, PathItem, PathsBuilder, Ref,
    Required, ResponseBuilder, Type,
};

use super::routes::{Route, Schemas, routes};

/// The description, made once: anybody may ask for it.
pub(super) async fn serve() -> impl IntoResponse {
    static TEXT: LazyLock<Bytes> =
        LazyLock::new(|| serde_json::to_vec(&description()).expect("texts and numbers are JSON").into());
    ([(header::CONTENT_TYPE, "application/json")], TEXT.clone())
}

pub(super) fn description() -> OpenApi {
    let mut schemas: Schemas = Vec::new();
    schemas.push((ErrorBody::name().into_owned(), <ErrorBody as utoipa::PartialSchema>::schema()));
    let mut paths = PathsBuilder::new();
    for route in routes() {
        for body in route.request.iter().chain(&route.response) {
            (body.schemas)(&mut schemas);
        }
        let method = match route.method {
            Method::POST => HttpMethod::Post,
            Method::DELETE => HttpMethod::Delete,
            _ => HttpMethod::Get,
        };
        paths = paths.path(route.path, PathItem::new(method, operation(&route)));
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme("token", SecurityScheme::Http(bearer))
        .build();
    OpenApiBuilder::new()
        .info(InfoBuilder::new().title("Flotilla hub").version(env!("CARGO_PKG_VERSION")).build())
        .paths(paths)
        .components(Some(components))
        .build()
}

fn operation(route: &Route) -> OperationBuilder {
    let reference = |name: &str| ContentBuilder::new().schema(Some(Ref::from_schema_name(name))).build();
    let mut success = ResponseBuilder::new().description("What was asked for");
    if let Some(body) = &route.response {
        success = success.content("application/json", reference(&body.name));
    }
    let failure = ResponseBuilder::new()
        .description("What went wrong")
        .content("application/json", reference(&ErrorBody::name()));
    let mut operation = OperationBuilder::new()
        .summary(Some(match route.role {
            Some(role) => format!("{} (role: {role})", route.summary),
            None => route.summary.to_owned(),
        }))
        .response("200", success.build())
        .response("default", failure.build());
    if route.role.is_some() {
        operation = operation.security(SecurityRequirement::new("token", Vec::<String>::new()));
    }
    if let Some(body) = &route.request {
        let body = RequestBodyBuilder::new()
            .content("application/json", reference(&body.name))
            .required(Some(Required::True));
        operation = operation.request_body(Some(body.build()));
    }
    let text = || Some(ObjectBuilder::new().schema_type(Type::String).build());
    for part in route.path.split('/') {
        if let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            operation = operation.parameter(
                ParameterBuilder::new()
                    .name(name)
                    .parameter_in(ParameterIn::Path)
                    .required(Required::True)
                    .schema(text()),
            );
        }
    }
    for name in route.query {
        operation = operation.parameter(
            ParameterBuilder::new()
                .name(*name)
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .schema(text()),
        );
    }
    operation
}
