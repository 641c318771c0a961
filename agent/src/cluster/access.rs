//! What accounts may do, asked of the API server.

use flotilla_core::plan::{Access, Claim};
use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::Cluster;
use super::request::{Call, Failure};

impl Cluster {
    /// Whether every claim holds; the first that does not is named. Their kinds need not be served.
    ///
    /// # Errors
    /// If the API server cannot be asked.
    pub(crate) async fn may_create(&self, claims: &[Claim]) -> Result<Access, Failure> {
        for claim in claims {
            if let denied @ Access::Denied(_) = self.ask_about(claim).await? {
                return Ok(denied);
            }
        }
        Ok(Access::Allowed)
    }

    async fn ask_about(&self, claim: &Claim) -> Result<Access, Failure> {
        #[derive(Deserialize)]
        struct Review {
            status: Status,
        }
        // Without `allowed` it is no answer, neither a yes nor a no.
        #[derive(Deserialize)]
        struct Status {
            allowed: bool,
            #[serde(default)]
            reason: String,
        }
        let Claim { account, group, plural, namespace, name } = claim;
        let groups = [
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{}", account.namespace),
            "system:authenticated".to_owned(),
        ];
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
            "user": account.user(), "groups": groups,
            "resourceAttributes": {"group": group, "resource": plural, "verb": "create",
                "namespace": namespace, "name": name}}});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let call = Call::new(Method::POST, path).body("application/json", review.to_string());
        let review: Review = self.itself().ask(call).await?;
        if review.status.allowed {
            return Ok(Access::Allowed);
        }
        let reason = match review.status.reason.as_str() {
            "" => String::new(),
            reason => format!(" ({reason})"),
        };
        Ok(Access::Denied(format!(
            "{} may not create {plural}.{group} in namespace {namespace}{reason}; what defines them runs as that \
             account, so grant it that or run it as another one",
            account.user(),
        )))
    }
}
