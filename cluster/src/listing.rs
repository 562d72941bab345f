//! All objects of a kind, page by page, as a large cluster wants to be asked.

use std::sync::Arc;

use longshore_core::client::params::ListParams;
use longshore_core::client::{Client, Error, Scope};
use longshore_core::kind::{DynObject, Kind, KindType};

/// How many objects a page has.
const PAGE: u32 = 500;

/// Hands over every object of a kind, a page at a time.
pub(crate) async fn each_page(
    client: &dyn Client,
    kind: &'static KindType,
    mut each: impl FnMut(Vec<DynObject>),
) -> Result<(), Error> {
    let mut params = ListParams { limit: Some(PAGE), ..ListParams::default() };
    loop {
        let page = client.list(Scope { kind, namespace: None }, &params).await?;
        each(page.items);
        params.continue_token = page.continue_token.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(());
        }
    }
}

/// All objects of a kind.
pub(crate) async fn all(client: &dyn Client, kind: &'static KindType) -> Result<Vec<DynObject>, Error> {
    let mut objects = Vec::new();
    each_page(client, kind, |page| objects.extend(page)).await?;
    Ok(objects)
}

/// All objects of a kind that is known here.
pub(crate) async fn list<K: Kind>(client: &dyn Client) -> Result<Vec<Arc<K>>, Error> {
    let objects = all(client, KindType::of::<K>()).await?;
    Ok(objects.into_iter().filter_map(|object| object.into_any_arc().downcast().ok()).collect())
}
