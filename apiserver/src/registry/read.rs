//! Reading: get, list and watch, by upstream's rules of resource versions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use futures::future::{Either, select};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use longshore_core::client::params::{GetParams, ListParams, VersionMatch, WatchParams};
use longshore_core::client::{DynList, Error, Scope, Target, WatchEvent, WatchStream};
use longshore_core::kind::DynObject;
use longshore_core::status::GroupResource;
use longshore_core::store::{self, ListOptions, Revision};
use longshore_core::validation::{self, ErrorList, Path};
use serde::{Deserialize, Serialize};

use super::Registry;
use crate::cache::{Bookmarks, KindCache, Listing, feed, watch};
use crate::selector::Filter;
use crate::{key, status};

/// How long a read waits for a version that the cache has not seen yet; upstream's time.
pub(super) const AHEAD: Duration = Duration::from_secs(3);

/// Most keys read from the store at once while looking for matches.
const PAGE: usize = 1000;

/// Where there is what a read asks for.
enum Source {
    Cache,
    Store,
}

/// Where a listing goes on, as sent to the client.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    v: String,
    /// The first page's version; [`ANY_VERSION`] to go on with what there is now.
    rv: i64,
    start: String,
}

/// In a token: the listing need not be of one version any more.
const ANY_VERSION: i64 = -1;

impl Registry {
    /// Reads an object.
    ///
    /// # Errors
    /// 404.
    pub async fn get(&self, target: Target<'_>, params: &GetParams) -> Result<DynObject, Error> {
        let cache = self.cache.kind(target.kind)?;
        let short = key::short(target.namespace, target.name);
        let object = match self.reach(params.resource_version.as_deref().unwrap_or_default()).await? {
            Source::Cache => cache.get(&short),
            Source::Store => self.current(cache, &short, true).await?,
        };
        object.map(|cached| cached.object).ok_or_else(|| status::not_found(&target.kind.info, target.name))
    }

    /// Lists objects. Every page of a listing with a limit is of the first page's version.
    ///
    /// # Errors
    /// 410 if a continue token or an exact version is too old (for a token, the status carries another with which the rest can be
    /// had as it is now); 504 for a version that is not reached in time; 400 for bad selectors and tokens; 422 for options
    /// that contradict each other.
    pub async fn list(&self, scope: Scope<'_>, params: &ListParams) -> Result<DynList, Error> {
        let cache = self.cache.kind(scope.kind)?;
        check_options(params)?;
        let filter = Filter::parse(scope.kind, params.label_selector.as_deref(), params.field_selector.as_deref())?;
        let limit = params.limit.unwrap_or(0) as usize;
        let version = params.resource_version.as_deref().unwrap_or_default();
        let exact = match params.version_match {
            Some(VersionMatch::Exact) => true,
            Some(VersionMatch::NotOlderThan) => false,
            // Who pages through a version that he names wants that version.
            None => limit > 0 && !version.is_empty() && version != "0",
        };
        let listing = if let Some(token) = params.continue_token.as_deref().filter(|token| !token.is_empty()) {
            self.list_on(cache, scope.namespace, &filter, limit, read_token(token)?).await?
        } else if exact {
            let revision = parse_version(version)?;
            let listing = self.list_stored(cache, scope.namespace, &filter, limit, Some(revision), None).await;
            listing.map_err(|error| status::from_store(error, "list"))?
        } else {
            self.list_now(cache, scope.namespace, &filter, limit, version).await?
        };
        let continue_token =
            listing.more_after.as_ref().map(|start| write_token(i64::try_from(listing.revision).unwrap_or(0), start));
        Ok(DynList {
            items: listing.objects,
            resource_version: listing.revision.to_string(),
            continue_token,
            remaining: listing.remaining,
        })
    }

    /// The next page of a listing.
    async fn list_on(
        &self,
        cache: &KindCache,
        namespace: Option<&str>,
        filter: &Filter,
        limit: usize,
        token: Token,
    ) -> Result<Listing, Error> {
        let revision = Revision::try_from(token.rv).ok();
        let listing = self.list_stored(cache, namespace, filter, limit, revision, Some(token.start.clone())).await;
        listing.map_err(|error| match error {
            store::Error::Compacted { .. } => expired_token(&token.start),
            error => status::from_store(error, "list"),
        })
    }

    /// Watches objects; see [`longshore_core::client::Client::watch`].
    ///
    /// # Errors
    /// 410 if the version is too old; 400 for bad selectors.
    pub async fn watch(&self, scope: Scope<'_>, params: &WatchParams, version: &str) -> Result<WatchStream, Error> {
        self.watch_with(scope, params, version, None).await
    }

    /// Watches objects, and tells after every such time without news how far the watch is. Meant for clients that are
    /// far away: with it they can go on after a break where nothing changed for long.
    ///
    /// # Errors
    /// As [`Registry::watch`].
    pub async fn watch_with_bookmarks(
        &self,
        scope: Scope<'_>,
        params: &WatchParams,
        version: &str,
        every: Duration,
    ) -> Result<WatchStream, Error> {
        let bookmarks = Bookmarks { every, clock: Arc::clone(&self.clock), revision: self.cache.revisions() };
        self.watch_with(scope, params, version, Some(bookmarks)).await
    }

