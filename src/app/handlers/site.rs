//! A site: which file answers a path, and what the answer is if there is none.
//!
//! ```text
//!  path ─► a file ────────────────────────────────────────────► sent
//!          a directory, no slash ─► path.html? ─► sent, else redirected to the slash
//!          a directory, slash ────► an index? ──► sent, else listed, or 403
//!          nothing ───────────────► path.html? ─► sent, else a navigation? ─► the page of --spa, or 404
//! ```

use crate::app::body::Reply;
use crate::app::compress::Coders;
use crate::app::exchange::Next;
use crate::app::files::cache::{Cache, Stored};
use crate::app::files::cache_control::CacheControl;
use crate::app::files::listing::shelf::Shelf;
use crate::app::files::lookup::{Located, Meta, Refused, Root};
use crate::app::files::mime::Types;
use crate::app::files::precompressed::Precompressed;
use crate::app::files::root_path::RootPath;
use crate::app::receive::prepare::{self, Listed};
use crate::app::reply::file::Representation;
use crate::app::reply::page::{self, Format};
use crate::app::reply::refusal;
use crate::config::site::SiteRules;
use crate::cost;
use crate::http::accept;
use crate::http::date::Now;
use crate::http::escape;
use crate::http::head::Name;
use crate::http::request::Request;
use crate::http::rest::Rest;
use crate::http::status::Status;
use crate::http::vary::Vary;
use crate::proto::responder::Responder;
use crate::start_error::StartError;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A directory served as a site, and its rules.
#[derive(Debug)]
pub struct Site {
    /// The path prefix of the site; begins and ends with a slash.
    prefix: String,
    root: RootPath,
    /// Whether a directory without an index is listed.
    listing: bool,
    /// The names of index files, in order of preference.
    index: Vec<Vec<u8>>,
    /// Whether `/about` may be answered with about.html.
    try_html: bool,
    /// The page, a path below the root, that answers navigations to paths without a file.
    spa: Option<Vec<u8>>,
    /// Whether file.br may be sent in place of file.
    precompressed: bool,
    types: Types,
    cache_control: CacheControl,
    cache: Cache,
    /// Listings that requests share. They use a part of the cache's memory.
    listings: Arc<Shelf>,
    coders: Arc<Coders>,
}

impl Site {
    /// `memory`: bytes for the cache and for kept listings.
    ///
    /// # Errors
    /// The page of `--spa` does not exist.
    pub fn new(
        prefix: &str,
        root: RootPath,
        mut rules: SiteRules,
        memory: usize,
        coders: &Arc<Coders>,
    ) -> Result<Site, StartError> {
        // The page of a single-page application is in ROOT.
        rules.spa = rules.spa.filter(|_| prefix == "/");
        if let Some(path) = &rules.spa
            && !root.known().is_some_and(|root| matches!(root.find(path), Ok(Located::File { .. })))
        {
            let path = path.escape_ascii();
            return Err(StartError::new(format!(
                "cannot serve \"{path}\" as the page of --spa: there is no such file in ROOT that may be served; correct \
                 the path, which is below ROOT"
            )));
        }
        let for_listings = if rules.listing { memory / 4 } else { 0 };
        Ok(Site {
            prefix: prefix.to_owned(),
            cache: Cache::new(memory - for_listings, root.inotify()),
            root,
            listing: rules.listing,
            index: rules.index,
            try_html: rules.try_html,
            spa: rules.spa,
            precompressed: rules.precompressed,
            types: Types::new(rules.mime, rules.charset),
            cache_control: CacheControl::new(rules.cache_control, rules.immutable),
            listings: Arc::new(Shelf::new(for_listings)),
            coders: Arc::clone(coders),
        })
    }

