//! Reading: get, list and watch, by upstream's rules of resource versions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use futures::future::{Either, select};
use longshore_core::client::params::{GetParams, ListParams, VersionMatch, WatchParams};
use longshore_core::client::{DynList, Error, Scope, Target, WatchEvent, WatchStream};
use longshore_core::kind::DynObject;
use longshore_core::store::{self, ListOptions, Revision};
use serde::{Deserialize, Serialize};

use super::Registry;
use crate::cache::{KindCache, Listing, watch};
use crate::selector::Filter;
use crate::{key, status};

/// How long a read waits for a version that the server has not seen yet.
const AHEAD: Duration = Duration::from_secs(3);

/// Most keys read from the store at once while looking for matches.
const PAGE: usize = 1000;

/// Where a listing goes on, as sent to the client.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    v: String,
    rv: Revision,
    start: String,
}

impl Registry {
    /// Reads an object.
    ///
    /// # Errors
    /// 404.
    pub async fn get(&self, target: Target<'_>, params: &GetParams) -> Result<DynObject, Error> {
        let cache = self.cache.kind(target.kind)?;
        self.reach(params.resource_version.as_deref().unwrap_or_default()).await?;
        let object = cache.get(&key::short(target.namespace, target.name));
        object.map(|cached| cached.object).ok_or_else(|| status::not_found(&target.kind.info, target.name))
    }

    /// Lists objects. Every page of a listing with a limit is of the first page's version.
    ///
    /// # Errors
    /// 410 if a continue token or an exact version is too old; 400 for bad selectors and tokens.
    pub async fn list(&self, scope: Scope<'_>, params: &ListParams) -> Result<DynList, Error> {
        let cache = self.cache.kind(scope.kind)?;
        let filter = Filter::parse(scope.kind, params.label_selector.as_deref(), params.field_selector.as_deref())?;
        let limit = params.limit.unwrap_or(0) as usize;
        let version = params.resource_version.as_deref().unwrap_or_default();
        let listing = if let Some(token) = params.continue_token.as_deref().filter(|token| !token.is_empty()) {
            if !version.is_empty() && version != "0" {
                return Err(status::bad_request("specifying resource version is not allowed when using continue"));
            }
            let token = read_token(token)?;
            self.list_stored(cache, scope.namespace, &filter, limit, token.rv, Some(token.start)).await?
        } else {
            match params.version_match {
                Some(VersionMatch::Exact) if version.is_empty() || version == "0" => {
                    return Err(status::bad_request(
                        "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
                    ));
                }
                Some(VersionMatch::Exact) => {
                    let revision = parse_version(version)?;
                    self.list_stored(cache, scope.namespace, &filter, limit, revision, None).await?
                }
                _ => {
                    self.reach(version).await?;
                    let reached = self.cache.revision();
                    cache.list(scope.namespace, &filter, limit, reached)
                }
            }
        };
        let continue_token = listing.more_after.as_ref().map(|start| write_token(listing.revision, start));
        Ok(DynList {
            items: listing.objects,
            resource_version: listing.revision.to_string(),
            continue_token,
            remaining: listing.remaining,
        })
    }

    /// Watches objects; see [`longshore_core::client::Client::watch`].
    ///
    /// # Errors
    /// 410 if the version is too old; 400 for bad selectors.
    pub async fn watch(&self, scope: Scope<'_>, params: &WatchParams, version: &str) -> Result<WatchStream, Error> {
        let cache = self.cache.kind(scope.kind)?;
        let filter = Filter::parse(scope.kind, params.label_selector.as_deref(), params.field_selector.as_deref())?;
        let start = if version.is_empty() { 0 } else { parse_version(version)? };
        if start > 0 && !params.send_initial_events {
            return watch(cache, scope.namespace, filter, start, VecDeque::new());
        }
        self.reach(version).await?;
        let reached = self.cache.revision();
        let listing = cache.list(scope.namespace, &filter, 0, reached);
        let mut initial: VecDeque<_> = listing.objects.into_iter().map(WatchEvent::Added).collect();
        if params.send_initial_events {
            initial.push_back(WatchEvent::Bookmark {
                resource_version: listing.revision.to_string(),
                initial_events_end: true,
            });
        }
        watch(cache, scope.namespace, filter, listing.revision, initial)
    }

