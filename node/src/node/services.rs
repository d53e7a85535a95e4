//! Which service answers a request, by its path.

use crate::http::{Request, Response};
use crate::services::identity::api::Identity;
use crate::services::mesh::api::Mesh;
use crate::services::pds::api::Pds;

/// The services; one set a reactor thread, cheap to clone.
#[derive(Clone)]
pub(super) struct Services {
    pub mesh: Mesh,
    pub identity: Identity,
    pub pds: Pds,
}

impl Services {
    /// Answers. What is nobody's is message exchange's to refuse, which was here first.
    pub(super) async fn handle(&self, request: Request) -> Response {
        let path = request.head.uri.path();
        if Pds::owns(path) {
            return self.pds.handle(request).await;
        }
        if Identity::owns(path) {
            return self.identity.handle(request).await;
        }
        self.mesh.handle(request).await
    }
}