    async fn watch_with(
        &self,
        scope: Scope<'_>,
        params: &WatchParams,
        version: &str,
        bookmarks: Option<Bookmarks>,
    ) -> Result<WatchStream, Error> {
        let cache = self.cache.kind(scope.kind)?;
        let filter = Filter::parse(scope.kind, params.label_selector.as_deref(), params.field_selector.as_deref())?;
        let start = if version.is_empty() { 0 } else { parse_version(version)? };
        if start > 0 && !params.send_initial_events {
            return watch(cache, scope.namespace, filter, start, VecDeque::new(), bookmarks);
        }
        let listing = self.list_now(cache, scope.namespace, &filter, 0, version).await?;
        let mut initial: VecDeque<_> = listing.objects.into_iter().map(WatchEvent::Added).collect();
        if params.send_initial_events {
            initial.push_back(WatchEvent::Bookmark {
                resource_version: listing.revision.to_string(),
                initial_events_end: true,
            });
        }
        watch(cache, scope.namespace, filter, listing.revision, initial, bookmarks)
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

    /// Waits until the cache is as new as the version asks: everything if empty, anything if `0`. Everything is in the store
    /// if the cache is late.
    async fn reach(&self, version: &str) -> Result<Source, Error> {
        let revision =
            if version.is_empty() { self.cache.newest(&*self.store).await? } else { parse_version(version)? };
        if self.cache.revision() >= revision {
            return Ok(Source::Cache);
        }
        let reached = std::pin::pin!(self.cache.reach(revision));
        match select(reached, self.clock.sleep(AHEAD)).await {
            Either::Left(_) => Ok(Source::Cache),
            Either::Right(_) if version.is_empty() => Ok(Source::Store),
            Either::Right(_) => Err(status::too_large_version(revision, self.cache.revision())),
        }
    }

    /// Lists what is no older than the version asks.
    async fn list_now(
        &self,
        cache: &KindCache,
        namespace: Option<&str>,
        filter: &Filter,
        limit: usize,
        version: &str,
    ) -> Result<Listing, Error> {
        match self.reach(version).await? {
            Source::Cache => {
                let reached = self.cache.revision();
                Ok(cache.list(namespace, filter, limit, reached))
            }
            Source::Store => {
                let listing = self.list_stored(cache, namespace, filter, limit, None, None).await;
                listing.map_err(|error| status::from_store(error, "list"))
            }
        }
    }

    /// Lists as of a past revision (`None`: as of now), from the store.
    async fn list_stored(
        &self,
        cache: &KindCache,
        namespace: Option<&str>,
        filter: &Filter,
        limit: usize,
        revision: Option<Revision>,
        after: Option<String>,
    ) -> Result<Listing, store::Error> {
        let info = &cache.kind.info;
        let kind_prefix = key::kind_prefix(info);
        let prefix = match namespace {
            Some(namespace) => format!("{kind_prefix}{namespace}/"),
            None => kind_prefix.clone(),
        };
        let mut options = ListOptions {
            revision,
            limit: if limit == 0 { PAGE } else { limit.min(PAGE) },
            after: after.map(|after| key::full(info, &after)),
        };
        let mut listing = Listing { objects: Vec::new(), revision: 0, more_after: None, remaining: None };
        loop {
            let page = self.store.list(&prefix, options.clone()).await?;
            listing.revision = page.revision;
            options.revision = Some(page.revision);
            let count = page.entries.len();
            for (at, entry) in page.entries.iter().enumerate() {
                let short = &entry.key[kind_prefix.len()..];
                // The cache's object is shared if it is this very version.
                let known = cache.get(short).filter(|cached| cached.revision == entry.revision);
                let object = match known {
                    Some(known) => known.object,
                    None => feed::decode(cache.kind, entry)?,
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

/// Refuses options that contradict each other.
fn check_options(params: &ListParams) -> Result<(), Error> {
    let version = params.resource_version.as_deref().unwrap_or_default();
    let continues = params.continue_token.as_deref().is_some_and(|token| !token.is_empty());
    let path = Path::new("resourceVersionMatch");
    let mut errors = ErrorList::new();
    if let Some(wanted) = &params.version_match {
        if version.is_empty() {
            let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(validation::Error::forbidden(&path, detail));
        }
        if continues {
            let detail = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(validation::Error::forbidden(&path, detail));
        }
        if *wanted == VersionMatch::Exact && version == "0" {
            let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(validation::Error::forbidden(&path, detail));
        }
    }
    if !errors.is_empty() {
        let options = GroupResource { group: "meta.k8s.io", resource: "ListOptions" };
        return Err(longshore_core::status::invalid(options, "", &errors).into());
    }
    if continues && !version.is_empty() && version != "0" {
        return Err(status::bad_request("specifying resource version is not allowed when using continue"));
    }
    Ok(())
}

/// What is said of a token whose version is gone. It brings another, for the rest as it is now.
fn expired_token(start: &str) -> Error {
    let mut error = status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
         the continue parameter, or use the continue token in this response to retrieve the remainder of the results. \
         Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
         deleted between the time the first chunk was returned and now may show up in the list.",
    );
    if let Error::Api(status) = &mut error {
        let continue_ = Some(write_token(ANY_VERSION, start));
        status.metadata = Some(ListMeta { continue_, ..ListMeta::default() });
    }
    error
}

fn write_token(rv: i64, start: &str) -> String {
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
