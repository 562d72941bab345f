//! A node that joins: its request for a certificate and the end of its token are one commit.

use std::time::Duration;

use jiff::SignedDuration;
use longshore_core::api::{CertificateSigningRequest, Lease, Secret};
use longshore_core::client::{Error, Target};
use longshore_core::kind::KindType;
use longshore_core::store::Transaction;
use longshore_core::validation::names::is_dns1123_subdomain;

use super::Registry;
use crate::bootstrap_token::{self, NAMESPACE, TokenRecord, USER_PREFIX, secret_name};
use crate::cache::Cached;
use crate::pki::request::{NodeRequest, NodeUse};
use crate::{key, status};

/// Namespace of the leases by which nodes say that they are alive.
const LEASES: &str = "kube-node-lease";

impl Registry {
    /// What has to be written with a new request of somebody who holds a bootstrap token; nothing for all others.
    ///
    /// # Errors
    /// 403 if the token cannot be used any more, 409 if the node's name is another's, 422 if the request could not be granted: a
    /// token is not to be spent on it.
    pub(super) async fn use_token(&self, request: &CertificateSigningRequest) -> Result<Transaction, Error> {
        let Some(id) = request.spec.username.strip_prefix(USER_PREFIX) else { return Ok(Transaction::new()) };
        let info = &KindType::of::<CertificateSigningRequest>().info;
        let name = request.metadata.name.as_deref().unwrap_or_default();
        let refused = |why: String| Error::from(longshore_core::status::forbidden(info, name, why));
        let asked = NodeRequest::read(request).map_err(&refused)?;
        if let Some(why) = is_dns1123_subdomain(&asked.node).into_iter().next() {
            return Err(refused(format!("{:?} is no name for a node: {why}", asked.node)));
        }
        if asked.for_use != NodeUse::Client {
            return Err(refused(
                "a bootstrap token is for a node's first certificate, with which it asks for others".to_owned(),
            ));
        }
        let secrets = self.cache.kind(KindType::of::<Secret>())?;
        let short = key::short(NAMESPACE, &secret_name(id));
        // What decides is the commit; but what is read here is told.
        let Some(Cached { object, revision }) = self.current(secrets, &short, true).await? else {
            return Err(refused(format!("the bootstrap token {id:?} was deleted")));
        };
        let secret: Option<&Secret> = object.as_any().downcast_ref();
        let Some((secret, record)) = secret.and_then(|secret| Some((secret, TokenRecord::of(secret)?))) else {
            return Err(refused(format!("the bootstrap token {id:?} was deleted")));
        };
        if let Some(why) = record.refusal(self.clock.now()) {
            return Err(refused(why));
        }
        self.refuse_living(&asked.node).await?;
        let mut used = bootstrap_token::used(secret, name);
        used.metadata.resource_version = None;
        let bytes = longshore_core::kind::AnyObject::to_vec(&used);
        let key = key::full(&secrets.kind.info, &short);
        Ok(Transaction::new().expect(key.clone(), revision).put(key, bytes))
    }

    /// Refuses the name of a node that is heard of.
    async fn refuse_living(&self, node: &str) -> Result<(), Error> {
        let target = Target { kind: KindType::of::<Lease>(), namespace: LEASES, name: node };
        if !self.serves(target.kind) {
            return Ok(());
        }
        let Some(lease) = self.find(target, Duration::ZERO).await? else { return Ok(()) };
        let Some(spec) = lease.as_any().downcast_ref::<Lease>().map(|lease| &lease.spec) else { return Ok(()) };
        let renewed = spec.renew_time.as_ref().map(|time| time.0);
        let lasts = SignedDuration::from_secs(spec.lease_duration_seconds.unwrap_or_default().into());
        if renewed.and_then(|renewed| renewed.checked_add(lasts).ok()).is_some_and(|end| end > self.clock.now()) {
            let message = format!("the name {node:?} is taken by a node that is alive");
            return Err(status::failure(409, "Conflict", message));
        }
        Ok(())
    }
}
