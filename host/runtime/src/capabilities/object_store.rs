//! The Object Store: `quantconnect:api/object-store`.

use crate::calls::refused;
use crate::contract::quantconnect::api::object_store::{
    DownloadJob, Error, Host, Listing, ObjectProperties, OrganizationId, add_to_linker,
};

/// Maximum bytes of an object that is downloaded for an agent: it has to fit into the agent's
/// memory.
const MAX_DOWNLOAD: u64 = 32 << 20;

capability! {
    upload_object(organization_id: OrganizationId, key: String, object_data: Vec<u8>) -> ();
    read_object_properties(organization_id: OrganizationId, key: String) -> ObjectProperties;
    read_object_store_file_job_id(organization_id: OrganizationId, keys: Vec<String>) -> DownloadJob;
    read_object_store_file_download_url(organization_id: OrganizationId, job_id: String) -> DownloadJob;
    list_object_store_files(organization_id: OrganizationId, path: Option<String>) -> Listing;
    delete_object(organization_id: OrganizationId, key: String) -> ();
    {
        async fn download(&mut self, organization_id: OrganizationId, key: String) -> Result<Vec<u8>, Error> {
            let gate = self.gate()?;
            let _wait = self.wait();
            gate.download(self.principal(), &organization_id, &key, MAX_DOWNLOAD)
                .await
                .map_err(refused)
        }
    }
}