    pub fn answer(&self, request: &Request, rest: &Rest, mut responder: Responder, now: &Now) -> Next {
        let path = rest.decoded.as_deref();
        let mut search = Search { site: self, now, root: None, cost: 0 };
        let mut answer = path.map_or(Answer::Nothing(Refused::NotFound), |path| search.resolve(path));
        let mut vary = Vary::NOTHING;
        if matches!(answer, Answer::Nothing(Refused::NotFound))
            && let Some(stored) = search.navigation(request)
        {
            answer = Answer::File(stored);
            // A client that does not ask for HTML gets 404 for the same path.
            vary = Vary::ACCEPT;
        }
        responder.spend(search.cost);
        match answer {
            Answer::File(stored) => {
                if self.precompressed {
                    responder.spend(cost::LOOKUP * Precompressed::MOST);
                }
                let mut representation = self.represent(&stored);
                representation.vary = vary;
                representation.answer(&self.coders, request, responder, now).into()
            }
            Answer::Redirect => redirect(&self.prefix, request, path.unwrap_or_default(), responder).into(),
            Answer::Listing(root, dir, meta) => {
                let listing = self.listings.find(&root, path.unwrap_or_default(), (dir, &meta), now);
                match prepare::listing(listing, &self.listings, &self.coders, request, responder, now) {
                    Listed::Reply(reply) => reply.into(),
                    Listed::Unmade(preparation) => Next::Prepare(preparation),
                }
            }
            Answer::Unlisted => {
                let sentence = "This directory has no index, and its names are not shown.";
                page::error(Format::of(request), responder, Status::FORBIDDEN, sentence).into()
            }
            Answer::Nothing(Refused::NotFound) => page::not_found(Format::of(request), responder).into(),
            Answer::Nothing(refused) => refusal::refused(&refused, request, responder).into(),
        }
    }

    /// The site's listings: the caller frees those that are too old to be shared.
    pub fn listings(&self) -> &Arc<Shelf> {
        &self.listings
    }

    /// The cached file, if `path` still leads to it.
    fn cached(&self, path: &[u8], now: &Now, cost: &mut usize) -> Option<Arc<Stored>> {
        self.cache.find(path, &self.root, now.instant, cost)
    }

    fn represent<'a>(&'a self, stored: &'a Arc<Stored>) -> Representation<'a> {
        let mut representation = Representation::new(stored);
        // A file that is already in a coding has no precompressed files.
        let has_forms = self.precompressed && stored.coding.is_none();
        representation.precompressed = has_forms.then(|| Precompressed::new(stored));
        representation
    }
}

/// What a path leads to.
enum Answer {
    File(Arc<Stored>),
    /// A directory, and the path has no slash at its end.
    Redirect,
    Listing(Arc<Root>, OwnedFd, Meta),
    /// A directory without an index, on a site that lists none.
    Unlisted,
    Nothing(Refused),
}

/// The search for the file or directory that answers a path.
struct Search<'a> {
    site: &'a Site,
    now: &'a Now,
    /// Set by the first lookup: the whole request is looked up below this root.
    root: Option<Arc<Root>>,
    /// The cost so far. A cached file costs nothing.
    cost: usize,
}