    /// Whether the store answers and the cache follows it.
    ///
    /// # Errors
    /// What the store says, or that it is slow.
    pub async fn ready(&self) -> Result<(), Error> {
        let fresh = std::pin::pin!(self.cache.fresh(&*self.store));
        match select(fresh, self.clock.sleep(AHEAD)).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => {
                Err(Error::Unavailable { operation: "read".to_owned(), reason: "the store is slow".to_owned() })
            }
        }
    }

    /// Waits until the cache is as new as the version asks: everything if empty, anything if `0`.
    async fn reach(&self, version: &str) -> Result<(), Error> {
        if version.is_empty() {
            return self.cache.fresh(&*self.store).await;
        }
        let revision = parse_version(version)?;
        if self.cache.revision() >= revision {
            return Ok(());
        }
        let reached = std::pin::pin!(self.cache.reach(revision));
        match select(reached, self.clock.sleep(AHEAD)).await {
            Either::Left(_) => Ok(()),
            Either::Right(_) => Err(status::too_large_version(revision, self.cache.revision())),
        }
    }

    /// Lists as of a past revision, from the store.
    async fn list_stored(
        &self,
        cache: &KindCache,
        namespace: Option<&str>,
        filter: &Filter,
        limit: usize,
        revision: Revision,
        after: Option<String>,
    ) -> Result<Listing, Error> {
        let info = &cache.kind.info;
        let kind_prefix = key::kind_prefix(info);
        let prefix = match namespace {
            Some(namespace) => format!("{kind_prefix}{namespace}/"),
            None => kind_prefix.clone(),
        };
        let mut options = ListOptions {
            revision: Some(revision),
            limit: if limit == 0 { PAGE } else { limit.min(PAGE) },
            after: after.map(|after| key::full(info, &after)),
        };
        let mut listing = Listing { objects: Vec::new(), revision, more_after: None, remaining: None };
        loop {
            let page = self.store.list(&prefix, options.clone()).await.map_err(too_old)?;
            let count = page.entries.len();
            for (at, entry) in page.entries.iter().enumerate() {
                let short = &entry.key[kind_prefix.len()..];
                // The cache's object is shared if it is this very version.
                let known = cache.get(short).filter(|cached| cached.revision == entry.revision);
                let object = match known {
                    Some(known) => known.object,
                    None => self.decode(cache, entry)?.object,
                };
                if !filter.matches(&*object) {
                    continue;
                }
                listing.objects.push(object);
                if limit > 0 && listing.objects.len() == limit {
                    let rest = (count - at - 1) as u64;
                    if rest > 0 || page.more {
                        listing.more_after = Some(short.to_owned());
                        let after = page.remaining.filter(|_| filter.is_empty());
                        listing.remaining = after.map(|after| (after + rest) as i64);
                    }
                    return Ok(listing);
                }
            }
            if !page.more {
                return Ok(listing);
            }
            options.after = page.entries.last().map(|entry| entry.key.clone());
        }
    }

    /// The cached object, without waiting for anything.
    pub(crate) fn cached(&self, target: Target<'_>) -> Option<DynObject> {
        let cache = self.cache.kind(target.kind).ok()?;
        cache.get(&key::short(target.namespace, target.name)).map(|cached| Arc::clone(&cached.object))
    }
}

fn parse_version(version: &str) -> Result<Revision, Error> {
    version.parse().map_err(|_| {
        status::bad_request(format!(
            "invalid resource version {version:?}: strconv.ParseUint: parsing {version:?}: invalid syntax"
        ))
    })
}

fn too_old(error: store::Error) -> Error {
    match error {
        store::Error::Compacted { .. } => status::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter.",
        ),
        error => status::from_store(error, "list"),
    }
}

fn write_token(rv: Revision, start: &str) -> String {
    let token = Token { v: "meta.k8s.io/v1".to_owned(), rv, start: start.to_owned() };
    BASE64.encode(serde_json::to_vec(&token).expect("a token has plain fields"))
}

fn read_token(token: &str) -> Result<Token, Error> {
    let bad = |why: String| status::bad_request(format!("continue key is not valid: {why}"));
    let bytes = BASE64.decode(token).map_err(|error| bad(error.to_string()))?;
    let token: Token = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    if token.rv == 0 {
        return Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)".to_owned()));
    }
    Ok(token)
}