impl Search<'_> {
    /// What a path leads to: from the cache, or by looking it up.
    fn resolve(&mut self, path: &[u8]) -> Answer {
        let (site, now) = (self.site, self.now);
        if let Some(stored) = site.cached(path, now, &mut self.cost) {
            return Answer::File(stored);
        }
        if site.cache.is_missing(path, now.instant) {
            return Answer::Nothing(Refused::NotFound);
        }
        let answer = self.look_up(path);
        if let Answer::Nothing(Refused::NotFound) = answer {
            site.cache.note_missing(path, now.instant);
        }
        answer
    }

    /// Looks a path up. Only the first choice of each order (the file itself, the first index name) is cached: while it
    /// exists, no later choice can replace it.
    fn look_up(&mut self, path: &[u8]) -> Answer {
        let (site, now) = (self.site, self.now);
        let has_slash = path.is_empty() || path.ends_with(b"/");
        match self.find(path) {
            Ok((root, Located::File { file, meta })) => {
                Answer::File(site.cache.keep(path, self.load(&root, path, (file, meta)), now.instant, now.unix))
            }
            Ok((root, Located::Directory { dir, meta })) if has_slash => self.index(path, root, (dir, meta)),
            Ok((_, Located::Directory { .. })) => self.with_html(path).unwrap_or(Answer::Redirect),
            Err(Refused::NotFound) if !has_slash => self.with_html(path).unwrap_or(Answer::Nothing(Refused::NotFound)),
            Err(refused) => Answer::Nothing(refused),
        }
    }

    /// The file of `--try-html`.
    fn with_html(&mut self, path: &[u8]) -> Option<Answer> {
        if !self.site.try_html {
            return None;
        }
        let path = [path, b".html"].concat();
        match self.find(&path) {
            Ok((root, Located::File { file, meta })) => {
                Some(Answer::File(Arc::new(self.load(&root, &path, (file, meta)))))
            }
            Ok((_, Located::Directory { .. })) | Err(Refused::NotFound) => None,
            Err(refused) => Some(Answer::Nothing(refused)),
        }
    }

    /// The index file of a directory, otherwise its listing.
    fn index(&mut self, directory: &[u8], root: Arc<Root>, (dir, meta): (OwnedFd, Meta)) -> Answer {
        let (site, now) = (self.site, self.now);
        for (place, name) in site.index.iter().enumerate() {
            let path = [directory, name].concat();
            match self.find(&path) {
                Ok((root, Located::File { file, meta })) => {
                    let stored = self.load(&root, &path, (file, meta));
                    return Answer::File(match place {
                        0 => site.cache.keep(directory, stored, now.instant, now.unix),
                        _ => Arc::new(stored),
                    });
                }
                Ok((_, Located::Directory { .. })) | Err(Refused::NotFound) => {}
                Err(refused) => return Answer::Nothing(refused),
            }
        }
        if site.listing { Answer::Listing(root, dir, meta) } else { Answer::Unlisted }
    }

    /// The page of `--spa`, if the request is a navigation and not a script's request for a file: Accept names HTML,
    /// and the last path segment has no extension.
    fn navigation(&mut self, request: &Request) -> Option<Arc<Stored>> {
        let path = self.site.spa.as_ref()?;
        let last = request.path().rsplit(|&b| b == b'/').next().unwrap_or_default();
        if last.contains(&b'.') || !accept::accepts_html_explicitly(request.values(Name::Accept)) {
            return None;
        }
        match self.find(path) {
            Ok((root, Located::File { file, meta })) => Some(Arc::new(self.load(&root, path, (file, meta)))),
            _ => None,
        }
    }

    /// What is at `path`, and the root below which it was found: one root for the whole request.
    fn find(&mut self, path: &[u8]) -> Result<(Arc<Root>, Located), Refused> {
        let root = match &self.root {
            Some(root) => root,
            None => self.root.insert(self.site.root.at(self.now.instant).ok_or(Refused::Gone)?),
        };
        let located = root.find_at_cost(path, &mut self.cost)?;
        Ok((Arc::clone(root), located))
    }

    /// Loads the file at `path` below `root`.
    fn load(&mut self, root: &Arc<Root>, path: &[u8], file: (File, Meta)) -> Stored {
        let Site { types, cache_control, .. } = self.site;
        let stored = Stored::load(root, path, file, (&types.of(path), cache_control.of(path)), self.now.unix);
        self.cost += stored.load_cost();
        match self.site.types.behind_gzip(path) {
            Some(content_type) => {
                self.cost += cost::STAT;
                stored.decoded_as(&content_type)
            }
            None => stored,
        }
    }
}

/// Redirects to the same directory with a slash, so that relative links in its page work. The path is encoded anew from
/// its decoded segments and begins with exactly one slash, so it cannot name another host.
fn redirect(prefix: &str, request: &Request, path: &[u8], responder: Responder) -> Reply {
    let mut location = prefix.trim_end_matches('/').as_bytes().to_vec();
    for segment in path.split(|&b| b == b'/') {
        location.push(b'/');
        escape::path_segment(segment, &mut location);
    }
    location.push(b'/');
    if let Some(query) = request.target.query() {
        location.push(b'?');
        location.extend_from_slice(query);
    }
    let mut fields = responder.start(Status::MOVED_PERMANENTLY);
    fields.field("Location", location);
    page::finish_error(
        Format::of(request),
        fields,
        Status::MOVED_PERMANENTLY,
        "This directory's address ends in a slash.",
    )
}
